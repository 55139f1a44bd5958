"""Records that were read before a gallery is held are those that it has, or are read again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.matcher.galleries import KEY_ID, PARAMETERS, change_gallery, mutation
from veilmatch.crypto.errors import IntegrityError
from veilmatch.server.matcher.follow.followed import OnDisk
from veilmatch.server.matcher.gallery.disk.reading import Snapshot
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery

ADA, BELA = (0, 0), (0, 1)


async def test_records_are_read_once_for_a_state_of_the_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store(tmp_path, KEY_ID, PARAMETERS)) as store:
        gallery = Gallery("main", 0, store, OnDisk(), PARAMETERS.slots)
        await gallery.load()
        await change_gallery(gallery, mutation(1, [(*ADA, "ada")]))
        asked = list[object]()
        read_from_disk = store.records

        def counted(name: str, places: list[tuple[int, int]]) -> Snapshot:
            asked.append(places)
            return read_from_disk(name, places)

        monkeypatch.setattr(store, "records", counted)
        read = await gallery.records([ADA])
        assert await gallery.records([ADA], read) is read and len(asked) == 1
        # Another place, in the same state.
        assert BELA not in (await gallery.records([BELA], read)).by_place and len(asked) == 2
        # The same place, emptied and filled again.
        await change_gallery(gallery, mutation(2, [], [ADA]))
        await change_gallery(gallery, mutation(3, [(*ADA, "cid")]))
        again = await gallery.records([ADA], read)
        assert (read.sequence, again.sequence, len(asked)) == (1, 3, 3)
        assert again.at(ADA) == store.record("main", *ADA) != read.at(ADA)


async def test_a_free_slot_has_no_record(tmp_path: Path) -> None:
    with closing(Store(tmp_path, KEY_ID, PARAMETERS)) as store:
        gallery = Gallery("main", 0, store, OnDisk(), PARAMETERS.slots)
        await gallery.load()
        read = await gallery.records([ADA])
        with pytest.raises(IntegrityError, match="not occupied"):
            read.at(ADA)
