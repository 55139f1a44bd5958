"""On which day a template was last asked for: noted in memory, written now and then.

A verification must not wait for the disk because of a day. What a crash loses is at most an hour of notes: templates
look idle too early then, at this organisation alone. The other one of the pair that verified knows better, and both
have to say that a template is due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

import structlog

from veilmatch.crypto.errors import VeilmatchError
from veilmatch.server.ground.finishing import to_the_end
from veilmatch.server.matcher.gallery.disk.store import Store

#: How often notes are written.
FLUSH_S = 3600.0
#: So many are held for one gallery; more are noted when they are asked for again.
_MOST = 1 << 18
_DAY_S = 86400

_log = structlog.get_logger(__name__)


class AskedDays:
    """Notes of one matcher, for all its galleries, by name. Not to be used by several threads."""

    def __init__(self, stores: Mapping[str, Store], now: Callable[[], float] = time.time) -> None:
        self._stores = stores
        self._now = now
        #: By gallery and day: places.
        self._noted: dict[tuple[str, int], set[tuple[int, int]]] = {}

    def note(self, gallery: str, places: Iterable[tuple[int, int]]) -> None:
        """Note that the templates at these (pack, slot) were asked for just now."""
        noted = self._noted.setdefault((gallery, int(self._now() // _DAY_S)), set())
        if len(noted) < _MOST:
            noted.update(places)

    async def flush(self) -> None:
        """Write what was noted, one transaction for each gallery and day. Raises StorageError; the notes stay then."""
        noted, self._noted = self._noted, {}
        while noted:
            (gallery, day), places = noted.popitem()
            try:
                await asyncio.to_thread(self._stores[gallery].note_asked, gallery, day, sorted(places))
            except BaseException:
                for (name, at), left in {(gallery, day): places, **noted}.items():
                    self._noted.setdefault((name, at), set()).update(left)
                raise

    @asynccontextmanager
    async def running(self, then: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[None]:
        """Write notes every hour while the body runs, and at its end. then: what is done each time afterwards."""
        task = asyncio.create_task(self._follow(then))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await to_the_end(self._flushed(then))

    async def _follow(self, then: Callable[[], Awaitable[None]] | None) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await self._flushed(then)

    async def _flushed(self, then: Callable[[], Awaitable[None]] | None) -> None:
        try:
            await self.flush()
            if then is not None:
                await then()
        except VeilmatchError as error:
            _log.warning("days of last requests are not written", **error.fields())
