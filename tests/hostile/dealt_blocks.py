"""One party deviates in the check of dealt blocks: what it reads, whether the block is kept, and who is named.

Both holders and their dealer in memory, their checks real (tests/keyholder/dealers.py). No query runs, and no device.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.test_altered_openings import MinusThief, Plus, checks, read_as_plus, take_opening_check_out
from tests.keyholder.dealers import NAME, Holder
from veilmatch.crypto.dealing import Block, BlockName
from veilmatch.crypto.errors import DealtStockError, UnavailableError
from veilmatch.protos.v1 import keyholder_pb2 as pb

BLOCKS = 20


@dataclass(frozen=True)
class Outcome:
    """Of BLOCKS checks. read: after how many the deviating party knew bits of a peer's block that is kept.

    kept: how many blocks the honest holders use. named: the parties that an honest holder named first, each time.
    """

    read: int
    kept: int
    named: frozenset[str]

    def __str__(self) -> str:
        kept = f"{self.kept} of {BLOCKS} blocks kept"
        named = f"{', '.join(sorted(self.named))} named" if self.named else "nobody named"
        return f"{kept}, bits of {self.read} of them read, {named}" if self.read else f"{kept}, nothing read, {named}"


@dataclass(frozen=True)
class BlockDeviation:
    """who does what in the check. run: with the openings believed, or compared with the dealer's commitments."""

    who: str
    what: str
    run: Callable[[Path], Coroutine[Any, Any, Outcome]]


async def altering_plus(folder: Path) -> Outcome:
    """Against an honest minus holder."""
    minus = Holder(folder / "minus", is_plus=False)
    read, named = 0, set()
    for _ in range(BLOCKS):
        minus.clock.now += 1e6
        try:
            await read_as_plus(minus, "bits")
            read += 1
        except DealtStockError as error:
            named.add(str(error.party))
    return Outcome(read, len(minus.store.numbers(NAME, "bits")), frozenset(named))


async def altering_minus(folder: Path) -> Outcome:
    """Against an honest plus holder. It bets on the bits; where it loses the block is dropped."""
    plus = Plus(folder / "plus", is_plus=True, other=MinusThief(folder / "minus", is_plus=False))
    read, errors = await checks(plus, BLOCKS)
    kept = plus.store.numbers(NAME, "bits")
    named = {str(error.party) for error in errors if isinstance(error, DealtStockError)}
    return Outcome(len(kept & {number for number, _, _ in read}), len(kept), frozenset(named))


def honest_holders(deviate: Callable[[Holder], None]) -> Callable[[Path], Coroutine[Any, Any, Outcome]]:
    """Both holders are honest but for what `deviate` does to the plus holder, its peer or their dealer."""

    async def run(folder: Path) -> Outcome:
        plus = Holder(folder / "plus", is_plus=True)
        deviate(plus)
        named = set()
        for _ in range(BLOCKS):
            for holder in (plus, plus.other):
                holder.clock.now += 1e6
            try:
                await plus.stock._shelves["bits"].check_one()
            except (DealtStockError, UnavailableError) as error:
                named.add(str(error.party))
        kept = plus.store.numbers(NAME, "bits") & plus.other.store.numbers(NAME, "bits")
        return Outcome(0, len(kept), frozenset(named))

    return run


def wrong_words(plus: Holder) -> None:
    def changed(_name: BlockName, block: Block) -> Block:
        return Block(block.seed, bytes([block.corrections[0] ^ 1]) + block.corrections[1:])

    plus.dealer.change = changed


def wrong_commitment(plus: Holder) -> None:
    plus.dealer.claim = lambda _name, commitment: commitment[::-1]


def silence(plus: Holder) -> None:
    plus.dealer.silent = True


def wrong_proof(plus: Holder) -> None:
    def changed(message: pb.CheckMessage) -> pb.CheckMessage:
        return pb.CheckMessage(proof=message.proof[::-1]) if message.WhichOneof("content") == "proof" else message

    plus.other.says = changed


BLOCK_DEVIATIONS = [
    BlockDeviation("plus holder", "alters what it opens", altering_plus),
    BlockDeviation("minus holder", "alters what it opens", altering_minus),
    BlockDeviation("minus holder", "misstates its values", honest_holders(wrong_proof)),
    BlockDeviation("dealer", "deals wrong words", honest_holders(wrong_words)),
    BlockDeviation("dealer", "commits to other openings", honest_holders(wrong_commitment)),
    BlockDeviation("dealer", "keeps silent when it hears the coin", honest_holders(silence)),
]


def outcome(deviation: BlockDeviation, folder: Path, *, believing: bool) -> Outcome:
    """What comes of a deviation. believing: openings are not compared with the dealer's commitments."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        if believing:
            take_opening_check_out(patch)
        patch.setattr("tests.attacks.test_altered_openings.BITS", 1)
        return asyncio.run(deviation.run(folder))
