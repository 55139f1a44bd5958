"""Whoever can write to the database of a matcher, and has no key of an organisation, alters what is served from it."""

from __future__ import annotations

import hashlib
from contextlib import closing

import pytest

from tests.matcher.galleries import KEY_ID, ORGANISATIONS, PACK_BYTES, PARAMETERS, change_gallery, content, mutation
from tests.storage.backends import Backend
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys.parties import Party
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.matcher.daemon import require_signed
from veilmatch.server.matcher.follow.followed import OnDisk
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery

FIRST = "(SELECT content_id FROM packs WHERE pack = 0 AND removed_in IS NULL)"


async def loaded(store: Store) -> Gallery:
    gallery = Gallery("staff", 0, store, OnDisk(), PARAMETERS.slots)
    await gallery.load()
    return gallery


async def test_a_pack_that_is_replaced_with_its_checksum_is_not_served(backend: Backend) -> None:
    """Shares of a probe times other packs come out as random scores, every other one of them a match."""
    with closing(Store(backend.where, KEY_ID, PARAMETERS)) as store:
        gallery = await loaded(store)
        await change_gallery(gallery, mutation(1, [(0, 0, "ada"), (1, 0, "bela")]))
        await change_gallery(gallery, mutation(2, [(0, 1, "cid")]))
    other = content("of nobody", PACK_BYTES)
    digest = hashlib.sha256(other).hexdigest()
    backend.execute(f"UPDATE contents SET body = x'{other.hex()}', checksum = x'{digest}' WHERE id = {FIRST}")
    with closing(Store(backend.where, KEY_ID, PARAMETERS)) as store:
        with pytest.raises(IntegrityError, match="a pack is not the one that the log names") as caught:
            await loaded(store)
        assert caught.value.got == "pack 0"


def public(party: Party) -> bytes:
    return ORGANISATIONS[party].public_bytes


def impostor(party: Party) -> bytes:
    return OrganisationKey.fresh(party).public_bytes


async def test_a_history_that_others_have_made_up_is_not_served(backend: Backend) -> None:
    with closing(Store(backend.where, KEY_ID, PARAMETERS)) as store:
        gallery = await loaded(store)
        require_signed(gallery, public)
        await change_gallery(gallery, mutation(1, [(0, 0, "ada")]))
        again = await loaded(store)
        require_signed(again, public)
        with pytest.raises(IntegrityError, match="no signature of organisation a"):
            require_signed(again, impostor)
