"""Encryptions of zero, made while a matcher rests, for the results of searches to come.

Every R leaves a matcher times a fresh encryption of zero (pack_worker.py). That does not depend on the probe, so it can
be there before a search comes, which then multiplies by it and makes none. What is not there is made as it is without.

**Each is used once.** Two R under one of them would tell whoever knows the randomisers of the templates the difference
of two shares. So it is taken out before anything is multiplied by it, and never put back, whatever becomes of that
search. None is ever on disk: a process that ends, in whatever way, leaves none to the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog

from veilmatch.crypto.secret_access import SecretHolder

_log = structlog.get_logger(__name__)
#: How long nothing was asked of the workers before they are at rest.
REST_S = 0.5
#: That many are made at a time: a search that comes meanwhile waits about a millisecond for them.
AT_A_TIME = 8


class Zeros(SecretHolder):
    """Encryptions of zero that nobody has used: for `searches` of the largest gallery, in at most `most_bytes`.

    For one event loop.
    """

    def __init__(self, ciphertext_bytes: int, searches: int = 0, most_bytes: int = 0) -> None:
        self._size = ciphertext_bytes
        self._searches, self._most = searches, most_bytes // ciphertext_bytes
        self._wanted = 0
        self._made = bytearray()
        self._missing = asyncio.Event()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._made) // self._size

    @property
    def missing(self) -> int:
        """How many more are wanted."""
        return max(0, self._wanted - len(self))

    def expect(self, packs: int) -> None:
        """Have enough for galleries of so many packs, if that is more than before."""
        self._wanted = max(self._wanted, min(self._searches * packs, self._most))
        self._tell()

    def put(self, made: bytes) -> None:
        """Keep these, serialised and joined."""
        self._made += made
        self._tell()

    def take(self, count: int) -> bytes:
        """Return so many, serialised and joined, which are gone from here; nothing if there are not so many."""
        if len(self) < count:
            return b""
        at = len(self._made) - count * self._size
        taken = bytes(self._made[at:])
        del self._made[at:]
        self._tell()
        return taken

    async def some_missing(self) -> None:
        """Return when more are wanted than there are."""
        await self._missing.wait()

    def _tell(self) -> None:
        if self.missing:
            self._missing.set()
        else:
            self._missing.clear()


class Rest:
    """Whether workers have nothing to do, and had nothing for a while. For one event loop."""

    def __init__(self) -> None:
        self._at_work = 0
        self._since = time.monotonic()
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Say that there is something to do, as long as this lasts."""
        self._at_work += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._since = time.monotonic()
                self._idle.set()

    async def begins(self) -> None:
        """Return when nothing has been asked for REST_S."""
        while True:
            await self._idle.wait()
            left = self._since + REST_S - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(left)


async def keep_prepared(zeros: Zeros, rest: Rest, make: Callable[[int], Awaitable[bytes]]) -> None:
    """Make what is missing whenever the workers rest, for ever. make: returns so many, serialised and joined."""
    while True:
        await zeros.some_missing()
        await rest.begins()
        zeros.put(await make(min(AT_A_TIME, zeros.missing)))
        if not zeros.missing:
            _log.debug("searches prepared", zeros=len(zeros))
