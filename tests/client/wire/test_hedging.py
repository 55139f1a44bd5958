"""Hedging: off by default, for queries alone, after the time that nearly all others took; the first answer counts."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.conftest import face
from tests.client.fakes import FakeMatchers, body_of
from veilmatch import AsyncClient, DeviceSettings
from veilmatch.client.wire.pairs.hedging import FEWEST, LATEST, Latencies, first_answer
from veilmatch.crypto.errors import KeySafetyError, UnavailableError


@given(st.lists(st.floats(0, 100), max_size=300))
def test_the_usual_time_is_one_that_five_in_a_hundred_exceed(taken: list[float]) -> None:
    latencies = Latencies()
    for seconds in taken:
        latencies.note(1, seconds)
    usual = latencies.usual_s(1)
    latest = taken[-LATEST:]
    if len(taken) < FEWEST:
        assert usual is None
    else:
        assert usual is not None
        assert sum(seconds > usual for seconds in latest) <= len(latest) / 20
        assert sum(seconds >= usual for seconds in latest) >= len(latest) / 20
    assert latencies.usual_s(2) is None


def ending(seconds: float, end: Any) -> Any:
    async def one() -> Any:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            cancelled.append(end)
            raise
        if isinstance(end, Exception):
            raise end
        return end

    return one


cancelled: list[Any] = []
GONE, DEVIATES = UnavailableError("gone", available="no answer"), KeySafetyError("opened other values")
VAGUE = UnavailableError("left")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0.0, "A"), (0.0, "B"), "A"),
        ((0.6, "A"), (0.0, "B"), "B"),
        ((0.3, "A"), (0.6, "B"), "A"),
        ((0.0, GONE), (0.0, "B"), GONE),  # before its time a failure is a failure, with pairs of its own
        ((0.2, GONE), (0.2, "B"), "B"),
        ((0.3, "A"), (0.0, GONE), "A"),
        ((0.2, GONE), (0.2, VAGUE), GONE),
        ((0.2, VAGUE), (0.2, GONE), GONE),
        ((0.6, "A"), (0.0, DEVIATES), DEVIATES),
        ((0.2, DEVIATES), (0.6, "B"), DEVIATES),
    ],
)
async def test_which_of_two_counts(first: Any, second: Any, expected: Any) -> None:
    cancelled.clear()
    try:
        outcome = await first_answer(ending(*first), ending(*second), 0.1)
    except (UnavailableError, KeySafetyError) as error:
        outcome = error
    assert outcome is expected
    assert expected not in cancelled and len(asyncio.all_tasks()) == 1


# -- of a client -------------------------------------------------------------------------------------------


async def asked_often(client: AsyncClient, fakes: FakeMatchers) -> None:
    for _ in range(FEWEST):
        await client.verify_embedding("ada", face(1), model="toy")
    for matcher in (fakes.a, fakes.b, fakes.c):
        matcher.requests.clear()


def slow(kind: str, request: Any) -> Any:
    return asyncio.sleep(1.5) if body_of(request).pair == "ab" else None


@pytest.mark.parametrize("by", ["settings", "call"])
async def test_a_slow_query_is_asked_of_a_second_pair(settings: DeviceSettings, fakes: FakeMatchers, by: str) -> None:
    chosen = settings.model_copy(update={"hedge": by == "settings"})
    async with AsyncClient(chosen, matchers=fakes.all) as client:
        await asked_often(client, fakes)
        fakes.a.before = slow
        started = time.monotonic()
        result = await client.verify_embedding("ada", face(1), model="toy", hedge=None if by == "settings" else True)
        assert result.pair == "ac" and time.monotonic() - started < 1.0
        assert [body_of(r).pair for r in fakes.a.requests] == ["ab", "ac"], "the budgets count both"
        assert fakes.a.cancelled == 1


@pytest.mark.parametrize("hedge", [None, False])
async def test_it_is_off_by_default(settings: DeviceSettings, fakes: FakeMatchers, hedge: bool | None) -> None:
    async with AsyncClient(settings, matchers=fakes.all) as client:
        await asked_often(client, fakes)
        fakes.a.before = slow
        assert (await client.verify_embedding("ada", face(1), model="toy", hedge=hedge)).pair == "ab"
        assert len(fakes.a.requests) == 1


async def test_before_there_is_a_usual_time_and_in_a_change_there_is_no_second_pair(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    async with AsyncClient(settings.model_copy(update={"hedge": True}), matchers=fakes.all) as client:
        fakes.a.before = slow
        assert (await client.verify_embedding("ada", face(1), model="toy")).pair == "ab"
        fakes.a.before = lambda kind, request: None
        for number in range(FEWEST):
            await client.enrol_embedding(f"s{number}", face(1), model="toy")
        fakes.a.before, fakes.a.requests[:] = slow, []
        await client.enrol_embedding("ada", face(1), model="toy")
        assert [body_of(r).pair for r in fakes.a.requests] == ["ab"]


async def test_with_one_pair_there_is_no_second(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    chosen = settings.model_copy(update={"hedge": True, "pairs": ["ab"]})
    async with AsyncClient(chosen, matchers=fakes.all) as client:
        await asked_often(client, fakes)
        fakes.a.before = slow
        assert (await client.verify_embedding("ada", face(1), model="toy")).pair == "ab"
