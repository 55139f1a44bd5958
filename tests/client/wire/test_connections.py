"""Connections that die, with a word or without, and proxies: over real gRPC, between a client and fake matchers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import grpc
import pytest

from tests.client.fakes import FakeMatchers
from tests.client.wire.test_transport import Servicer
from tests.silent_relay import SilentRelay
from veilmatch.client.wire import transport
from veilmatch.client.wire.transport import GrpcMatcher, channel_options
from veilmatch.crypto.errors import UnavailableError, VeilmatchError
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.protos.v1.request_pb2 import SignedRequest


@pytest.fixture
async def server(fakes: FakeMatchers) -> AsyncIterator[str]:
    """The address of a fake matcher A, which allows pings as daemons do."""
    pings = [("grpc.http2.min_recv_ping_interval_without_data_ms", 100), ("grpc.keepalive_permit_without_calls", 1)]
    server = grpc.aio.server(options=pings)
    rpc.add_MatcherServicer_to_server(Servicer(fakes.a), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


def matcher_at(address: str) -> GrpcMatcher:
    options = [option for option in channel_options("matcher-a") if "ssl" not in option[0]]
    return GrpcMatcher("matcher-a", lambda: grpc.aio.insecure_channel(address, options), address)


async def ask(matcher: GrpcMatcher, timeout_s: float = 5.0) -> float:
    """Return how long a call took."""
    started = time.monotonic()
    await matcher.subjects(SignedRequest(), timeout_s)
    return time.monotonic() - started


async def test_the_call_after_a_silent_one_has_a_connection_of_its_own(server: str) -> None:
    with SilentRelay(server) as relay:
        matcher = matcher_at(relay.address)
        await ask(matcher)
        relay.go_silent()
        with pytest.raises(UnavailableError, match="in time"):
            await ask(matcher, transport.SILENCE_S + 0.1)
        assert matcher.state == "new"
        assert await ask(matcher) < 1.0
        assert (relay.accepted, matcher.state) == (2, "up")
        await matcher.close()


@pytest.mark.parametrize("doubted", [True, False])
async def test_a_call_that_was_given_up_replaces_a_connection_that_is_doubted(server: str, doubted: bool) -> None:
    with SilentRelay(server) as relay:
        matcher = matcher_at(relay.address)
        await ask(matcher)
        if doubted:
            relay.go_silent()
        call = asyncio.ensure_future(ask(matcher, 60.0))
        await asyncio.sleep(transport.SILENCE_S + 0.1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert matcher.state == "up"
        matcher.doubt()
        assert matcher.state == ("new" if doubted else "up")
        assert await ask(matcher) < 1.0
        await matcher.close()


async def test_calls_that_wait_on_the_old_connection_are_not_disturbed(server: str, fakes: FakeMatchers) -> None:
    matcher = matcher_at(server)
    fakes.a.before = lambda kind, request: asyncio.sleep(transport.SILENCE_S + 0.6)
    patient = asyncio.ensure_future(ask(matcher, 10.0))
    with pytest.raises(UnavailableError):
        await ask(matcher, transport.SILENCE_S + 0.1)
    assert matcher.state == "new"
    assert await patient > transport.SILENCE_S
    await matcher.close()


async def test_a_quick_cancellation_replaces_nothing(server: str, fakes: FakeMatchers) -> None:
    with SilentRelay(server) as relay:
        matcher = matcher_at(relay.address)
        fakes.a.before = lambda kind, request: asyncio.sleep(0.2)
        call = asyncio.ensure_future(ask(matcher))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await ask(matcher)
        assert relay.accepted == 1
        await matcher.close()


async def test_pings_find_a_dead_connection_while_nobody_asks(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PING_S", 0.5)
    monkeypatch.setattr(transport, "UNANSWERED_S", 0.5)
    with SilentRelay(server) as relay:
        matcher = matcher_at(relay.address)
        await ask(matcher)
        relay.go_silent()
        deadline = time.monotonic() + 10.0
        while matcher.state == "up" and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert matcher.state == "down" and time.monotonic() < deadline - 5.0
        assert await ask(matcher) < 1.0
        await matcher.close()


async def test_a_connection_that_is_never_made_is_given_up_before_the_call_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other end accepts and says nothing, as a stopped process does."""
    monkeypatch.setattr(transport, "CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        matcher = matcher_at(f"127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await ask(matcher, 10.0)
        assert 0.4 < time.monotonic() - started < 9.0
        assert not await matcher.connect(0.1)
        await matcher.close()


# -- what is said of a connection that is closed -----------------------------------------------------


@contextmanager
def closing_at_once() -> Iterator[str]:
    """The address of somebody who closes every connection as soon as it is there."""
    listener = socket.create_server(("127.0.0.1", 0))

    def close_all() -> None:
        while True:
            try:
                connection, _ = listener.accept()
                connection.recv(1 << 10)
                connection.close()
            except OSError:
                return

    threading.Thread(target=close_all, daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


async def test_a_connection_closed_at_first_may_be_for_the_certificate() -> None:
    with closing_at_once() as address:
        matcher = matcher_at(address)
        with pytest.raises(UnavailableError) as caught:
            await ask(matcher)
        assert "certificate of this device" in str(caught.value.available)
        await matcher.close()


async def test_a_matcher_that_answered_before_and_ends_a_call_is_said_to_have_stopped(fakes: FakeMatchers) -> None:
    server = grpc.aio.server()
    rpc.add_MatcherServicer_to_server(Servicer(fakes.a), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with SilentRelay(f"127.0.0.1:{port}") as relay:
        matcher = matcher_at(relay.address)
        await ask(matcher)
        fakes.a.before = lambda kind, request: asyncio.sleep(60)
        call = asyncio.ensure_future(ask(matcher, 10.0))
        while len(fakes.a.requests) < 2:
            await asyncio.sleep(0.01)
        relay.__exit__(None, None, None)
        with pytest.raises(VeilmatchError) as caught:
            await call
        assert isinstance(caught.value, UnavailableError)
        assert "lost" in str(caught.value.available) and "certificate" not in str(caught.value.available)
        async with asyncio.timeout(10):
            while matcher.state != "down":  # gRPC says so a moment later
                await asyncio.sleep(0.01)
        await matcher.close()
    await server.stop(None)


# -- proxies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
async def test_proxies_of_the_environment_are_not_for_matchers(
    server: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    matcher = matcher_at(server)
    await ask(matcher)
    await matcher.close()


async def test_a_proxy_of_the_environment_is_used_where_the_settings_say_so(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:9")
    options = [option for option in channel_options("matcher-a", "environment") if "ssl" not in option[0]]
    matcher = GrpcMatcher("matcher-a", lambda: grpc.aio.insecure_channel(server, options), server)
    with pytest.raises(UnavailableError):
        await ask(matcher)
    await matcher.close()
