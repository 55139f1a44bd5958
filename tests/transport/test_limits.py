"""Messages up to the limit pass; a larger one is refused as what it is, not as a party that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.transport.meetings import CALLED, DIALS, Meetings, meeting, message
from tests.transport.parties import METHOD, ask, serving, tls_of
from veilmatch.crypto.errors import ProtocolError, RequestRefusedError, UnavailableError
from veilmatch.server.transport.channels import Context, channel_to, server_options
from veilmatch.server.transport.limits import (
    CHUNK_BYTES,
    DEVICE_MESSAGE_BYTES,
    PEER_MESSAGE_BYTES,
    REPLY_MESSAGE_BYTES,
    options,
)
from veilmatch.server.transport.status import from_rpc, unary

SUBJECT, SERVER = b"a request", "matcher-a"
RECEIVE, SEND = "grpc.max_receive_message_length", "grpc.max_send_message_length"


@unary
async def length(_self: None, request: bytes, context: Context) -> bytes:
    return str(len(request)).encode()


@pytest.fixture
async def meetings(tmp_path: Path) -> AsyncIterator[Meetings]:
    async with meeting(tmp_path) as made:
        yield made
        assert await made.settled()


def unlimited(address: str) -> grpc.aio.Channel:
    """The channel of somebody who does not keep to the limits."""
    return grpc.aio.insecure_channel(address, options=options(-1, -1))


def test_a_chunk_with_its_frame_fits_everywhere() -> None:
    assert min(DEVICE_MESSAGE_BYTES, PEER_MESSAGE_BYTES, REPLY_MESSAGE_BYTES) >= 2 * CHUNK_BYTES


@pytest.mark.parametrize("serves_devices", [True, False])
def test_a_daemon_takes_what_its_callers_may_send(serves_devices: bool) -> None:
    limits = dict(server_options(serves_devices=serves_devices))
    assert limits[RECEIVE] >= (DEVICE_MESSAGE_BYTES if serves_devices else PEER_MESSAGE_BYTES)
    assert limits[SEND] == (REPLY_MESSAGE_BYTES if serves_devices else PEER_MESSAGE_BYTES)


async def test_a_request_at_the_limit_is_served(tmp_path: Path) -> None:
    async with serving("unary_unary", length, tls_of(tmp_path, SERVER)) as address:
        channel = channel_to(address, SERVER, tls_of(tmp_path, "matcher-b"))
        assert await ask(channel, bytes(PEER_MESSAGE_BYTES)) == str(PEER_MESSAGE_BYTES).encode()


async def test_a_request_above_the_limit_is_refused_by_the_server() -> None:
    served: list[bytes] = []

    @unary
    async def note(_self: None, request: bytes, context: Context) -> bytes:
        served.append(request[:1])
        return b""

    async with serving("unary_unary", note) as address, unlimited(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(bytes(PEER_MESSAGE_BYTES + 1), timeout=5)
        # The connection, which others use as well, is still there.
        await channel.unary_unary(METHOD)(b"s", timeout=5)
    assert type(from_rpc(caught.value, SERVER)) is RequestRefusedError
    assert served == [b"s"]


async def test_an_answer_above_the_limit_is_refused_by_the_caller(tmp_path: Path) -> None:
    """The server's own limit is that of answers to devices, which is larger than a peer's."""

    async def answer(request: bytes, context: Any) -> bytes:
        return bytes(PEER_MESSAGE_BYTES + 1)

    server = grpc.aio.server(options=server_options(serves_devices=True))
    service, name = METHOD.strip("/").split("/")
    handlers = {name: grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    limits = options(PEER_MESSAGE_BYTES, PEER_MESSAGE_BYTES)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=limits) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(METHOD)(b"", timeout=5)
    await server.stop(None)
    assert type(from_rpc(caught.value, SERVER)) is RequestRefusedError


# -- links -----------------------------------------------------------------------------------------


def of_size(size: int) -> Any:
    """A message of exactly that many bytes on the wire."""
    made = message(1, bytes(size))
    made.session_id = bytes(2 * size - made.ByteSize())
    assert made.ByteSize() == size
    return made


async def test_a_message_at_the_limit_goes_both_ways(meetings: Meetings) -> None:
    largest = of_size(PEER_MESSAGE_BYTES)
    async with meetings.dial(SUBJECT) as link, meetings.take(SUBJECT) as other:
        for sender, receiver in ((link, other), (other, link)):
            _, received = await asyncio.gather(sender.send(largest), receiver.receive())
            assert received == largest


@pytest.mark.parametrize("end", ["the caller", "the called party"])
async def test_a_message_above_the_limit_is_not_sent_and_the_link_goes_on(end: str, meetings: Meetings) -> None:
    async with meetings.dial(SUBJECT) as link, meetings.take(SUBJECT) as other:
        sender, receiver = (link, other) if end == "the caller" else (other, link)
        with pytest.raises(ProtocolError, match="too large"):
            await sender.send(of_size(PEER_MESSAGE_BYTES + 1))
        await sender.send(message(2))
        assert await receiver.receive() == message(2)


async def test_a_message_above_the_limit_that_is_sent_all_the_same_ends_the_link(
    meetings: Meetings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("links", "channels"):
        monkeypatch.setattr(f"veilmatch.server.transport.{module}.PEER_MESSAGE_BYTES", 2 * PEER_MESSAGE_BYTES)
    async with channel_to(meetings.address, CALLED, tls_of(tmp_path, DIALS)) as careless:
        meetings.channel = careless
        with pytest.raises(RequestRefusedError, match="so large"):
            async with meetings.dial(SUBJECT) as link, meetings.take(SUBJECT) as other:
                await link.send(of_size(PEER_MESSAGE_BYTES + 1))
                with pytest.raises(UnavailableError):
                    await other.receive()
                await link.receive()
