"""What a daemon bears of connections: of nobody, of the dead, and of those who ping; and that it has enough of them."""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.silent_relay import SilentRelay
from tests.transport.daemon_loop import NAME
from tests.transport.parties import METHOD, serving, tls_of
from veilmatch.server.bounds import USUAL, ConnectionLimits
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.limits import PEER_PING_S, PEER_PONG_S

ROOT = Path(__file__).parents[2]
CALLER = "matcher-b"
#: What a call between servers takes at most, by the default settings.
CALL_S = 5.0
#: What a daemon takes to start on a machine that has much else to do.
STARTING_S = 60.0


async def echo(_self: object, request: bytes, _context: object) -> bytes:
    return request


async def answered(channel: grpc.aio.Channel, timeout_s: float) -> bool:
    try:
        return bool(await channel.unary_unary(METHOD)(b"x", timeout=timeout_s) == b"x")
    except grpc.aio.AioRpcError:
        return False


# -- descriptors -----------------------------------------------------------------------------------


@asynccontextmanager
async def daemon(folder: Path, soft: int, hard: int) -> AsyncIterator[tuple[Process, str]]:
    """A daemon that may open so many files; its process and its address."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    tls_of(folder, NAME)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.transport.daemon_loop", str(folder), address, "1",
        stdout=PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )  # fmt: skip
    try:
        yield process, address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def healthy(folder: Path, address: str, timeout_s: float) -> None:
    """A device that is new here asks whether the daemon serves."""
    async with channel_to(address, NAME, tls_of(folder, "device-1", is_server=False)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@contextmanager
def connections_of_nobody(address: str, count: int) -> Iterator[list[socket.socket]]:
    """TCP connections on which nothing is said."""
    host, port = address.split(":")
    made = []
    try:
        for _ in range(count):
            made.append(socket.create_connection((host, int(port)), timeout=10))
        yield made
    finally:
        for one in made:
            one.close()


async def test_a_daemon_has_all_the_descriptors_that_it_may_have(tmp_path: Path) -> None:
    async with daemon(tmp_path, 256, 2000) as (process, address):
        await healthy(tmp_path, address, STARTING_S)
        limits = Path(f"/proc/{process.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert line.split()[3:5] == ["2000", "2000"]


async def test_more_connections_of_nobody_than_descriptors_lock_nobody_out_for_longer_than_a_handshake(
    tmp_path: Path,
) -> None:
    async with daemon(tmp_path, 256, 256) as (_, address):
        await healthy(tmp_path, address, STARTING_S)
        with connections_of_nobody(address, 300):
            began = time.monotonic()
            await healthy(tmp_path, address, 4 * USUAL.handshake_s)
            # The first ones are gone after one time-out; gRPC looks for free descriptors once a second.
            assert time.monotonic() - began < USUAL.handshake_s + 5


# -- dead connections ------------------------------------------------------------------------------


async def test_a_connection_between_servers_that_dies_without_a_word_costs_two_calls_at_most(tmp_path: Path) -> None:
    assert PEER_PING_S + PEER_PONG_S < 2 * CALL_S
    async with serving("unary_unary", echo, tls_of(tmp_path, NAME)) as address:
        with SilentRelay(address) as relay:
            async with channel_to(relay.address, NAME, tls_of(tmp_path, CALLER)) as channel:
                assert await answered(channel, CALL_S)
                relay.go_silent()
                results = []
                for _ in range(3):
                    results.append(await answered(channel, CALL_S))
                    # gRPC closes it a moment after the calls on it have ended: one made meanwhile goes with them.
                    await asyncio.sleep(0.1)
    assert results[-1] and relay.accepted == 2


async def test_a_quiet_connection_between_servers_that_died_is_replaced_before_it_is_needed(tmp_path: Path) -> None:
    async with serving("unary_unary", echo, tls_of(tmp_path, NAME)) as address:
        with SilentRelay(address) as relay:
            async with channel_to(relay.address, NAME, tls_of(tmp_path, CALLER)) as channel:
                assert await answered(channel, CALL_S)
                relay.go_silent()
                await asyncio.sleep(PEER_PING_S + PEER_PONG_S + 2)
                assert await answered(channel, CALL_S)


# -- pings -----------------------------------------------------------------------------------------


def pinging(folder: Path, address: str, every_s: float) -> grpc.aio.Channel:
    """A channel of somebody who pings as devices do: with and without calls, however quiet the connection is."""
    tls = tls_of(folder, "device-1", is_server=False)
    files = (tls.authority, tls.key, tls.certificate)
    credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
    options = [
        ("grpc.ssl_target_name_override", NAME), ("grpc.keepalive_time_ms", round(1000 * every_s)),
        ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0),
    ]  # fmt: skip
    return grpc.aio.secure_channel(address, credentials, options=options)


async def kept(folder: Path, every_s: float, quiet_s: float, limits: ConnectionLimits = USUAL) -> bool:
    """Whether a connection is still the same after a quiet time in which it was pinged."""
    async with serving("unary_unary", echo, tls_of(folder, NAME), limits=limits) as address:
        with SilentRelay(address) as relay:
            async with pinging(folder, address=relay.address, every_s=every_s) as channel:
                assert await answered(channel, CALL_S)
                await asyncio.sleep(quiet_s)
                return await answered(channel, CALL_S) and relay.accepted == 1


async def test_who_pings_as_often_as_servers_do_is_not_sent_away(tmp_path: Path) -> None:
    assert USUAL.pinged_s < PEER_PING_S < 20, "devices ping every 20 s"
    assert await kept(tmp_path, PEER_PING_S, 5 * PEER_PING_S)


async def test_who_pings_much_more_often_is_sent_away(tmp_path: Path) -> None:
    strict = USUAL.model_copy(update={"pinged_s": 60.0})
    assert not await kept(tmp_path, 1.0, 6.0, strict)


async def test_a_connection_without_calls_is_closed(tmp_path: Path) -> None:
    assert not await kept(tmp_path, 60.0, 3.0, ConnectionLimits(idle_s=1.0))
