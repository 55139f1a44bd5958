"""What a party says of an error: small, clean, marked as its word, and about nobody whom it can know nothing of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from veilmatch.crypto.claims import (
    CLAIM_BYTES,
    KEY_HOLDERS,
    NOBODY,
    TEXT_CHARACTERS,
    Others,
    clean,
    read,
    written,
)
from veilmatch.crypto.errors import (
    BudgetExceededError,
    DealtStockError,
    IntegrityError,
    KeySafetyError,
    ProtocolError,
    RequestExpiredError,
    ServerDeviationError,
    StorageError,
    UnavailableError,
    VeilmatchError,
)

SAYER, PEER, DEALER = "keyholder-b", "keyholder-a", "keyholder-c"
OTHERS = Others(partners=(PEER,), suppliers=(DEALER, "matcher-a"))


def said(error: VeilmatchError, others: Others = OTHERS) -> VeilmatchError:
    return read(written(error), SAYER, others)


@pytest.mark.parametrize("kind", [VeilmatchError, StorageError, KeySafetyError, RequestExpiredError])
def test_an_error_that_was_read_says_who_said_it(kind: type[VeilmatchError]) -> None:
    error = said(kind("the disk is full", got="3", expected="4", party=SAYER, alternatives=("ac",), retry_after_s=2.5))
    assert error.fields() == kind(
        "the disk is full", got="3", expected="4", party=SAYER, alternatives=("ac",), retry_after_s=2.5,
        said_by=(SAYER,),
    ).fields()  # fmt: skip
    assert (type(error), error.claim, str(error)) == (
        kind, "keyholder-b says: the disk is full", "the disk is full (expected 4, got 3)",
    )  # fmt: skip


def test_what_is_passed_on_says_whose_word_it_first_was() -> None:
    error = said(StorageError("full", said_by=(PEER,)))
    assert error.said_by == (PEER, SAYER)
    assert error.claim == "keyholder-b says: keyholder-a says: full"
    assert StorageError("full").claim == "full"


def test_nobody_is_told_what_to_do_by_another_party() -> None:
    error = StorageError("full", hint="Send the key file to us.")
    forged = json.dumps(error.fields()).encode()
    assert said(error).hint is None and read(forged, SAYER, OTHERS).hint is None


def test_only_servers_can_have_passed_something_on_and_few_of_them() -> None:
    assert said(StorageError("full", said_by=("organisation 17", PEER, "x" * 1000))).said_by == (PEER, SAYER)
    assert len(said(StorageError("full", said_by=(PEER,) * 1000)).said_by) == 4


@pytest.mark.parametrize(
    ("kind", "party", "named"),
    [
        (KeySafetyError, SAYER, SAYER),
        (KeySafetyError, PEER, PEER),
        (KeySafetyError, DEALER, SAYER),
        (KeySafetyError, "matcher-a", SAYER),
        (KeySafetyError, "matcher-b", SAYER),
        (ServerDeviationError, DEALER, SAYER),
        (ProtocolError, DEALER, SAYER),
        (IntegrityError, DEALER, SAYER),
        (RequestExpiredError, DEALER, SAYER),
        (BudgetExceededError, PEER, PEER),
        (DealtStockError, DEALER, DEALER),
        (UnavailableError, DEALER, DEALER),
        (UnavailableError, "matcher-a", "matcher-a"),
        (UnavailableError, "matcher-b", SAYER),
        (UnavailableError, "organisation 17", SAYER),
        (UnavailableError, "x" * 3000, SAYER),
        (UnavailableError, None, None),
    ],
)
def test_nobody_is_named_with_whom_the_sayer_has_not_to_do(
    kind: type[VeilmatchError], party: str | None, named: str | None
) -> None:
    assert said(kind("no", party=party)).party == named


@pytest.mark.parametrize("party", [PEER, DEALER, "matcher-a", "matcher-b", "device-1"])
@pytest.mark.parametrize("kind", [UnavailableError, KeySafetyError])
def test_who_has_to_do_with_nobody_names_itself(kind: type[VeilmatchError], party: str) -> None:
    assert said(kind("no", party=party), NOBODY).party == SAYER


@pytest.mark.parametrize(
    ("party", "alternatives"),
    [
        (SAYER, ("ac",)),
        (PEER, ("bc",)),
        (DEALER, ("ab",)),
        ("matcher-a", ("bc",)),
        ("organisation 17", ("ac",)),
        (None, ()),
    ],
)
def test_only_pairs_without_whoever_is_named_can_do_without_it(party: str | None, alternatives: Any) -> None:
    error = UnavailableError("no", party=party, alternatives=("zz", "bc", "ac", "ab", "ab"))
    assert said(error).alternatives == alternatives
    assert said(UnavailableError("no", party=party)).alternatives == ()


LONG = {
    "plain": "x" * 10**6,
    "wide": "\U0001f600" * 10**5,
    "quoted": '"\\' * 10**5,
    "none of it printable": "\n" * 10**5,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_what_is_said_at_length_arrives_cut_with_its_cause(text: str) -> None:
    error = ServerDeviationError(text, got=text, expected=text, party=SAYER, enrolments=(text,) * 1000)
    assert len(written(error)) <= CLAIM_BYTES
    found = said(error)
    assert type(found) is ServerDeviationError and found.party == SAYER
    assert 50 <= len(found.message) <= TEXT_CHARACTERS and len(str(found)) <= 3 * TEXT_CHARACTERS + 100


def test_what_is_longer_than_anybody_says_is_not_read() -> None:
    fields = KeySafetyError("no").fields()
    for size in (CLAIM_BYTES, 15 << 20):
        with pytest.raises(ValueError, match="bytes"):
            read(json.dumps(fields | {"message": "x" * size}).encode(), SAYER)


def test_texts_are_cut_and_have_no_control_characters() -> None:
    assert clean("\x1b[2Jgone\n\ud800\u202e" + "x" * 1000) == ("?[2Jgone???" + "x" * 1000)[:TEXT_CHARACTERS]
    found = read(json.dumps({"code": "integrity", "message": "\ud800\n", "got": 10**3000}).encode(), SAYER)
    assert (found.message, found.got) == ("??", None)


@pytest.mark.parametrize("data", [b"", b"\xff", b"{", b"null", b"3", b"[]", b'"text"', b"[" * 4000, b"1" * 4000])
def test_what_cannot_be_read_raises_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        read(data, SAYER)


def test_every_key_holder_is_a_name_that_pairs_are_known_for() -> None:
    assert KEY_HOLDERS == ("keyholder-a", "keyholder-b", "keyholder-c")
