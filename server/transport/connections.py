"""The connections of a daemon: whose they are, how many each caller has, and which never ask for anything.

gRPC says neither which connections there are, nor closes one for whoever uses it. But a call says where it comes from,
an address and port at the other end, which is its connection, and whose certificate that showed. The rest is seen from
outside, every LOOK_S: which sockets of this process are connected at its port, as Linux lists them. One is closed by
shutting the socket down, which gRPC takes for the other end having left.

- A caller is a name and whose authority says it, so that no organisation's authority takes anything from a device that
  another one has named. It has so many connections. Another one takes the place of that which has been without calls
  for longest; if all have calls, its call is refused, and it is closed.
- One that has made no call for `first_call_s` is closed, and nobody knows whose it was. Before it has shown a
  certificate and spoken HTTP/2 it has less time still (`handshake_s`, which gRPC sees to).
- One that makes no more calls is closed by gRPC (`idle_s`), and so is each beyond `all` as it comes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

import structlog

from veilmatch.crypto.errors import OverloadedError
from veilmatch.server.bounds import ConnectionLimits
from veilmatch.server.monitoring import meters
from veilmatch.server.monitoring.readings import Readings
from veilmatch.server.transport.channels import most_connections

#: How often connections are looked at.
LOOK_S = 2.0
#: When whoever has too many connections may come with another one: the look after the next one closes what is beyond.
_AGAIN_S = 2 * LOOK_S
_OWN_FILES = Path("/proc/self/fd")

#: The other end of a connection: its address and port.
End: TypeAlias = tuple[str, int]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. name: in its certificate. by: whose authority has issued that, letters of organisations, or ""."""

    name: str
    by: str = ""

    def __str__(self) -> str:
        return self.name[:60] + (f", named by organisation {self.by}" if self.by else "")


@dataclass(slots=True)
class _Used:
    """A connection that calls have come over. calls: those in progress; last_s: when the latest began or ended."""

    who: Caller
    last_s: float
    calls: int = 0


class Connections:
    """Those of one daemon.

    port: where it listens, 0 while that is not known. server: its name, for errors. now: a clock that never goes back.
    For one event loop.
    """

    def __init__(
        self, limits: ConnectionLimits, port: int, server: str, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self.port = port
        self._server = server
        self._now = now
        self._used: dict[End, _Used] = {}
        self._of_caller: dict[Caller, set[End]] = defaultdict(set)
        #: Since when those are there that nothing has come over.
        self._unused: dict[End, float] = {}
        #: Those that the next look closes, and why.
        self._surplus: dict[End, str] = {}

    @property
    def counts(self) -> tuple[int, int]:
        """How many have made a call, and how many have not, when they were last looked at."""
        return len(self._used), len(self._unused)

    @contextmanager
    def call(self, peer: str, who: Caller) -> Iterator[None]:
        """Note a call. peer: as gRPC has it. Raises OverloadedError, see the module."""
        end = end_of(peer)
        if end is None:  # of no network: a test
            yield
            return
        used = self._used.get(end)
        if used is None or used.who != who:
            used = self._take(end, who)
        used.calls += 1
        used.last_s = self._now()
        try:
            yield
        finally:
            used.calls -= 1
            used.last_s = self._now()

    async def follow(self) -> None:
        """Look at all connections again and again. Never ends."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Forget connections that are gone, and close what is to be closed."""
        there = await asyncio.to_thread(connected, self.port)
        now = self._now()
        for end in self._used.keys() - there:
            self._forget(end)
        since = {end: self._unused.get(end, now) for end in there - self._used.keys()}
        closing = {end: why for end, why in self._surplus.items() if end in there and not self._has_calls(end)}
        closing |= {end: "silent" for end, at in since.items() if now - at >= self.limits.first_call_s}
        self._surplus = {end: why for end, why in self._surplus.items() if end in there and end not in closing}
        self._unused = since
        if closing:
            await asyncio.to_thread(close, self.port, closing.keys())
            for why in closing.values():
                meters.connection_closed(why)
            _log.info("connections closed", count=len(closing), reason=", ".join(sorted(set(closing.values()))))

    def _take(self, end: End, who: Caller) -> _Used:
        self._forget(end)
        ends = self._of_caller[who]
        if len(ends) >= self.limits.of_one:
            free = [one for one in ends if not self._used[one].calls]
            if not free:
                self._surplus[end] = "surplus"
                raise OverloadedError(
                    f"{self._server} takes no more connections of {who}",
                    got=len(ends) + 1, expected=f"at most {self.limits.of_one}", party=self._server,
                    retry_after_s=_AGAIN_S,
                )  # fmt: skip
            oldest = min(free, key=lambda one: self._used[one].last_s)
            self._forget(oldest)
            self._surplus[oldest] = "surplus"
        used = self._used[end] = _Used(who, self._now())
        ends.add(end)
        self._unused.pop(end, None)
        self._surplus.pop(end, None)
        return used

    def _has_calls(self, end: End) -> bool:
        used = self._used.get(end)
        return used is not None and used.calls > 0

    def _forget(self, end: End) -> None:
        used = self._used.pop(end, None)
        if used is not None:
            ends = self._of_caller[used.who]
            ends.discard(end)
            if not ends:
                del self._of_caller[used.who]


def readings(connections: Connections) -> Readings:
    """Return how many have made a call ("yes"), how many have not ("no"), and the most of both."""
    yes, no = connections.counts
    most = float(most_connections(connections.limits))
    return {"connections": {("yes",): float(yes), ("no",): float(no)}, "connections_limit": {(): most}}


def port_of(address: str) -> int:
    """Return the port of an address to listen at."""
    return int(address.rpartition(":")[2])


def end_of(peer: str) -> End | None:
    """Return the other end of a call's connection, from what gRPC says of it: "ipv4:10.0.0.1:5000"."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return None
    host, _, port = unquote(rest).rpartition(":")
    return (_address(host.strip("[]")), int(port)) if port.isdecimal() else None


def connected(port: int) -> set[End]:
    """Return the other ends of all connections of this process that came in at a port; blocks, 10 us for each file."""
    return {end for end, _ in _sockets(port)}


def close(port: int, ends: Collection[End]) -> None:
    """Shut down the connections of this process at a port whose other ends are these; blocks."""
    for end, one in _sockets(port):
        if end in ends:
            with suppress(OSError):  # it has ended
                one.shutdown(socket.SHUT_RDWR)


def _sockets(port: int) -> Iterator[tuple[End, socket.socket]]:
    """Yield each connection that came in at a port, for as long as it is looked at."""
    try:
        files = list(_OWN_FILES.iterdir())
    except OSError:  # not Linux: then nothing is seen from outside
        return
    for file in files:
        with suppress(OSError):  # no socket, none that is connected, or it was closed meanwhile
            if not str(file.readlink()).startswith("socket:"):
                continue
            # A number of our own: gRPC may close its own in any moment, and something else may get that number.
            with socket.socket(fileno=os.dup(int(file.name))) as one:
                if one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockname()[1] == port:
                    host, number = one.getpeername()[:2]
                    yield (_address(host), number), one


def _address(host: str) -> str:
    """Return one spelling of an address: gRPC calls 10.0.0.1 what a socket for both kinds calls ::ffff:10.0.0.1."""
    found = ip_address(host.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
