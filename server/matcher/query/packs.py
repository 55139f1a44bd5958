"""What a matcher asks of its packs, wherever they are: `pack_worker.PackWorkers` here, `cluster.packs.ClusterPacks` on
other machines of the organisation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from veilmatch.crypto.dealing import Words
from veilmatch.crypto.packing.fields import Array
from veilmatch.server.matcher.gallery.mutation import GalleryState


class Packs(Protocol):
    """All packs of a matcher, by number of the gallery and number of the pack."""

    async def load(self, gallery: int, packs: Mapping[int, bytes]) -> None:
        """Take packs, in place of what was there under these numbers."""

    def held(self, gallery: int) -> AbstractAsyncContextManager[int | None]:
        """Keep what is loaded now, while the lock of the gallery is held, for `match` in the block.

        Its value is what to ask for it with when the lock is not held any more and other packs were loaded; None if
        packs cannot be kept here: then the lock is to be held until `match` has returned.
        """

    def match(
        self, gallery: int, state: GalleryState, packs: Sequence[int], exponents: Array, held: int | None = None
    ) -> AsyncGenerator[list[bytes], None]:
        """Yield R of every pack in `packs`, re-randomised, for this matcher's probe share, int64[D] in [0, 2^k).

        They come in order and in parts, each as soon as it is there; use it with `aclosing`. state: that of the
        gallery, which is held by its lock or by `held`: nothing is answered for another one. Raises UnavailableError if
        packs of it are not there in time.
        """

    async def column(self, values: Words, slot: int, *, is_plus: bool, erase: bool) -> bytes:
        """Return this matcher's part of one template's column, from its share uint64[D]: D ciphertexts, joined."""

    async def record(self, values: Words, *, is_plus: bool) -> bytes:
        """Return this matcher's part of the record of one template, from its share uint64[D]: lane ciphertexts."""

    async def apply(self, gallery: int, pack: int, columns: Sequence[bytes]) -> bytes:
        """Return the content of `pack` (empty if it is new) with `columns` multiplied in; nothing is kept yet."""
