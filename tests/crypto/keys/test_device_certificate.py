"""Device certificates: one encoding, strict parsing, and what is signed covers every field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilmatch.crypto.errors import DeviceCertificateError, DeviceRightsError, VeilmatchError
from veilmatch.crypto.keys.device_certificate import ALL_GALLERIES, MAX_BYTES, DeviceCertificate, Statement
from veilmatch.crypto.requests import OPERATIONS

STATEMENT = Statement(
    installation=bytes(range(16)), device="door-2", public_key=bytes(range(32)), rights=("enrol", "verify"),
    galleries=("main", "staff"), not_before_s=1_700_000_000, not_after_s=1_800_000_000, serial=bytes(range(100, 116)),
)  # fmt: skip
SIGNED = DeviceCertificate(STATEMENT).with_signature("c", b"c" * 64).with_signature("a", b"a" * 64)
#: Known answer, for whoever writes another signer.
SIGNED_BYTES_HEX = (
    "7665696c6d617463682064657669636520636572746966696361746520763100"
    "b7791a10094b1171d7dfad25ff036919b9c2a0f07d4d3e08f37bff17d1ea2874"
)


def test_an_encoding_comes_back_as_the_same_certificate() -> None:
    for certificate in (DeviceCertificate(STATEMENT), SIGNED):
        assert DeviceCertificate.decode(certificate.encode()) == certificate
    assert SIGNED.organisations == ("a", "c")


def test_what_is_signed_covers_every_field() -> None:
    other: dict[str, Any] = {
        "installation": bytes(16), "device": "door-3", "public_key": bytes(32), "rights": ("verify",),
        "galleries": ("main",), "not_before_s": 1_700_000_001, "not_after_s": 1_800_000_001, "serial": bytes(16),
    }  # fmt: skip
    assert set(other) == set(STATEMENT.__dataclass_fields__)
    made = {replace(STATEMENT, **{name: value}).signed_bytes() for name, value in other.items()}
    assert len(made | {STATEMENT.signed_bytes()}) == len(other) + 1


def test_rights_and_galleries_are_told_apart_in_what_is_signed() -> None:
    one = replace(STATEMENT, rights=("enrol",), galleries=("erase", "verify"))
    other = replace(STATEMENT, rights=("enrol", "erase"), galleries=("verify",))
    assert one.signed_bytes() != other.signed_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"rights": ()}, {"rights": ("verify", "enrol")}, {"rights": ("verify", "verify")}, {"rights": ("fly",)},
        {"galleries": ()}, {"galleries": ("*", "main")}, {"galleries": ("staff", "main")}, {"galleries": ("",)},
        {"device": "matcher-a"}, {"device": "Door"}, {"device": "../door"}, {"serial": bytes(15)},
        {"public_key": bytes(31)}, {"installation": bytes(17)}, {"not_after_s": 1_700_000_000}, {"not_before_s": -1},
        {"not_after_s": 1 << 54}, {"galleries": tuple(f"{i:03}" for i in range(65))},
    ],
)  # fmt: skip
def test_a_field_without_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DeviceCertificateError):
        replace(STATEMENT, **changes)


@given(st.integers(0, len(SIGNED.encode()) - 1), st.integers(1, 255))
def test_an_altered_byte_is_refused_or_another_certificate(at: int, mask: int) -> None:
    data = bytearray(SIGNED.encode())
    data[at] ^= mask
    try:
        found = DeviceCertificate.decode(bytes(data))
    except VeilmatchError:
        return
    assert found != SIGNED and found.encode() == bytes(data)


@given(st.binary(max_size=300))
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(DeviceCertificateError):
        DeviceCertificate.decode(data)


@pytest.mark.parametrize("change", ["spaces", "order", "unknown", "missing", "twice", "upper", "huge", "deep", "true"])
def test_another_encoding_of_the_same_is_refused(change: str) -> None:
    fields = json.loads(SIGNED.encode())
    if change == "order":
        fields = dict(reversed(fields.items()))
    elif change == "unknown":
        fields["more"] = 1
    elif change == "missing":
        del fields["serial"]
    elif change == "upper":
        fields["serial"] = fields["serial"].upper()
    elif change == "true":
        fields["not_before"] = True
    data = json.dumps(fields, indent=2 if change == "spaces" else 1).encode() + b"\n"
    if change == "twice":
        data = data.replace(b'"device"', b'"device": "door-3",\n "device"', 1)
    elif change == "huge":
        data += b" " * MAX_BYTES
    elif change == "deep":
        data = b"[" * 60_000
    with pytest.raises(DeviceCertificateError):
        DeviceCertificate.decode(data)


def test_a_device_may_do_what_its_certificate_says_while_it_is_valid() -> None:
    now = 1_750_000_000
    STATEMENT.require("verify", "main", now)
    STATEMENT.require("enrol", "staff", 1_700_000_000)
    replace(STATEMENT, galleries=ALL_GALLERIES, rights=OPERATIONS_SORTED).require("rotate", "whatever", now)
    for operation, gallery, now_s, why in (
        ("erase", "main", now, "right"), ("verify", "visitors", now, "gallery"),
        ("verify", "main", 1_699_999_999, "not valid yet"), ("verify", "main", 1_800_000_000, "expired"),
    ):  # fmt: skip
        with pytest.raises(DeviceRightsError, match=why):
            STATEMENT.require(operation, gallery, now_s)  # type: ignore[arg-type]


OPERATIONS_SORTED = tuple(sorted(OPERATIONS))


def test_signed_bytes_are_the_known_ones() -> None:
    assert STATEMENT.signed_bytes().hex() == SIGNED_BYTES_HEX
