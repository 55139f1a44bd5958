"""Embeddings of two models never get into one gallery, nor is one compared with the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.matcher.galleries import KEY_ID, MODEL, PARAMETERS, accept, change_gallery, commit, mutation, run
from veilmatch.crypto.errors import InvalidInputError, ModelMismatchError, UnavailableError
from veilmatch.protos.v1 import request_pb2 as pb
from veilmatch.server.matcher.admission import _signed_model
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import Mutation
from veilmatch.server.matcher.query.pack_worker import PackWorkers

FIRST = mutation(1, added=[(0, 0, "ada"), (0, 1, "bela")])
OTHER = mutation(2, added=[(0, 2, "cid")], model="model-2")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path, KEY_ID, PARAMETERS)
    made.open_gallery("staff")
    yield made
    made.close()


def refused(error: pytest.ExceptionInfo[ModelMismatchError]) -> tuple[str | None, str | None]:
    return error.value.got, error.value.expected


# -- the store ---------------------------------------------------------------------------------


def test_the_first_enrolment_fixes_the_model(store: Store, tmp_path: Path) -> None:
    assert store.model("staff") is None
    accept(store, "staff", FIRST)
    assert store.model("staff") is None, "not before it is committed"
    commit(store, "staff")
    assert store.model("staff") == MODEL
    again = Store(tmp_path, KEY_ID, PARAMETERS)
    again.open_gallery("staff")
    assert again.model("staff") == MODEL
    again.close()


def test_templates_of_another_model_are_refused_and_change_nothing(store: Store) -> None:
    run(store, "staff", FIRST)
    before = store.state("staff"), dict(store.packs("staff")), list(store.templates("staff"))
    with pytest.raises(ModelMismatchError) as caught:
        accept(store, "staff", OTHER)
    assert refused(caught) == ("model-2", MODEL)
    assert (store.state("staff"), dict(store.packs("staff")), list(store.templates("staff"))) == before
    run(store, "staff", mutation(3, added=[(0, 2, "cid")]))


def test_every_gallery_has_a_model_of_its_own(store: Store) -> None:
    store.open_gallery("guests")
    run(store, "staff", FIRST)
    run(store, "guests", mutation(1, added=[(0, 0, "cid")], model="model-2"))
    assert (store.model("staff"), store.model("guests")) == (MODEL, "model-2")


def test_an_empty_gallery_takes_any_model(store: Store) -> None:
    run(store, "staff", FIRST)
    run(store, "staff", mutation(3, removed=[(0, 0)]))
    assert store.model("staff") == MODEL
    run(store, "staff", mutation(4, removed=[(0, 1)]))
    assert store.model("staff") is None
    run(store, "staff", OTHER)
    assert store.model("staff") == "model-2"


def test_an_enrolment_that_gives_way_fixes_nothing(store: Store) -> None:
    accept(store, "staff", FIRST)
    accept(store, "staff", OTHER, Ballot(2, "ab"))
    commit(store, "staff")
    assert store.model("staff") == "model-2"


# -- the gallery in service ----------------------------------------------------------------------


class NoWorkers:
    async def load(self, number: int, packs: object) -> None:
        """Workers need not know."""


async def served(store: Store) -> Gallery:
    gallery = Gallery("staff", 0, store, cast(PackWorkers, NoWorkers()), PARAMETERS.slots)
    await gallery.load()
    return gallery


async def change(gallery: Gallery, mutation: Mutation) -> None:
    await change_gallery(gallery, mutation)


async def test_a_gallery_in_service_knows_its_model_as_the_store_does(store: Store) -> None:
    gallery = await served(store)
    gallery.require_model("anything")
    for step in (FIRST, mutation(2, removed=[(0, 0)]), mutation(3, removed=[(0, 1)]), mutation(4, added=[(0, 0, "a")])):
        await change(gallery, step)
        assert gallery.model == store.model("staff") == (await served(store)).model
    gallery.require_model(MODEL)
    with pytest.raises(ModelMismatchError) as caught:
        gallery.require_model("model-2")
    assert refused(caught) == ("model-2", MODEL)


class LostWorkers:
    async def load(self, number: int, packs: object) -> None:
        raise UnavailableError("a worker is gone")


async def test_a_gallery_that_was_not_read_to_the_end_does_not_claim_the_state_of_the_store(store: Store) -> None:
    """Otherwise it would pass for what the other matcher holds, with other packs and slots in it."""
    gallery = await served(store)
    before = gallery.state
    run(store, "staff", FIRST)
    gallery._workers = cast(PackWorkers, LostWorkers())
    with pytest.raises(UnavailableError):
        await gallery.load()
    assert gallery.state == before
    gallery._workers = cast(PackWorkers, NoWorkers())
    await gallery.load()
    assert gallery.state == store.state("staff") != before


# -- the signed request ----------------------------------------------------------------------------


def request(model: str) -> pb.SignedRequest:
    return pb.SignedRequest(body=pb.RequestBody(model=model).SerializeToString())


@pytest.mark.parametrize("operation", ["verify", "candidates", "enrol", "bulk"])
def test_a_request_with_vectors_names_their_model(operation: str) -> None:
    assert _signed_model(request("sface-1"), operation) == "sface-1"  # type: ignore[arg-type]
    for wrong in ("", "x" * 65, " sface", "sf\nace"):
        with pytest.raises(InvalidInputError, match="model"):
            _signed_model(request(wrong), operation)  # type: ignore[arg-type]


@pytest.mark.parametrize("operation", ["erase", "subjects", "rotate"])
def test_a_request_without_vectors_names_none(operation: str) -> None:
    assert _signed_model(request(""), operation) == ""  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        _signed_model(request("sface"), operation)  # type: ignore[arg-type]
