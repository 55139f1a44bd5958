"""What is monitored of one daemon: its listener, its neighbours, its health and its readings.

    return run_logged(monitored(settings, lambda monitor: serve(settings, ..., monitor)))

    monitor.view = View(...)                  # as soon as there is something to be seen
    await run_daemon(server, ..., monitor)    # in there: HealthService(monitor.conditions), monitor.running()

Before that there is a listener already: the daemon is alive, and not ready, while it loads.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cache
from importlib.metadata import version
from typing import Protocol

import structlog
from prometheus_client import generate_latest

from veilmatch.common.speaking import our_hello
from veilmatch.crypto.health import FULL, READY, Kind, Outlook, Said, outlook
from veilmatch.crypto.keys.parties import PARTIES, Pair, Party
from veilmatch.crypto.rings.choice import choose
from veilmatch.server.backup.last import last_backup_s
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.monitoring import meters
from veilmatch.server.monitoring.listener import Listener, Page, kept
from veilmatch.server.monitoring.neighbours import EVERY_S, Neighbours
from veilmatch.server.monitoring.readings import Apart, Pulse, Readings, Snapshots
from veilmatch.server.monitoring.traces import tracing
from veilmatch.server.transport.expiry import Expiry

_TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
#: With less room a daemon is about to be unable to note what it serves.
_LEAST_ROOM_BYTES = 1 << 20

_log = structlog.get_logger(__name__)


class View(Protocol):
    """What is to be seen of a daemon; asked in its event loop."""

    @property
    def kind(self) -> Kind:
        """Which kind of server it is."""

    @property
    def party(self) -> Party:
        """Of which organisation."""

    @property
    def served(self) -> tuple[Pair, ...]:
        """The pairs of the installation."""

    @property
    def parameters(self) -> str:
        """The name of its parameter set."""

    @property
    def workers(self) -> int:
        """How many it has."""

    @property
    def expiry(self) -> Expiry:
        """The certificates that it lives by."""

    @property
    def neighbours(self) -> Neighbours:
        """The servers that it works with."""

    def conditions(self) -> Collection[str]:
        """Return which conditions of crypto/health.py hold, `ready` excepted."""

    def readings(self) -> Readings:
        """Return what only daemons of this kind have."""


class Monitor:
    """What is monitored of one daemon."""

    def __init__(self, settings: KeyHolderSettings | MatcherSettings) -> None:
        self._settings = settings
        self._pulse = Pulse()
        self._snapshots = Snapshots(asyncio.get_running_loop(), self._readings, apart=Apart(self._on_disk))
        #: Set once there is something to be seen.
        self.view: View | None = None
        #: Whether the daemon serves.
        self.serves = False
        #: Whether its disk is full or read-only: a daemon notes on disk what it serves, and serves nothing else.
        self._takes_nothing = False

    def conditions(self) -> Collection[str]:
        """Return which conditions hold."""
        view = self.view
        if view is None or not self.serves:
            return ()
        holds = set(view.conditions())
        if self._takes_nothing:
            holds = {one for one in holds if not one.startswith("pair-")} | {FULL}
        is_ready = not any(view.party in pair for pair in view.served) or any(one.startswith("pair-") for one in holds)
        return holds | ({READY} if is_ready else set())

    def _outlook(self, view: View) -> Outlook:
        """Return what the installation can serve, as far as this daemon is told."""
        said = {party: view.neighbours.said(f"{view.kind}-{party}") for party in PARTIES}
        said[view.party] = Said(frozenset(self.conditions()), 0, our_hello())
        return outlook(said, view.served)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask neighbours while the body serves."""
        self.serves = True
        asking = [asyncio.ensure_future(self._keep_looking())]
        if self.view is not None:
            asking.append(asyncio.ensure_future(self.view.neighbours.keep_asking()))
        try:
            yield
        finally:
            self.serves = False
            for one in asking:
                one.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _keep_looking(self) -> None:
        """Look for ever whether the disk takes what is written. One that does not answer is left as it was."""
        disk = Apart(self._writable)
        while True:
            if found := await asyncio.to_thread(disk.take):
                self._takes_nothing = not found["writable"][()]
            await asyncio.sleep(EVERY_S)

    def _writable(self) -> Readings:
        disk = os.statvfs(self._settings.data_dir)
        room = disk.f_bavail * disk.f_frsize >= _LEAST_ROOM_BYTES
        return {"writable": {(): float(room and self._can_make_a_file())}}

    def _can_make_a_file(self) -> bool:
        """Tried, since a file system that takes no more after an error of its medium need not say so in its flags."""
        try:
            with tempfile.TemporaryFile(dir=self._settings.data_dir, buffering=0) as file:
                file.write(b"x")
        except OSError:
            return False
        return True

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Answer scrapes and probes while the body runs, if `[metrics]` is configured."""
        if self._settings.metrics is None:
            yield
            return
        pages = {"/metrics": kept(self._metrics)}
        listener = Listener(self._settings.metrics, pages, {"/livez": self._livez, "/readyz": kept(self._readyz)})
        beating = asyncio.ensure_future(self._pulse.beat())
        meters.REGISTRY.register(self._snapshots)
        try:
            with listener:
                _log.info("metrics", listen="{}:{}".format(*listener.address))
                yield
        finally:
            beating.cancel()
            meters.REGISTRY.unregister(self._snapshots)
            await asyncio.gather(beating, return_exceptions=True)

    # -- in threads of the listener ---------------------------------------------------------------

    def _metrics(self) -> Page:
        return Page(200, generate_latest(meters.REGISTRY), _TEXT_FORMAT)

    def _livez(self) -> Page:
        return Page(200, b"ok\n") if self._pulse.is_alive() else Page(503, b"the event loop does not run\n")

    def _readyz(self) -> Page:
        readings, responds = self._snapshots.take()
        if not responds:
            return Page(503, b"the event loop does not answer\n")
        if not readings.get("ready", {}).get((), 0.0):
            return Page(503, b"not ready: no pair can be served here (veilmatch status says why)\n")
        return Page(200, b"ok\n")

    # -- in a thread of its own -------------------------------------------------------------------

    def _on_disk(self) -> Readings:
        found: dict[str, Mapping[tuple[str, ...], float]] = {}
        with suppress(OSError):
            disk = os.statvfs(self._settings.data_dir)
            found["disk_free_bytes"] = {(): float(disk.f_bavail * disk.f_frsize)}
            found["backup_timestamp_seconds"] = {(): last_backup_s(self._settings.data_dir)}
        if (view := self.view) is not None:
            ends = view.expiry.ends()
            found["certificate_expiry_timestamp_seconds"] = {(role,): end_s for role, end_s in ends.items()}
        return found

    # -- in the loop ------------------------------------------------------------------------------

    def _readings(self) -> Readings:
        found: dict[str, Mapping[tuple[str, ...], float]] = {"ready": {(): float(READY in self.conditions())}}
        if (view := self.view) is None:
            return found
        about = self._outlook(view)
        neighbours = view.neighbours.by_name
        found |= {
            "build_info": {(
                self._settings.party_name, version("veilmatch"), _backend(), view.parameters,
                platform.python_version(),
            ): 1.0},
            "pair_available": {(pair,): float(pair in about.available) for pair in view.served},
            "pairs_available": {(): float(len(about.available))},
            "pairs_expected": {(): float(len(view.served))},
            "pairs_refilled": {(): float(len(about.refilled))},
            "peer_up": {(name,): float(one.said is not None) for name, one in neighbours.items()},
            "peer_clock_difference_seconds": {
                (name,): one.clock_s for name, one in neighbours.items() if one.clock_s is not None
            },
            "protocol_version": {(): float(our_hello().newest)},
            "protocol_oldest_version": {(): float(our_hello().oldest)},
            "peer_protocol_version": {
                (name,): float(one.said.speaks.newest) for name, one in neighbours.items() if one.said is not None
            },
            "peer_understood": {
                (name,): float(view.neighbours.heard(name) is not None)
                for name, one in neighbours.items() if one.said is not None
            },
            "workers": {(): float(view.workers)},
        }  # fmt: skip
        return {**found, **view.readings()}


@cache
def _backend() -> str:
    return choose().backend


async def monitored(settings: KeyHolderSettings | MatcherSettings, serve: Callable[[Monitor], Awaitable[int]]) -> int:
    """Return what `serve` returns, with the monitor of this daemon."""
    monitor = Monitor(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(tracing(settings.traces, settings.party_name))
        await stack.enter_async_context(monitor.listening())
        return await serve(monitor)
