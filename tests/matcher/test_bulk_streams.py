"""Bulk enrolments that are begun and not finished: they hold little, and not for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from veilmatch.crypto.errors import InvalidInputError, OverloadedError, UnavailableError
from veilmatch.server.matcher.bulk_streams import BulkStreams


def streams(silence_s: float = 1.0) -> BulkStreams:
    return BulkStreams(100, silence_s, "matcher-a")


def test_a_device_has_one_at_a_time() -> None:
    bulk = streams()
    with bulk.of("desk"), pytest.raises(OverloadedError) as caught, bulk.of("desk"):
        pass
    assert (caught.value.party, caught.value.retry_after_s) == ("matcher-a", 10.0)
    with bulk.of("desk"), bulk.of("other"):
        pass


def test_all_together_hold_no_more_than_one_may() -> None:
    bulk = streams()
    with bulk.of("desk"), bulk.of("other"):
        bulk.take("desk", 60)
        with pytest.raises(OverloadedError):
            bulk.take("other", 50)
    with bulk.of("other"):
        bulk.take("other", 100)
        with pytest.raises(InvalidInputError):
            bulk.take("other", 1)


async def test_a_stream_that_falls_silent_ends() -> None:
    async def chunks() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(60)
        yield 2

    seen = []
    with pytest.raises(UnavailableError):
        async for chunk in streams(silence_s=0.05).flowing(chunks()):
            seen.append(chunk)
    assert seen == [1]


async def test_a_stream_that_flows_is_passed_on_to_its_end() -> None:
    async def chunks() -> AsyncIterator[int]:
        for number in range(5):
            await asyncio.sleep(0.01)
            yield number

    assert [chunk async for chunk in streams(silence_s=0.5).flowing(chunks())] == [0, 1, 2, 3, 4]
