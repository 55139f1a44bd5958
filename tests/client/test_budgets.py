"""What a client says of budgets: the smaller rest of both organisations of each pair, and who did not say."""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

import pytest

from veilmatch import AsyncClient, DeviceSettings
from veilmatch.client.results import Budget
from veilmatch.client.web.actions import Actions
from veilmatch.crypto.errors import IntegrityError, UnavailableError, VersionError
from veilmatch.crypto.versions import UNSAID
from veilmatch.protos.v1.request_pb2 import BudgetLeft

from .fakes import FakeMatchers


def told(measure: str = "requests", window: str = "day", limit: int = 10, used: int = 0, **more: Any) -> BudgetLeft:
    return BudgetLeft(measure=measure, window=window, limit=limit, used=used, **more)


async def test_of_a_pair_the_smaller_rest_counts_and_what_only_one_of_it_limits(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    fakes.a.told = [told(used=3, eases_s=60), told("bits", "month", 100), told("requests", "minute", 5)]
    fakes.b.told = [told(limit=20, used=12, eases_s=5)]
    fakes.c.told = [told(limit=20, used=20, eases_s=7), told("searches", "hour", 4, 9)]
    async with AsyncClient(settings, matchers=fakes.all) as client:
        found = await client.budgets()
    assert found.pairs["ab"] == (
        Budget("requests", "minute", 5, 5, 0), Budget("requests", "day", 10, 7, 60),
        Budget("bits", "month", 100, 100, 0),
    )  # fmt: skip
    assert found.pairs["bc"] == (Budget("requests", "day", 20, 0, 7), Budget("searches", "hour", 4, 0, 0))
    assert found.organisations["b"] == (Budget("requests", "day", 20, 8, 5),) and not found.missing
    assert not (fakes.a.requests or fakes.b.requests or fakes.c.requests), "no request is signed for it"


async def test_only_matchers_of_the_pairs_that_are_asked_are_asked(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    fakes.c.told = IntegrityError("not asked")
    two = settings.model_copy(update={"pairs": ["ab"]})
    async with AsyncClient(two, matchers=fakes.all) as client:
        found = await client.budgets()
    assert set(found.pairs) == {"ab"} and set(found.organisations) == {"a", "b"} and not found.missing


async def test_who_does_not_say_is_named_and_its_pairs_are_not_there(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    fakes.a.told = [told()]
    fakes.b.told = UnavailableError("keyholder-b cannot be reached", party="keyholder-b")
    fakes.c.hello = UNSAID
    async with AsyncClient(settings, matchers=fakes.all) as client:
        found = await client.budgets()
        assert not found.pairs and set(found.organisations) == {"a"}
        assert isinstance(found.missing["b"], UnavailableError) and isinstance(found.missing["c"], VersionError)
        assert found.missing["c"].party == "matcher-c" and "has to be updated" in found.missing["c"].message
        fakes.a.told = UnavailableError("keyholder-a cannot be reached", party="keyholder-a")
        with pytest.raises(UnavailableError, match="keyholder-a"):
            await client.budgets()


@pytest.mark.parametrize("eases_s", [math.nan, math.inf, -1.0])
async def test_what_has_no_sense_is_not_believed(settings: DeviceSettings, fakes: FakeMatchers, eases_s: float) -> None:
    fakes.a.told = fakes.b.told = fakes.c.told = [told(eases_s=eases_s)]
    async with AsyncClient(settings, matchers=fakes.all) as client:
        with pytest.raises(IntegrityError):
            await client.budgets()


async def test_a_measure_of_a_later_version_is_left_out(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    fakes.a.told = fakes.b.told = fakes.c.told = [told("questions"), told("bits", "year"), told("bits")]
    async with AsyncClient(settings, matchers=fakes.all) as client:
        assert (await client.budgets()).pairs["ab"] == (Budget("bits", "day", 10, 10, 0),)


async def test_the_page_shows_of_each_measure_the_budget_with_the_least_left(
    settings: DeviceSettings, fakes: FakeMatchers
) -> None:
    fakes.a.told = [told(used=9), told("requests", "month", 100, 20), told("bits", "month", 100)]
    fakes.b.told, fakes.c.told = [told()], UnavailableError("keyholder-c cannot be reached")
    async with AsyncClient(settings, matchers=fakes.all) as client:
        actions = Actions(settings, client, cast(Any, None), lambda photo: {}, asyncio.Event())
        found = await actions._budgets(cast(Any, None))
    assert found["pair"] == "ab"
    assert [(one["measure"], one["window"], one["left"]) for one in found["budgets"]] == [
        ("requests", "day", 1), ("bits", "month", 100),
    ]  # fmt: skip
