"""A daemon in a process of its own: it says whether it serves, and ends as its supervisor expects."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.transport.daemon_loop import NAME, REFUSED
from tests.transport.parties import METHOD, tls_of
from veilmatch.crypto.errors import ConfigurationError, UnavailableError
from veilmatch.server.transport.channels import channel_to, server_credentials, server_options
from veilmatch.server.transport.daemon import COLLECT_AFTER, run_daemon
from veilmatch.server.transport.status import from_rpc

ROOT = Path(__file__).parents[2]
#: A process with some 300,000 objects begins to serve; then there is garbage, and few objects that stay. How often did
#: Python go through all of them?
COLLECTING = """
import gc
from veilmatch.server.transport import daemon
kept = [[number] for number in range(300_000)]
daemon._collect_rarely()
before = gc.get_stats()[2]["collections"]
for round in range(200):
    for _ in range(daemon.COLLECT_AFTER + 1):
        cycle = []
        cycle.append(cycle)
    kept.append([round])
print(gc.get_stats()[2]["collections"] - before, gc.get_threshold()[0])
"""
#: Longer than any test takes.
LONG_S = 180.0
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class Daemon:
    """A running daemon and a device's channel to it."""

    process: Process
    channel: grpc.aio.Channel
    address: str
    folder: Path

    @property
    def health(self) -> Any:
        return health_pb2_grpc.HealthStub(self.channel)

    async def status(self) -> int:
        """Return what the health service answers."""
        answer = await self.health.Check(health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True)
        return int(answer.status)

    async def begun(self) -> grpc.aio.UnaryUnaryCall[bytes, bytes]:
        """Return a call whose handler is running."""
        call = self.channel.unary_unary(METHOD)(b"device", timeout=LONG_S, wait_for_ready=True)
        assert await self.said() == "called"
        return call

    def release(self) -> None:
        """Let every call end."""
        (self.folder / "release").touch()

    async def said(self) -> str:
        """Return a line that it wrote on standard output."""
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    async def logged(self) -> dict[str, Any]:
        """Return a line of its log."""
        assert self.process.stderr is not None
        entry: dict[str, Any] = json.loads(await self.process.stderr.readline())
        return entry


Start = Callable[..., AbstractAsyncContextManager[Daemon]]


def free_address() -> str:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a daemon on a folder of this test, and kills it at the end."""
    device = tls_of(tmp_path, "device-1", is_server=False)

    @asynccontextmanager
    async def started(address: str = "", grace_s: float = LONG_S) -> AsyncIterator[Daemon]:
        address = address or free_address()
        tls_of(tmp_path, NAME)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.transport.daemon_loop", str(tmp_path), address, str(grace_s),
            stdout=PIPE, stderr=PIPE, cwd=ROOT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(90), channel_to(address, NAME, device) as channel:
                yield Daemon(process, channel, address, tmp_path)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    return started


# -- serving and stopping --------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_daemon_serves_until_it_is_told_to_stop(number: signal.Signals, start: Start) -> None:
    async with start() as daemon:
        assert await daemon.status() == SERVING
        serving = await daemon.logged()
        assert (serving["event"], serving["listen"]) == ("serving", daemon.address)
        daemon.process.send_signal(number)
        assert await daemon.process.wait() == 0
        stopping = await daemon.logged()
        assert (stopping["event"], stopping["status"]) == ("stopping", 0)
        for entry in (serving, stopping):
            assert (entry["party"], entry["level"]) == (NAME, "info")
            assert entry["timestamp"].endswith("Z")


async def test_calls_in_progress_end_first_and_monitors_are_told_at_once(start: Start) -> None:
    async with start() as daemon:
        call = await daemon.begun()
        watch = daemon.health.Watch(health_pb2.HealthCheckRequest(), timeout=LONG_S)
        assert (await watch.read()).status == SERVING
        daemon.process.terminate()
        assert (await watch.read()).status == NOT_SERVING
        watch.cancel()
        assert daemon.process.returncode is None
        daemon.release()
        assert await call == b"answer to device"
        assert await daemon.process.wait() == 0


async def test_nobody_new_is_served_while_a_daemon_stops(start: Start) -> None:
    async with start() as daemon:
        call = await daemon.begun()
        daemon.process.terminate()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await daemon.health.Check(health_pb2.HealthCheckRequest(), timeout=5)
                await asyncio.sleep(0.01)
        assert isinstance(from_rpc(caught.value, NAME), UnavailableError)
        daemon.release()
        assert await call == b"answer to device"
        assert await daemon.process.wait() == 0


async def test_a_call_that_does_not_end_is_ended_when_the_grace_is_over(start: Start) -> None:
    async with start(grace_s=0.1) as daemon:
        call = await daemon.begun()
        daemon.process.terminate()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        error = from_rpc(caught.value, NAME)
        assert isinstance(error, UnavailableError) and error.party == NAME
        assert await daemon.process.wait() == 0


async def test_a_daemon_that_cannot_serve_any_more_ends_with_an_error(start: Start) -> None:
    async with start() as daemon:
        assert await daemon.status() == SERVING
        (daemon.folder / "broken").touch()
        assert (await daemon.said()).startswith("unavailable: a worker of this daemon has died")
        assert await daemon.process.wait() == REFUSED


async def test_whoever_started_a_daemon_is_told_when_it_serves_and_when_it_stops(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protocol of systemd's Type=notify; a name in the file system, and one outside it."""
    for address in (str(tmp_path / "notify"), f"@{secrets.token_hex(8)}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind("\0" + address[1:] if address.startswith("@") else address)
            notified.settimeout(15)
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            async with start() as daemon:
                assert await asyncio.to_thread(notified.recv, 100) == b"READY=1"
                assert await daemon.status() == SERVING
                daemon.process.terminate()
                assert await asyncio.to_thread(notified.recv, 100) == b"STOPPING=1"


async def test_a_hangup_has_files_read_again_and_ends_nothing_whatever_is_in_them(start: Start) -> None:
    async with start() as daemon:
        assert await daemon.status() == SERVING
        assert (await daemon.logged())["event"] == "serving"
        for _ in range(2):
            daemon.process.send_signal(signal.SIGHUP)
            assert (await daemon.logged())["event"] == "hangup"
        (daemon.folder / "spoilt").touch()
        daemon.process.send_signal(signal.SIGHUP)
        events = [await daemon.logged() for _ in range(2)]
        assert [(e["event"], e["level"]) for e in events] == [("hangup", "info"), ("alert", "error")]
        assert events[1]["reason"].startswith("ValueError at hangup:") and "SECRET" not in str(events)
        assert await daemon.status() == SERVING
        daemon.process.terminate()
        assert await daemon.process.wait() == 0


async def test_a_worker_that_died_is_an_alert(start: Start) -> None:
    async with start() as daemon:
        assert await daemon.status() == SERVING
        (daemon.folder / "broken").touch()
        events = [await daemon.logged() for _ in range(3)]
        assert [(e["event"], e["level"]) for e in events[1:]] == [("alert", "error"), ("stopping", "info")]
        assert "worker" in events[1]["reason"]


# -- addresses -------------------------------------------------------------------------------------


async def listening_fails(folder: Path, address: str) -> ConfigurationError:
    server = grpc.aio.server(options=server_options(serves_devices=True))
    with pytest.raises(ConfigurationError, match="cannot listen") as caught:
        await run_daemon(server, server_credentials(tls_of(folder, NAME)), address, asyncio.Event().wait)
    return caught.value


async def test_a_port_in_use_is_a_configuration_error(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert (await listening_fails(tmp_path, address)).got == address


async def test_an_address_of_another_machine_is_a_configuration_error(tmp_path: Path) -> None:
    await listening_fails(tmp_path, "203.0.113.1:0")


async def test_two_daemons_do_not_share_a_port(start: Start, tmp_path: Path) -> None:
    async with start() as daemon:
        assert await daemon.status() == SERVING
        await listening_fails(tmp_path, daemon.address)


async def test_a_daemon_that_was_killed_gets_its_port_and_its_data_back(start: Start) -> None:
    async with start() as daemon:
        await daemon.begun()
        daemon.process.kill()
        assert await daemon.process.wait() == -signal.SIGKILL
        async with start(daemon.address) as again:
            assert await again.status() == SERVING
            # And whoever was connected finds it again.
            assert await daemon.status() == SERVING


async def test_a_second_daemon_on_the_same_data_is_refused_and_the_first_goes_on(start: Start) -> None:
    async with start() as daemon:
        assert await daemon.status() == SERVING
        async with start() as second:
            assert (await second.said()).startswith("configuration: another daemon uses the data directory")
            assert await second.process.wait() == REFUSED
        assert await daemon.status() == SERVING


def test_garbage_is_looked_for_among_all_objects_of_requests_however_many_there_were_before() -> None:
    done = subprocess.run([sys.executable, "-c", COLLECTING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", str(COLLECT_AFTER)]  # of 500,000 pieces of garbage
