"""The gallery store: what is committed stays, what is not can be taken back, and what is erased is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest

from tests.matcher.galleries import (
    BALLOT,
    KEY_ID,
    PACK_BYTES,
    PARAMETERS,
    Model,
    accept,
    commit,
    mutation,
    run,
    signed,
)
from tests.storage.backends import Backend
from veilmatch.crypto.errors import (
    DuplicateTokenError,
    IntegrityError,
    KeyMismatchError,
)
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import GalleriesIn
from veilmatch.server.matcher.agreement.acceptor import Accepted
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import PROPOSAL
from veilmatch.server.matcher.gallery.disk.schema import REVISIONS
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.mutation import GalleryState, Mutation, initial_chain
from veilmatch.server.monitoring.meters import REGISTRY

ENROL = mutation(1, added=[(0, 0, "ada"), (0, 1, "bela"), (1, 0, "ada")])
ERASE = mutation(2, removed=[(0, 0), (1, 0)])


@pytest.fixture
def store(where: GalleriesIn) -> Iterator[Store]:
    store = open_store(where)
    yield store
    store.close()


def open_store(where: GalleriesIn) -> Store:
    store = Store(where, KEY_ID, PARAMETERS)
    store.open_gallery("staff")
    return store


def snapshot(store: Store, name: str = "staff") -> tuple[object, ...]:
    return store.state(name), dict(store.packs(name)), list(store.templates(name))


HIGHER = Ballot(2, "bc")


def commits_seen() -> float:
    return REGISTRY.get_sample_value("veilmatch_sync_seconds_count", {"of": "gallery"}) or 0.0


def test_every_commit_of_a_change_is_measured_and_no_other(store: Store) -> None:
    before = commits_seen()
    run(store, "staff", ENROL)
    # A promise, an acceptance and the commit, as far as the pair takes them.
    assert commits_seen() - before == 3
    store.state("staff")
    with pytest.raises(IntegrityError):
        accept(store, "staff", replace(ENROL, token=b"another"))
    assert commits_seen() - before <= 4


# -- accept, commit, give way -----------------------------------------------------------------


def test_a_new_gallery_is_empty(store: Store) -> None:
    state = GalleryState(0, initial_chain("staff", KEY_ID, PARAMETERS))
    assert snapshot(store) == (state, {}, [])
    assert store.open_gallery("staff") == state
    assert store.galleries() == ["staff"]


def test_accepted_is_not_visible_and_committed_is(store: Store) -> None:
    state, *empty = snapshot(store)
    accepted = accept(store, "staff", ENROL)
    assert isinstance(state, GalleryState)
    chain = next_chain(state.chain, 1, ENROL.digest())
    assert accepted == replace(state, promised=BALLOT, accepted=Accepted(BALLOT, chain)) == store.state("staff")
    assert [dict(store.packs("staff")), list(store.templates("staff"))] == empty
    assert store.find_token("staff", ENROL.token) is None
    assert store.accepted_kind("staff") == "enrol"
    held, origin = store.accepted("staff")
    assert (held.body, origin) == (ENROL.body, signed("staff", 1, chain, PROPOSAL))
    assert (held.packs, {t.record for t in held.added}) == (ENROL.packs, {t.record for t in ENROL.added})
    with pytest.raises(IntegrityError):
        store.record("staff", 0, 0)

    assert commit(store, "staff") == GalleryState(1, chain, BALLOT)
    assert store.certificate("staff", 1) == signed("staff", 1, chain)
    assert store.certificate("staff", 2) is None
    expected = Model("staff")
    expected.commit(ENROL)
    expected.check(store)


def test_an_erasure_takes_effect_at_its_commit_only(store: Store) -> None:
    run(store, "staff", ENROL)
    expected = Model("staff")
    expected.commit(ENROL)
    accept(store, "staff", ERASE)
    expected.check(store)
    commit(store, "staff")
    expected.commit(ERASE)
    expected.check(store)
    assert list(store.templates("staff")) == [(0, 1, "bela")]
    assert sorted(dict(store.packs("staff"))) == [0, 1]


def test_what_gives_way_leaves_no_trace_and_frees_its_token(store: Store) -> None:
    run(store, "staff", ENROL)
    accept(store, "staff", ERASE)
    elsewhere = mutation(3, added=[(2, 0, "cid")])
    accept(store, "staff", elsewhere, HIGHER)
    commit(store, "staff")
    expected = Model("staff")
    expected.commit(ENROL)
    expected.commit(elsewhere)
    expected.check(store)
    run(store, "staff", ERASE)
    expected.commit(ERASE)
    expected.check(store)


def test_the_same_change_under_a_higher_ballot_is_written_once(store: Store) -> None:
    accept(store, "staff", ENROL)
    again = accept(store, "staff", ENROL, HIGHER)
    assert again.accepted is not None and again.accepted.ballot == HIGHER == again.promised
    assert store.accepted("staff")[0].body == ENROL.body
    commit(store, "staff")
    expected = Model("staff")
    expected.commit(ENROL)
    expected.check(store)


def test_what_was_promised_is_kept_and_nothing_below_it_is_accepted(where: GalleriesIn) -> None:
    with closing(open_store(where)) as store:
        store.promise("staff", HIGHER)
    with closing(open_store(where)) as store:
        assert store.state("staff").promised == HIGHER
        with pytest.raises(IntegrityError, match="higher ballot"):
            store.promise("staff", BALLOT)
        chain = next_chain(store.state("staff").chain, 1, ENROL.digest())
        with pytest.raises(IntegrityError, match="another ballot"):
            store.accept("staff", ENROL, signed("staff", 1, chain, PROPOSAL), BALLOT)
        assert store.state("staff").accepted is None


def test_proposals_of_another_change_do_not_bring_one_in(store: Store) -> None:
    store.promise("staff", BALLOT)
    with pytest.raises(IntegrityError, match="proposals"):
        store.accept("staff", ENROL, signed("staff", 1, bytes(32), PROPOSAL), BALLOT)
    assert store.state("staff").accepted is None


def test_a_slot_can_change_hands_in_one_mutation(store: Store) -> None:
    run(store, "staff", ENROL)
    swap = mutation(2, added=[(0, 0, "cid")], removed=[(0, 0)])
    run(store, "staff", swap)
    expected = Model("staff")
    expected.commit(ENROL)
    expected.commit(swap)
    expected.check(store)


def test_only_the_accepted_mutation_can_be_committed(store: Store) -> None:
    with pytest.raises(IntegrityError):
        store.commit("staff", signed("staff", 1, store.state("staff").chain))
    accept(store, "staff", ENROL)
    with pytest.raises(IntegrityError):
        store.commit("staff", signed("staff", 1, bytes(32)))
    committed = commit(store, "staff")
    with pytest.raises(IntegrityError):
        store.commit("staff", signed("staff", 1, committed.chain))


def test_a_second_change_under_one_ballot_is_refused(store: Store) -> None:
    run(store, "staff", ENROL)
    accepted = accept(store, "staff", ERASE)
    with pytest.raises(IntegrityError, match="in this ballot"):
        accept(store, "staff", mutation(3, added=[(0, 5, "cid")]))
    assert store.state("staff") == accepted


def test_a_used_token_is_refused_and_found(store: Store) -> None:
    run(store, "staff", ENROL)
    with pytest.raises(DuplicateTokenError):
        accept(store, "staff", replace(ERASE, token=ENROL.token))
    entry = store.find_token("staff", ENROL.token)
    assert entry is not None
    assert (entry.sequence, entry.kind, entry.result) == (1, "enrol", ENROL.result)
    assert entry.request_digest == ENROL.request_digest
    assert store.find_token("staff", b"never used") is None


@pytest.mark.parametrize(
    "misfit",
    [
        mutation(2, added=[(0, 1, "cid")]),
        mutation(2, removed=[(0, 2)]),
        mutation(2, added=[(3, 0, "cid")]),
        mutation(2, added=[(2, 0, "cid"), (4, 0, "cid")]),
        replace(ERASE, packs={}),
        replace(ERASE, packs={**ERASE.packs, 1: bytes(PACK_BYTES - 1)}),
    ],
    ids=["occupied", "not occupied", "gap", "gap inside", "pack not given", "short pack"],
)
def test_a_mutation_that_does_not_fit_changes_nothing(store: Store, misfit: Mutation) -> None:
    run(store, "staff", ENROL)
    store.promise("staff", BALLOT)
    before = snapshot(store)
    with pytest.raises(IntegrityError):
        accept(store, "staff", misfit)
    assert snapshot(store) == before


def test_galleries_do_not_see_each_other(store: Store) -> None:
    store.open_gallery("guests")
    run(store, "staff", ENROL)
    guests = mutation(1, added=[(0, 0, "gast")])
    accept(store, "guests", guests)
    assert store.state("staff").accepted is None
    assert list(store.templates("guests")) == []
    run(store, "staff", ERASE)
    commit(store, "guests")
    for name, mutations in [("staff", [ENROL, ERASE]), ("guests", [guests])]:
        expected = Model(name)
        for done in mutations:
            expected.commit(done)
        expected.check(store)
    assert store.galleries() == ["guests", "staff"]


def test_a_gallery_that_was_never_opened_is_not_there(store: Store) -> None:
    with pytest.raises(KeyMismatchError):
        store.state("visitors")
    with pytest.raises(KeyMismatchError):
        accept(store, "visitors", ENROL)
    assert store.galleries() == ["staff"]


# -- again from disk --------------------------------------------------------------------------


def test_everything_survives_a_restart(where: GalleriesIn) -> None:
    with closing(open_store(where)) as store:
        run(store, "staff", ENROL)
        accepted = accept(store, "staff", ERASE)
    with closing(Store(where, KEY_ID, PARAMETERS)) as store:
        assert store.open_gallery("staff") == accepted
        expected = Model("staff")
        expected.commit(ENROL)
        expected.check(store)
        commit(store, "staff")
        expected.commit(ERASE)
        expected.check(store)


# -- what is refused --------------------------------------------------------------------------


def test_another_key_or_parameter_set_is_refused(where: GalleriesIn) -> None:
    with closing(open_store(where)) as store:
        run(store, "staff", ENROL)
    with pytest.raises(KeyMismatchError, match="another key"):
        Store(where, b"another key     ", PARAMETERS)
    with pytest.raises(KeyMismatchError, match="parameter set"):
        Store(where, KEY_ID, ParameterSet(dimension=5, modulus_bits=512))
    with closing(open_store(where)) as store:
        assert store.state("staff").sequence == 1


def test_a_database_of_a_newer_version_is_refused(backend: Backend) -> None:
    open_store(backend.where).close()
    newer = f"{int(REVISIONS.head) + 1:04}"
    backend.execute(f"UPDATE alembic_version SET version_num = '{newer}'")
    with pytest.raises(IntegrityError) as caught:
        Store(backend.where, KEY_ID, PARAMETERS)
    assert (caught.value.got, caught.value.expected) == (f"revision {newer}", f"revision {REVISIONS.head} at most")
    assert "newer than this program" in caught.value.message and "later one" in str(caught.value.hint)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE galleries SET sequence = 1",
        "UPDATE galleries SET sequence = 3",
        "UPDATE galleries SET chain = zeroblob(32)",
        "UPDATE galleries SET accepted_chain = zeroblob(32)",
        "UPDATE galleries SET accepted_chain = NULL",
        "UPDATE galleries SET name = 'stuff'",
        "UPDATE log SET body = (SELECT body FROM log WHERE sequence = 2) WHERE sequence = 1",
        "UPDATE log SET body = (SELECT body FROM log WHERE sequence = 2) WHERE sequence = 3",
        "UPDATE log SET body = x'7b7d' WHERE sequence = 1",
        "UPDATE log SET token = x'00' WHERE sequence = 1",
        "DELETE FROM certificates WHERE sequence = 1",
        "UPDATE certificates SET certificate = x'' WHERE sequence = 1",
        "UPDATE certificates SET sequence = 3 WHERE sequence = 1",
        "INSERT INTO certificates SELECT gallery_id, 3, certificate FROM certificates WHERE sequence = 2",
        "UPDATE log SET sequence = 7 WHERE sequence = 2",
        "DELETE FROM log WHERE sequence = 3",
    ],
)
def test_a_log_that_contradicts_the_state_is_refused(backend: Backend, statement: str) -> None:
    with closing(open_store(backend.where)) as store:
        run(store, "staff", ENROL)
        run(store, "staff", ERASE)
        accept(store, "staff", mutation(3, added=[(0, 0, "cid")]))
    backend.execute(statement)
    with closing(Store(backend.where, KEY_ID, PARAMETERS)) as store, pytest.raises(IntegrityError):
        store.open_gallery(store.galleries()[0])


def test_a_missing_pack_is_noticed(backend: Backend) -> None:
    with closing(open_store(backend.where)) as store:
        run(store, "staff", ENROL)
    backend.execute("DELETE FROM packs WHERE pack = 0")
    with closing(open_store(backend.where)) as store, pytest.raises(IntegrityError, match="missing"):
        list(store.packs("staff"))


# -- threads ----------------------------------------------------------------------------------


def test_each_gallery_may_be_used_by_a_thread_of_its_own(store: Store) -> None:
    names = [f"gallery {i}" for i in range(4)]
    errors: list[BaseException] = []

    def enrol(name: str) -> None:
        try:
            for number in range(8):
                run(store, name, mutation(number, added=[(0, number, name)]))
                assert len(list(store.templates(name))) == number + 1
                assert len(list(store.packs(name))) == 1
        except BaseException as error:
            errors.append(error)

    for name in names:
        store.open_gallery(name)
    threads = [threading.Thread(target=enrol, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for name in names:
        expected = Model(name)
        for number in range(8):
            expected.commit(mutation(number, added=[(0, number, name)]))
        expected.check(store)


def test_packs_are_those_of_one_moment_whichever_thread_reads_on(store: Store) -> None:
    run(store, "staff", ENROL)
    before = dict(store.packs("staff"))
    packs = store.packs("staff")
    with ThreadPoolExecutor(1) as other_thread:
        seen = dict([other_thread.submit(next, packs).result()])
    run(store, "staff", mutation(2, added=[(1, 5, "cid")]))
    seen.update(packs)
    assert seen == before
    assert dict(store.packs("staff")) != before


# -- damaged records ---------------------------------------------------------------------


def flip(backend: Backend, column: str, where: str) -> None:
    """Change one byte in the middle of a stored value."""
    half = f"length({column}) / 2"
    altered = f"CASE WHEN substr({column}, {half}, 1) = x'00' THEN x'01' ELSE x'00' END"
    joined = f"substr({column}, 1, {half} - 1) || {altered} || substr({column}, {half} + 1)"
    backend.execute(f"UPDATE contents SET {column} = CAST({joined} AS BLOB) WHERE {where}")


RECORD_OF_BELA = "id = (SELECT content_id FROM templates WHERE subject = 'bela')"


def test_a_damaged_record_is_listed_and_refused_by_its_place_and_everything_else_is_there(backend: Backend) -> None:
    with closing(open_store(backend.where)) as store:
        run(store, "staff", ENROL)
        places = {subject: (pack, slot) for pack, slot, subject in store.templates("staff")}
        assert store.damaged_records("staff") == []
    flip(backend, "body", RECORD_OF_BELA)
    with closing(Store(backend.where, KEY_ID, PARAMETERS, party="matcher-b")) as store:
        store.open_gallery("staff")
        (found,) = store.damaged_records("staff")
        assert (found.pack, found.slot, found.subject) == (*places["bela"], "bela")
        others = [place for subject, place in places.items() if subject != "bela"]
        assert others
        store.records("staff", [*others, (999, 0)])
        for refused in (
            lambda: store.record("staff", *places["bela"]),
            lambda: store.records("staff", [*others, places["bela"]]),
        ):
            with pytest.raises(IntegrityError, match="record of a template is damaged") as caught:
                refused()
            assert caught.value.party == "matcher-b"
            assert caught.value.got == f"pack {found.pack}, slot {found.slot} of staff"
            assert "gallery mend" in str(caught.value.expected)
        assert len(list(store.packs("staff"))) == len(ENROL.packs)


@pytest.mark.parametrize("column", ["checksum", "body"])
def test_a_record_is_damaged_whichever_of_value_and_checksum_was_changed(backend: Backend, column: str) -> None:
    with closing(open_store(backend.where)) as store:
        run(store, "staff", ENROL)
    flip(backend, column, RECORD_OF_BELA)
    with closing(open_store(backend.where)) as store:
        assert [found.subject for found in store.damaged_records("staff")] == ["bela"]


def test_a_record_that_is_gone_is_damaged_too(backend: Backend) -> None:
    with closing(open_store(backend.where)) as store:
        run(store, "staff", ENROL)
    backend.execute(f"DELETE FROM contents WHERE {RECORD_OF_BELA}")
    with closing(open_store(backend.where)) as store:
        assert [found.subject for found in store.damaged_records("staff")] == ["bela"]
