"""What a gallery keeps of the cards that it has issued: in its log, in every database, and wherever the log goes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.crypto.test_card import statement
from tests.matcher.follow.matchers import NAME, Matcher, Workers, following, served, until
from tests.matcher.galleries import KEY_ID, PARAMETERS, change_gallery, mutation, run
from veilmatch.crypto.card import SignedCard
from veilmatch.crypto.errors import CardError, CardRevokedError, IntegrityError
from veilmatch.server.config import GalleriesIn
from veilmatch.server.matcher.gallery.cards import CardIndex, Issued, revoked_result, serial_in
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import Mutation


def card(number: int) -> SignedCard:
    return SignedCard(statement(serial=number.to_bytes(16, "big")), (bytes(64), bytes(64)))


def issued(number: int) -> Issued:
    said = card(number).statement
    return Issued(said.serial, said.digest(), said.expires_s, "desk")


def change(number: int, result: str, kind: Any = "card") -> Mutation:
    """A change that is about a card."""
    digest = hashlib.sha256(f"request {number}".encode()).digest()
    return Mutation(kind, f"token {number}".encode(), digest, {}, [], [], result, "", "desk", made_s=1)


def issuing(number: int) -> Mutation:
    return change(number, issued(number).result)


def revoking(number: int) -> Mutation:
    return change(1000 + number, revoked_result(card(number).statement.serial), "card revoked")


def check(index: CardIndex) -> None:
    """One is good, two is revoked, three was never issued."""
    assert len(index) == 2
    index.require_good(card(1))
    with pytest.raises(CardRevokedError):
        index.require_good(card(2))
    with pytest.raises(CardError, match="no card with this serial"):
        index.require_good(card(3))
    reused = replace(card(1), statement=replace(card(1).statement, record=b"\1" * len(card(1).statement.record)))
    with pytest.raises(CardError, match="not the card that was issued"):
        index.require_good(reused)


@pytest.fixture
def store(where: GalleriesIn) -> Iterator[Store]:
    made = Store(where, KEY_ID, PARAMETERS)
    made.open_gallery(NAME)
    yield made
    made.close()


def gallery_of(store: Store) -> Gallery:
    return Gallery(NAME, 0, store, Workers(), PARAMETERS.slots)


async def test_cards_are_known_at_once_and_after_a_restart(store: Store) -> None:
    gallery = gallery_of(store)
    await gallery.load()
    for one in (issuing(1), mutation(50, added=[(0, 0, "ada")]), issuing(2), revoking(2)):
        await change_gallery(gallery, one)
    check(gallery.cards)
    again = gallery_of(store)
    await again.load()
    check(again.cards)
    assert again.state == gallery.state and list(again.index.subjects()) == [("ada", 1)]


async def test_an_accepted_change_counts_once_it_is_committed(store: Store) -> None:
    from tests.matcher.galleries import accept, commit

    accept(store, NAME, issuing(1))
    gallery = gallery_of(store)
    await gallery.load()
    assert len(gallery.cards) == 0
    commit(store, NAME)
    await gallery.load()
    gallery.cards.require_good(card(1))


@pytest.mark.parametrize("more", [0, 1 << 13], ids=["few", "many"])
async def test_whoever_follows_knows_them_too(tmp_path: Path, more: int) -> None:
    """many: so many templates that a new index takes the place of the one that was there."""
    a, c = [await Matcher(party, tmp_path / party).load() for party in ("a", "c")]
    slots = PARAMETERS.slots
    for one in (issuing(1), issuing(2), revoking(2)):
        run(a.store, NAME, one)
    if more:
        places = [(number // slots, number % slots, f"s{number}") for number in range(more)]
        run(a.store, NAME, mutation(50, added=places))
    async with a.gallery.lock.exclusive():
        await a.gallery.load()
    async with served(a) as stub, following(c, {"a": stub}):
        await until(lambda: c.gallery.state.sequence == a.gallery.state.sequence, 60)
        check(c.gallery.cards)
    again = await Matcher("c", tmp_path / "c").load()
    check(again.gallery.cards)
    await asyncio.sleep(0)


def test_a_change_of_a_card_changes_nothing_else() -> None:
    wrong = replace(issuing(1), packs={0: b""})
    with pytest.raises(IntegrityError, match="changes packs"):
        wrong.body.check(PARAMETERS)


@pytest.mark.parametrize(
    "result", ["", "{}", "[]", "1", '{"serial": 1}', '{"serial": "00"}', '{"serial": "zz"}', "[" * 100_000]
)
def test_a_change_that_says_nothing_of_a_card_is_refused(result: str) -> None:
    for kind in ("card", "card revoked"):
        with pytest.raises(IntegrityError):
            CardIndex().take(kind, result)
    with pytest.raises(IntegrityError):
        serial_in(result)


def test_a_serial_is_used_once_and_revoked_after_it_was_issued() -> None:
    index = CardIndex()
    with pytest.raises(IntegrityError, match="not issued"):
        index.take("card revoked", revoked_result(bytes(16)))
    index.take("card", issued(1).result)
    with pytest.raises(IntegrityError, match="twice"):
        index.take("card", issued(1).result)
    index.take("enrol", '{"templates": 1}')
    assert len(index) == 1
