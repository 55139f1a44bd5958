"""Running a daemon: the standard health service, signals, what is due every day, and graceful shutdown."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from veilmatch.crypto.errors import ConfigurationError, UnavailableError
from veilmatch.crypto.health import DAY_S
from veilmatch.server.ground.own_failures import described
from veilmatch.server.monitoring.health import HealthService

#: How long running calls may take to finish after SIGTERM, unless it is said.
STOP_S = 10.0
#: Where a supervisor waits for the word that a daemon serves: the protocol of systemd's Type=notify.
NOTIFY_VARIABLE = "NOTIFY_SOCKET"
#: Objects that there are more of than at the last time, before cycles of garbage among them are looked for. So many
#: pieces of such garbage there are at most, with what they hold, beside those of the last ten times.
COLLECT_AFTER = 5_000
#: No process id has more.
_PID_DIGITS = 20
_WORKER_DIED = "a worker of this daemon has died, and its state is lost"

_log = structlog.get_logger(__name__)


class Life:
    """How far the daemon of this process got. `served`: whether it has served."""

    served = False


@contextmanager
def sole_owner(data_dir: Path) -> Iterator[None]:
    """Hold the data directory: two daemons on one would each hand out the same stock.

    Raises ConfigurationError if another process holds it, or it cannot be one. The lock ends with the process,
    however it ends.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (data_dir / "lock").open("a+")
    except OSError as error:
        raise ConfigurationError("the data directory cannot be used", got=f"{data_dir}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(_PID_DIGITS)
            who = f"process {holder}" if holder.isdecimal() else "a process"
            raise ConfigurationError(
                "another daemon uses the data directory",
                got=f"{data_dir}: {who}",
                expected="no daemon of this party that runs",
                hint=f"The daemon still runs, as {who}: stop the `veilmatch up` of this installation, or the service,"
                " that started it.",
            ) from None
        # For that error alone, so that a full disk is no hindrance.
        with suppress(OSError):
            file.truncate(0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


async def run_daemon(
    server: grpc.aio.Server,
    credentials: grpc.ServerCredentials,
    listen: str,
    failed: Callable[[], Awaitable[object]],
    daily: Callable[[], None] | None = None,
    stopping: Callable[[], None] = lambda: None,
    conditions: Callable[[], Collection[str]] | None = None,
    hangup: Callable[[], Awaitable[None]] | None = None,
    stop_s: float = STOP_S,
) -> int:
    """Serve on `listen` until SIGTERM or SIGINT, or until `failed` returns; return the exit status.

    failed: resolves when the daemon can no longer serve (a worker died). Raises UnavailableError then, for a
    supervisor to restart it. daily: called at the start and every day, in a thread. stopping: called before running
    calls get `stop_s` to finish; ends those that would go on. conditions: what the health service says of this daemon,
    see `HealthService`. hangup: what SIGHUP does; it ends nothing.
    """
    servicer = HealthService(conditions)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    try:
        server.add_secure_port(listen, credentials)
    except RuntimeError:
        raise ConfigurationError("cannot listen", got=listen, expected="a free address of this machine") from None
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    hangups = _Hangups(hangup)
    loop.add_signal_handler(signal.SIGHUP, hangups.came)
    _collect_rarely()
    await server.start()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    Life.served = True
    _log.info("serving", listen=listen)
    _notify("READY=1")
    asked, broken = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(failed())
    every_day = asyncio.ensure_future(_every_day(daily or (lambda: None)))
    await asyncio.wait([asked, broken], return_when=asyncio.FIRST_COMPLETED)
    if not asked.done():
        _log.error("alert", code=UnavailableError.code, reason=_WORKER_DIED)  # now: the grace may be long
    _log.info("stopping", status=0 if asked.done() else UnavailableError.exit_status)
    _notify("STOPPING=1")
    stopping()
    await servicer.enter_graceful_shutdown()
    await server.stop(stop_s)
    ended = not asked.done()
    for task in (asked, broken, every_day):
        task.cancel()
    if ended:
        raise UnavailableError(_WORKER_DIED, needed="a restart")
    return 0


def _notify(state: str) -> None:
    """Tell whoever started this daemon how far it is; nobody need listen."""
    address = os.environ.get(NOTIFY_VARIABLE)
    if not address:
        return
    if address.startswith("@"):  # a name outside the file system
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        to.sendto(state.encode(), address)


def take_descriptors() -> None:
    """Allow this process as many open files and connections as it may have, not as few as a login session gets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _collect_rarely() -> None:
    """Have Python look for cycles of garbage less often, and never among what a daemon was started with.

    Requests leave few cycles behind. By default it looks at every 700th object, and then at those of all requests under
    way again and again; a large gallery it would go through as a whole.
    """
    gc.collect()
    gc.freeze()
    # Of nothing: Python goes through the oldest objects only when a quarter of what it found there last has been added.
    gc.collect()
    gc.set_threshold(COLLECT_AFTER)


def ignore_hangups() -> None:
    """Let SIGHUP end neither the daemon nor workers that it starts later: a terminal that is closed sends it to both.

    A daemon that serves reads its files again then: see `run_daemon`.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class _Hangups:
    """Does one thing after the other, however fast SIGHUP comes; one that comes meanwhile is not forgotten."""

    def __init__(self, work: Callable[[], Awaitable[None]] | None) -> None:
        self._work = work
        self._again = False
        self._doing: asyncio.Task[None] | None = None

    def came(self) -> None:
        self._again = True
        if self._doing is None or self._doing.done():
            self._doing = asyncio.get_running_loop().create_task(self._do())

    async def _do(self) -> None:
        while self._again:
            self._again = False
            try:
                if self._work is not None:
                    await self._work()
            except Exception as error:
                code, reason = described(error)
                _log.error("alert", code=code, reason=reason)


async def _every_day(work: Callable[[], None]) -> None:
    while True:
        try:
            await asyncio.to_thread(work)
        except Exception as error:
            code, reason = described(error)
            _log.error("alert", code=code, reason=reason)
        await asyncio.sleep(DAY_S)
