"""Too much for real daemons: of one device, of connections that say nothing, of what another matcher begins, and at the
end, on SIGTERM. Others are served, and nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import signal
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks.attacker import Attacker
from tests.e2e.test_floods import VECTOR, flood, left, settings_of, verifications
from tests.e2e.world import ENVIRONMENT, MATCHERS, World, hold_ceremony, settle, supervised
from tests.monitoring.conftest import scraped, value
from veilmatch.client.async_client import AsyncClient
from veilmatch.crypto.errors import OverloadedError, UnavailableError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.installation.plan import config_of
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.limits import CALLS_OF_DEVICE
from veilmatch.server.transport.status import from_rpc

TOY = ParameterSet(modulus_bits=1024)
STOP_S = 40.0
#: After so long metrics are made anew.
NEW_METRICS_S = 1.1
#: What the other end of a connection says first, and that it has no settings.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
#: Little of everything: two requests that are followed, a second for a handshake, three for a first call.
LIMITS = """
[admission]
in_progress = 4
waiting = 32
followed = {followed}
wait_s = 8.0

[connections]
all = 400
handshake_s = 1.0
first_call_s = 3.0
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation of three devices, the first of which has enrolled a face; matcher b follows little."""
    directory = tmp_path_factory.mktemp("loaded") / "installation"
    hold_ceremony(directory, TOY, 3)
    for party in MATCHERS:
        config = config_of(directory, party)
        config.write_text(config.read_text() + LIMITS.format(followed=2 if party == "matcher-b" else 0))
    with supervised(directory, ENVIRONMENT | {"VEILMATCH_STOP_S": str(STOP_S)}) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory, TOY, parties)
        settle(world)
        with world.client() as client:
            client.enrol_embedding("ada", VECTOR, model="toy")
        yield world


async def error_of(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read() if hasattr(call, "read") else await call
    return from_rpc(caught.value, "matcher-a")


async def test_a_device_with_a_thousand_open_requests_starves_no_other(loaded: World) -> None:
    settings = settings_of(loaded, "device-2")
    async with (
        flood(loaded, "device-2") as device,
        channel_to(settings.matchers["a"], "matcher-a", settings.tls) as channel,
    ):
        calls = [m.Match(one, timeout=30) for one in await device.searches(40) for m in (device.a, device.b)]
        begun = channel.stream_unary("/veilmatch.v1.Matcher/Match")  # and nothing is sent
        calls += [begun(timeout=30) for _ in range(1000 - len(calls))]
        await asyncio.sleep(0.5)
        ends, _ = await verifications(loaded, 4)
        assert ends == Counter(ok=4)
        over = 1000 - 80 - CALLS_OF_DEVICE
        async with asyncio.timeout(20):
            while sum(call.done() for call in calls) < over:
                await asyncio.sleep(0.1)
        ended = [call for call in calls if call.done()]
        codes = Counter([await call.code() for call in ended])
        refused = [call for call in ended if await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert len(refused) >= over - 80, f"the searches may have ended otherwise: {codes}"
        error = await error_of(refused[-1])
        assert isinstance(error, OverloadedError) and error.retry_after_s
        await left([call for call in calls if not call.done()])


async def test_what_a_leader_begins_beyond_what_is_followed_is_told_to_come_later_by_name(loaded: World) -> None:
    async with flood(loaded, "device-2") as device:
        searches = await device.searches(24)
        pairs = [(device.a.Match(one, timeout=20), device.b.Match(one, timeout=20)) for one in searches]
        answers = await asyncio.gather(*(a.read() for a, _ in pairs), return_exceptions=True)
        await left([b for _, b in pairs])
    errors = [from_rpc(one, "matcher-a") for one in answers if isinstance(one, grpc.aio.AioRpcError)]
    assert {error.code for error in errors} == {"overloaded"}, [str(error) for error in errors]
    assert all(error.retry_after_s for error in errors)
    passed_on = {error.said_by for error in errors}
    assert ("matcher-b", "matcher-a") in passed_on, "it follows two at once, and of one device one"
    assert len(errors) < len(searches), "the others are answered"
    assert (await verifications(loaded, 2))[0] == Counter(ok=2)


def connected(world: World, device: str, stack: ExitStack) -> socket.socket:
    """An encrypted connection of a device that speaks HTTP/2, and asks for nothing."""
    tls, address = settings_of(world, device).tls, settings_of(world, device).matchers["a"]
    context = ssl.create_default_context(cafile=str(tls.authority))
    context.load_cert_chain(tls.certificate, tls.key)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=10)
    one = stack.enter_context(context.wrap_socket(plain, server_hostname="matcher-a"))
    one.sendall(HELLO)
    return one


async def test_connections_that_say_nothing_or_garbage_cost_nothing_that_lasts(loaded: World) -> None:
    files = Path(f"/proc/{loaded.parties.pid('matcher-a')}/fd")
    host, _, port = settings_of(loaded, "device-2").matchers["a"].rpartition(":")
    assert (await verifications(loaded, 1))[0] == Counter(ok=1)
    before = len(list(files.iterdir()))
    with ExitStack() as stack:
        for number in range(60):
            plain = stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
            plain.sendall((b"", b"\x16", secrets.token_bytes(4096))[number % 3])  # idle, slow, garbage
        await asyncio.to_thread(lambda: [connected(loaded, "device-2", stack) for _ in range(40)])
        assert (await verifications(loaded, 2))[0] == Counter(ok=2)
        deadline = time.monotonic() + 20.0
        while len(list(files.iterdir())) > before + 4 or '"connections closed"' not in loaded.log("matcher-a"):
            assert time.monotonic() < deadline, "connections that say nothing are kept"
            await asyncio.sleep(0.2)


async def test_thousands_of_handshakes_that_go_half_way_or_lead_to_nothing_are_bounded_and_leave_nothing(
    loaded: World,
) -> None:
    """Half a handshake is the dearest that somebody without a certificate can have: keys and a signature for it."""
    pid = loaded.parties.pid("matcher-a")
    files, status = Path(f"/proc/{pid}/fd"), Path(f"/proc/{pid}/status")
    settings = settings_of(loaded, "device-2")
    attacker = Attacker(settings, 500)

    def resident() -> int:
        return 1024 * int(re.findall(r"VmRSS:\s+(\d+) kB", status.read_text())[0])

    async with AsyncClient(settings_of(loaded, "device-1")) as client:
        await client.verify_embedding("ada", VECTOR, model="toy")
        before, held, most = len(list(files.iterdir())), resident(), 0
        for kind in (attacker.half, attacker.handshake, attacker.stranger, attacker.half):
            attack = asyncio.ensure_future(asyncio.to_thread(kind))
            while not attack.done():
                most = max(most, len(list(files.iterdir())))
                # Who was connected is served all the time, by a connection that it has.
                assert await client.verify_embedding("ada", VECTOR, model="toy")
            await attack
            deadline = time.monotonic() + 20.0
            while len(list(files.iterdir())) > before + 8:
                assert time.monotonic() < deadline, f"connections are kept: {kind.__doc__}"
                await asyncio.sleep(0.1)
            attacker.close()
    # As many as `[connections] all`, with what a daemon opens for its requests meanwhile.
    assert before + 40 < most < before + 400 + 40
    assert resident() < held + (96 << 20)
    assert (await verifications(loaded, 1))[0] == Counter(ok=1), "and a new connection is made again"


async def test_a_key_holder_that_is_stopped_under_load_costs_no_request_and_no_change(loaded: World) -> None:
    """What has begun there ends there, and what comes after that goes to the pair without it: users notice nothing."""
    names: list[str] = []

    async def ask(client: AsyncClient, worker: int) -> None:
        for turn in range(3):
            name = f"kept-{worker}-{turn}"
            await client.enrol_embedding(name, VECTOR, model="toy", timeout_s=60)
            names.append(name)
            assert (await client.verify_embedding("ada", VECTOR, model="toy", timeout_s=60)).decision

    async with AsyncClient(settings_of(loaded, "device-1")) as client:
        before = loaded.log("keyholder-a").count('"served"')
        under_way = asyncio.gather(*(ask(client, worker) for worker in range(3)))
        while loaded.log("keyholder-a").count('"served"') == before:
            assert not under_way.done()
            await asyncio.sleep(0.01)
        statuses = await asyncio.to_thread(loaded.parties.stop, "keyholder-a")
        await under_way
        assert statuses == {"keyholder-a": 0}
        assert (await client.verify_embedding("ada", VECTOR, model="toy", timeout_s=60)).pair == "bc"
        there = {entry.subject: entry.templates for entry in await client.subjects()}
    loaded.restart()
    assert {name: there.get(name) for name in names} == dict.fromkeys(names, 1), "each once, whichever pair did it"
    with loaded.client() as again:
        assert {entry.subject: entry.templates for entry in again.subjects()} == there


async def changes_under_way(world: World, calls: list[Any]) -> int:
    """Wait until each of these calls has ended or has begun at matcher a, with a turn or waiting for it.

    Return how many of them have begun. Nobody else changes a gallery or asks for metrics.
    """
    async with asyncio.timeout(60):
        while True:
            ended = sum(call.done() for call in calls)
            found = await asyncio.to_thread(scraped, world, "matcher-a")
            begun = sum(value(found, "veilmatch_turns", lane="change", state=s) for s in ("in_progress", "waiting"))
            if ended + begun == len(calls):
                return int(begun)
            await asyncio.sleep(NEW_METRICS_S)


async def test_a_daemon_that_is_stopped_under_load_finishes_what_has_begun_and_loses_nothing(loaded: World) -> None:
    names, calls = list[str](), list[tuple[Any, Any]]()
    async with flood(loaded, "device-2") as device:
        while True:  # until some are under way, and none is on its way, whatever the speed of this machine
            await asyncio.sleep(NEW_METRICS_S)
            more = [f"late-{len(names) + number}" for number in range(20)]
            requests = [
                await device.signed(request_pb2.OPERATION_ENROL, "ac", subject=name, token=secrets.token_bytes(16))
                for name in more
            ]
            names += more
            # Matcher c follows all that this leader begins.
            calls += [(device.a.Mutate(one, timeout=60), device.c.Mutate(one, timeout=60)) for one in requests]
            await asyncio.sleep(0.2)
            if await changes_under_way(loaded, [a for a, _ in calls]) >= 2:
                break
            assert len(names) < 400, "enrolments end before anybody sees that they have begun"
        began, ended_before = time.monotonic(), [a.done() for a, _ in calls]
        os.kill(loaded.parties.pid("matcher-a"), signal.SIGTERM)
        await asyncio.sleep(0.1)
        late = await device.signed(request_pb2.OPERATION_CANDIDATES, threshold=100)
        told = time.monotonic()
        refused = await error_of(device.a.Mutate(late, timeout=30))
        assert type(refused) is UnavailableError and time.monotonic() - told < 2.0
        ends = await asyncio.gather(*(a for a, _ in calls), return_exceptions=True)
        statuses = await asyncio.to_thread(loaded.parties.stop, "matcher-a")
        assert statuses == {"matcher-a": 0} and time.monotonic() - began < STOP_S
        await left([c for _, c in calls])
    kept = {name for name, end in zip(names, ends, strict=True) if not isinstance(end, BaseException)}
    others = [from_rpc(end, "matcher-a") for end in ends if isinstance(end, grpc.aio.AioRpcError)]
    assert len(kept) + len(others) == len(names)
    # What had its turn is done; those whose turn did not come in time never began to be, and are told so.
    assert kept and not all(ended_before)
    assert {(error.code, error.party) for error in others} <= {("overloaded", "matcher-a")}, list(map(str, others))
    loaded.restart()
    with loaded.client() as client:
        there = {entry.subject: entry.templates for entry in client.subjects()}
        assert {name for name in names if there.get(name)} == kept and {*there} >= kept | {"ada"}
        assert {there[name] for name in kept} == {1}
