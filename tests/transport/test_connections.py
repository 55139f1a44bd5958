"""Connections of callers at a real server: so many of one, none that says nothing, no more than there may be; and what
slow, dead and loud ones cost, which is nothing that lasts."""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.silent_relay import SilentRelay
from tests.transport.parties import METHOD, serving, tls_of
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import OverloadedError, RequestSignatureError
from veilmatch.server.bounds import ConnectionLimits
from veilmatch.server.transport import connections
from veilmatch.server.transport.channels import Context
from veilmatch.server.transport.connections import Caller, Connections, connected, end_of
from veilmatch.server.transport.door import Gate, devices_gate
from veilmatch.server.transport.status import from_rpc

NAME = "matcher-a"
#: What the other end of a connection says first, and that it has no settings.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
LOOK_S = 0.1


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LOOK_S", LOOK_S)


def gate() -> Gate:
    def known(name: str) -> None:
        if not name.startswith("device-"):
            raise RequestSignatureError("signed by no device that has a good certificate here", got=name)

    return devices_gate(NAME, known, 1000)


class Server:
    """A server whose one method answers at once, or waits until it is released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.address, self.folder = "", Path()

    async def serve(self, _self: object, request: bytes, _context: Context) -> bytes:
        if request == b"wait":
            await self.released.wait()
        return request

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def tls(self, device: str) -> TlsSettings:
        return tls_of(self.folder, device, is_server=False)


@asynccontextmanager
async def server(folder: Path, **limits: Any) -> AsyncIterator[Server]:
    made = Server()
    made.folder = folder
    bounds = ConnectionLimits(**limits)
    async with serving("unary_unary", made.serve, tls_of(folder, NAME), gate=gate(), limits=bounds) as made.address:
        yield made


async def connection(made: Server, device: str, stack: AsyncExitStack) -> grpc.aio.Channel:
    """A connection of its own: channels of one process share them unless they are told not to."""
    tls = made.tls(device)
    credentials = grpc.ssl_channel_credentials(*(f.read_bytes() for f in (tls.authority, tls.key, tls.certificate)))
    options = [("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1)]
    return await stack.enter_async_context(grpc.aio.secure_channel(made.address, credentials, options=options))


async def ask(channel: grpc.aio.Channel, request: bytes = b"x", timeout_s: float = 5.0) -> bytes:
    answer: bytes = await channel.unary_unary(METHOD)(request, timeout=timeout_s)
    return answer


async def until(true: Any, within_s: float = 5.0) -> None:
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends
        await asyncio.sleep(LOOK_S / 2)


@contextmanager
def shaken(made: Server, device: str, say: bytes = b"") -> Iterator[ssl.SSLSocket]:
    """An encrypted connection of a device that says these bytes."""
    tls = made.tls(device)
    context = ssl.create_default_context(cafile=str(tls.authority))
    context.load_cert_chain(tls.certificate, tls.key)
    context.set_alpn_protocols(["h2"])
    host, _, port = made.address.rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=10)
    with context.wrap_socket(plain, server_hostname=NAME) as one:  # closes the plain one as well
        one.sendall(say)
        yield one


def is_closed(one: socket.socket, within_s: float) -> bool:
    """Whether the other end closes a connection in this time, whatever it says before."""
    one.settimeout(within_s)
    try:
        while one.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


# -- so many of one --------------------------------------------------------------------------------


async def test_a_new_connection_takes_the_place_of_the_one_that_has_been_quiet_for_longest(tmp_path: Path) -> None:
    async with server(tmp_path, of_one=3) as made, AsyncExitStack() as stack:
        channels = [await connection(made, "device-1", stack) for _ in range(6)]
        for channel in channels:
            assert await ask(channel) == b"x"
        await until(lambda: len(connected(made.port)) == 3)
        ends = {state: channel for channel in channels if (state := channel.get_state())}
        assert grpc.ChannelConnectivity.READY in ends
        # One that was closed is made again by the next call, in the place of another.
        assert await ask(channels[0]) == b"x"


async def test_connections_that_all_have_calls_are_as_many_as_one_caller_gets(tmp_path: Path) -> None:
    async with server(tmp_path, of_one=3) as made, AsyncExitStack() as stack:
        waiting = [asyncio.ensure_future(ask(await connection(made, "device-1", stack), b"wait")) for _ in range(3)]
        await until(lambda: len(connected(made.port)) == 3)
        await asyncio.sleep(LOOK_S)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(await connection(made, "device-1", stack))
        error = from_rpc(caught.value, NAME)
        assert isinstance(error, OverloadedError) and error.party == NAME and error.retry_after_s
        assert error.expected == "at most 3"
        await until(lambda: len(connected(made.port)) == 3)
        assert await ask(await connection(made, "device-2", stack)) == b"x", "another device has its own"
        made.released.set()
        assert await asyncio.gather(*waiting) == [b"wait"] * 3


# -- those that say nothing ------------------------------------------------------------------------


@pytest.mark.parametrize("say", [b"", b"\x00" * 64, HELLO[:10], b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_certificate_without_http_2_does_not_keep_a_connection(tmp_path: Path, say: bytes) -> None:
    async with server(tmp_path, handshake_s=0.5) as made:

        def closed() -> bool:
            with shaken(made, "device-1", say) as one:
                return is_closed(one, 3.0)

        assert await asyncio.to_thread(closed)


async def test_a_connection_that_never_makes_a_call_is_closed_and_one_that_did_is_not(tmp_path: Path) -> None:
    async with server(tmp_path, first_call_s=1.0) as made, AsyncExitStack() as stack:
        channel = await connection(made, "device-1", stack)
        assert await ask(channel) == b"x"

        def closed() -> bool:
            with shaken(made, "device-2", HELLO) as one:
                return is_closed(one, 4.0)

        assert await asyncio.to_thread(closed)
        assert len(connected(made.port)) == 1 and channel.get_state() is grpc.ChannelConnectivity.READY


# -- of everybody ----------------------------------------------------------------------------------


async def test_connections_beyond_all_are_dropped_and_those_that_there_are_go_on(tmp_path: Path) -> None:
    async with server(tmp_path, all=4) as made, AsyncExitStack() as stack:
        first = await connection(made, "device-1", stack)
        assert await ask(first) == b"x"
        host, _, port = made.address.rpartition(":")
        plain = [socket.create_connection((host, int(port)), timeout=5) for _ in range(12)]
        try:
            ends = await asyncio.gather(*(asyncio.to_thread(is_closed, one, 1.0) for one in plain))
            assert sum(ends) >= 9 and await ask(first) == b"x"
        finally:
            for one in plain:
                one.close()


# -- what is seen ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:10.0.0.1:5000", ("10.0.0.1", 5000)),
        ("ipv6:%5B::1%5D:5000", ("::1", 5000)),
        ("ipv6:[::ffff:10.0.0.1]:7", ("10.0.0.1", 7)),
        ("ipv6:%5Bfe80::1%25eth0%5D:7", ("fe80::1", 7)),
        ("unix:/tmp/socket", None),
        ("", None),
    ],
)
def test_the_other_end_of_a_call_is_spelled_as_its_socket_spells_it(peer: str, expected: object) -> None:
    assert end_of(peer) == expected


async def test_what_is_kept_of_connections_that_are_gone_is_nothing() -> None:
    kept = Connections(ConnectionLimits(of_one=2), 1, NAME)  # nothing of this process is connected at port 1
    for number in range(50):
        with kept.call(f"ipv4:10.0.0.1:{number + 1}", Caller("device-1")):
            pass
    assert kept.counts == (2, 0)
    await kept.look()
    assert kept.counts == (0, 0) and not kept._of_caller and not kept._surplus


def test_another_organisations_authority_uses_up_nothing_of_a_device() -> None:
    kept, gated = Connections(ConnectionLimits(of_one=2), 1, NAME), Gate(lambda _: None, 2, 2, 2, 1000, NAME)
    forged, own = Caller("device-1", "b"), Caller("device-1", "a")
    with ExitStack() as calls:
        for number in range(2):
            calls.enter_context(gated.call(forged))
            calls.enter_context(kept.call(f"ipv4:10.0.0.2:{number + 1}", forged))
        for take in (lambda: gated.call(forged), lambda: kept.call("ipv4:10.0.0.2:9", forged)):
            with pytest.raises(OverloadedError, match="of device-1, named by organisation b"), take():
                pass
        with gated.call(own), kept.call("ipv4:10.0.0.1:1", own):
            pass


# -- slow, dead and loud ones ----------------------------------------------------------------------


async def test_a_handshake_that_comes_byte_by_byte_has_as_long_as_any_other(tmp_path: Path) -> None:
    async with server(tmp_path, handshake_s=1.0) as made, AsyncExitStack() as stack:
        host, _, port = made.address.rpartition(":")

        def drip() -> float:
            began = time.monotonic()
            with socket.create_connection((host, int(port)), timeout=10) as one, suppress(OSError):
                for byte in b"\x16\x03\x01\x02\x00\x01" + bytes(200):
                    one.sendall(bytes([byte]))
                    time.sleep(0.05)
            return time.monotonic() - began

        slow = [asyncio.create_task(asyncio.to_thread(drip)) for _ in range(8)]
        assert await ask(await connection(made, "device-1", stack)) == b"x"
        assert max(await asyncio.gather(*slow)) < 5.0, "it would take ten seconds"


async def test_a_connection_that_died_without_a_word_is_closed_after_one_ping(tmp_path: Path) -> None:
    async with server(tmp_path, ping_s=1.0, pong_s=1.0) as made, AsyncExitStack() as stack:
        with SilentRelay(made.address) as relay:
            direct, made.address = made.address, relay.address
            assert await ask(await connection(made, "device-1", stack)) == b"x"
            made.address = direct
            assert len(connected(made.port)) == 1
            relay.go_silent()
            await until(lambda: not connected(made.port), 10.0)


async def test_garbage_is_closed_at_once(tmp_path: Path) -> None:
    async with server(tmp_path, handshake_s=60.0) as made:
        host, _, port = made.address.rpartition(":")

        def closed(garbage: bytes) -> bool:
            with socket.create_connection((host, int(port)), timeout=5) as one, suppress(ConnectionError):
                one.sendall(garbage)
                return is_closed(one, 3.0)
            return True

        for garbage in (b"GET / HTTP/1.1\r\n\r\n", HELLO, secrets.token_bytes(1 << 20)):
            assert await asyncio.to_thread(closed, garbage)


async def test_a_flood_of_pings_ends_its_own_connection_and_nobody_elses(tmp_path: Path) -> None:
    async with server(tmp_path) as made, AsyncExitStack() as stack:
        channel = await connection(made, "device-1", stack)

        def flooded() -> bool:
            with shaken(made, "device-2", HELLO) as one, suppress(OSError):
                for number in range(1000):
                    one.sendall(b"\x00\x00\x08\x06\x00" + bytes(4) + number.to_bytes(8))
                return is_closed(one, 3.0)
            return True

        flooding = asyncio.create_task(asyncio.to_thread(flooded))
        assert await ask(channel) == b"x"
        assert await flooding and await ask(channel) == b"x"
        assert len(connected(made.port)) == 1
