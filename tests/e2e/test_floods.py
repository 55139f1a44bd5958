"""What one device can do to others at real matchers: requests to one of them alone, changes given up, long lists."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest

from tests.e2e.world import World, running, stopped, unit
from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.client.wire.signing import Draft
from veilmatch.crypto.errors import RequestSignatureError, VeilmatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.installation.plan import folder_of
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.status import from_rpc

TOY = ParameterSet(modulus_bits=1024)
VECTOR = unit(np.random.default_rng(1), 1, TOY.dimension)[0]


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation of three devices: the first is honest, and has enrolled a face."""
    with running(tmp_path_factory.mktemp("flooded") / "installation", TOY, 3) as made:
        with made.client() as client:
            client.enrol_embedding("ada", VECTOR, model="toy")
        yield made


def settings_of(world: World, device: str) -> DeviceSettings:
    return DeviceSettings.load(world.directory / device / "device.toml")


@dataclass
class Flood:
    """A device that signs whatever it likes, and its way to each matcher."""

    device: Any
    a: Any
    b: Any
    c: Any

    async def signed(
        self, operation: request_pb2.Operation, pair: str = "ab", **more: Any
    ) -> request_pb2.SignedRequest:
        lanes = await self.device.lanes(VECTOR)
        return await asyncio.to_thread(self.device.sign, Draft(operation, lanes, model="toy", **more), pair)  # type: ignore[no-any-return]

    async def searches(self, count: int) -> list[pb.MatchRequest]:
        made = [await self.signed(request_pb2.OPERATION_CANDIDATES, threshold=100) for _ in range(count)]
        return [pb.MatchRequest(request=one) for one in made]


@asynccontextmanager
async def flood(world: World, device: str) -> AsyncIterator[Flood]:
    settings = settings_of(world, device)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncClient(settings))
        stubs = [
            rpc.MatcherStub(
                await stack.enter_async_context(channel_to(settings.matchers[party], f"matcher-{party}", settings.tls))
            )
            for party in ("a", "b", "c")
        ]
        yield Flood(client._device, *stubs)


async def verifications(world: World, count: int) -> tuple[Counter[str], float]:
    """Verify as the SDK does, one after the other; how they ended, and how long the longest took."""
    ends, longest = Counter[str](), 0.0
    async with AsyncClient(settings_of(world, "device-1")) as client:
        for _ in range(count):
            began = time.monotonic()
            try:
                await client.verify_embedding("ada", VECTOR, model="toy")
                ends["ok"] += 1
            except VeilmatchError as error:
                ends[error.code] += 1
            longest = max(longest, time.monotonic() - began)
    return ends, longest


async def left(calls: list[Any]) -> None:
    for call in calls:
        call.cancel()
    await asyncio.gather(*(call.code() for call in calls), return_exceptions=True)


async def test_requests_that_come_to_the_leader_alone_take_no_turn(flooded: World) -> None:
    async with flood(flooded, "device-2") as device:
        calls = [device.a.Match(one, timeout=20) for one in await device.searches(24)]
        await asyncio.sleep(0.3)
        assert (await verifications(flooded, 3))[0] == Counter(ok=3)
        assert not any(call.done() for call in calls), "they still wait for the other matcher"
        await left(calls)


async def test_requests_that_come_to_the_follower_alone_close_it_to_nobody(flooded: World) -> None:
    async with flood(flooded, "device-2") as second, flood(flooded, "device-3") as third:
        calls = []
        for device in (second, third):
            searches = await device.searches(4)
            calls += [device.b.Match(searches[n % 4], timeout=20) for n in range(125)]
        await asyncio.sleep(0.5)
        assert (await verifications(flooded, 3))[0] == Counter(ok=3)
        await left(calls)


async def test_changes_that_are_given_up_hold_nobody_up(flooded: World) -> None:
    async with flood(flooded, "device-2") as device:

        async def give_up() -> None:
            request = await device.signed(
                request_pb2.OPERATION_ENROL, subject="bob", token=secrets.token_bytes(16)
            )  # fmt: skip
            calls = [device.a.Mutate(request, timeout=60), device.b.Mutate(request, timeout=60)]
            await asyncio.sleep(0.3)
            await left(calls)

        async def all_of_them() -> None:
            for _ in range(10):
                await asyncio.gather(*(give_up() for _ in range(8)))

        giving_up = asyncio.ensure_future(all_of_them())
        await asyncio.sleep(1)
        ends, longest_s = await verifications(flooded, 8)
        await giving_up
    assert ends == Counter(ok=8) and longest_s < 8
    # What was begun is done at both, or at neither.
    with flooded.client() as client:
        assert {entry.subject for entry in client.subjects()} >= {"ada"}


async def test_lists_and_rotations_pass_a_turn(flooded: World) -> None:
    async with flood(flooded, "device-2") as device:
        requests = [
            await asyncio.to_thread(device.device.sign, Draft(request_pb2.OPERATION_SUBJECTS), "ab") for _ in range(120)
        ]
        with stopped(flooded, "keyholder-b"):  # so that these searches keep every turn
            searches = [m.Match(one, timeout=20) for one in await device.searches(24) for m in (device.a, device.b)]
            await asyncio.sleep(0.5)
            calls = [matcher.Subjects(one, timeout=60) for matcher in (device.a, device.b) for one in requests]
            lists = [asyncio.ensure_future(call.read()) for call in calls]
            await asyncio.wait(lists, return_when=asyncio.FIRST_COMPLETED)
        outcomes = await asyncio.gather(*lists, return_exceptions=True)
        await left(searches)
        ends = list(zip(outcomes[: len(requests)], outcomes[len(requests) :], strict=True))
        # Each matcher chooses by itself whom it refuses; the other one then says only that it was left alone with one.
        refused = [
            {from_rpc(one, "matcher").code for one in end if isinstance(one, grpc.aio.AioRpcError)}
            for end in ends
            if any(isinstance(one, BaseException) for one in end)
        ]
    assert all("overloaded" in codes for codes in refused), f"one device has half of the places: {refused}"
    assert 0 < len(refused) < len(requests)


async def test_what_does_not_belong_to_a_request_is_refused_before_it_waits(flooded: World) -> None:
    async with flood(flooded, "device-2") as device:
        (search,) = await device.searches(1)
        search.request.ciphertexts.append(search.request.ciphertexts[0])
        padded = pb.MatchRequest.FromString(search.SerializeToString())
        padded.request.ciphertexts[-1] = bytes(1 << 20)
        for wrong in (search, padded):
            async with asyncio.timeout(2):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await device.b.Match(wrong).read()
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_device_that_was_revoked_is_refused_unread(flooded: World) -> None:
    for found in (flooded.directory / folder_of("matcher-a")).rglob("device-3.cert"):
        found.unlink()
    settings = settings_of(flooded, "device-3")
    async with channel_to(settings.matchers["a"], "matcher-a", settings.tls) as channel:
        call = channel.stream_unary("/veilmatch.v1.Matcher/Match")(timeout=20)  # and nothing is sent
        async with asyncio.timeout(15):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
    assert type(from_rpc(caught.value, "matcher-a")) is RequestSignatureError
