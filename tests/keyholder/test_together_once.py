"""Verifications whose session with others failed are asked again: nothing dealt, and no mask, serves them twice."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from tests.keyholder.test_together import FACES, gathered, given, shares_of, verify
from tests.keyholder.trio import TOY, Trio
from veilmatch.crypto.errors import UnavailableError
from veilmatch.crypto.pair import beginning
from veilmatch.crypto.pair.mask import SessionMask
from veilmatch.crypto.pair.messages import Openings, Reserve
from veilmatch.server.keyholder.session import turns
from veilmatch.server.keyholder.stock.stock import SessionStock

RESIDUE = TOY.modulus_bits // 8
#: By holder and kind: first and last index, and one more.
Ranges = dict[tuple[bool, str], list[tuple[int, int]]]


@pytest.fixture
def reserved(monkeypatch: pytest.MonkeyPatch) -> Ranges:
    found: Ranges = defaultdict(list)
    reserve = SessionStock.reserve

    async def noting(self: SessionStock, wanted: Reserve) -> Any:
        made = await reserve(self, wanted)
        is_plus = self._stock._shelves[wanted.kind]._is_plus
        found[is_plus, wanted.kind].append((made.start, made.start + wanted.count))
        return made

    monkeypatch.setattr(SessionStock, "reserve", noting)
    return found


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    seeds: list[bytes] = []

    class Noted(SessionMask):
        def __init__(self, *of: bytes) -> None:
            super().__init__(*of)
            seeds.append(self._seed)

    monkeypatch.setattr(beginning, "SessionMask", Noted)
    return seeds


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every value mod N that a holder has opened."""
    values: list[bytes] = []
    to_wire = turns.turn_to_wire

    def noting(turn: Sequence[Any]) -> Any:
        for envelope in turn:
            if isinstance(envelope.message, Openings):
                joined = envelope.message.values
                values.extend(joined[at : at + RESIDUE] for at in range(0, len(joined), RESIDUE))
        return to_wire(turn)

    monkeypatch.setattr(turns, "turn_to_wire", noting)
    return values


async def test_nothing_is_used_twice_when_sessions_of_several_fail_and_each_is_asked_again(
    trio: Trio, reserved: Ranges, masks: list[bytes], opened: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    await verify(trio, FACES[0], "ab", 1, [FACES[0]])
    say, cut = turns.Turns.say, []

    async def cutting(self: turns.Turns, envelope: Any) -> None:
        await say(self, envelope)
        # Twice: what the first to open has said is on its way, and then that of the other one, too.
        if isinstance(envelope.message, Openings) and len(cut) < 2:
            cut.append(envelope)
            await self.flush()
            if len(cut) != 1:
                trio["a"].links._called["b"].close()

    monkeypatch.setattr(turns.Turns, "say", cutting)
    same = given(FACES[1])
    async with gathered(trio, "ab", 3):
        outcomes = await asyncio.gather(*(shares_of(trio, FACES[1], "ab", 1, [same, same]) for _ in range(3)))
    assert len(cut) == 2 and any(isinstance(share, UnavailableError) for both in outcomes for share in both)
    # The same ciphertexts again: together with one more, and alone. What is opened of them would be the same as well.
    async with gathered(trio, "ab", 4):
        others = [verify(trio, FACES[2], "ab", 1, [FACES[2]])]
        again = [shares_of(trio, FACES[1], "ab", 1, [same, same]) for _ in range(3)]
        await asyncio.gather(*others, *again)
    assert await verify(trio, FACES[1], "ab", 1, [FACES[1]])
    assert len(opened) == len(set(opened)) and len(opened) >= 4 * 2 * TOY.lane_ciphertexts * (1 + 3 + 4 + 1)
    assert len(masks) == 2 * len(set(masks)) >= 8, "the same at both, and another one in each session"
    assert len(reserved) == 6
    for ranges in reserved.values():
        assert all(before[1] <= after[0] for before, after in pairwise(sorted(ranges)))
