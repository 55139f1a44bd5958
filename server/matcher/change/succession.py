"""The galleries of a matcher under the key that a rotation goes to, while it is filling them.

`[rotation]` of matcher.toml names the new public key and the data directory of the new matcher. The databases there
can be served from only once every gallery is complete (`Store.finish`); until then, and for as long as this daemon
runs, nobody else opens the directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, KeyMismatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import GalleriesIn
from veilmatch.server.matcher.agreement.agreement import Agreement
from veilmatch.server.matcher.change.progress import Place, Progress, Source
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.query.packs import Packs
from veilmatch.server.matcher.retention.asked import AskedDays

_log = structlog.get_logger(__name__)


class OnDisk:
    """Packs of a gallery that nobody searches stay in its database."""

    async def load(self, gallery: int, packs: Mapping[int, bytes]) -> None:
        """Keep nothing."""


class Successor:
    """One gallery under the new key, and how much of the old one is in it."""

    def __init__(self, gallery: Gallery, store: Store) -> None:
        self.gallery = gallery
        self._store = store
        self._progress = Progress()
        self._sources: tuple[int, list[Source]] = (-1, [])

    async def progress(self) -> Progress:
        """Return how far the rotation has come. Hold the lock of `gallery`."""
        progress = self._progress
        for sequence, result in await asyncio.to_thread(self._results, "rotate", progress.sequence):
            progress.fold(sequence, result)
        return progress

    async def is_complete(self) -> bool:
        """Return whether the last step was done."""
        return bool(await asyncio.to_thread(self._results, "rotated", 0))

    async def is_ending(self) -> bool:
        """Return whether the last step is accepted here: another organisation may have committed it."""
        return await asyncio.to_thread(self._store.accepted_kind, self.gallery.name) == "rotated"

    async def sources(self, old: Gallery) -> list[Source]:
        """Return the templates of the old gallery, in order. Hold its lock."""
        if self._sources[0] != old.state.sequence:
            self._sources = (old.state.sequence, await old.sources())
        return self._sources[1]

    async def pack(self, number: int) -> list[bytes]:
        """Return the content of a pack as columns to multiply: none if it is new."""
        if number >= self.gallery.index.pack_count:
            return []
        return [await asyncio.to_thread(self._store.pack, self.gallery.name, number)]

    async def take_over_days(self, old: Gallery) -> None:
        """Give each template the day on which it was last asked for under the old key; until anybody serves it."""
        await asyncio.to_thread(self._store.take_over_asked, self.gallery.name, await self._days(old))

    async def note_days(self, old: Gallery) -> None:
        """Note those of these days that are later than what is known: the old gallery answers until it is stopped."""
        by_day: dict[int, list[Place]] = {}
        for place, day in (await self._days(old)).items():
            by_day.setdefault(day, []).append(place)
        for day, places in by_day.items():
            await asyncio.to_thread(self._store.note_asked, self.gallery.name, day, places)

    async def _days(self, old: Gallery) -> dict[Place, int]:
        places = (await self.progress()).places
        days = {(one.pack, one.slot, one.sequence): one.asked_day for one in await old.details()}
        return {place: days[source] for source, place in places.items() if source in days}

    def _results(self, kind: str, after: int) -> list[tuple[int, str]]:
        return self._store.results(self.gallery.name, kind, after)


class Succession:
    """All galleries of this matcher under the new key; `load` before use."""

    def __init__(
        self, where: GalleriesIn, scheme: Paillier, workers: Packs, agreement: Agreement, names: Iterable[str]
    ) -> None:
        self.scheme = scheme
        #: With the signing keys of the new installation, which vouch for the new galleries.
        self.agreement = agreement
        self.workers = workers
        self.key_id = scheme.public_key.key_id
        self._store = Store(where, self.key_id, scheme.parameters, rotating=True)
        self._old: Mapping[str, Gallery] = {}
        self._asked: AskedDays | None = None
        self._successors = {
            name: Successor(Gallery(name, number, self._store, OnDisk(), scheme.parameters.slots), self._store)
            for number, name in enumerate(names)
        }

    async def load(self, galleries: Mapping[str, Gallery], asked: AskedDays) -> None:
        """Read how far the rotation has come, and close those of `galleries` that are complete under the new key.

        asked: on which days templates of `galleries` were asked for. Raises IntegrityError if the new data directory
        holds galleries that no rotation made.
        """
        self._old, self._asked = galleries, asked
        finished = await asyncio.to_thread(self._store.is_finished)
        for name, successor in self._successors.items():
            await successor.gallery.load()
            if await successor.is_complete() or await successor.is_ending():
                galleries[name].successor = self.key_id
            elif finished:
                raise IntegrityError(
                    "the data directory of the rotation holds a gallery that it did not make", got=name
                )
        await self.finish()

    async def finish(self) -> None:
        """Let the new matcher open the database if every gallery in it is complete.

        Templates have the days then on which they were last asked for: a rotation is no request for anybody.
        """
        complete = [await successor.is_complete() for successor in self._successors.values()]
        if all(complete) and not await asyncio.to_thread(self._store.is_finished):
            if self._asked is not None:
                await self._asked.flush()
            for name, successor in self._successors.items():
                await successor.take_over_days(self._old[name])
            await asyncio.to_thread(self._store.finish)
            _log.info("rotation complete", key=self.key_id.hex())

    async def note_days(self) -> None:
        """Once it is finished, note the days on which the old galleries were asked for since."""
        if await asyncio.to_thread(self._store.is_finished):
            for name, successor in self._successors.items():
                await successor.note_days(self._old[name])

    def of(self, name: str, key_id: bytes) -> Successor:
        """Return the gallery under the new key. Raises KeyMismatchError if the rotation is to another one."""
        if key_id != self.key_id:
            raise KeyMismatchError(
                "a rotation to another key than the one configured here", got=key_id.hex(), expected=self.key_id.hex()
            )
        return self._successors[name]

    def galleries(self) -> list[Gallery]:
        """Return the galleries under the new key."""
        return [successor.gallery for successor in self._successors.values()]

    def close(self) -> None:
        """Close the database."""
        self._store.close()


def require_rotatable(old: PublicKey, new: PublicKey) -> None:
    """Raise ConfigurationError unless templates under `old` can be converted to `new`: same vectors, another key."""
    if old.key_id == new.key_id:
        raise ConfigurationError(
            "a rotation to the same key", got=new.key_id.hex(), expected="the key of a new ceremony"
        )
    if _vectors(old.parameters) != _vectors(new.parameters):
        raise ConfigurationError(
            "a rotation to vectors of another kind", got=new.parameters.name, expected=old.parameters.name
        )


def _vectors(parameters: ParameterSet) -> tuple[int, int, int]:
    return parameters.dimension, parameters.scale, parameters.clip
