"""Certificates of recipients: one encoding, strict parsing, and what is signed covers every field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from veilmatch.crypto.errors import RecipientCertificateError, VeilmatchError
from veilmatch.crypto.keys import recipient_certificate
from veilmatch.crypto.keys.recipient_certificate import FORMAT, MAX_BYTES, RecipientCertificate, Statement

STATEMENT = Statement(
    installation=bytes(range(16)), recipient="bank", public_key=bytes(range(32)), not_before_s=1_700_000_000,
    not_after_s=1_800_000_000, serial=bytes(range(100, 116)),
)  # fmt: skip
SIGNED = RecipientCertificate(STATEMENT).with_signature("c", b"c" * 64).with_signature("a", b"a" * 64)


def test_an_encoding_comes_back_as_the_same_certificate() -> None:
    for certificate in (RecipientCertificate(STATEMENT), SIGNED):
        assert RecipientCertificate.decode(certificate.encode()) == certificate
    assert SIGNED.organisations == ("a", "c")
    longest = replace(STATEMENT, recipient="\U00020000" * 64)
    every = RecipientCertificate(longest, tuple((party, b"s" * 64) for party in ("a", "b", "c")))  # type: ignore[misc]
    assert RecipientCertificate.decode(every.encode()) == every and len(every.encode()) <= MAX_BYTES


def test_what_is_signed_covers_every_field_and_is_the_id() -> None:
    other: dict[str, Any] = {
        "installation": bytes(16), "recipient": "banc", "public_key": bytes(range(1, 33)),
        "not_before_s": 1_700_000_001, "not_after_s": 1_800_000_001, "serial": bytes(16),
    }  # fmt: skip
    assert set(other) == set(STATEMENT.__dataclass_fields__)
    made = {replace(STATEMENT, **{name: value}).id for name, value in other.items()}
    assert len(made | {STATEMENT.id}) == len(other) + 1
    assert STATEMENT.signed_bytes() == b"veilmatch recipient certificate v1\0" + STATEMENT.id


@pytest.mark.parametrize(
    "changes",
    [
        {"recipient": ""}, {"recipient": "x" * 65}, {"recipient": " bank"}, {"recipient": "ba\nnk"},
        {"recipient": "e\u0301"}, {"installation": bytes(15)}, {"public_key": bytes(range(31))}, {"serial": bytes(17)},
        {"not_after_s": 1_700_000_000}, {"not_before_s": -1}, {"not_after_s": 1 << 54},
        # Keys with which nothing would be secret, and other texts of a key.
        {"public_key": bytes(32)}, {"public_key": b"\1" + bytes(31)}, {"public_key": b"\xff" * 32},
        {"public_key": bytes(31) + b"\x80"}, {"public_key": b"\xec" + b"\xff" * 30 + b"\x7f"},
    ],
)  # fmt: skip
def test_a_field_without_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RecipientCertificateError):
        replace(STATEMENT, **changes)


@pytest.mark.parametrize("weak", sorted(recipient_certificate._WEAK_KEYS), ids=bytes.hex)
def test_the_keys_that_are_refused_are_those_that_agree_on_nothing_secret(weak: bytes) -> None:
    with pytest.raises(ValueError):
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(weak))


def test_time() -> None:
    STATEMENT.require_valid(1_700_000_000)
    STATEMENT.require_valid(1_799_999_999)
    for now, words in ((1_699_999_999, "not valid yet"), (1_800_000_000, "expired")):
        with pytest.raises(RecipientCertificateError, match=words):
            STATEMENT.require_valid(now)


@given(st.integers(0, len(SIGNED.encode()) - 1), st.integers(1, 255))
def test_an_altered_byte_is_refused_or_another_certificate(at: int, mask: int) -> None:
    data = bytearray(SIGNED.encode())
    data[at] ^= mask
    try:
        found = RecipientCertificate.decode(bytes(data))
    except VeilmatchError:
        return
    assert found != SIGNED and found.encode() == bytes(data)


@given(st.binary(max_size=300))
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(RecipientCertificateError):
        RecipientCertificate.decode(data)


@pytest.mark.parametrize(
    "change", ["spaces", "order", "unknown", "missing", "twice", "upper", "huge", "deep", "true", "d"]
)
def test_another_encoding_of_the_same_is_refused(change: str) -> None:
    fields = json.loads(SIGNED.encode())
    if change == "order":
        fields = dict(reversed(fields.items()))
    elif change == "unknown":
        fields["more"] = 1
    elif change == "missing":
        del fields["serial"]
    elif change == "upper":
        fields["serial"] = "AB" * 16
    elif change == "true":
        fields["not_before"] = True
    elif change == "d":
        fields["signatures"]["d"] = "00" * 64
    data = json.dumps(fields, indent=2 if change == "spaces" else 1) + "\n"
    if change == "twice":
        data = data.replace(f'"format": "{FORMAT}"', f'"format": "{FORMAT}",\n "format": "{FORMAT}"')
    elif change == "huge":
        data = " " * MAX_BYTES + data
    elif change == "deep":
        data = "[" * 1500
    with pytest.raises(RecipientCertificateError):
        RecipientCertificate.decode(data.encode())
