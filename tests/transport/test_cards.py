"""What a server thinks of a card that a request presents, by itself; each misuse with the signatures it would have."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import pytest

from tests.installation.making import ceremony, organisation_keys, public_file
from tests.transport.signed import NOW_S, SALT, SUBJECT, body, checker, signed
from veilmatch.crypto.card import CONTEXT, CardStatement, SignedCard, presented_digest, record_bytes_of
from veilmatch.crypto.errors import (
    CardError,
    CardExpiredError,
    KeyMismatchError,
    ModelMismatchError,
    RequestSignatureError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PAIRS, Pair, Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import subject_digest
from veilmatch.server.admission.cards import Cards
from veilmatch.server.ground.organisation import OrganisationKey

PUBLIC, KEY = public_file(), ceremony().public_key
DAY_S = 86400


def statement(**changes: Any) -> CardStatement:
    said = {
        "installation": PUBLIC.installation, "key_id": KEY.key_id, "parameters": KEY.parameters, "gallery": "main",
        "model": "embedding", "pair": "ab", "serial": bytes(16), "subject_digest": subject_digest(SALT, SUBJECT),
        "issued_s": int(NOW_S) - DAY_S, "expires_s": int(NOW_S) + DAY_S,
        "record": bytes(record_bytes_of(KEY.parameters)),
    }  # fmt: skip
    return CardStatement(**said | changes)


def card(said: CardStatement | None = None, signers: str | None = None, **changes: Any) -> SignedCard:
    """A card with these changes, signed for what it says: by its pair unless said."""
    said = said or statement(**changes)
    first, second = (
        organisation_keys()[party].sign(CONTEXT, said.digest())
        for party in signers or said.pair  # type: ignore[index]
    )
    return SignedCard(said, (first, second))


def presented(given: SignedCard | bytes, now_s: float = NOW_S, **changes: Any) -> SignedCard:
    data = given if isinstance(given, bytes) else given.encode()
    request = signed(body("present", **{"card_digest": presented_digest(data)} | changes), card=data)
    return Cards(PUBLIC, lambda: now_s).presented(checker().check(request, "present"), request)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("asked", PAIRS)
def test_a_card_of_any_pair_is_taken_by_any_pair(pair: Pair, asked: Pair) -> None:
    given = card(pair=pair)
    assert presented(given, pair=asked) == given


def forged(party: Party) -> SignedCard:
    """One of the two signatures is somebody else's."""
    said, stranger = statement(), OrganisationKey.fresh(party)
    first, second = card(said).signatures
    own = stranger.sign(CONTEXT, said.digest())
    return SignedCard(said, (own, second) if party == "a" else (first, own))


GOOD = card()
LARGER = ParameterSet.from_name("UNSAFE-d8-s60-c23-n1024")
MISUSES: dict[str, tuple[SignedCard | bytes, type[VeilmatchError]]] = {
    "the record re-randomised": (replace(GOOD, statement=statement(record=b"\1" * len(statement().record))), CardError),
    "another end": (replace(GOOD, statement=statement(expires_s=int(NOW_S) + 2 * DAY_S)), CardError),
    "another serial": (replace(GOOD, statement=statement(serial=b"\1" * 16)), CardError),
    "another pair": (replace(GOOD, statement=statement(pair="bc")), CardError),
    "the first signature alone": (SignedCard(statement(), (GOOD.signatures[0], bytes(64))), CardError),
    "the second signature alone": (SignedCard(statement(), (bytes(64), GOOD.signatures[1])), CardError),
    "one organisation twice": (card(signers="aa"), CardError),
    "the other order": (card(signers="ba"), CardError),
    "the third organisation": (card(signers="ac"), CardError),
    "a stranger in the place of a": (forged("a"), CardError),
    "a stranger in the place of b": (forged("b"), CardError),
    "another installation": (card(installation=bytes(16)), CardError),
    "another key": (card(key_id=bytes(16)), KeyMismatchError),
    "another parameter set": (
        card(parameters=LARGER, record=bytes(record_bytes_of(LARGER))),
        KeyMismatchError,
    ),
    "another gallery": (card(gallery="staff"), CardError),
    "another model": (card(model="another"), ModelMismatchError),
    "another subject": (card(subject_digest=subject_digest(SALT, "ben")), CardError),
    "expired": (card(expires_s=int(NOW_S)), CardExpiredError),
    "cut off": (GOOD.encode()[:-1], CardError),
    "more than a card": (GOOD.encode() + b"\0", CardError),
    "no card": (secrets.token_bytes(500), CardError),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSES)
def test_a_misuse_is_refused(name: str) -> None:
    given, error = MISUSES[name]
    with pytest.raises(VeilmatchError) as refused:
        presented(given)
    assert type(refused.value) is error
    shown = str(refused.value)
    assert SUBJECT not in shown and SALT.hex() not in shown


def test_a_signature_for_something_else_is_none() -> None:
    said = statement()
    first, second = (organisation_keys()[party].sign("gallery change v1", said.digest()) for party in "ab")  # type: ignore[index]
    with pytest.raises(CardError, match="not signed"):
        presented(SignedCard(said, (first, second)))


def test_the_card_is_the_one_that_the_device_signed() -> None:
    with pytest.raises(RequestSignatureError):
        presented(GOOD, card_digest=presented_digest(card(serial=b"\1" * 16).encode()))


def test_a_card_is_good_until_its_last_second() -> None:
    assert presented(GOOD, now_s=GOOD.statement.expires_s - 0.01) == GOOD
    with pytest.raises(CardExpiredError):
        presented(GOOD, now_s=GOOD.statement.expires_s)
