"""Results are converted as they come, in their order, and not when nobody waits for them any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest

from tests.keyholder.test_service_sessions import gallery_of, vectors
from tests.keyholder.trio import TOY, Trio, results_of, signed
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import ProtocolError, UnavailableError
from veilmatch.crypto.pair.messages import Results
from veilmatch.server.keyholder.session.arriving import Arriving
from veilmatch.server.keyholder.session.serving import _within


class Work:
    """Stands in for the workers of a key holder: lets go what it was asked when it is told."""

    def __init__(self) -> None:
        self.asked: list[list[Integer]] = []
        self.go = asyncio.Event()
        self.dropped = 0

    async def local_shares(self, ciphertexts: Sequence[Integer]) -> list[LocalShare]:
        self.asked.append(list(ciphertexts))
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        if ciphertexts[0] == 9:
            raise UnavailableError("the key shares were refreshed meanwhile")
        return [LocalShare(c, c) for c in ciphertexts]


async def parts(*numbers: Sequence[int], gate: asyncio.Event | None = None) -> AsyncIterator[Results]:
    for i, some in enumerate(numbers):
        if i and gate is not None:
            await gate.wait()
        yield Results([Integer(n) for n in some], np.ones((len(some), TOY.slots), dtype=np.bool_))


async def test_the_first_results_are_converted_before_the_last_have_come() -> None:
    work, gate = Work(), asyncio.Event()
    with Arriving(work) as arriving:  # type: ignore[arg-type]
        taking = asyncio.ensure_future(arriving.all(parts([1, 2], [3], gate=gate)))
        for _ in range(10):
            await asyncio.sleep(0)
        assert work.asked == [[1, 2]] and not taking.done() and arriving.since is not None
        gate.set()
        found = await taking
        assert found.ciphertexts == [1, 2, 3] and found.wanted.shape == (3, TOY.slots)
        work.go.set()
        assert [share.z for share in await arriving.local_shares()] == [1, 2, 3]


async def test_a_conversion_that_fails_fails_when_it_is_asked_for() -> None:
    work = Work()
    work.go.set()
    with Arriving(work) as arriving:  # type: ignore[arg-type]
        await arriving.all(parts([1], [9], [2]))
        with pytest.raises(UnavailableError):
            await arriving.local_shares()


async def test_a_session_that_ends_drops_what_is_under_way() -> None:
    work = Work()
    with pytest.raises(ZeroDivisionError), Arriving(work) as arriving:  # type: ignore[arg-type]
        await arriving.all(parts([1], [2]))
        await asyncio.sleep(0)
        raise ZeroDivisionError
    await asyncio.sleep(0)
    assert work.dropped == 2


async def test_parts_ask_for_no_more_answers_together_than_were_announced() -> None:
    taken = []
    with pytest.raises(ProtocolError, match="more answers"):
        async for part in _within(parts([1], [2], [3]), "candidates", 2 * TOY.slots):
            taken.append(part)
    assert len(taken) == 2
    assert len([part async for part in _within(parts([1], [2]), "candidates", 2 * TOY.slots)]) == 2
    # Of two views each slot is asked for twice and answered once.
    assert len([part async for part in _within(parts([1], [2]), "candidates", TOY.slots, 2)]) == 2
    with pytest.raises(ProtocolError, match="more answers"):
        assert [part async for part in _within(parts([1], [2], [3]), "candidates", TOY.slots, 2)]


async def test_results_in_parts_are_answered_as_those_at_once(trio: Trio) -> None:
    templates = vectors(5, 2 * TOY.slots + 3)
    gallery = gallery_of(templates)

    async def asked(call: Any, results: Results, step: int) -> Any:
        data = [gallery.scheme.serialise(c) for c in results.ciphertexts]
        for start in range(0, len(data), step):
            stop = start + step
            await call.send_results(data[start:stop], results.wanted[start:stop], last=stop >= len(data))
        return await call.decision_share(len(templates), len(data))

    async with trio.both(signed(templates[3], "ab"), "ab") as calls:
        results = await results_of(calls, gallery, range(len(templates)), "ab")
        # In parts of one pack to one holder, all at once to the other.
        one, other = await asyncio.gather(asked(calls["a"], results, 1), asked(calls["b"], results, 99))
    mine, theirs = (np.frombuffer(share.bits, dtype=np.uint8) for share in (one, other))
    bits = np.unpackbits(mine ^ theirs, count=len(templates), bitorder="little")
    assert bits[3] == 1 and one.valid != other.valid
