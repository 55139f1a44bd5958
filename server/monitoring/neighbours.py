"""The other servers that a daemon works with: asked every few seconds how they are, over the standard health service.

What they answer is shown to operators, and decides nothing: a request finds out for itself who is there.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping

import grpc

from veilmatch.common.speaking import our_hello
from veilmatch.crypto.health import HEALTH_KEY, Said, read_said
from veilmatch.crypto.versions import common

#: Between two questions, and how long an answer may take.
EVERY_S, WITHIN_S = 5.0, 2.0
#: The standard health service, about the daemon as a whole.
_CHECK, _HOW_IS_ALL = "/grpc.health.v1.Health/Check", b""


class Neighbour:
    """One of them. channel: to it, of the daemon, which closes it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_CHECK)
        #: What it said last; None if it did not answer when it was last asked.
        self.said: Said | None = None
        #: How far its clock is ahead, in seconds; None where that is not known.
        self.clock_s: float | None = None

    async def ask(self) -> None:
        """Ask how it is."""
        asked, started = time.time(), time.perf_counter()
        try:
            call = self._check(_HOW_IS_ALL, timeout=WITHIN_S)
            await call
            took_s = time.perf_counter() - started
            self.said = _said(await call.trailing_metadata())
        except grpc.aio.AioRpcError:
            self.said = self.clock_s = None
            return
        # As far as the way there is as long as the way back.
        self.clock_s = self.said.time_ms / 1000 - (asked + took_s / 2) if self.said.time_ms else None


class Neighbours:
    """All of them, by name."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel]) -> None:
        self.by_name = {name: Neighbour(channel) for name, channel in channels.items()}

    def said(self, name: str) -> Said | None:
        """Return what one said last; None if it does not answer."""
        return self.by_name[name].said if name in self.by_name else None

    def heard(self, name: str) -> Said | None:
        """Return the same if there is a version of the protocol that it and this server speak; None otherwise."""
        said = self.said(name)
        return said if said is not None and common(our_hello(), said.speaks) is not None else None

    async def keep_asking(self) -> None:
        """Ask all of them for ever."""
        while True:
            await asyncio.gather(*(one.ask() for one in self.by_name.values()))
            await asyncio.sleep(EVERY_S * random.uniform(0.8, 1.2))  # noqa: S311  # nothing secret


def _said(metadata: grpc.aio.Metadata) -> Said:
    """Return what trailing metadata say; of a server without such, that it is there."""
    for key, value in metadata:
        if key == HEALTH_KEY and isinstance(value, bytes):
            try:
                return read_said(value)
            except ValueError:
                break
    return Said(frozenset(), 0)
