"""The format of cards: one encoding, everything signed, and nothing else is a card."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilmatch.crypto.card import (
    MAGIC,
    CardStatement,
    SignedCard,
    most_bytes,
    presented_digest,
    record_bytes_of,
    serial_of,
)
from veilmatch.crypto.errors import CardError
from veilmatch.crypto.keys.parties import PAIRS
from veilmatch.crypto.parameters import ParameterSet

DEFAULT = ParameterSet()
TINY = ParameterSet.from_name("UNSAFE-d8-s60-c23-n512")


def statement(parameters: ParameterSet = TINY, **changes: Any) -> CardStatement:
    said = {
        "installation": bytes(range(16)), "key_id": bytes(range(16, 32)), "parameters": parameters, "gallery": "main",
        "model": "face", "pair": "ac", "serial": bytes(range(32, 48)), "subject_digest": bytes(range(48, 80)),
        "issued_s": 1_700_000_000, "expires_s": 1_800_000_000, "record": bytes(record_bytes_of(parameters)),
    }  # fmt: skip
    return CardStatement(**said | changes)


CARD = SignedCard(statement(), (b"f" * 64, b"s" * 64))


def test_the_encoding_is_known() -> None:
    expected = (
        b"VMCARD1\n" + bytes(range(32)) + b"ac" + bytes(range(32, 80))
        + (1_700_000_000).to_bytes(8, "big") + (1_800_000_000).to_bytes(8, "big")
        + b"\0\x16UNSAFE-d8-s60-c23-n512" + b"\0\x04main" + b"\0\x04face" + b"\0\0" + bytes(record_bytes_of(TINY))
    )  # fmt: skip
    assert statement().encode() == expected and CARD.encode() == expected + b"f" * 64 + b"s" * 64
    assert statement().digest() == hashlib.sha256(prefixed(b"veilmatch v1 card") + prefixed(expected)).digest()
    sent = hashlib.sha256(prefixed(b"veilmatch v1 presented card") + prefixed(CARD.encode())).digest()
    assert presented_digest(CARD.encode()) == sent


def prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big") + part


@given(
    st.sampled_from(PAIRS), st.text("äb -", min_size=1, max_size=64).filter(lambda t: t == t.strip()),
    st.integers(0, 2**53 - 1), st.data(),
)  # fmt: skip
def test_what_is_encoded_is_decoded(pair: Any, gallery: str, issued_s: int, data: st.DataObject) -> None:
    expires_s = data.draw(st.integers(issued_s + 1, 2**53))
    record = data.draw(st.binary(min_size=record_bytes_of(TINY), max_size=record_bytes_of(TINY)))
    under = data.draw(st.sampled_from((b"", bytes(32), b"\xff" * 32)))
    said = statement(
        pair=pair, gallery=gallery, issued_s=issued_s, expires_s=expires_s, record=record, consent_digest=under
    )
    card = SignedCard(said, (bytes(64), b"x" * 64))
    assert CardStatement.decode(said.encode()) == said and SignedCard.decode(card.encode()) == card
    assert b"".join(said.ciphertexts) == record and len(said.ciphertexts) == TINY.lane_ciphertexts


@given(st.integers(0, len(CARD.encode()) - 1), st.integers(1, 255))
def test_every_byte_counts(place: int, difference: int) -> None:
    """An altered card is none, or another statement, or has another signature: no byte is anybody's to choose."""
    data = bytearray(CARD.encode())
    data[place] ^= difference
    try:
        found = SignedCard.decode(bytes(data))
    except CardError:
        return
    assert found.statement.digest() != CARD.statement.digest() or found.signatures != CARD.signatures


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda rest: MAGIC + rest))
def test_anything_else_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(CardError):
        SignedCard.decode(data)


def test_a_card_that_is_cut_off_or_goes_on_is_none() -> None:
    data = CARD.encode()
    for wrong in (data + b"\0", *(data[:size] for size in range(len(data)))):
        with pytest.raises(CardError):
            SignedCard.decode(wrong)


@pytest.mark.parametrize(
    "changes",
    [
        {"installation": bytes(15)}, {"key_id": bytes(17)}, {"pair": "ba"}, {"pair": "aa"}, {"serial": bytes(8)},
        {"subject_digest": b""}, {"issued_s": -1}, {"expires_s": 1_700_000_000}, {"expires_s": 2**53 + 1},
        {"record": b""}, {"gallery": ""}, {"gallery": " x"}, {"model": "m" * 65}, {"consent_digest": bytes(31)},
    ],
    ids=lambda changes: " ".join(changes),
)  # fmt: skip
def test_fields_have_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(CardError):
        statement(**changes)


def test_both_organisations_sign_the_whole_statement() -> None:
    asked: list[tuple[str, bytes, bytes]] = []
    CARD.check(lambda *said: not asked.append(said))  # type: ignore[func-returns-value]
    assert asked == [("a", statement().digest(), b"f" * 64), ("c", statement().digest(), b"s" * 64)]
    for liar in "ac":
        with pytest.raises(CardError, match=f"organisation {liar} has not signed"):
            CARD.check(lambda party, *_, liar=liar: party != liar)  # type: ignore[misc]


def test_the_digest_covers_every_field() -> None:
    others = {
        "installation": bytes(16), "key_id": bytes(16), "parameters": None, "gallery": "staff", "model": "other",
        "pair": "bc", "serial": bytes(16), "subject_digest": bytes(32), "issued_s": 1, "expires_s": 1_800_000_001,
        "record": b"\1" * record_bytes_of(TINY), "consent_digest": bytes(32),
    }  # fmt: skip
    assert set(others) == {field.name for field in fields(CardStatement)}
    digests = {replace(statement(), **{name: value}).digest() for name, value in others.items() if value is not None}
    digests |= {statement(ParameterSet.from_name("UNSAFE-d8-s60-c23-n1024")).digest(), statement().digest()}
    assert len(digests) == len(others) + 1


def test_no_party_chooses_a_serial() -> None:
    parts = [(bytes(32), bytes(32)), (b"\1" * 32, bytes(32)), (bytes(32), b"\1" * 32)]
    serials = {serial_of(session, request) for session, request in parts}
    assert len(serials) == len(parts) and {len(serial) for serial in serials} == {16}


def test_a_card_of_the_default_set_fits_where_it_has_to() -> None:
    said = statement(DEFAULT, gallery="g" * 64, model="m" * 64)
    assert len(SignedCard(said, (bytes(64), bytes(64))).encode()) <= most_bytes(DEFAULT)
    widest = statement(DEFAULT, gallery="\U0001f600" * 64, model="\U0001f600" * 64)
    assert len(SignedCard(widest, (bytes(64), bytes(64))).encode()) <= most_bytes(DEFAULT)


def test_nothing_of_a_record_is_shown() -> None:
    assert "record" not in repr(CARD) and "signatures" not in repr(CARD)
