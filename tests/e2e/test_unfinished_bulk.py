"""Bulk enrolments that devices begin and do not finish, at real matchers: they hold little, and they end."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import numpy as np
import pytest

from tests.e2e.world import ENVIRONMENT, World, running, unit
from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.client.operations import bulk
from veilmatch.client.wire.signing import Draft
from veilmatch.crypto.errors import OverloadedError, UnavailableError, VeilmatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.matcher.bulk_room import PER_DEVICE
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.status import from_rpc

TOY = ParameterSet(modulus_bits=1024)
MIB = 1 << 20
#: What one stream may hold, all may hold, and how long one may take.
EACH, ALL, ENDS_S = 4 * MIB, 6 * MIB, 6.0
STREAMS = 10


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation whose matchers have little room for bulk enrolments, and little time."""
    limits = {"MAX_BULK_BYTES": EACH, "BULK_MEMORY_BYTES": ALL, "MAX_BULK_S": ENDS_S}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setitem(ENVIRONMENT, f"VEILMATCH_{name}", str(value))
        with running(tmp_path_factory.mktemp("narrow") / "installation", TOY, 2) as made:
            yield made


class Stream:
    """A bulk enrolment at matcher a that is never finished."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._began = time.monotonic()

    async def send(self, chunk: pb.BulkChunk, times: int = 1) -> None:
        """Send as much as is taken: a stream that was refused at once gets nothing more."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for _ in range(0 if self._call.done() else times):
                await self._call.write(chunk)

    async def ended(self) -> tuple[VeilmatchError, float]:
        """Wait for its end; the error, and how long it has lasted, in seconds."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self._call
        return from_rpc(caught.value, "matcher-a"), time.monotonic() - self._began


def settings_of(world: World, device: str) -> DeviceSettings:
    return DeviceSettings.load(world.directory / device / "device.toml")


@asynccontextmanager
async def begun(world: World, device: str, count: int, packs: int) -> AsyncIterator[list[Stream]]:
    """Begin so many properly signed bulk enrolments of a device, and send the same pack so many times in each."""
    settings = settings_of(world, device)
    async with (
        AsyncClient(settings) as client,
        channel_to(settings.matchers["a"], "matcher-a", settings.tls) as channel,
    ):
        made = client._device
        template = made.quantised("s", unit(np.random.default_rng(1), 1, TOY.dimension)[0])
        (pack,) = await made.packs(["s"], [template], {}, 0, None)
        streams = []
        for number in range(count):
            draft = Draft(
                request_pb2.OPERATION_BULK_ENROL, token=bytes([number]) * 16, bulk_digest=bulk.digest_of([pack]),
                model="toy",
            )  # fmt: skip
            signed = await asyncio.to_thread(made.sign, draft, "ab")
            streams.append(Stream(rpc.MatcherStub(channel).BulkEnrol(timeout=60)))
            await streams[-1].send(pb.BulkChunk(header=signed))
        await asyncio.sleep(0.5)
        await asyncio.gather(*(stream.send(pb.BulkChunk(pack=pack), packs) for stream in streams))
        yield streams


async def enrolled(world: World, device: str, subject: str) -> int:
    """Enrol in bulk as the SDK does; how many templates that were."""
    vector = unit(np.random.default_rng(len(subject)), 1, TOY.dimension)[0]
    async with AsyncClient(settings_of(world, device)) as client:
        return (await client.enrol_many_embeddings([(subject, vector)], model="toy")).templates


async def test_a_device_that_begins_ten_and_finishes_none_has_two_for_a_short_time(narrow: World) -> None:
    async with begun(narrow, "device-1", STREAMS, packs=20) as streams:
        assert await enrolled(narrow, "device-2", "meanwhile") == 1
        ends = await asyncio.gather(*(stream.ended() for stream in streams))
    kinds = Counter(type(error) for error, _ in ends)
    assert kinds == {OverloadedError: STREAMS - PER_DEVICE, UnavailableError: PER_DEVICE}
    for error, lasted_s in ends:
        if isinstance(error, OverloadedError):
            assert error.party == "matcher-a" and error.retry_after_s
        else:
            assert error.message.startswith("device-1 did not") and lasted_s < ENDS_S + 5
    assert await enrolled(narrow, "device-1", "afterwards") == 1


async def test_what_all_devices_together_begin_is_bounded(narrow: World) -> None:
    before = narrow.log("matcher-a")
    async with (
        begun(narrow, "device-1", PER_DEVICE, packs=90) as first,
        begun(narrow, "device-2", PER_DEVICE, packs=90) as second,
    ):
        await asyncio.gather(*(stream.ended() for stream in (*first, *second)))
    # gRPC may forget what it was told while it was sending, so the matcher's own word counts.
    lines = map(json.loads, narrow.log("matcher-a")[len(before) :].splitlines())
    codes = Counter(line["code"] for line in lines if line["event"] == "call refused")
    # Refusals for overload of one caller within a second are one line.
    assert codes["overloaded"] >= 1 and codes["unavailable"] < 2 * PER_DEVICE
    assert set(codes) == {"overloaded", "unavailable"}


async def test_a_stream_that_says_nothing_takes_a_place_of_its_device_alone(narrow: World) -> None:
    settings = settings_of(narrow, "device-1")
    async with channel_to(settings.matchers["a"], "matcher-a", settings.tls) as channel:
        calls = [rpc.MatcherStub(channel).BulkEnrol(timeout=60) for _ in range(PER_DEVICE + 1)]
        done, _ = await asyncio.wait(
            {asyncio.ensure_future(call.code()) for call in calls}, return_when=asyncio.FIRST_COMPLETED, timeout=10
        )
        assert [one.result() for one in done] == [grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert await enrolled(narrow, "device-2", "beside") == 1
        for call in calls:
            call.cancel()
