"""A gallery as those see it who follow others, or are followed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.ground.bell import Bell
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.certificates import Certificate, Scope, Signer, Signers, Statement
from veilmatch.server.matcher.follow.staging_file import StagingFile
from veilmatch.server.matcher.gallery.changes import Change, Contents
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.locks import ReadWriteLock


class InService(Protocol):
    """What is asked of `gallery.Gallery`."""

    name: str
    lock: ReadWriteLock
    state: GalleryState
    heard: dict[Party, Statement]
    votes: dict[Party, Certificate]
    unmet: set[Party]
    changed: Bell

    @property
    def key_id(self) -> bytes:
        """Id of its key, 16 bytes."""

    async def refresh(self) -> None:
        """Read it again if a write failed half-way. Holding `lock`."""

    @property
    def is_stale(self) -> bool:
        """Whether `refresh` has something to do."""

    async def apply(self, changes: Sequence[Change], given: Contents) -> None:
        """Commit changes of others, and bring slots, workers and state up to them. Holding `lock` alone."""

    async def apply_beside(self, changes: Sequence[Change], given: Contents) -> float:
        """Commit changes of others, and bring slots, workers, model and state up to them. Holding `lock`, preparing.

        Return for how many seconds it was held alone. Raises TimeoutError if queries leave no time for that.
        """


@dataclass(frozen=True)
class Followed:
    """A gallery with its store. data_dir: where it lies. signers: public signing keys of the organisations.

    signer: signs for this organisation what it states; None where nobody asks for that. applied: called when changes
    of others were committed here.
    """

    gallery: InService
    store: Store
    data_dir: Path
    parameters: ParameterSet
    signers: Signers
    signer: Signer | None = None
    applied: Callable[[], Awaitable[None]] | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.gallery.name

    @property
    def scope(self) -> Scope:
        """What signatures about it name."""
        return Scope(self.gallery.name, self.gallery.key_id)

    @cached_property
    def staging_file(self) -> StagingFile:
        """Where what it lacks is kept until all of it is there."""
        return StagingFile(self.data_dir, self.scope)

    def to_wire(self) -> pb.WatchedGallery:
        """Return its name and key, as they are sent."""
        return pb.WatchedGallery(gallery=self.gallery.name, key_id=self.gallery.key_id)


class OnDisk:
    """For a gallery that nobody searches: its packs stay in its database."""

    async def load(self, gallery: int, packs: Mapping[int, bytes]) -> None:
        """Keep nothing."""
