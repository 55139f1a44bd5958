"""The database that a rotation fills is served from when it is complete, and not before; slots that are given up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.matcher.galleries import KEY_ID, PARAMETERS, accept, change_gallery, commit, content, mutation, run
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.errors import ConfigurationError, GalleryRotatedError, IntegrityError, KeyMismatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import MatcherSettings
from veilmatch.server.matcher.change.progress import converted_result
from veilmatch.server.matcher.change.succession import OnDisk, Succession, require_rotatable
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.index import SlotIndex
from veilmatch.server.matcher.gallery.mutation import Mutation
from veilmatch.server.matcher.retention.asked import AskedDays

ENROL = mutation(1, added=[(0, 0, "ada"), (0, 1, "bela"), (1, 0, "ada")])
RETIRE = replace(mutation(2, removed=[(0, 0), (1, 0)]), retired=[(0, 0)])
#: Noon of a day.
TODAY = 30_000
NOW_S = (TODAY + 0.5) * 86400
LAST = Mutation("rotated", b"last", content("last", 32), {}, [], [], '{"templates": 0}', "", "device")


def made(data_dir: Path, *mutations: Mutation) -> Store:
    store = Store(data_dir, KEY_ID, PARAMETERS, rotating=True)
    store.open_gallery("staff")
    for each in mutations:
        run(store, "staff", each)
    return store


# -- complete or not there at all ------------------------------------------------------------------


def test_nobody_serves_from_a_database_before_its_rotation_is_complete(tmp_path: Path) -> None:
    store = made(tmp_path, ENROL, LAST)
    assert not store.is_finished()
    store.close()
    with pytest.raises(IntegrityError, match="not complete"):
        Store(tmp_path, KEY_ID, PARAMETERS)
    again = Store(tmp_path, KEY_ID, PARAMETERS, rotating=True)
    again.finish()
    again.finish()
    assert again.is_finished()
    again.close()
    served = Store(tmp_path, KEY_ID, PARAMETERS)
    assert served.is_finished() and len(list(served.templates("staff"))) == 3
    served.close()


def test_an_ordinary_database_is_finished_and_stays_so_when_a_rotation_opens_it(tmp_path: Path) -> None:
    Store(tmp_path, KEY_ID, PARAMETERS).close()
    store = Store(tmp_path, KEY_ID, PARAMETERS, rotating=True)
    assert store.is_finished()
    store.close()
    Store(tmp_path, KEY_ID, PARAMETERS).close()


def test_sources_tell_a_template_from_the_one_that_had_its_slot_before(tmp_path: Path) -> None:
    store = made(tmp_path, ENROL, mutation(2, removed=[(0, 0)]), mutation(3, added=[(0, 0, "ada")]))
    assert store.sources("staff") == [(0, 0, 3), (0, 1, 1), (1, 0, 1)]
    store.close()


def test_results_are_those_of_committed_mutations_of_the_kind_in_order(tmp_path: Path) -> None:
    store = made(tmp_path, ENROL, LAST)
    assert store.results("staff", "enrol") == [(1, ENROL.result)]
    assert store.results("staff", "enrol", after=1) == []
    assert store.results("staff", "rotated") == [(2, LAST.result)]
    accept(store, "staff", mutation(3, added=[(0, 2, "cid")]))
    assert store.results("staff", "enrol") == [(1, ENROL.result)]
    assert store.pack("staff", 0) == ENROL.packs[0]
    with pytest.raises(IntegrityError):
        store.pack("staff", 2)
    store.close()


# -- the galleries under the new key ---------------------------------------------------------------


def scheme() -> Paillier:
    N = Integer(0xF1) << 504 | 1
    return Paillier(PublicKey(PARAMETERS, N, Integer(4)))


async def succession(data_dir: Path, *names: str) -> tuple[Succession, dict[str, Gallery]]:
    """Galleries of these names, empty, and what a rotation to the key of `scheme` has of them."""
    store = Store(data_dir / "old", KEY_ID, PARAMETERS)
    galleries = {name: Gallery(name, i, store, OnDisk(), PARAMETERS.slots) for i, name in enumerate(names)}
    for gallery in galleries.values():
        await gallery.load()
    made = Succession(data_dir / "new", scheme(), None, None, names)  # type: ignore[arg-type]
    await made.load(galleries, AskedDays(dict.fromkeys(names, store), lambda: NOW_S))
    return made, galleries


async def test_the_database_is_finished_when_every_gallery_is_complete_and_not_before(tmp_path: Path) -> None:
    rotation, galleries = await succession(tmp_path, "staff", "guests")
    for name in galleries:
        with pytest.raises(IntegrityError, match="not complete"):
            Store(tmp_path / "new", rotation.key_id, PARAMETERS)
        new = rotation.of(name, rotation.key_id)
        assert not await new.is_complete()
        await change_gallery(new.gallery, LAST)
        assert await new.is_complete()
        await rotation.finish()
    Store(tmp_path / "new", rotation.key_id, PARAMETERS).close()
    rotation.close()
    again, galleries = await succession(tmp_path, "staff", "guests")
    for gallery in galleries.values():
        with pytest.raises(GalleryRotatedError):
            gallery.require_changeable()
    again.close()


async def test_a_crash_between_the_last_step_and_the_end_is_made_good_at_the_next_start(tmp_path: Path) -> None:
    rotation, _ = await succession(tmp_path, "staff")
    new = rotation.of("staff", rotation.key_id)
    await change_gallery(new.gallery, LAST)
    rotation.close()
    again, galleries = await succession(tmp_path, "staff")
    again.close()
    assert galleries["staff"].successor == again.key_id
    Store(tmp_path / "new", again.key_id, PARAMETERS).close()


async def test_templates_keep_the_days_on_which_they_were_asked_for(tmp_path: Path) -> None:
    rotation, galleries = await succession(tmp_path, "staff")
    old, new = galleries["staff"], rotation.of("staff", rotation.key_id)
    await change_gallery(old, ENROL)
    old.store.take_over_asked("staff", {(0, 0): TODAY - 90, (0, 1): TODAY - 7, (1, 0): TODAY - 90})
    # Where each of them went: (0, 1) was converted last, and the slots are others.
    sources, places = [(0, 0, 1), (1, 0, 1), (0, 1, 1)], [(0, 0), (0, 1), (0, 2)]
    added = [(*place, subject) for place, subject in zip(places, ("ada", "ada", "bela"), strict=True)]
    converted = replace(mutation(1, added=added), kind="rotate", result=converted_result(sources, places))
    await change_gallery(new.gallery, converted)
    # Asked for between its conversion and the end: noted in memory until then.
    rotation._asked.note("staff", [(1, 0)])  # type: ignore[union-attr]
    await change_gallery(new.gallery, LAST)
    await rotation.finish()

    def days() -> dict[tuple[int, int], int]:
        return {(one.pack, one.slot): one.asked_day for one in new.gallery.store.details("staff")}

    assert days() == {(0, 0): TODAY - 90, (0, 1): TODAY, (0, 2): TODAY - 7}
    # The old daemon goes on answering, until the new one is started.
    old.store.note_asked("staff", TODAY + 1, [(0, 1)])
    new.gallery.store.note_asked("staff", TODAY + 2, [(0, 1)])
    await rotation.note_days()
    assert days() == {(0, 0): TODAY - 90, (0, 1): TODAY + 2, (0, 2): TODAY + 1}
    rotation.close()
    # And at a start after that nothing goes back.
    again, _ = await succession(tmp_path, "staff")
    again.close()
    served = Store(tmp_path / "new", again.key_id, PARAMETERS)
    assert sorted(one.asked_day for one in served.details("staff")) == [TODAY - 90, TODAY + 1, TODAY + 2]
    served.close()


async def test_a_gallery_that_no_rotation_made_is_not_taken_for_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "new", scheme().public_key.key_id, PARAMETERS)
    store.open_gallery("staff")
    store.close()
    with pytest.raises(IntegrityError, match="did not make"):
        await succession(tmp_path, "staff")


async def test_another_key_than_the_configured_one_is_refused(tmp_path: Path) -> None:
    rotation, _ = await succession(tmp_path, "staff")
    with pytest.raises(KeyMismatchError):
        rotation.of("staff", bytes(16))
    rotation.close()


def test_a_rotation_goes_to_another_key_and_to_the_same_vectors() -> None:
    old = scheme().public_key
    require_rotatable(old, PublicKey(PARAMETERS, old.modulus + 2, Integer(4)))
    require_rotatable(old, PublicKey(replace(PARAMETERS, modulus_bits=1024), Integer(1) << 1023 | 1, Integer(4)))
    with pytest.raises(ConfigurationError, match="same key"):
        require_rotatable(old, old)
    for change in ({"dimension": 5}, {"scale": 50}, {"clip": 22}):
        other: ParameterSet = replace(PARAMETERS, **change)
        with pytest.raises(ConfigurationError, match="another kind"):
            require_rotatable(old, PublicKey(other, old.modulus, Integer(4)))


def test_the_configuration_of_a_rotation_is_relative_to_its_file(tmp_path: Path) -> None:
    fields = (
        'listen = "h:1"\ndata_dir = "d"\ndevices_dir = "devices"\npublic_key = "p"\nparty = "a"\nkey_holder = "h:2"\n'
    )
    tables = '[tls]\nauthority = "a"\ncertificate = "c"\nkey = "k"\n[peers]\nb = "h:3"\nc = "h:4"\n'
    path = tmp_path / "matcher.toml"
    path.write_text(fields + tables)
    assert MatcherSettings.load(path).rotation is None
    path.write_text(fields + tables + '[rotation]\npublic_key = "../new/public.json"\ndata_dir = "/new/data"\n')
    rotation = MatcherSettings.load(path).rotation
    assert rotation is not None
    assert (rotation.public_key, rotation.data_dir) == (tmp_path / "../new/public.json", Path("/new/data"))
    path.write_text(fields + tables + '[rotation]\npublic_key = "p"\n')
    with pytest.raises(ConfigurationError, match=r"rotation\.data_dir"):
        MatcherSettings.load(path)


# -- slots that are given up -----------------------------------------------------------------------


def test_a_slot_is_given_up_at_the_commit_and_is_never_filled_again(tmp_path: Path) -> None:
    store = made(tmp_path, ENROL)
    accept(store, "staff", RETIRE)
    assert store.retired("staff") == []
    refill = mutation(3, added=[(0, 0, "cid")])
    commit(store, "staff")
    assert store.retired("staff") == [(0, 0)]
    with pytest.raises(IntegrityError, match="given up"):
        accept(store, "staff", refill)
    run(store, "staff", mutation(4, added=[(1, 0, "cid")]))
    store.close()
    again = Store(tmp_path, KEY_ID, PARAMETERS, rotating=True)
    assert again.retired("staff") == [(0, 0)]
    again.close()


def test_a_slot_that_was_given_up_is_neither_free_nor_occupied() -> None:
    index = SlotIndex.load(3, 1, [(0, 2, "ada")], [(0, 0)])
    assert index.allocate(2) == [(0, 1), (1, 0)]
    assert index.occupied().tolist() == [[False, False, True]]
    with pytest.raises(IntegrityError, match="given up"):
        index.add("bela", 0, 0)
    with pytest.raises(IntegrityError):
        index.retire(0, 2)
    with pytest.raises(IntegrityError):
        index.retire(1, 0)
    index.remove(0, 2)
    index.retire(0, 2)
    assert index.allocate(2) == [(0, 1), (1, 0)]
