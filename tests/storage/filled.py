"""A data directory with something in every database, and whether all of it is there and works.

`fill` of each part ran with the code of before there were revisions; what it wrote is in tests/vectors/storage, as SQL
(dumps.py). `check` runs with the code of today on what became of that.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import pytest

from tests.matcher.galleries import KEY_ID, PARAMETERS, Model, accept, commit, mutation, run
from veilmatch.crypto.dealing import BlockName, CheckedBlock
from veilmatch.crypto.errors import (
    BudgetExceededError,
    ProtocolError,
    RefreshIntervalError,
    RequestReplayedError,
    WrongClockError,
)
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.admission.budgets import Budget
from veilmatch.server.admission.ledger import Entry, Ledger
from veilmatch.server.config import GalleriesIn
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.keyholder.refresh.pace import Pace
from veilmatch.server.keyholder.refresh.record import InHand, Record
from veilmatch.server.keyholder.stock.store import StockStore
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Certificate, Scope, Statement, Vote
from veilmatch.server.matcher.agreement.lies import Proof
from veilmatch.server.matcher.follow.staging import Staging
from veilmatch.server.matcher.follow.staging_file import StagingFile
from veilmatch.server.matcher.gallery.changes import Change
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.mutation import Mutation, initial_chain

NOW_S = 1.7e9
NOW_MS = int(NOW_S * 1000)

ENROL = mutation(1, added=[(0, 0, "ada"), (0, 1, "bela"), (1, 0, "ada")])
ERASE = mutation(2, removed=[(0, 0)])
OPEN = mutation(3, added=[(0, 2, "cid")])
GUEST = mutation(4, added=[(0, 0, "gast")])
STATEMENT = Statement("c", GalleryState(1, bytes(32), Ballot(1, "ac")), bytes(64))
PROOF = Proof("c", "fork", b"first", b"second")
HIGHER = Ballot(2, "ab")

LIMIT = Budget("device", "requests", "day", 10)
DOOR = {"device": "door-1"}
SEED = bytes(range(32))
BLOCK = BlockName("ab", bytes(32), 1, "triples", 3)
CONTENT = CheckedBlock(bytes([7]) * 32 + b"corrections" * 5)
IN_HAND = InHand(b"r" * 32, 5, "b", ready=True, decision=b"d" * 32)
INTERVAL_S = 600.0

#: UNSAFE outside tests: derived from their names.
KEYS: dict[Party, OrganisationKey] = {
    party: OrganisationKey.from_secret_bytes(party, hashlib.sha256(f"tests, organisation {party}".encode()).digest())
    for party in PARTIES
}
SCOPE = Scope("staff", KEY_ID)
BASE = GalleryState(0, initial_chain("staff", KEY_ID, PARAMETERS))


# -- gallery.db ------------------------------------------------------------------------------------


def open_gallery(where: GalleriesIn) -> None:
    """Open the database, and no more."""
    Store(where, KEY_ID, PARAMETERS, rotating=True).close()


def fill_gallery(folder: GalleriesIn, *, rotating: bool = False) -> None:
    """Two galleries, one with a change that is accepted and not committed, one restored from a copy."""
    with closing(Store(folder, KEY_ID, PARAMETERS, rotating=rotating)) as store:
        store.open_gallery("staff")
        run(store, "staff", ENROL)
        run(store, "staff", ERASE)
        accept(store, "staff", OPEN, HIGHER)
        store.keep_heard("staff", [STATEMENT])
        store.keep_proof("staff", PROOF)
        store.open_gallery("guests")
        run(store, "guests", GUEST)
        store.mark_restored("guests", ["b", "c"])


def check_gallery(folder: GalleriesIn, *, rotating: bool = False) -> None:
    with closing(Store(folder, KEY_ID, PARAMETERS, rotating=rotating)) as store:
        assert store.galleries() == ["guests", "staff"]
        for name, committed in (("staff", [ENROL, ERASE]), ("guests", [GUEST])):
            store.open_gallery(name)
            expected = Model(name)
            for one in committed:
                expected.commit(one)
            expected.check(store)
            assert store.damaged_records(name) == []
        assert (store.heard("staff"), store.proofs("staff")) == ({"c": STATEMENT}, [PROOF])
        assert (store.unmet("staff"), store.unmet("guests")) == (set(), {"b", "c"})
        assert store.state("staff").promised == HIGHER
        assert store.accepted("staff")[0].body == OPEN.body
        assert store.is_finished() is not rotating
        # And it goes on.
        commit(store, "staff")
        expected = Model("staff")
        for one in (ENROL, ERASE, OPEN):
            expected.commit(one)
        expected.check(store)


def fill_rotating(folder: Path) -> None:
    """The same in a database that a rotation is filling."""
    fill_gallery(folder, rotating=True)


def check_rotating(folder: Path) -> None:
    check_gallery(folder, rotating=True)
    with closing(Store(folder, KEY_ID, PARAMETERS, rotating=True)) as store:
        store.finish()
    with closing(Store(folder, KEY_ID, PARAMETERS)) as store:
        assert store.is_finished()


# -- ledger.db -------------------------------------------------------------------------------------


def _ledger(folder: Path) -> Ledger:
    return Ledger(folder, [LIMIT], "matcher-a", now=lambda: NOW_S)


def open_ledger(folder: Path) -> None:
    """Open the database, and no more."""
    _ledger(folder).close()


def _entry(number: int, expires_at_ms: int = NOW_MS + 60_000, **cost: int) -> Entry:
    return Entry(number.to_bytes(32, "big"), expires_at_ms, DOOR if cost else {}, cost)


def fill_ledger(folder: Path) -> None:
    """Nonces, eight of the ten requests of a device, and how far nonces were forgotten."""
    with closing(_ledger(folder)) as ledger:
        for number in range(8):
            ledger.enter(_entry(number, requests=1)).result()


def check_ledger(folder: Path) -> None:
    with closing(_ledger(folder)) as ledger:
        for number in range(8):
            with pytest.raises(RequestReplayedError):
                ledger.enter(_entry(number)).result()
        with pytest.raises(WrongClockError):
            ledger.enter(_entry(100, NOW_MS - 3_600_001)).result()
        ledger.enter(_entry(200, requests=2)).result()
        with pytest.raises(BudgetExceededError):
            ledger.enter(_entry(201, requests=1)).result()


# -- stock.db --------------------------------------------------------------------------------------


def fill_stock(folder: Path) -> None:
    with closing(StockStore(folder, SEED)) as store:
        store.adopt(BLOCK.pair, BLOCK.stock)
        store.begin_check(BLOCK)
        store.put(BLOCK, CONTENT)
        store.advance(BLOCK.stock, BLOCK.kind, 700)


def check_stock(folder: Path) -> None:
    with closing(StockStore(folder, SEED)) as store:
        block = store.get(BLOCK)
        assert block is not None and block.content == CONTENT.content
        assert (store.mark(BLOCK.stock, BLOCK.kind), store.tried(BLOCK.stock, BLOCK.kind)) == (700, 4)
        generation = store.generation
        store.advance(BLOCK.stock, BLOCK.kind, 600)
        assert store.mark(BLOCK.stock, BLOCK.kind) == 700
    with closing(StockStore(folder, SEED)) as store:
        assert store.generation == generation


# -- pace.db, refresh.db ---------------------------------------------------------------------------


def fill_pace(folder: Path) -> None:
    with closing(Pace(folder, "b", INTERVAL_S, lambda: NOW_S)) as pace:
        pace.begin("a", b"1" * 32)
        pace.use(b"1" * 32)


def check_pace(folder: Path) -> None:
    with closing(Pace(folder, "b", INTERVAL_S, lambda: NOW_S + 60)) as pace:
        with pytest.raises(RefreshIntervalError) as caught:
            pace.begin("a", b"2" * 32)
        assert caught.value.retry_after_s == INTERVAL_S - 60
        pace.begin("c", b"3" * 32)
        with pytest.raises(ProtocolError):
            pace.begin("c", b"1" * 32)


def fill_refresh(folder: Path) -> None:
    with closing(Record(folder, "a")) as record:
        record.put(IN_HAND)


def check_refresh(folder: Path) -> None:
    with closing(Record(folder, "a")) as record:
        assert record.read() == IN_HAND
        record.forget()
    with closing(Record(folder, "a")) as record:
        assert record.read() is None


# -- catching-up/*.db ------------------------------------------------------------------------------


def _staging(folder: Path) -> Staging:
    return Staging.open(StagingFile(folder, SCOPE), BASE, PARAMETERS, lambda party: KEYS[party].public_bytes)


def _log_of(*mutations: Mutation) -> list[Change]:
    chain, found = BASE.chain, []
    for number, one in enumerate(mutations, start=1):
        chain = next_chain(chain, number, one.digest())
        certificate = Certificate.signed(Vote(number, chain, Ballot(1, "ab")), SCOPE, KEYS["a"], KEYS["b"])
        found.append(Change(number, one.body.encode(), certificate.encode()))
    return found


def fill_staging(folder: Path) -> None:
    """Two changes of a gallery, one of the two packs, and one of the two templates."""
    with closing(_staging(folder)) as staging:
        staging.add_changes(_log_of(ENROL, ERASE))
        staging.take_packs([(0, ERASE.packs[0])])


def check_staging(folder: Path) -> None:
    staging = _staging(folder)
    assert (staging.sequence, staging.counts(), staging.missing(9, 9).packs) == (2, (4, 1), [1])
    assert staging.take_packs([(1, ENROL.packs[1])]) == 0
    left = [((t.pack, t.slot), t.subject, t.record, b"") for t in ENROL.added[1:]]
    assert staging.take_templates(left) == 0
    with closing(Store(folder / "copy", KEY_ID, PARAMETERS)) as store:
        store.open_gallery("staff")
        store.apply("staff", staging.changes(), staging)
        expected = Model("staff")
        for one in (ENROL, ERASE):
            expected.commit(one)
        expected.check(store)
    staging.discard()
