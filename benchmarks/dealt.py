"""What dealing and checking the randomness of a query costs: measured for a block of each kind, then by the unit.

Key holders fill their stock ahead, in blocks, whenever they rest; so its cost cannot be seen in one query. The
functions are those that the daemons run, both holders and the dealer in this process; transport is left out.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer, random_bits
from veilmatch.crypto.dealing import BLOCK_UNITS, STOCK_KINDS, BlockCheck, BlockName, Kind, deal_tagged
from veilmatch.crypto.gates.answer import answer_cost
from veilmatch.crypto.gates.validity import validity_cost
from veilmatch.crypto.keys.shares import DealerGammas
from veilmatch.crypto.parameters import ParameterSet

_REPEATS = 3


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
    """Return how many units of each kind a query uses that compares `slots` slots in `packs` packs."""
    return {
        "triples": parameters.lane_ciphertexts + packs,
        "bits": validity_cost(1, parameters) + answer_cost(operation, slots, parameters.ring_bits),
        "products": parameters.dimension,
    }


def of_units(units: dict[Kind, int], one: dict[Kind, Dealt]) -> Dealt:
    """Return the cost of so many units of each kind. one: of a unit."""
    return sum((one[kind] * count for kind, count in units.items()), Dealt())


def unit_costs(modulus: Integer) -> dict[Kind, Dealt]:
    """Return the cost of one unit of each kind: the fastest of three blocks, divided by its units."""
    gammas = DealerGammas(random_bits(128), random_bits(128))
    costs = {}
    for kind in STOCK_KINDS:
        blocks = [_block(BlockName("ab", bytes(32), 1, kind, n), modulus, gammas) for n in range(_REPEATS)]
        best = Dealt(
            min(b.dealing_s for b in blocks), min(b.checking_s for b in blocks), blocks[0].dealt_bytes,
            blocks[0].checking_bytes,
        )  # fmt: skip
        costs[kind] = best * (1 / BLOCK_UNITS[kind])
    return costs


def _block(name: BlockName, modulus: Integer, gammas: DealerGammas) -> Dealt:
    seed, started = secrets.token_bytes(32), time.process_time()
    parts = [deal_tagged(seed, name, modulus, gammas, for_plus=plus) for plus in (True, False)]
    dealing_s = time.process_time() - started
    nonces, started = (secrets.token_bytes(32), secrets.token_bytes(32)), time.process_time()
    checks = [
        BlockCheck(name, part, nonces, modulus, is_plus=plus) for part, plus in zip(parts, (True, False), strict=True)
    ]
    openings = [check.opening for check in checks]
    proofs = [check.proof(opening) for check, opening in zip(checks, openings[::-1], strict=True)]
    for check, proof in zip(checks, proofs[::-1], strict=True):
        check.kept(proof)
    checking_s = (time.process_time() - started) / 2
    moved = sum(map(len, (*nonces, *openings, *proofs)))
    return Dealt(dealing_s, checking_s, sum(len(p.seed) + len(p.corrections) for p in parts), moved)
