"""The door: nothing is read of whoever may not call, and of others a few messages at once, each for a short time.

A caller that says nothing stands for one whose message lacks its last byte: both leave the server waiting for it. It
opens the method as a stream, which is the same on the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from tests.transport.parties import METHOD, bytes_of, serving, tls_of
from veilmatch.crypto.errors import (
    InvalidInputError,
    OverloadedError,
    PartyRefusedError,
    RequestSignatureError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.bounds import USUAL, ConnectionLimits
from veilmatch.server.transport import door
from veilmatch.server.transport.channels import Context, channel_to
from veilmatch.server.transport.door import Gate, devices_gate, peers_gate
from veilmatch.server.transport.limits import MIB, READS_EACH, READS_OF_DEVICES, WINDOW_BYTES
from veilmatch.server.transport.status import from_rpc, unary
from veilmatch.server.transport.streams import first_message

NAME = "matcher-a"
LIMIT = 1000


def known(name: str) -> None:
    if not name.startswith("device-"):
        raise RequestSignatureError("signed by no device that has a good certificate here", got=name)


def gate() -> Gate:
    return devices_gate(NAME, known, LIMIT)


async def echo(_self: object, request: bytes, _context: Context) -> bytes:
    return request


async def twice(_self: object, request: bytes, _context: Context) -> AsyncIterator[bytes]:
    yield request
    yield request


class Callers:
    """Channels of callers by the name of their certificate."""

    def __init__(self, address: str, folder: Path, stack: AsyncExitStack) -> None:
        self._address, self._folder, self._stack = address, folder, stack
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def channel(self, name: str) -> grpc.aio.Channel:
        if name not in self._channels:
            made = channel_to(self._address, NAME, tls_of(self._folder, name, is_server=False))
            self._channels[name] = await self._stack.enter_async_context(made)
        return self._channels[name]

    async def ask(self, name: str, request: bytes = b"x", timeout_s: float = 5.0) -> bytes:
        answer: bytes = await (await self.channel(name)).unary_unary(METHOD)(request, timeout=timeout_s)
        return answer

    async def silent(self, name: str, count: int = 1, timeout_s: float = 20.0) -> list[Any]:
        """Begin calls whose message does not come; they are at the server when this returns."""
        method = (await self.channel(name)).stream_unary(METHOD)
        calls = [method(timeout=timeout_s) for _ in range(count)]
        for call in calls:
            await call.wait_for_connection()
        await asyncio.sleep(0.3)
        return calls


async def error_of(call: Any) -> VeilmatchError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(caught.value, NAME)


@asynccontextmanager
async def callers(
    folder: Path,
    of: Gate | None = None,
    kind: str = "unary_unary",
    method: Any = echo,
    message: type[Message] | None = None,
    limits: ConnectionLimits = USUAL,
) -> AsyncIterator[Callers]:
    async with (
        serving(kind, method, tls_of(folder, NAME), message, of or gate(), limits) as address,
        AsyncExitStack() as stack,
    ):
        yield Callers(address, folder, stack)


async def test_what_devices_send_is_served_as_before(tmp_path: Path) -> None:
    async with callers(tmp_path) as some:
        assert await some.ask("device-1", b"hello") == b"hello"
        assert await some.ask("device-1", bytes(LIMIT)) == bytes(LIMIT)


async def test_a_method_that_answers_with_a_stream_is_served_as_before(tmp_path: Path) -> None:
    async with callers(tmp_path, kind="unary_stream", method=twice) as some:
        channel = await some.channel("device-1")
        assert [answer async for answer in channel.unary_stream(METHOD)(b"x", timeout=5)] == [b"x", b"x"]


async def test_who_is_not_known_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    async with callers(tmp_path) as some:
        (call,) = await some.silent("stranger")
        async with asyncio.timeout(3):
            assert type(await error_of(call)) is RequestSignatureError


async def test_a_device_that_calls_what_is_for_servers_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    async with callers(tmp_path, peers_gate(NAME, "matcher-b")) as some:
        (call,) = await some.silent("device-1")
        async with asyncio.timeout(3):
            assert type(await error_of(call)) is PartyRefusedError
        assert await some.ask("matcher-b") == b"x"


async def test_a_message_that_does_not_come_ends_its_call(tmp_path: Path) -> None:
    async with callers(tmp_path, limits=ConnectionLimits(read_s=0.5)) as some:
        (call,) = await some.silent("device-1")
        async with asyncio.timeout(3):
            error = await error_of(call)
    assert type(error) is UnavailableError and error.message.startswith("device-1 did not")


async def test_unfinished_messages_of_one_device_keep_no_other_waiting(tmp_path: Path) -> None:
    async with callers(tmp_path) as some:
        calls = await some.silent("device-1", 10 * READS_EACH)
        assert await some.ask("device-2", timeout_s=2) == b"x"
        for call in calls:
            call.cancel()
        assert await some.ask("device-1") == b"x", "their places are free again"


async def test_unfinished_messages_of_many_devices_keep_no_other_waiting(tmp_path: Path) -> None:
    async with callers(tmp_path) as some:
        for number in range(READS_OF_DEVICES // READS_EACH + 2):
            calls = await some.silent(f"device-1{number}", READS_EACH)
        assert await some.ask("device-2", timeout_s=2) == b"x"
        for call in calls:
            call.cancel()


async def test_calls_of_one_device_at_once_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "CALLS_OF_DEVICE", 6)
    async with callers(tmp_path) as some:
        await some.silent("device-1", 6)
        (call,) = await some.silent("device-1")
        async with asyncio.timeout(3):
            error = await error_of(call)
        assert type(error) is OverloadedError and error.retry_after_s
        assert await some.ask("device-2") == b"x"


async def test_a_message_larger_than_any_of_its_kind_is_not_looked_into(tmp_path: Path) -> None:
    async with callers(tmp_path, message=pb.MatchRequest) as some:
        channel = await some.channel("device-1")
        error = await error_of(channel.unary_unary(METHOD)(bytes(LIMIT + 1), timeout=5))
        assert isinstance(error, InvalidInputError) and error.got == str(LIMIT + 1)


async def test_a_message_that_is_none_is_refused_as_that(tmp_path: Path) -> None:
    async with callers(tmp_path, message=pb.MatchRequest) as some:
        channel = await some.channel("device-1")
        assert isinstance(await error_of(channel.unary_unary(METHOD)(b"\xff", timeout=5)), InvalidInputError)


async def test_a_method_that_is_not_offered_is_not_read(tmp_path: Path) -> None:
    async with callers(tmp_path) as some:
        call = (await some.channel("device-1")).stream_unary("/other.Service/Method")(timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_first_message_of_a_stream_needs_a_place_too(tmp_path: Path) -> None:
    limits = ConnectionLimits(read_s=0.5)

    @unary
    async def begins(_self: Any, _requests: Any, context: Context) -> pb.MatcherMessage:
        return await first_message(context, pb.MatcherMessage, "rendezvous", "device-1")

    async with callers(tmp_path, None, "stream_unary", begins, pb.MatcherMessage, limits) as some:
        (call,) = await some.silent("device-1")
        async with asyncio.timeout(3):
            error = await error_of(call)
        assert type(error) is UnavailableError and error.message.startswith("device-1 did not")
        hello = bytes_of(pb.MatcherMessage(rendezvous=pb.Rendezvous(request_digest=b"x")))
        assert await (await some.channel("device-1")).stream_unary(METHOD)(iter([hello]), timeout=5) == hello


async def test_of_a_call_that_is_not_read_a_server_holds_one_window_however_fast_its_connection(tmp_path: Path) -> None:
    """gRPC measures a connection, and would let megabytes into each call of a fast one."""
    over = asyncio.Event()

    async def reads_when_asked(_self: Any, _requests: Any, context: Context) -> bytes:
        if await context.read() == b"all":
            while isinstance(await context.read(), bytes):
                pass
        else:
            await over.wait()
        return b""

    async def sends(channel: grpc.aio.Channel, first: bytes, size: int, times: int) -> int:
        call, sent = channel.stream_unary(METHOD)(timeout=30), 0
        with suppress(grpc.aio.AioRpcError, TimeoutError):
            await call.write(first)
            async with asyncio.timeout(2 if first != b"all" else 20):
                for _ in range(times):
                    await call.write(bytes(size))
                    sent += size
        call.cancel()
        return sent

    anybody = devices_gate(NAME, known, LIMIT)
    async with callers(tmp_path, anybody, "stream_unary", reads_when_asked) as some:
        channel = await some.channel("device-1")
        assert await sends(channel, b"all", MIB, 60) == 60 * MIB
        held = await asyncio.gather(*(sends(channel, b"none", WINDOW_BYTES // 4, 64) for _ in range(8)))
        over.set()
    assert max(held) <= 2 * WINDOW_BYTES
