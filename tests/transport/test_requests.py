"""A request is served only if every field of it is right, and each wrong one has its own typed error."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.installation.making import ceremony, certificate
from tests.transport.signed import (
    CARD,
    CIPHERTEXTS,
    DEVICE,
    KEYS,
    KNOWN,
    LIFETIME_S,
    NAMED,
    NOW_MS,
    NOW_S,
    NUMBERS,
    OPERATIONS,
    OTHER_DEVICE,
    SKEW_S,
    STRANGER,
    Known,
    body,
    checker,
    known,
    proved,
    signed,
)
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.card import presented_digest
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts, proof_bytes
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import (
    CiphertextError,
    DeviceRightsError,
    InvalidInputError,
    KeyMismatchError,
    KnowledgeProofError,
    LivenessDemandedError,
    LowThresholdError,
    PartyRefusedError,
    RequestExpiredError,
    RequestSignatureError,
    VeilmatchError,
    WrongClockError,
)
from veilmatch.crypto.liveness import ANY_DETECTOR, MAX_AGE_S
from veilmatch.crypto.requests import MIN_LIFETIME_S, VERIFICATIONS, WITH_PROBE, Operation, request_digest
from veilmatch.crypto.requests import OPERATIONS as ALL_OPERATIONS
from veilmatch.protos.v1 import request_pb2 as pb
from veilmatch.server.admission.requests import (
    MUTATIONS,
    WITH_LANES,
    check_ciphertexts,
    check_knowledge,
    check_payload,
    require_current,
    require_device,
)
from veilmatch.server.ground.own_failures import Self, own_failures
from veilmatch.server.installation.lowest import Lowest

KEY = ceremony().public_key
#: What the checker of signed.py calls its server.
HERE = "matcher-a"
LIMIT, PROOF_BYTES = KEY.parameters.threshold_max, proof_bytes(KEY)


def refusal(request: pb.SignedRequest, *operations: Operation, **changes: Any) -> VeilmatchError:
    """Return the error with which the request is refused, for whatever operation it may be."""
    with pytest.raises(VeilmatchError) as caught:
        checker(**changes).check(request, *(operations or OPERATIONS))
    return caught.value


@pytest.mark.parametrize("pair", ["ab", "ac", "bc"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_right_request_is_read_field_by_field(operation: Operation, pair: str) -> None:
    said = body(operation, pair=pair)
    request = signed(said)
    checked = checker().check(request, "subjects", operation)
    assert (checked.operation, checked.pair, checked.device, checked.gallery) == (operation, pair, DEVICE, "main")
    assert checked.digest == request_digest(request.body)
    for field in ("threshold", "nonce", "token", "expires_at_ms", "payload_digest", "subject_digest", "knowledge"):
        assert getattr(checked, field) == getattr(said, field)


def test_each_device_signs_with_its_own_key() -> None:
    request = signed(body(device=OTHER_DEVICE), KEYS[OTHER_DEVICE])
    assert checker().check(request, "verify").device == OTHER_DEVICE


# -- signature -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "key"),
    [
        (DEVICE, KEYS[OTHER_DEVICE]),
        (DEVICE, STRANGER),
        (OTHER_DEVICE, KEYS[DEVICE]),
        ("kiosk-3", STRANGER),
        ("", KEYS[DEVICE]),
        ("KIOSK-1", KEYS[DEVICE]),
        ("kiosk-1 ", KEYS[DEVICE]),
        ("x" * 10_000, KEYS[DEVICE]),
    ],
)
def test_a_request_is_signed_by_the_device_that_it_names(device: str, key: Ed25519PrivateKey) -> None:
    error = refusal(signed(body(device=device), key))
    assert type(error) is RequestSignatureError
    assert len(str(error)) < 200


def test_a_device_that_is_no_longer_listed_is_refused() -> None:
    remaining = known(OTHER_DEVICE)
    assert type(refusal(signed(body()), devices=remaining)) is RequestSignatureError
    assert checker(devices=remaining).check(signed(body(device=OTHER_DEVICE), KEYS[OTHER_DEVICE]), "verify")


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    right = signed(body())
    request = signed(body(), signature=(right.signature * 2)[:length])
    assert type(refusal(request)) is RequestSignatureError


def test_the_signature_is_over_the_prefixed_body() -> None:
    said = body().SerializeToString()
    assert type(refusal(signed(said, signature=KEYS[DEVICE].sign(said)))) is RequestSignatureError


def test_no_byte_of_body_or_signature_can_be_changed() -> None:
    request = signed(body())
    for name in ("body", "signature"):
        data = getattr(request, name)
        for at in range(len(data)):
            spoilt = pb.SignedRequest(body=request.body, signature=request.signature)
            setattr(spoilt, name, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            error = refusal(spoilt)
            # A body that cannot be read any more names no device.
            assert isinstance(error, RequestSignatureError) or "body" in error.message, (name, at)


@pytest.mark.parametrize("change", [lambda said: said[:-1], lambda said: said[: len(said) // 2], lambda said: said * 2])
def test_a_body_that_is_cut_or_prolonged_is_refused(change: Any) -> None:
    request = signed(body())
    error = refusal(signed(b"", body=change(request.body), signature=request.signature))
    assert isinstance(error, RequestSignatureError | InvalidInputError)


@pytest.mark.parametrize("said", [b"\xff", b"\x0a\xff", b"\x1a\x02\xff\xfe", b"\x08"])
def test_a_body_that_is_none_is_refused(said: bytes) -> None:
    error = refusal(signed(said))
    assert type(error) is InvalidInputError and "body" in error.message


def test_an_empty_request_is_refused() -> None:
    assert type(refusal(pb.SignedRequest())) is RequestSignatureError


# -- times -----------------------------------------------------------------------------------------

SKEW_MS, LIFETIME_MS, SHORTEST_MS = int(SKEW_S * 1000), int(LIFETIME_S * 1000), int(MIN_LIFETIME_S * 1000)


@pytest.mark.parametrize(
    ("issued_ms", "expires_ms"),
    [
        (0, SHORTEST_MS),
        (-LIFETIME_MS, 0),
        (0, LIFETIME_MS),
        (SKEW_MS, SKEW_MS + LIFETIME_MS),
        (SKEW_MS, SKEW_MS + SHORTEST_MS),
    ],
    ids=["shortest", "expires now", "longest", "latest", "latest and shortest"],
)
def test_times_at_the_limits_are_accepted(issued_ms: int, expires_ms: int) -> None:
    request = signed(body(issued_at_ms=NOW_MS + issued_ms, expires_at_ms=NOW_MS + expires_ms))
    assert checker().check(request, "verify").expires_at_ms == NOW_MS + expires_ms


@pytest.mark.parametrize(
    ("issued_ms", "expires_ms", "why"),
    [
        (-1000, -1, "expired"),
        (-NOW_MS, -NOW_MS, "expired"),
        (SKEW_MS + 1, SKEW_MS + 1000, "dated ahead"),
        (2**62, 2**62, "dated ahead"),
        (2**62, 0, "dated ahead"),
        (0, LIFETIME_MS + 1, "too long"),
        (-1, LIFETIME_MS, "too long"),
        (-NOW_MS, 1000, "too long"),
        (0, 2**64 - 1 - NOW_MS, "too long"),
        (1001, 1000, "too short"),
        (0, 0, "too short"),
        (0, 8, "too short"),
        (0, SHORTEST_MS - 1, "too short"),
    ],
)
def test_times_beyond_the_limits_are_refused(issued_ms: int, expires_ms: int, why: str) -> None:
    error = refusal(signed(body(issued_at_ms=NOW_MS + issued_ms, expires_at_ms=NOW_MS + expires_ms)))
    assert type(error) is RequestExpiredError and why in error.message


@pytest.mark.parametrize(
    ("issued_ms", "expires_ms", "is_wrong"),
    [
        (-60_000, -1, False),
        (-60_000, -SKEW_MS, False),
        (-60_000, -SKEW_MS - 1, True),
        (-3_600_000, -3_540_000, True),
        (SKEW_MS + 1, SKEW_MS + 60_000, False),
        (2 * SKEW_MS, 2 * SKEW_MS + 60_000, False),
        (2 * SKEW_MS + 1, 2 * SKEW_MS + 60_001, True),
    ],
)
def test_only_what_no_request_of_a_device_can_show_makes_a_key_holder_say_that_its_clock_is_wrong(
    issued_ms: int, expires_ms: int, is_wrong: bool
) -> None:
    request = signed(body(issued_at_ms=NOW_MS + issued_ms, expires_at_ms=NOW_MS + expires_ms))
    server = Self(HERE, ("ac",))
    for after_another in (True, False):
        with capture_logs() as logged, pytest.raises(RequestExpiredError) as caught, own_failures(server):
            checker(after_another=after_another).check(request, "verify")
        error, shown = caught.value, is_wrong and after_another
        assert type(error) is (WrongClockError if shown else RequestExpiredError)
        assert (error.party, error.alternatives) == (HERE, ("ac",) if shown else ())
        assert [entry["event"] for entry in logged] == (["alert"] if shown else [])


def test_without_a_skew_a_moment_between_two_servers_says_nothing_of_a_clock() -> None:
    strict = checker(after_another=True, max_clock_skew_s=0.0)
    for late_ms, kind in ((30, RequestExpiredError), (10_000, RequestExpiredError), (10_001, WrongClockError)):
        with pytest.raises(RequestExpiredError) as caught:
            strict.check(signed(body(issued_at_ms=NOW_MS - 60_000, expires_at_ms=NOW_MS - late_ms)), "verify")
        assert type(caught.value) is kind


def test_what_expires_while_it_waits_at_a_server_goes_no_further() -> None:
    checked = checker().check(signed(body()), "verify")
    require_current(checked, HERE, lambda: NOW_MS / 1000 + 60)
    with pytest.raises(RequestExpiredError, match="waited") as caught:
        require_current(checked, HERE, lambda: NOW_MS / 1000 + 60.001)
    assert caught.value.party == HERE


def test_the_clock_is_read_for_every_request() -> None:
    clock = [NOW_MS / 1000]
    strict, request = checker(now=lambda: clock[0]), signed(body(expires_at_ms=NOW_MS + SHORTEST_MS))
    strict.check(request, "verify")
    clock[0] += MIN_LIFETIME_S + 0.001
    with pytest.raises(RequestExpiredError):
        strict.check(request, "verify")


# -- key, operation, fields ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"parameter_set": "d128-s60-c23-n3072"},
        {"parameter_set": ""},
        {"parameter_set": "x" * 10_000},
        {"key_id": ceremony(1).public_key.key_id},
        {"key_id": b""},
        {"key_id": ceremony().public_key.key_id + b"\0"},
        {"key_id": bytes(10_000)},
    ],
    ids=lambda change: next(f"{name} of {len(value)}" for name, value in change.items()),
)
def test_another_key_or_parameter_set_is_a_mismatch(change: dict[str, Any]) -> None:
    error = refusal(signed(body(**change)))
    assert type(error) is KeyMismatchError
    assert len(str(error)) < 300


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_call_serves_its_own_operations_only(operation: Operation) -> None:
    others = tuple(other for other in OPERATIONS if other != operation)
    assert type(refusal(signed(body(operation)), *others)) is InvalidInputError


@pytest.mark.parametrize("number", [pb.OPERATION_UNSPECIFIED, 99, -1, 2**31 - 1])
def test_an_operation_that_is_none_is_refused(number: int) -> None:
    error = refusal(signed(body(operation=number)))
    assert type(error) is InvalidInputError and "operation" in error.message


@pytest.mark.parametrize("threshold", [1, LIMIT])
@pytest.mark.parametrize("operation", WITH_PROBE)
def test_thresholds_at_the_limits_are_accepted(operation: Operation, threshold: int) -> None:
    assert checker().check(signed(body(operation, threshold=threshold)), operation).threshold == threshold


FIELDS: list[tuple[Operation, str, list[Any]]] = [
    *((operation, "threshold", [0, LIMIT + 1, 2**32 - 1]) for operation in WITH_PROBE),
    *((operation, "threshold", [1, LIMIT]) for operation in OPERATIONS if operation not in WITH_PROBE),
    *((operation, "views", [1, 5, 2**32 - 1]) for operation in WITH_PROBE),
    *((operation, "views", [1, 2, 4]) for operation in OPERATIONS if operation not in WITH_PROBE),
    *((operation, "unless_known", [True]) for operation in OPERATIONS if operation != "enrol"),
    *((operation, "pair", ["", "a", "ba", "aa", "abc", "AB", "ab "]) for operation in OPERATIONS),
    *((operation, "nonce", [b"", bytes(31), bytes(33), bytes(10_000)]) for operation in OPERATIONS),
    *((operation, "token", [b"", bytes(15), bytes(17)]) for operation in MUTATIONS),
    *((operation, "token", [b"\0", bytes(16)]) for operation in OPERATIONS if operation not in MUTATIONS),
    *((operation, "payload_digest", [b"", bytes(31), bytes(33)]) for operation in OPERATIONS),
    *((operation, "subject_digest", [b"", bytes(31), bytes(33)]) for operation in NAMED),
    *((operation, "subject_digest", [b"\0", bytes(32)]) for operation in OPERATIONS if operation not in NAMED),
    *((operation, "dated", [True]) for operation in OPERATIONS if operation not in MUTATIONS),
    *((operation, "dated", [False]) for operation in ("issue", "revoke")),
    ("present", "card_digest", [b"", bytes(31), bytes(33)]),
    *((operation, "card_digest", [b"\0", bytes(32)]) for operation in OPERATIONS if operation != "present"),
    ("issue", "card_expires_s", [0, NOW_MS // 1000, 2**53 + 1]),
    *((operation, "card_expires_s", [NOW_MS // 1000 + 1]) for operation in OPERATIONS if operation != "issue"),
    ("revoke", "card_serial", [b"", bytes(15), bytes(17)]),
    *((operation, "card_serial", [b"\0", bytes(16)]) for operation in OPERATIONS if operation != "revoke"),
    *(
        (operation, "liveness", [pb.LivenessVerdict(), pb.LivenessVerdict(detector=bytes(32), checked_at_ms=NOW_MS)])
        for operation in OPERATIONS
        if operation not in WITH_PROBE
    ),
    *((operation, "details", [True]) for operation in OPERATIONS if operation != "subjects"),
    # Of what is not dated, too; what is issued always is.
    *((operation, "consent_digest", [b"\0", *([bytes(32)] * (operation != "issue"))]) for operation in OPERATIONS),
    ("rotate", "new_key_id", [b"", bytes(15), bytes(17)]),
    *((operation, "new_key_id", [b"\0", bytes(16)]) for operation in OPERATIONS if operation != "rotate"),
    ("erase", "enrolment", [b"\0", bytes(15), bytes(17)]),
    *((operation, "enrolment", [b"\0", bytes(16)]) for operation in OPERATIONS if operation != "erase"),
    *((operation, "knowledge", [b"\0", bytes(PROOF_BYTES)]) for operation in OPERATIONS if operation not in WITH_LANES),
]


@pytest.mark.parametrize(
    ("operation", "field", "value"),
    [
        pytest.param(operation, field, value, id=f"{operation}-{field}-{number}")
        for operation, field, values in FIELDS
        for number, value in enumerate(values)
    ],
)
def test_a_field_without_sense_is_refused_and_named(operation: Operation, field: str, value: Any) -> None:
    error = refusal(signed(body(operation, **{field: value})))
    assert type(error) is InvalidInputError
    assert (error.got, error.expected) == (field, operation)


@pytest.mark.parametrize("length", [0, 1, PROOF_BYTES - 1, PROOF_BYTES + 1, 10_000])
@pytest.mark.parametrize("operation", WITH_LANES)
def test_a_proof_of_knowledge_has_its_length_where_one_is_due(operation: Operation, length: int) -> None:
    error = refusal(signed(body(operation, knowledge=bytes(length))))
    assert type(error) is KnowledgeProofError and error.fields() == KnowledgeProofError().fields()


def test_every_operation_has_its_rules() -> None:
    named = {number for number in pb.Operation.values() if number != pb.OPERATION_UNSPECIFIED}
    assert set(NUMBERS.values()) == named
    assert {operation for operation, _, _ in FIELDS} == set(OPERATIONS)


# -- rights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_needs_its_right(operation: Operation) -> None:
    alone = known(DEVICE, rights=(operation,))
    # Who may issue cards may revoke its own.
    without = {operation, "issue"} if operation == "revoke" else {operation}
    others = known(DEVICE, rights=tuple(right for right in OPERATIONS if right not in without))
    assert checker(devices=alone).check(signed(body(operation)), operation).operation == operation
    error = refusal(signed(body(operation)), operation, devices=others)
    assert type(error) is DeviceRightsError and error.exit_status == 4
    assert error.expected == operation and operation not in str(error.got).split(", ")


def test_who_may_issue_cards_may_ask_to_revoke_one_and_the_matcher_is_told_so() -> None:
    checked = checker(devices=known(DEVICE, rights=("issue",))).check(signed(body("revoke")), "revoke")
    assert "revoke" not in checked.certified.rights


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_card_belongs_to_what_presents_it(operation: Operation) -> None:
    error = refusal(signed(body(operation), card=b"" if operation == "present" else b"a card"), operation)
    assert type(error) is InvalidInputError and error.got == operation


def test_every_operation_is_a_right() -> None:
    assert set(OPERATIONS) == set(ALL_OPERATIONS)


def test_rights_are_those_in_the_galleries_of_the_certificate() -> None:
    devices = known(DEVICE, galleries=("main", "staff"))
    for gallery in ("main", "staff"):
        assert checker(devices=devices).check(signed(body(gallery=gallery)), "verify").gallery == gallery
    for gallery in ("guests", "*", "", "main ", "Main"):
        error = refusal(signed(body(gallery=gallery)), devices=devices)
        assert type(error) is DeviceRightsError and error.expected == gallery
    everywhere = known(DEVICE, galleries=("*",))
    assert checker(devices=everywhere).check(signed(body(gallery="guests")), "verify").gallery == "guests"


def test_a_certificate_is_valid_for_its_time() -> None:
    devices, made = known(DEVICE, days=1), body()
    first_s, end_s = devices[DEVICE].not_before_s, devices[DEVICE].not_after_s
    for now_s, ends in (
        (first_s - 1, "not valid yet"), (first_s, None), (end_s - 1, None), (end_s, "expired"),
        (end_s + 1e6, "expired"),
    ):  # fmt: skip
        made.issued_at_ms, made.expires_at_ms = int(now_s * 1000), int(now_s * 1000) + SHORTEST_MS
        strict = checker(devices=devices, now=lambda now_s=now_s: now_s)
        if ends is None:
            assert strict.check(signed(made), "verify")
            continue
        with pytest.raises(DeviceRightsError, match=ends):
            strict.check(signed(made), "verify")


def test_rights_are_told_to_nobody_but_the_device() -> None:
    none = known(DEVICE, rights=("subjects",))
    assert type(refusal(signed(body("enrol"), STRANGER), devices=none)) is RequestSignatureError


# -- views, and enrolments unless known ---------------------------------------------------------------


@pytest.mark.parametrize("views", [0, 2, 3, 4])
@pytest.mark.parametrize("operation", WITH_PROBE)
def test_a_probe_has_up_to_four_views(operation: Operation, views: int) -> None:
    checked = checker().check(signed(body(operation, views=views)), operation)
    assert checked.views == max(1, views) and checked.searches == (operation not in VERIFICATIONS)
    parameters = KEY.parameters
    for count in range(6):
        ciphertexts = [bytes(parameters.ciphertext_bytes)] * (count * parameters.lane_ciphertexts)
        if count == checked.views:
            check_ciphertexts(checked, ciphertexts, parameters)
            continue
        with pytest.raises(InvalidInputError):
            check_ciphertexts(checked, ciphertexts, parameters)


def test_an_enrolment_unless_known_is_a_search_at_a_threshold() -> None:
    for threshold, views in ((1, 0), (LIMIT, 4)):
        said = body("enrol", unless_known=True, threshold=threshold, views=views)
        checked = checker().check(signed(said), "enrol")
        assert (checked.unless_known, checked.threshold, checked.searches) == (True, threshold, True)
    assert not checker().check(signed(body("enrol")), "enrol").searches
    for wrong in ({"threshold": 0}, {"threshold": LIMIT + 1}, {"threshold": 1, "views": 5}):
        said = body("enrol", **{"unless_known": True} | wrong)
        assert type(refusal(signed(said), "enrol")) is InvalidInputError


def test_an_enrolment_unless_known_takes_both_rights_and_the_lowest_threshold_of_known() -> None:
    request = signed(body("enrol", unless_known=True, threshold=5))
    for rights in (("enrol",), ("known",), ("enrol", "candidates", "identify", "verify")):
        assert type(refusal(request, "enrol", devices=known(DEVICE, rights=rights))) is DeviceRightsError
    both = known(DEVICE, rights=("enrol", "known"))
    assert checker(devices=both).check(request, "enrol").unless_known
    for bound in (5, 6):
        strict = known(DEVICE, lowest=Lowest({"known": KEY.parameters.cosine(bound)}, others=0))
        if bound == 5:
            assert checker(devices=strict).check(request, "enrol").threshold == 5
        else:
            assert type(refusal(request, "enrol", devices=strict)) is LowThresholdError


# -- liveness --------------------------------------------------------------------------------------

DETECTOR, OTHER_DETECTOR = bytes(range(32)), bytes(32)


def verdict(detector: bytes = DETECTOR, age_s: float = 1) -> pb.LivenessVerdict:
    return pb.LivenessVerdict(detector=detector, checked_at_ms=NOW_MS - int(age_s * 1000))


@pytest.mark.parametrize("operation", WITH_PROBE)
def test_a_certificate_that_demands_a_check_of_liveness_gets_one_of_its_detectors(operation: Operation) -> None:
    whichever = known(DEVICE, liveness=ANY_DETECTOR)
    named = known(DEVICE, liveness=tuple(sorted({DETECTOR.hex(), "f" * 64})))
    for devices in (whichever, named):
        checker(devices=devices).check(signed(body(operation, liveness=verdict())), operation)
        checker(devices=devices).check(signed(body(operation, liveness=verdict(age_s=MAX_AGE_S))), operation)
        for lacking in ({}, {"liveness": verdict(age_s=MAX_AGE_S + 1)}):
            error = refusal(signed(body(operation, **lacking)), operation, devices=devices)
            assert type(error) is LivenessDemandedError and error.party == HERE and error.exit_status == 4
    checker(devices=whichever).check(signed(body(operation, liveness=verdict(OTHER_DETECTOR))), operation)
    error = refusal(signed(body(operation, liveness=verdict(OTHER_DETECTOR))), operation, devices=named)
    assert type(error) is LivenessDemandedError and error.got == OTHER_DETECTOR.hex()
    # Without the demand it is taken and asks for nothing.
    checker().check(signed(body(operation, liveness=verdict(OTHER_DETECTOR, 10_000))), operation)


def test_an_enrolment_unless_known_compares_and_needs_a_check_of_liveness() -> None:
    """Without, a device could find out by enrolling what it may not ask by `known`."""
    demanding = known(DEVICE, liveness=(DETECTOR.hex(),))
    for lacking in (None, verdict(OTHER_DETECTOR), verdict(age_s=MAX_AGE_S + 1)):
        error = refusal(
            signed(body("enrol", unless_known=True, threshold=1, liveness=lacking)), "enrol", devices=demanding
        )
        assert type(error) is LivenessDemandedError and error.party == HERE
    checked = checker(devices=demanding).check(
        signed(body("enrol", unless_known=True, threshold=1, liveness=verdict())), "enrol"
    )
    assert checked.unless_known
    assert checker(devices=demanding).check(signed(body("enrol")), "enrol")


def test_what_compares_nothing_needs_no_check_of_liveness() -> None:
    demanding = checker(devices=known(DEVICE, liveness=ANY_DETECTOR))
    for operation in OPERATIONS:
        if operation not in WITH_PROBE:
            assert demanding.check(signed(body(operation)), operation)


@pytest.mark.parametrize(
    "said",
    [verdict(age_s=-0.001), verdict(bytes(31)), verdict(bytes(33)), pb.LivenessVerdict(), verdict(age_s=NOW_S)],
    ids=["from after the request", "short", "long", "empty", "without a time"],
)
def test_what_is_no_verdict_is_refused_though_nobody_demands_one(said: pb.LivenessVerdict) -> None:
    assert type(refusal(signed(body(liveness=said)))) is InvalidInputError


def test_a_verdict_that_was_taken_out_or_altered_on_the_way_is_no_request_of_the_device() -> None:
    right = signed(body(liveness=verdict()))
    for change in ({"liveness": None}, {"liveness": verdict(OTHER_DETECTOR)}, {"liveness": verdict(age_s=0)}):
        said = pb.RequestBody.FromString(right.body)
        said.ClearField("liveness")
        if (other := change["liveness"]) is not None:
            said.liveness.CopyFrom(other)
        other_body = said.SerializeToString(deterministic=True)
        forged = pb.SignedRequest(body=other_body, signature=right.signature, ciphertexts=CIPHERTEXTS)
        assert type(refusal(forged)) is RequestSignatureError


def test_a_demand_that_came_while_the_request_waited_counts() -> None:
    devices = Known(known(DEVICE))
    waiting, request = checker(devices=devices), signed(body())
    checked = waiting.check(request, "verify")
    devices.update(known(DEVICE, liveness=ANY_DETECTOR))
    with pytest.raises(LivenessDemandedError):
        waiting.check_again(checked, request)


# -- lowest thresholds -----------------------------------------------------------------------------


@given(
    operation=st.sampled_from(WITH_PROBE),
    lowest=st.dictionaries(st.sampled_from(WITH_PROBE), st.integers(1, LIMIT)),
    data=st.data(),
)
@settings(deadline=None)
def test_a_request_is_served_from_the_lowest_threshold_of_its_operation_on_and_not_below(
    operation: Operation, lowest: dict[Operation, int], data: st.DataObject
) -> None:
    cosines = {name: KEY.parameters.cosine(t) for name, t in lowest.items()}
    devices = known(DEVICE, lowest=Lowest(cosines, others=0))
    bound = lowest.get(operation, 1)
    for threshold in {data.draw(st.integers(1, LIMIT)), bound, bound - 1} - {0}:
        request = signed(body(operation, threshold=threshold))
        if threshold >= bound:
            assert checker(devices=devices).check(request, operation).threshold == threshold
            continue
        error = refusal(request, operation, devices=devices)
        assert type(error) is LowThresholdError and error.exit_status == 4
        assert operation in error.message
        assert str(error.got).startswith(f"{threshold} ") and f" {bound} " in str(error.expected)
        assert LowThresholdError.from_fields(error.fields()).fields() == error.fields()


@pytest.mark.parametrize("operation", [operation for operation in OPERATIONS if operation not in WITH_PROBE])
def test_what_compares_nothing_has_no_lowest_threshold(operation: Operation) -> None:
    strict = known(DEVICE, lowest=Lowest(others=1))
    assert checker(devices=strict).check(signed(body(operation)), operation).threshold == 0


@pytest.mark.parametrize("threshold", [0, LIMIT + 1])
def test_a_threshold_without_sense_is_that_before_it_is_too_low(threshold: int) -> None:
    error = refusal(signed(body(threshold=threshold)), devices=known(DEVICE, lowest=Lowest(others=1)))
    assert type(error) is InvalidInputError and error.got == "threshold"


def test_lowest_thresholds_are_told_to_nobody_but_the_device() -> None:
    strict = known(DEVICE, lowest=Lowest(others=1))
    assert type(refusal(signed(body(), STRANGER), devices=strict)) is RequestSignatureError


# -- what goes with the body -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [(), CIPHERTEXTS[:1], CIPHERTEXTS[::-1], (*CIPHERTEXTS, b""), (b"c1c2",), (b"c1", b"c3"), (b"c1", b"c2\0")],
)
def test_the_ciphertexts_are_those_that_were_signed(sent: tuple[bytes, ...]) -> None:
    checked = checker().check(signed(body()), "verify")
    check_payload(checked, CIPHERTEXTS)
    with pytest.raises(RequestSignatureError, match="ciphertexts"):
        check_payload(checked, sent)


def test_the_proof_of_knowledge_is_of_the_ciphertexts() -> None:
    checked = checker().check(signed(proved()), "verify")
    check_knowledge(checked, KNOWN.ciphertexts, KEY)
    again = KnownCiphertexts.encrypt(Paillier(KEY), [Integer(3)] * KEY.parameters.lane_ciphertexts)
    for sent in (again.ciphertexts, CIPHERTEXTS, ()):
        with pytest.raises(KnowledgeProofError):
            check_knowledge(checked, sent, KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"device": OTHER_DEVICE},
        {"gallery": "other"},
        {"operation": pb.OPERATION_VERIFY, "threshold": 2},
        {"operation": pb.OPERATION_CANDIDATES, "subject_digest": b""},
        {"operation": pb.OPERATION_ENROL, "threshold": 0, "token": bytes(16)},
        {"pair": "bc"},
        {"nonce": b"\1" * 32},
        {"issued_at_ms": NOW_MS - 1},
        {"expires_at_ms": NOW_MS + 60_001},
        {"payload_digest": bytes(32)},
        {"subject_digest": bytes(32)},
        {"model": "another"},
        {"operation": pb.OPERATION_PRESENT, "card_digest": presented_digest(CARD)},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_the_proof_of_knowledge_is_of_this_body(changes: dict[str, Any]) -> None:
    said = proved(**changes)
    checked = checker().check(signed(said, KEYS[said.device]), *WITH_LANES)
    with pytest.raises(KnowledgeProofError):
        check_knowledge(checked, KNOWN.ciphertexts, KEY)


@pytest.mark.parametrize(
    ("operation", "changes"), [("present", {"card_digest": bytes(32)}), ("issue", {"card_expires_s": int(NOW_S) + 1})]
)
def test_the_proof_of_knowledge_is_of_the_card(operation: Operation, changes: dict[str, Any]) -> None:
    checked = checker().check(signed(proved(body(operation))), operation)
    check_knowledge(checked, KNOWN.ciphertexts, KEY)
    checked = checker().check(signed(proved(body(operation), **changes)), operation)
    with pytest.raises(KnowledgeProofError):
        check_knowledge(checked, KNOWN.ciphertexts, KEY)


def test_the_proof_of_knowledge_is_of_the_key_that_signed() -> None:
    """The device has another key by now: what was proved under the old one is no proof under the new one."""
    now = datetime.datetime.fromtimestamp(NOW_S, datetime.UTC)
    devices = Known({DEVICE: certificate(DEVICE, KEYS[OTHER_DEVICE], now=now).statement})
    checked = checker(devices=devices).check(signed(proved(), KEYS[OTHER_DEVICE]), "verify")
    with pytest.raises(KnowledgeProofError):
        check_knowledge(checked, KNOWN.ciphertexts, KEY)


@pytest.mark.parametrize("caller", [OTHER_DEVICE, "matcher-a", "", "kiosk-1 ", "x" * 10_000])
def test_a_device_brings_its_own_requests_only(caller: str) -> None:
    checked = checker().check(signed(body()), "verify")
    require_device(checked, DEVICE)
    with pytest.raises(PartyRefusedError) as caught:
        require_device(checked, caller)
    assert len(str(caught.value)) < 200


# -- what a request carries ------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_request_carries_as_many_ciphertexts_as_its_operation_takes_each_of_the_right_size(
    operation: Operation,
) -> None:
    checked = checker().check(signed(body(operation)), operation)
    right = [bytes(KEY.parameters.ciphertext_bytes)] * (
        KEY.parameters.lane_ciphertexts if operation in WITH_LANES else 0
    )
    check_ciphertexts(checked, right, KEY.parameters)
    with pytest.raises(InvalidInputError, match="number of lane ciphertexts"):
        check_ciphertexts(checked, [*right, b"x"], KEY.parameters)
    for wrong in (-1, 1, 1 << 20) if right else ():
        with pytest.raises(CiphertextError, match="wrong size"):
            check_ciphertexts(checked, [*right[:-1], bytes(len(right[0]) + wrong)], KEY.parameters)
