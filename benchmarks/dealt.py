"""What dealing and checking the randomness of a query costs: measured for a block of each kind, then by the unit.

Key holders fill their stock ahead, in blocks, whenever they rest; so its cost cannot be seen in one query. The
functions and messages are those of the daemons, both holders and the dealer in this process; transport is left out.
`python benchmarks/refill.py` prints what one block costs each party.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from veilmatch.crypto.arithmetic import Integer, random_bits
from veilmatch.crypto.dealing import (
    BLOCK_UNITS,
    STOCK_KINDS,
    Block,
    BlockCheck,
    BlockName,
    Kind,
    commit_opening,
    deal_tagged,
)
from veilmatch.crypto.dealing.opening import commitment
from veilmatch.crypto.gates.answer import answer_cost
from veilmatch.crypto.gates.validity import validity_cost
from veilmatch.crypto.keys.shares import DealerGammas
from veilmatch.crypto.pair.verification import verification_stock
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.wire import KIND_TO_WIRE

_REPEATS = 3
_T = TypeVar("_T")


@dataclass(frozen=True)
class Dealt:
    """CPU seconds of the dealer and of one holder that checks; bytes from the dealer to both, and between these."""

    dealing_s: float = 0.0
    checking_s: float = 0.0
    dealt_bytes: float = 0.0
    checking_bytes: float = 0.0

    def __add__(self, other: Dealt) -> Dealt:
        return Dealt(
            self.dealing_s + other.dealing_s,
            self.checking_s + other.checking_s,
            self.dealt_bytes + other.dealt_bytes,
            self.checking_bytes + other.checking_bytes,
        )

    def __mul__(self, units: float) -> Dealt:
        return Dealt(
            self.dealing_s * units, self.checking_s * units, self.dealt_bytes * units, self.checking_bytes * units
        )


def units_of_query(operation: str, slots: int, packs: int, parameters: ParameterSet) -> dict[Kind, int]:
    """Return how many units of each kind a query uses that compares `slots` slots in `packs` packs.

    A verification has no packs: `slots` are the templates of its subject, as the matchers made them.
    """
    if operation == "verify":
        by_device = np.arange(1 + slots) == 0
        return {"triples": (1 + slots) * parameters.lane_ciphertexts, **verification_stock([by_device], parameters)}
    return {
        "triples": parameters.lane_ciphertexts + packs,
        "bits": validity_cost(1, parameters) + answer_cost(operation, slots, parameters.ring_bits),
        "products": parameters.dimension,
    }


def of_units(units: dict[Kind, int], one: dict[Kind, Dealt]) -> Dealt:
    """Return the cost of so many units of each kind. one: of a unit."""
    return sum((one[kind] * count for kind, count in units.items()), Dealt())


@dataclass(frozen=True)
class BlockCost:
    """One block, from the request for it to its end at both holders.

    CPU seconds. dealing_s, committing_s: of the dealer, for both holders. checking_s: of the plus and of the minus
    holder, comparing_s in it: the hash of the peer's opening, which is compared with the dealer's commitment.
    Sizes of messages in bytes. dealt, committed: between the dealer and both holders. checked: between these.
    """

    dealing_s: float
    committing_s: float
    checking_s: tuple[float, float]
    comparing_s: float
    dealt: tuple[int, ...]
    committed: tuple[int, ...]
    checked: tuple[int, ...]


def unit_costs(modulus: Integer) -> dict[Kind, Dealt]:
    """Return the cost of one unit of each kind: the fastest of three blocks, divided by its units."""
    costs = {}
    for kind in STOCK_KINDS:
        block = block_cost(kind, modulus)
        whole = Dealt(
            block.dealing_s + block.committing_s,
            sum(block.checking_s) / 2,
            sum(block.dealt) + sum(block.committed),
            sum(block.checked),
        )
        costs[kind] = whole * (1 / BLOCK_UNITS[kind])
    return costs


def block_cost(kind: Kind, modulus: Integer, repeats: int = _REPEATS) -> BlockCost:
    """Return what a block costs, each step as in the fastest of so many blocks."""
    gammas = DealerGammas(random_bits(128), random_bits(128))
    blocks = [_block(BlockName("ab", bytes(32), 1, kind, number), modulus, gammas) for number in range(repeats)]
    plus, minus = (min(block.checking_s[i] for block in blocks) for i in range(2))
    return BlockCost(
        min(block.dealing_s for block in blocks), min(block.committing_s for block in blocks), (plus, minus),
        min(block.comparing_s for block in blocks), blocks[0].dealt, blocks[0].committed, blocks[0].checked,
    )  # fmt: skip


def _block(name: BlockName, modulus: Integer, gammas: DealerGammas) -> BlockCost:
    seed, both = secrets.token_bytes(32), (True, False)
    (plus, minus), dealing_s = _timed(lambda: [deal_tagged(seed, name, modulus, gammas, for_plus=p) for p in both])
    nonces = secrets.token_bytes(32), secrets.token_bytes(32)
    both_gammas = [gammas.of_verifier(is_plus=p, access=SECRET_ACCESS) for p in both]
    ours, plus_s = _timed(lambda: BlockCheck(name, plus, nonces, modulus, both_gammas[0], is_plus=True))
    theirs, minus_s = _timed(lambda: BlockCheck(name, minus, nonces, modulus, both_gammas[1], is_plus=False))
    (of_plus, of_minus), committing_s = _timed(
        lambda: [commit_opening(seed, name, ours.coin, modulus, of_plus=p) for p in both]
    )
    proof_plus, more_s = _timed(lambda: ours.proof(theirs.opening, of_minus))
    proof_minus, less_s = _timed(lambda: theirs.proof(ours.opening, of_plus))
    _, kept_plus_s = _timed(lambda: ours.kept(proof_minus))
    _, kept_minus_s = _timed(lambda: theirs.kept(proof_plus))
    _, comparing_s = _timed(lambda: commitment(name, ours.coin, theirs.opening, of_plus=False))
    return BlockCost(
        dealing_s,
        committing_s,
        (plus_s + more_s + kept_plus_s, minus_s + less_s + kept_minus_s),
        comparing_s,
        _sizes(*(message for part in (plus, minus) for message in _deal_messages(name, part))),
        _sizes(*(message for made in (of_plus, of_minus) for message in _commit_messages(name, ours.coin, made))),
        _sizes(*_check_messages(name, nonces, (ours.opening, theirs.opening), (proof_plus, proof_minus))),
    )


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


def _deal_messages(name: BlockName, part: Block) -> list[pb.DealRequest | pb.DealtBlock]:
    return [
        pb.DealRequest(
            pair=name.pair, epoch=name.epoch, stock=name.stock, kind=KIND_TO_WIRE[name.kind], first=name.number, count=1
        ),
        pb.DealtBlock(number=name.number, seed=part.seed, corrections=part.corrections),
    ]


def _commit_messages(
    name: BlockName, coin: bytes, made: bytes
) -> list[pb.DealtOpeningRequest | pb.DealtOpeningCommitment]:
    return [
        pb.DealtOpeningRequest(
            pair=name.pair, epoch=name.epoch, stock=name.stock, kind=KIND_TO_WIRE[name.kind], number=name.number,
            coin=coin,
        ),
        pb.DealtOpeningCommitment(commitment=made),
    ]  # fmt: skip


def _check_messages(
    name: BlockName, nonces: tuple[bytes, bytes], openings: tuple[bytes, bytes], proofs: tuple[bytes, bytes]
) -> list[pb.CheckMessage]:
    begin = pb.CheckBegin(
        pair=name.pair, epoch=name.epoch, stock=name.stock, kind=KIND_TO_WIRE[name.kind], number=name.number
    )
    return [
        pb.CheckMessage(begin=begin),
        pb.CheckMessage(number=name.number),
        pb.CheckMessage(ready=True),
        *(pb.CheckMessage(nonce=nonce) for nonce in nonces),
        *(pb.CheckMessage(opening=opening) for opening in openings),
        *(pb.CheckMessage(proof=proof) for proof in proofs),
        pb.CheckMessage(stored=True),
    ]


def _sizes(
    *messages: pb.DealRequest | pb.DealtBlock | pb.DealtOpeningRequest | pb.DealtOpeningCommitment | pb.CheckMessage,
) -> tuple[int, ...]:
    return tuple(message.ByteSize() for message in messages)
