"""Device certificates: one encoding, strict parsing, and what is signed covers every field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilmatch.crypto.errors import (
    DeviceCertificateError,
    DeviceRightsError,
    LivenessDemandedError,
    LowThresholdError,
    VeilmatchError,
)
from veilmatch.crypto.keys.device_certificate import (
    ALL_GALLERIES,
    FORMAT,
    FORMAT_LIVENESS,
    FORMAT_RECIPIENT_ONLY,
    MAX_BYTES,
    MAX_THRESHOLD,
    DeviceCertificate,
    Statement,
)
from veilmatch.crypto.liveness import Verdict
from veilmatch.crypto.parameters import D128_COARSE, DEFAULT
from veilmatch.crypto.requests import OPERATIONS, WITH_PROBE, Operation

STATEMENT = Statement(
    installation=bytes(range(16)), device="door-2", public_key=bytes(range(32)), rights=("enrol", "verify"),
    galleries=("main", "staff"), lowest=(("verify", 6351),), not_before_s=1_700_000_000, not_after_s=1_800_000_000,
    serial=bytes(range(100, 116)),
)  # fmt: skip
SIGNED = DeviceCertificate(STATEMENT).with_signature("c", b"c" * 64).with_signature("a", b"a" * 64)
#: Known answer, for whoever writes another signer.
SIGNED_BYTES_HEX = (
    "7665696c6d617463682064657669636520636572746966696361746520763200"
    "72557bc986f37d36686658d79507d1e6babb0bae5289c5d5919d0059a5d8c2ba"
)


def test_an_encoding_comes_back_as_the_same_certificate() -> None:
    for certificate in (DeviceCertificate(STATEMENT), SIGNED):
        assert DeviceCertificate.decode(certificate.encode()) == certificate
    assert SIGNED.organisations == ("a", "c")


def test_what_is_signed_covers_every_field() -> None:
    other: dict[str, Any] = {
        "installation": bytes(16), "device": "door-3", "public_key": bytes(32), "rights": ("verify",),
        "galleries": ("main",), "lowest": (("verify", 6350),), "not_before_s": 1_700_000_001,
        "not_after_s": 1_800_000_001, "serial": bytes(16), "recipient_only": True,
        "liveness": ("*",),
    }  # fmt: skip
    assert set(other) == set(STATEMENT.__dataclass_fields__)
    made = {replace(STATEMENT, **{name: value}).signed_bytes() for name, value in other.items()}
    assert len(made | {STATEMENT.signed_bytes()}) == len(other) + 1


def test_rights_and_galleries_are_told_apart_in_what_is_signed() -> None:
    one = replace(STATEMENT, rights=("enrol",), galleries=("erase", "verify"), lowest=())
    other = replace(STATEMENT, rights=("enrol", "erase"), galleries=("verify",), lowest=())
    assert one.signed_bytes() != other.signed_bytes()


def test_galleries_and_lowest_thresholds_are_told_apart_in_what_is_signed() -> None:
    galleries = [("verify",), ("identify",), ("identify", "verify")]
    lowest: list[dict[Operation, int]] = [
        {"verify": 1}, {"verify": 2}, {"identify": 1}, {"identify": 1, "verify": 2}, {"identify": 2, "verify": 1}, {},
    ]  # fmt: skip
    made = [
        replace(STATEMENT, galleries=names, rights=tuple(sorted({"enrol", *bounds})), lowest=tuple(bounds.items()))
        for names in galleries
        for bounds in lowest
    ]
    assert len({said.signed_bytes() for said in made}) == len(made)


@pytest.mark.parametrize(
    "changes",
    [
        {"rights": ()}, {"rights": ("verify", "enrol")}, {"rights": ("verify", "verify")}, {"rights": ("fly",)},
        {"galleries": ()}, {"galleries": ("*", "main")}, {"galleries": ("staff", "main")}, {"galleries": ("",)},
        {"device": "matcher-a"}, {"device": "Door"}, {"device": "../door"}, {"serial": bytes(15)},
        {"public_key": bytes(31)}, {"installation": bytes(17)}, {"not_after_s": 1_700_000_000}, {"not_before_s": -1},
        {"not_after_s": 1 << 54}, {"galleries": tuple(f"{i:03}" for i in range(65))},
        {"lowest": ()}, {"lowest": (("verify", 0),)}, {"lowest": (("verify", -5),)},
        {"lowest": (("verify", MAX_THRESHOLD + 1),)}, {"lowest": (("identify", 6351),)},
        {"lowest": (("enrol", 1), ("verify", 1))}, {"lowest": (("verify", 1), ("verify", 1))},
        {"lowest": (("identify", 1), ("verify", 1))}, {"rights": ("enrol",)}, {"rights": ("identify", "verify")},
        {"rights": ("identify", "verify"), "lowest": (("verify", 1), ("identify", 1))},
        {"rights": ("enrol",), "lowest": (), "recipient_only": True},
        {"rights": ("enrol",), "lowest": (), "liveness": ("*",)}, {"liveness": ("ab" * 31,)},
        {"liveness": ("AB" * 32,)}, {"liveness": ("*", "ab" * 32)}, {"liveness": ("ab" * 32, "ab" * 32)},
        {"liveness": ("bb" * 32, "aa" * 32)}, {"liveness": ("",)}, {"liveness": (f"{'ab' * 32}\n",)},
        {"liveness": tuple(f"{i:064x}" for i in range(17))},
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


DEMANDING = DeviceCertificate(replace(STATEMENT, liveness=("aa" * 32, "bb" * 32)), SIGNED.signatures)
BOTH = DeviceCertificate(replace(STATEMENT, liveness=("*",), recipient_only=True), SIGNED.signatures)
SEALED_ONLY = DeviceCertificate(replace(STATEMENT, recipient_only=True), SIGNED.signatures)


def test_only_a_certificate_that_needs_it_is_of_the_newer_format() -> None:
    for certificate, format_, more in (
        (SIGNED, FORMAT, set()),
        (SEALED_ONLY, FORMAT_RECIPIENT_ONLY, {"recipient_only"}),
        (DEMANDING, FORMAT_LIVENESS, {"recipient_only", "liveness"}),
        (BOTH, FORMAT_LIVENESS, {"recipient_only", "liveness"}),
    ):
        fields = json.loads(certificate.encode())
        assert fields["format"] == format_ and set(fields) - set(json.loads(SIGNED.encode())) == more
        assert DeviceCertificate.decode(certificate.encode()) == certificate
    assert not SIGNED.statement.recipient_only and SEALED_ONLY.statement.recipient_only


@pytest.mark.parametrize(
    ("certificate", "changes"),
    [
        (SIGNED, {"format": FORMAT_RECIPIENT_ONLY}),
        (SIGNED, {"recipient_only": True}),
        (SEALED_ONLY, {"format": FORMAT}),
        (SEALED_ONLY, {"recipient_only": False}),
        (SEALED_ONLY, {"recipient_only": 1}),
        (SEALED_ONLY, {"recipient_only": "true"}),
        (SEALED_ONLY, {"recipient_only": None}),
        (SEALED_ONLY, {"format": FORMAT_LIVENESS}),
        (SEALED_ONLY, {"format": "veilmatch device certificate 5"}),
        (DEMANDING, {"liveness": []}),
        (DEMANDING, {"liveness": "*"}),
        (DEMANDING, {"liveness": [1]}),
        (DEMANDING, {"recipient_only": None}),
        (DEMANDING, {"format": FORMAT}),
        (BOTH, {"format": FORMAT_RECIPIENT_ONLY}),
    ],
)
def test_the_format_and_its_field_belong_together(certificate: DeviceCertificate, changes: dict[str, Any]) -> None:
    fields = json.loads(certificate.encode()) | changes
    with pytest.raises(DeviceCertificateError):
        DeviceCertificate.decode((json.dumps(fields, indent=1) + "\n").encode())


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_compares_is_for_a_recipient_only_if_the_certificate_says_so(operation: Operation) -> None:
    for said, named in ((STATEMENT, False), (STATEMENT, True), (SEALED_ONLY.statement, True)):
        said.require_recipient(operation, named)
    if operation not in WITH_PROBE:
        return SEALED_ONLY.statement.require_recipient(operation, named=False)
    with pytest.raises(DeviceRightsError, match="for a recipient only") as caught:
        SEALED_ONLY.statement.require_recipient(operation, named=False)
    assert caught.value.got == f"{operation} without a recipient"
    return None


def test_demands_of_liveness_are_told_apart_in_what_is_signed() -> None:
    made = {
        replace(STATEMENT, liveness=liveness, recipient_only=only).signed_bytes()
        for liveness in ((), ("*",), ("aa" * 32,), ("aa" * 32, "bb" * 32), ("bb" * 32,))
        for only in (False, True)
    }
    assert len(made) == 10


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_compares_has_to_be_checked_by_a_detector_that_is_named(operation: Operation) -> None:
    said, issued = DEMANDING.statement, 1_750_000_000_000
    for asks in (STATEMENT, said, BOTH.statement):
        asks.require_liveness(operation, Verdict(bytes.fromhex("bb" * 32), issued - 1000), issued)
        if operation not in WITH_PROBE or not asks.liveness:
            asks.require_liveness(operation, None, issued)
    if operation in WITH_PROBE:
        for verdict in (None, Verdict(bytes(32), issued), Verdict(bytes.fromhex("bb" * 32), issued - 120_001)):
            with pytest.raises(LivenessDemandedError):
                said.require_liveness(operation, verdict, issued)


def test_a_device_may_do_what_its_certificate_says_while_it_is_valid() -> None:
    now = 1_750_000_000
    STATEMENT.require("verify", "main", now)
    STATEMENT.require("enrol", "staff", 1_700_000_000)
    EVERYTHING.require("rotate", "whatever", now)
    for operation, gallery, now_s, why in (
        ("erase", "main", now, "right"), ("verify", "visitors", now, "gallery"),
        ("verify", "main", 1_699_999_999, "not valid yet"), ("verify", "main", 1_800_000_000, "expired"),
    ):  # fmt: skip
        with pytest.raises(DeviceRightsError, match=why):
            STATEMENT.require(operation, gallery, now_s)  # type: ignore[arg-type]


def test_how_long_ago_a_certificate_ended_is_said_so_that_one_can_read_it() -> None:
    for after_s, said in ((0, "0 s ago"), (119, "119 s ago"), (7200, "2 hours ago"), (365 * 86400, "365 days ago")):
        with pytest.raises(DeviceRightsError) as caught:
            STATEMENT.require_valid(STATEMENT.not_after_s + after_s)
        assert caught.value.got == said


@given(st.dictionaries(st.sampled_from(WITH_PROBE), st.integers(1, DEFAULT.threshold_max)), st.data())
def test_a_device_may_ask_from_its_lowest_threshold_on_and_not_below(
    lowest: dict[Operation, int], data: st.DataObject
) -> None:
    rights = tuple(sorted({"enrol", *lowest}))
    said = replace(STATEMENT, rights=rights, lowest=tuple(sorted(lowest.items())))
    assert DeviceCertificate.decode(DeviceCertificate(said).encode()).statement == said
    said.require_parameters(DEFAULT)
    for operation in WITH_PROBE:
        t = data.draw(st.integers(1, DEFAULT.threshold_max) | st.sampled_from([lowest.get(operation, 1)]))
        for asked in {t, max(t - 1, 1)}:
            if operation not in lowest:
                expected: type[VeilmatchError] | None = DeviceRightsError
            else:
                expected = None if asked >= lowest[operation] else LowThresholdError
            if expected is None:
                said.require_threshold(operation, asked, DEFAULT)
                continue
            with pytest.raises(DeviceRightsError) as caught:
                said.require_threshold(operation, asked, DEFAULT)
            assert type(caught.value) is expected
            if expected is LowThresholdError:
                assert operation in caught.value.message
                assert str(caught.value.got).split(" ")[0] == str(asked)
                assert f" {lowest[operation]} " in str(caught.value.expected)


def test_the_refusal_of_a_threshold_says_both_as_cosines_too() -> None:
    with pytest.raises(LowThresholdError) as caught:
        STATEMENT.require_threshold("verify", DEFAULT.threshold(0.3), DEFAULT)
    assert (caught.value.got, caught.value.expected) == ("4763 (cosine 0.3)", "at least 6351 (cosine 0.4)")


def test_a_lowest_threshold_above_all_scores_is_none_of_the_parameter_set() -> None:
    bound = replace(STATEMENT, lowest=(("verify", D128_COARSE.threshold_max),))
    bound.require_parameters(D128_COARSE)
    with pytest.raises(DeviceCertificateError, match="above all scores"):
        replace(bound, lowest=(("verify", D128_COARSE.threshold_max + 1),)).require_parameters(D128_COARSE)


def test_the_format_before_is_named_with_what_to_do() -> None:
    old = json.loads(SIGNED.encode()) | {"format": "veilmatch device certificate 1"}
    del old["lowest_thresholds"]
    with pytest.raises(DeviceCertificateError, match=r"older version.*request and sign a new one") as caught:
        DeviceCertificate.decode((json.dumps(old, indent=1) + "\n").encode())
    assert (caught.value.got, caught.value.expected) == ("veilmatch device certificate 1", FORMAT)


OPERATIONS_SORTED = tuple(sorted(OPERATIONS))
EVERYTHING = replace(
    STATEMENT, galleries=ALL_GALLERIES, rights=OPERATIONS_SORTED, lowest=tuple((o, 1) for o in sorted(WITH_PROBE))
)


def test_signed_bytes_are_the_known_ones() -> None:
    assert STATEMENT.signed_bytes().hex() == SIGNED_BYTES_HEX
