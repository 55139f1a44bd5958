"""Matchers over real gRPC that are dead, hang, or are behind a network that loses everything; and come back."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from tests.client.conftest import face
from tests.client.fakes import FakeMatchers, body_of
from tests.client.wire.test_transport import Servicer
from tests.silent_relay import SilentRelay
from veilmatch import AsyncClient, DeviceSettings
from veilmatch.client.wire.pairs import lookout
from veilmatch.client.wire.transport import GrpcMatcher, channel_options
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc

PARTIES = ("a", "b", "c")
WITHOUT = {"a": "bc", "b": "ac", "c": "ab"}


class Stoppable(SilentRelay):
    """A relay in front of a server that can be stopped as by SIGSTOP: connections are taken, and nothing is read."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._runs = threading.Event()
        self._runs.set()

    def stop(self) -> None:
        self._runs.clear()

    def resume(self) -> None:
        self._runs.set()

    def __exit__(self, *details: Any) -> None:
        self.resume()
        super().__exit__(*details)

    def _pass_on(self, source: socket.socket, sink: socket.socket, epoch: int) -> None:
        try:
            while data := source.recv(1 << 16):
                self._runs.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


@dataclass
class Installation:
    """Three servers, each behind a relay, and a client of them."""

    fakes: FakeMatchers
    relays: dict[str, Stoppable]
    servers: dict[str, grpc.aio.Server]
    client: AsyncClient

    async def verify(self) -> tuple[str, float]:
        """Return the pair that served, and how long it took."""
        started = time.monotonic()
        result = await self.client.verify_embedding("ada", face(1), model="toy")
        return result.pair, time.monotonic() - started

    async def until_first(self, pair: str, limit_s: float = 8.0) -> None:
        started = time.monotonic()
        while (await self.verify())[0] != pair:
            assert time.monotonic() - started < limit_s, "nobody has noticed that it is back"
            await asyncio.sleep(0.1)


def matcher_at(party: str, address: str) -> GrpcMatcher:
    options = [option for option in channel_options(f"matcher-{party}") if "ssl" not in option[0]]
    return GrpcMatcher(f"matcher-{party}", lambda: grpc.aio.insecure_channel(address, options), address)


async def serve(fakes: FakeMatchers, party: str, port: int = 0) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    rpc.add_MatcherServicer_to_server(Servicer(getattr(fakes, party)), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, port


@pytest.fixture
async def installation(settings: DeviceSettings, fakes: FakeMatchers) -> AsyncIterator[Installation]:
    fakes.templates, fakes.looks_like = ["ada"], {"ada"}
    servers, relays, matchers = {}, {}, {}
    for party in PARTIES:
        servers[party], port = await serve(fakes, party)
        relays[party] = Stoppable(f"127.0.0.1:{port}")
        relays[party].__enter__()
        matchers[party] = matcher_at(party, relays[party].address)
    client = AsyncClient(settings.model_copy(update={"timeout_s": 15.0}), matchers=matchers)  # type: ignore[arg-type]
    async with client:
        yield Installation(fakes, relays, servers, client)
        for relay in relays.values():
            relay.resume()
    for party in PARTIES:
        relays[party].__exit__(None, None, None)
        await servers[party].stop(None)


@pytest.mark.parametrize("party", ["a", "b"])
@pytest.mark.parametrize("at_first", [True, False], ids=["before the first call", "later"])
async def test_an_organisation_that_hangs_costs_one_wait(
    installation: Installation, party: str, at_first: bool
) -> None:
    if not at_first:
        await installation.verify()
    installation.relays[party].stop()
    pair, took_s = await installation.verify()
    assert pair == WITHOUT[party] and took_s < 2.5
    later = [await installation.verify() for _ in range(10)]
    assert {pair for pair, _ in later} == {WITHOUT[party]} and max(took_s for _, took_s in later) < lookout.SILENT_S
    installation.relays[party].resume()
    await installation.until_first("ab")


async def test_a_connection_that_went_silent_is_replaced_in_the_background(installation: Installation) -> None:
    """Packets of the old flow vanish; the matcher itself is well."""
    await installation.verify()
    relay, accepted = installation.relays["a"], installation.relays["a"].accepted
    relay.stop()
    assert (await installation.verify())[0] == "bc"
    relay.go_silent()
    relay.resume()
    await installation.until_first("ab")
    assert relay.accepted > accepted


@pytest.mark.parametrize("party", ["a", "b"])
async def test_a_dead_organisation_costs_next_to_nothing(
    settings: DeviceSettings, fakes: FakeMatchers, party: str
) -> None:
    fakes.templates, servers, matchers, ports = ["ada"], {}, {}, {}
    for name in PARTIES:
        servers[name], ports[name] = await serve(fakes, name)
        matchers[name] = matcher_at(name, f"127.0.0.1:{ports[name]}")
    async with AsyncClient(settings, matchers=matchers) as client:  # type: ignore[arg-type]
        here = Installation(fakes, {}, servers, client)
        await here.verify()
        await servers[party].stop(None)
        for _ in range(5):
            pair, took_s = await here.verify()
            assert pair == WITHOUT[party] and took_s < lookout.SILENT_S
        servers[party], _ = await serve(fakes, party, ports[party])
        await here.until_first("ab")
    for server in servers.values():
        await server.stop(None)


@contextmanager
def black_hole() -> Iterator[str]:
    """An address whose queue of connections is full: packets to it vanish."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address, fillers = listener.getsockname(), []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        yield f"127.0.0.1:{address[1]}"
        for filler in fillers:
            filler.close()


@contextmanager
def never_read() -> Iterator[str]:
    """An address where the kernel takes connections, and nobody reads what comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("hole", [black_hole, never_read])
async def test_an_address_that_swallows_everything_costs_one_wait(
    settings: DeviceSettings, fakes: FakeMatchers, hole: Any
) -> None:
    fakes.templates = ["ada"]
    servers, matchers = {}, {}
    for party in ("b", "c"):
        servers[party], port = await serve(fakes, party)
        matchers[party] = matcher_at(party, f"127.0.0.1:{port}")
    with hole() as address:
        matchers["a"] = matcher_at("a", address)
        async with AsyncClient(settings, matchers=matchers) as client:  # type: ignore[arg-type]
            here = Installation(fakes, {}, servers, client)
            pair, took_s = await here.verify()
            assert pair == "bc" and took_s < 2.5
            for _ in range(5):
                pair, took_s = await here.verify()
                assert pair == "bc" and took_s < lookout.SILENT_S
    for server in servers.values():
        await server.stop(None)


async def test_a_slow_matcher_is_waited_for_while_it_answers_how_it_is(installation: Installation) -> None:
    installation.fakes.a.before = lambda kind, request: asyncio.sleep(3.0)
    pair, took_s = await installation.verify()
    assert pair == "ab" and took_s >= 3.0
    assert len(installation.fakes.a.requests) == 1


@pytest.mark.parametrize("party", ["a", "b"])
async def test_a_change_that_was_done_while_its_answer_was_lost_is_done_once(
    installation: Installation, party: str
) -> None:
    relay, fake = installation.relays[party], getattr(installation.fakes, party)
    fake.before = lambda kind, request: relay.stop()
    await installation.client.enrol_embedding("zoe", face(2), model="toy")
    assert installation.fakes.templates == ["ada", "zoe"]
    bodies = [
        body_of(r) for m in (installation.fakes.a, installation.fakes.b, installation.fakes.c) for r in m.requests
    ]
    assert {body.pair for body in bodies} == {"ab", WITHOUT[party]} and len({body.token for body in bodies}) == 1


async def test_an_assured_answer_names_who_hangs(installation: Installation) -> None:
    installation.relays["c"].stop()
    started = time.monotonic()
    with pytest.raises(Exception, match=r"no assured answer, for pair .c") as caught:
        await installation.client.verify_embedding("ada", face(1), model="toy", assured=True, timeout_s=2.0)
    assert caught.value.party == "matcher-c" and time.monotonic() - started < 4.0
