"""Verifications that go together, by real key holders: right answers, and whatever is wrong with one ends it alone."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.keyholder.audit.test_service import noted
from tests.keyholder.trio import (
    STATE,
    TOY,
    Trio,
    device_key,
    encrypted,
    holders,
    opened_bits,
    signed,
    started,
    stocked,
)
from tests.simulator import unit_vectors
from veilmatch.crypto.errors import (
    BudgetExceededError,
    GalleryMismatchError,
    ProtocolError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PAIRS, Pair, Party
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.messages import Openings
from veilmatch.crypto.pair.request import MAX_TOGETHER
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.keyholder.audit.check import compare
from veilmatch.server.keyholder.session import composing, together, turns
from veilmatch.server.keyholder.session.share_worker import ShareWork
from veilmatch.server.keyholder.session.together import Together
from veilmatch.server.keyholder.session.verification import Verification
from veilmatch.server.transport.status import decoded

RNG = np.random.default_rng(9)
FACES = unit_vectors(RNG, 12, TOY)
#: Reached by none of another one.
HIGH = int(np.sort((FACES @ FACES.T)[~np.eye(12, dtype=bool)])[-1]) + 1


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each session had that a key holder drove."""
    seen: list[int] = []
    drive = Together._drive

    async def noting(self: Together, strand: Any, named: Sequence[Any], place: Any = None) -> None:
        seen.append(len(named))
        await drive(self, strand, named, place)

    monkeypatch.setattr(Together, "_drive", noting)
    return seen


async def come(minus: Together, count: int) -> None:
    """Wait until so many requests wait at the minus holder."""
    while sum(len(ones) for waiting in minus._waiting.values() for ones in waiting._owners.values()) < count:
        await asyncio.sleep(0.01)


@asynccontextmanager
async def gathered(trio: Trio, pair: Pair, count: int) -> AsyncIterator[None]:
    """Whatever comes in the block waits until there is so much, and then goes together."""
    minus = trio[holders(pair)[1]]._together
    before, together.AT_ONCE = together.AT_ONCE, 0

    async def let_go() -> None:
        await come(minus, count)
        together.AT_ONCE = 2
        for name in list(minus._waiting):
            minus._begin(name)

    letting = asyncio.create_task(let_go())
    try:
        yield
        await letting
    finally:
        together.AT_ONCE = before
        letting.cancel()


async def share_of(trio: Trio, request: Any, party: Party, pair: Pair, **changes: Any) -> Any:
    async with trio.call(request, party, pair, **changes) as call:
        return await call.decision_share(1, len(changes["record"]))


def shares_of(trio: Trio, probe: Array, pair: Pair, threshold: int, by_party: Sequence[dict[str, Any]]) -> Any:
    """Play both matchers; what becomes of it at each, plus first, as `gather` with its errors."""
    request = signed(probe, pair, threshold, request_pb2.OPERATION_VERIFY)
    both = zip(holders(pair), by_party, strict=True)
    return asyncio.gather(
        *(share_of(trio, request, party, pair, **changes) for party, changes in both), return_exceptions=True
    )


async def verify(trio: Trio, probe: Array, pair: Pair, threshold: int, templates: Sequence[Array]) -> bool:
    """What a verification is answered."""
    shares = await shares_of(trio, probe, pair, threshold, [given(*templates)] * 2)
    assert not any(isinstance(share, BaseException) for share in shares), shares
    return opened_bits(*shares, 1) == [1]


def given(*records: Array, **changes: Any) -> dict[str, Any]:
    record = [c for one in records for c in encrypted(one)]
    # The first one waits for the stock to be dealt.
    return {"record": record, "by_device": [False] * len(records), "timeout_s": 60.0} | changes


@pytest.mark.parametrize("pair", PAIRS)
async def test_many_at_once_are_answered_right_in_one_session(trio: Trio, pair: Pair, sessions: list[int]) -> None:
    asked = [(FACES[i], HIGH, FACES[i + i % 2 :][: 1 + i % 3]) for i in range(9)]
    await verify(trio, FACES[0], pair, 1, [FACES[0]])
    sessions.clear()
    async with gathered(trio, pair, 9):
        found = await asyncio.gather(
            *(verify(trio, probe, pair, threshold, records) for probe, threshold, records in asked)
        )
    assert found == [any(int(p @ r) >= threshold for r in records) for p, threshold, records in asked]
    assert {True, False} == set(found) and sessions == [9, 9], "one session, at both"


async def test_more_than_go_together_go_in_the_next_one(trio: Trio, sessions: list[int]) -> None:
    count = MAX_TOGETHER + 3
    async with gathered(trio, "ab", count):
        found = await asyncio.gather(*(verify(trio, FACES[0], "ab", HIGH, [FACES[i % 2]]) for i in range(count)))
    assert found == [not i % 2 for i in range(count)] and sorted(sessions) == [3, 3, MAX_TOGETHER, MAX_TOGETHER]


async def test_without_anything_under_way_one_goes_alone_at_once(trio: Trio, sessions: list[int]) -> None:
    assert await verify(trio, FACES[0], "ab", 1, [FACES[0]])
    assert sessions == [1, 1]


async def test_all_are_noted_one_by_one_and_both_logs_agree(trio: Trio) -> None:
    async with gathered(trio, "ab", 5):
        await asyncio.gather(*(verify(trio, FACES[i], "ab", 1 + i, [FACES[i]]) for i in range(5)))
    a, b = noted(trio, "a"), noted(trio, "b")
    assert len({entry.fields["session"] for entry in a}) == 5
    assert sorted(entry.fields["threshold"] for entry in b) == [1, 2, 3, 4, 5]
    _, _, found = compare(trio.data_dir("a"), trio.data_dir("b"))
    assert found.common == 5 and found.agree


async def test_what_has_gone_together_leaves_no_garbage(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    """What leads back to itself stays until Python looks for it, and local shares with it."""
    await verify(trio, FACES[0], "ab", 1, [FACES[0]])
    made = list[weakref.ref[Verification]]()
    begin = Verification.__init__

    def noting(self: Verification, *of: Any) -> None:
        made.append(weakref.ref(self))
        begin(self, *of)

    monkeypatch.setattr(Verification, "__init__", noting)
    gc.collect()
    gc.disable()
    try:
        async with gathered(trio, "ab", 3):
            found = await asyncio.gather(*(verify(trio, FACES[i], "ab", 1, [FACES[i]]) for i in range(3)))
        await asyncio.sleep(0.2)  # calls and tasks end
        assert found == [True] * 3 and len(made) == 6
        assert [one() for one in made] == [None] * 6
    finally:
        gc.enable()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all openings that any key holder has sent."""
    sizes: list[int] = []
    to_wire = turns.turn_to_wire

    def noting(turn: Sequence[Any]) -> Any:
        sizes.extend(len(e.message.values) for e in turn if isinstance(e.message, Openings))
        return to_wire(turn)

    monkeypatch.setattr(turns, "turn_to_wire", noting)
    return sizes


DIFFERENCES: dict[str, tuple[Callable[[], dict[str, Any]], type[VeilmatchError]]] = {
    "other records": (lambda: given(FACES[3]), ProtocolError),
    "a stale gallery": (lambda: {"state": replace(STATE, sequence=8)}, GalleryMismatchError),
}


@pytest.mark.parametrize("what", DIFFERENCES)
async def test_one_that_is_not_the_same_at_both_fails_alone(
    trio: Trio, what: str, sessions: list[int], opened: list[int]
) -> None:
    other, error = DIFFERENCES[what]
    same = given(FACES[1])
    different = same | other()
    async with gathered(trio, "ab", 3):
        wrong, first, second = await asyncio.gather(
            shares_of(trio, FACES[1], "ab", 1, [same, different]),
            *(shares_of(trio, FACES[i], "ab", HIGH, [same, same]) for i in (1, 2)),
        )
    assert [type(one) for one in wrong] == [error, error]
    assert (opened_bits(*first, 1), opened_bits(*second, 1)) == ([1], [0])
    assert sessions == [3, 3]
    residue = (TOY.modulus_bits + 7) // 8
    assert opened == [2 * residue * 2 * 2 * len(same["record"])] * 2, "of the two that go on, probe and record each"


async def test_one_that_the_other_matcher_did_not_bring_delays_nobody_for_long(
    hasty: Trio, sessions: list[int]
) -> None:
    await verify(hasty, FACES[0], "ab", 1, [FACES[0]])
    sessions.clear()
    same = given(FACES[1])
    request = signed(FACES[1], "ab", 1, request_pb2.OPERATION_VERIFY)
    async with gathered(hasty, "ab", 4):
        lonely = asyncio.create_task(share_of(hasty, request, "b", "ab", **same))
        others = [asyncio.create_task(verify(hasty, FACES[1], "ab", 1, [FACES[1]])) for _ in range(3)]
        assert await asyncio.gather(*others) == [True] * 3
        assert not lonely.done()
    assert sessions == [4, 4] or sessions == [4, 4, 1]
    with pytest.raises(UnavailableError):
        await lonely


async def test_one_that_comes_late_goes_alone_afterwards(trio: Trio, sessions: list[int]) -> None:
    await verify(trio, FACES[0], "ab", 1, [FACES[0]])
    sessions.clear()
    request, same = signed(FACES[1], "ab", 1, request_pb2.OPERATION_VERIFY), given(FACES[1])
    async with gathered(trio, "ab", 3):
        early = asyncio.create_task(share_of(trio, request, "b", "ab", **same))
        assert await asyncio.gather(*(verify(trio, FACES[1], "ab", 1, [FACES[1]]) for _ in range(2))) == [True] * 2
    late = await share_of(trio, request, "a", "ab", **same)
    assert opened_bits(late, await early, 1) == [1]
    assert sessions == [3, 3, 1, 1]


async def test_where_none_was_brought_they_go_alone(trio: Trio, sessions: list[int]) -> None:
    await verify(trio, FACES[0], "ab", 1, [FACES[0]])
    sessions.clear()
    requests = [signed(FACES[1], "ab", 1, request_pb2.OPERATION_VERIFY) for _ in range(2)]
    same = given(FACES[1])
    async with gathered(trio, "ab", 2):
        early = [asyncio.create_task(share_of(trio, request, "b", "ab", **same)) for request in requests]
    await asyncio.sleep(together.BROUGHT_S + 0.2)
    late = [await share_of(trio, request, "a", "ab", **same) for request in requests]
    assert [opened_bits(x, await y, 1) for x, y in zip(late, early, strict=True)] == [[1], [1]]
    assert sessions == [2, 1, 1, 1, 1], "it was opened, and nobody was there"


async def test_one_that_is_refused_at_the_plus_holder_hears_why_and_holds_nobody_up(
    tmp_path: Path, sessions: list[int]
) -> None:
    async with started(await stocked(tmp_path / "frugal")) as trio:
        await verify(trio, FACES[0], "ab", 1, [FACES[0]])
        sessions.clear()

        def used_up(*_: Any) -> None:
            raise BudgetExceededError("no more today", retry_after_s=9.0)

        look, asked = trio["a"]._ledger.look, iter(range(9))
        trio["a"]._ledger.look = lambda *each: used_up() if next(asked) == 0 else look(*each)  # type: ignore[method-assign]
        same = given(FACES[1])
        began = time.monotonic()
        async with gathered(trio, "ab", 3):
            refused = shares_of(trio, FACES[1], "ab", 1, [same, same])
            await asyncio.sleep(0.2)
            found = await asyncio.gather(*(verify(trio, FACES[1], "ab", 1, [FACES[1]]) for _ in range(2)))
            errors = await refused
        assert found == [True] * 2 and [type(error) for error in errors] == [BudgetExceededError] * 2
        assert errors[1].said_by[0] == "keyholder-a" and time.monotonic() - began < 15
        assert sessions[:2] == [3, 3]


async def test_one_that_is_given_up_is_missed_by_nobody(trio: Trio, sessions: list[int]) -> None:
    request, same = signed(FACES[1], "ab", 1, request_pb2.OPERATION_VERIFY), given(FACES[1])
    async with gathered(trio, "ab", 3):
        gone = [asyncio.create_task(share_of(trio, request, party, "ab", **same)) for party in holders("ab")]
        others = [asyncio.create_task(verify(trio, FACES[1], "ab", 1, [FACES[1]])) for _ in range(2)]
        while not sessions:
            await asyncio.sleep(0.001)
        for one in gone:
            one.cancel()
        assert await asyncio.gather(*others) == [True] * 2
    assert not trio["b"]._together._waiting and not trio["a"]._together._brought


async def test_a_peer_that_stalls_its_sessions_holds_up_nothing_behind_them(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await verify(trio, FACES[0], "ab", 1, [FACES[0]])
    stalled, goes_on, at_a = list[object](), asyncio.Event(), trio["a"]._workers._gathered
    prove = ShareWork.safety_shares

    async def stalling(self: ShareWork, *of: Any) -> Any:
        if self._gathered is at_a and len(stalled) < together.AT_ONCE:
            stalled.append(self)
            await goes_on.wait()
        return await prove(self, *of)

    monkeypatch.setattr(ShareWork, "safety_shares", stalling)
    held: list[asyncio.Task[bool]] = []
    for number in range(together.AT_ONCE):
        held.append(asyncio.create_task(verify(trio, FACES[1], "ab", 1, [FACES[1]])))
        while len(stalled) <= number:
            await asyncio.sleep(0.01)
    assert await verify(trio, FACES[2], "ab", 1, [FACES[2]])
    assert not any(one.done() for one in held)
    goes_on.set()
    assert await asyncio.gather(*held) == [True] * together.AT_ONCE


async def test_a_link_that_dies_ends_all_and_names_the_peer(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    await verify(trio, FACES[0], "ab", 1, [FACES[0]])
    say, cut = turns.Turns.say, []

    async def cutting(self: turns.Turns, envelope: Any) -> None:
        if isinstance(envelope.message, Openings) and not cut:
            cut.append(trio["a"].links._called["b"].link)
            cut[0].close()
        await say(self, envelope)

    monkeypatch.setattr(turns.Turns, "say", cutting)
    same = given(FACES[1])
    async with gathered(trio, "ab", 3):
        outcomes = await asyncio.gather(*(shares_of(trio, FACES[1], "ab", 1, [same, same]) for _ in range(3)))
    assert cut
    for at_plus, at_minus in outcomes:
        assert isinstance(at_plus, UnavailableError) and isinstance(at_minus, UnavailableError)
        assert at_minus.party == "keyholder-a" and at_plus.party == "keyholder-b"
    assert await verify(trio, FACES[0], "ab", 1, [FACES[0]])


@pytest.mark.parametrize("matters", [[], [bytes(32)] * 2, [bytes([i]) * 32 for i in range(MAX_TOGETHER + 1)], [b"x"]])
async def test_a_peer_opens_no_session_about_nothing_or_too_much(trio: Trio, matters: list[bytes]) -> None:
    call = rpc.KeyHolderPeerStub(trio.channel("keyholder-b", "a")).Pair(timeout=20.0)
    rendezvous = pb.PairMessage(rendezvous=pb.PairRendezvous(subject_matter=matters))
    await call.write(pb.PairFrames(frame=[pb.PairFrame(session=1, message=rendezvous)]))
    (frame,) = (await call.read()).frame
    assert isinstance(decoded(frame.message.ended, "keyholder-a"), ProtocolError)
    call.cancel()


async def test_a_device_asks_for_many_and_another_one_goes_with_the_first_of_them(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composing, "MAX_TOGETHER", 4)
    await verify(trio, FACES[0], "ab", 1, [FACES[0]])
    for party in holders("ab"):
        trio.certify(party, "device-2")
    composed: list[list[str]] = []
    drive = Together._drive

    async def noting(self: Together, strand: Any, named: Sequence[Any], place: Any = None) -> None:
        composed.append([one.owner for one in named])
        await drive(self, strand, named, place)

    monkeypatch.setattr(Together, "_drive", noting)
    same = given(FACES[1])

    async def ask(device: str) -> None:
        request = signed(FACES[1], "ab", 1, request_pb2.OPERATION_VERIFY, device=device, key=device_key(device))
        async with AsyncExitStack() as stack:
            calls = [await stack.enter_async_context(trio.call(request, p, "ab", **same)) for p in holders("ab")]
            await asyncio.gather(*(call.decision_share(1, 4) for call in calls))

    async with gathered(trio, "ab", 2 * 4 + 1):
        greedy = [asyncio.create_task(ask("device-1")) for _ in range(2 * 4)]
        await come(trio["b"]._together, 2 * 4)
        await asyncio.gather(ask("device-2"), *greedy)
    assert "device-2" in composed[0]
