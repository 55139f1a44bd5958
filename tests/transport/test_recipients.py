"""A request names a recipient that two organisations have certified, or every server refuses it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.installation.making import ceremony, organisation_keys, organisations, signers
from tests.transport.signed import DEVICE, KNOWN, NOW_S, OPERATIONS, body, checker, known, proved, signed
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import (
    DeviceRightsError,
    InvalidInputError,
    KnowledgeProofError,
    RecipientCertificateError,
    RequestSignatureError,
    VeilmatchError,
)
from veilmatch.crypto.keys.recipient_certificate import CONTEXT, RecipientCertificate, Statement
from veilmatch.crypto.requests import WITH_PROBE, Operation
from veilmatch.protos.v1 import request_pb2 as pb
from veilmatch.server.admission.recipients import Recipients
from veilmatch.server.admission.requests import check_knowledge
from veilmatch.server.admission.revoked import Revoked

PUBLIC = PublicFile.fresh(ceremony().public_key, organisations(), signers())
SAID = Statement(
    PUBLIC.installation, "bank", X25519PrivateKey.generate().public_key().public_bytes_raw(), int(NOW_S) - 10,
    int(NOW_S) + 10, bytes(16),
)  # fmt: skip


_EMPTY = tempfile.TemporaryDirectory()


def nobody() -> Revoked:
    return Revoked(Path(_EMPTY.name))


def certificate(parties: str = "ab", said: Statement = SAID) -> RecipientCertificate:
    made = RecipientCertificate(said)
    for party in parties:
        made = made.with_signature(party, organisation_keys()[party].sign(CONTEXT, said.id))  # type: ignore
    return made


def asked(
    operation: Operation = "verify", made: RecipientCertificate | None = None, now: float = NOW_S, **changes: Any
) -> Any:
    """Check a request for a recipient at a server of the installation."""
    made = made or certificate()
    sent = {"recipient_certificate": made.encode()} | changes.pop("sent", {})
    said = body(operation, **{"recipient": made.statement.id, "challenge": b"x" * 64} | changes)
    return checker(recipients=Recipients(PUBLIC, nobody(), lambda: now)).check(signed(said, **sent), *OPERATIONS)


def refusal(*args: Any, **changes: Any) -> VeilmatchError:
    with pytest.raises(VeilmatchError) as caught:
        asked(*args, **changes)
    return caught.value


@pytest.mark.parametrize("operation", WITH_PROBE)
@pytest.mark.parametrize("parties", ["ab", "ac", "bc", "abc"])
def test_a_recipient_of_two_organisations_is_taken(operation: Operation, parties: str) -> None:
    checked = asked(operation, certificate(parties))
    assert checked.recipient == SAID and checked.challenge == b"x" * 64


def test_without_one_nothing_changes() -> None:
    checked = checker(recipients=Recipients(PUBLIC, nobody())).check(signed(body()), *OPERATIONS)
    assert checked.recipient is None and checked.challenge == b""


@pytest.mark.parametrize("parties", ["", "a", "b", "c"])
def test_one_organisation_is_not_enough(parties: str) -> None:
    error = refusal("verify", certificate(parties))
    assert isinstance(error, RecipientCertificateError) and "too few" in error.message


def test_what_was_not_signed_is_refused() -> None:
    good = certificate()
    for made in (
        RecipientCertificate(replace(SAID, recipient="banc"), good.signatures),
        good.with_signature("c", dict(good.signatures)["a"]),
        RecipientCertificate(SAID, (("a", dict(good.signatures)["b"]), ("b", dict(good.signatures)["a"]))),
    ):
        error = refusal("verify", made)
        assert isinstance(error, RecipientCertificateError) and "altered" in error.message


def test_a_signature_of_another_kind_is_none() -> None:
    made = RecipientCertificate(SAID)
    for party in ("a", "b"):
        made = made.with_signature(party, organisation_keys()[party].sign("gallery change v1", SAID.id))  # type: ignore
    assert isinstance(refusal("verify", made), RecipientCertificateError)


def test_another_installation_and_another_time_are_refused() -> None:
    elsewhere = certificate(said=replace(SAID, installation=bytes(16)))
    assert "another installation" in refusal("verify", elsewhere).message
    assert "expired" in refusal(now=NOW_S + 10).message
    assert "not valid yet" in refusal(now=NOW_S - 11).message


def test_the_certificate_is_that_of_the_recipient_that_was_signed() -> None:
    other = certificate(said=replace(SAID, serial=b"o" * 16))
    error = refusal(sent={"recipient_certificate": other.encode()})
    assert isinstance(error, RecipientCertificateError) and "not that of the recipient" in error.message
    for nonsense in (b"", b"{}", certificate().encode() + b"\n"):
        assert isinstance(refusal(sent={"recipient_certificate": nonsense}), RecipientCertificateError)


def test_whoever_carries_a_request_cannot_name_a_recipient_for_it_nor_take_its_own_away() -> None:
    plain = signed(body(), recipient_certificate=certificate().encode())
    with pytest.raises(InvalidInputError):
        checker(recipients=Recipients(PUBLIC, nobody(), lambda: NOW_S)).check(plain, *OPERATIONS)
    named = signed(body(recipient=SAID.id))
    without = pb.RequestBody.FromString(named.body)
    without.recipient = b""
    named.body = without.SerializeToString(deterministic=True)
    with pytest.raises(RequestSignatureError):
        checker(recipients=Recipients(PUBLIC, nobody(), lambda: NOW_S)).check(named, *OPERATIONS)


@pytest.mark.parametrize(
    ("proven", "changes", "right"),
    [
        (("bank", b"x"), {}, True),
        (("bank", b"x"), {"challenge": b"y"}, False),
        (("bank", b"x"), {"challenge": b""}, False),
        (("bank", b"x"), {"recipient": b"", "challenge": b""}, False),
        (("bank", b"x"), {"recipient": "shop"}, False),
        ((None, b""), {"recipient": "bank"}, False),
        ((None, b""), {}, True),
    ],
)
def test_the_proof_of_knowledge_is_of_the_recipient_and_its_challenge(
    proven: tuple[str | None, bytes], changes: dict[str, Any], right: bool
) -> None:
    made = {name: certificate(said=replace(SAID, recipient=name)) for name in ("bank", "shop")}
    ids = {name: one.statement.id for name, one in made.items()}
    name, challenge = proven
    request = proved(body(recipient=ids[name] if name else b"", challenge=challenge), **(
        changes | ({"recipient": ids.get(changes["recipient"], b"")} if "recipient" in changes else {})
    ))  # fmt: skip
    name = changes.get("recipient", name)
    sent = {"recipient_certificate": made[name].encode()} if name else {}
    checked = checker(recipients=Recipients(PUBLIC, nobody(), lambda: NOW_S)).check(signed(request, **sent), "verify")
    if right:
        check_knowledge(checked, KNOWN.ciphertexts, ceremony().public_key)
        return
    with pytest.raises(KnowledgeProofError):
        check_knowledge(checked, KNOWN.ciphertexts, ceremony().public_key)


@pytest.mark.parametrize("operation", [operation for operation in OPERATIONS if operation not in WITH_PROBE])
def test_only_queries_have_a_recipient(operation: Operation) -> None:
    assert isinstance(refusal(operation), InvalidInputError)


def test_fields_of_the_wrong_size_are_refused() -> None:
    for changes in ({"recipient": bytes(31)}, {"challenge": bytes(65)}):
        assert refusal(**changes).got in ("recipient", "challenge")
    with pytest.raises(InvalidInputError):
        checker(recipients=Recipients(PUBLIC, nobody())).check(signed(body(challenge=b"x")), *OPERATIONS)


def test_a_server_that_knows_no_recipients_takes_none() -> None:
    request = signed(body(recipient=SAID.id), recipient_certificate=certificate().encode())
    with pytest.raises(InvalidInputError):
        checker().check(request, *OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_device_that_may_ask_for_a_recipient_only_does_not_ask_for_itself(operation: Operation) -> None:
    recipients, devices = Recipients(PUBLIC, nobody(), lambda: NOW_S), known(DEVICE, recipient_only=True)
    strict = checker(recipients=recipients, devices=devices)
    if operation not in WITH_PROBE:
        assert strict.check(signed(body(operation)), operation).recipient is None
        return
    request = signed(body(operation, recipient=SAID.id), recipient_certificate=certificate().encode())
    assert strict.check(request, operation).recipient == SAID
    with pytest.raises(DeviceRightsError, match="for a recipient only") as caught:
        strict.check(signed(body(operation)), operation)
    assert (caught.value.party, caught.value.expected) == ("matcher-a", "a recipient")
    # To name one that is none does not help.
    with pytest.raises(RecipientCertificateError):
        strict.check(signed(body(operation, recipient=SAID.id)), operation)


@pytest.mark.parametrize("operation", WITH_PROBE)
def test_a_recipient_may_be_told_of_several_views(operation: Operation) -> None:
    """The statement says of how many (tests/crypto/test_answer_share.py), and the recipient opens what it allows."""
    assert asked(operation, views=4).views == 4 and asked(operation).views == 1
    error = refusal(operation, views=5)
    assert type(error) is InvalidInputError and error.got == "views"


def test_a_device_that_answers_recipients_alone_enrols_unless_known_for_none() -> None:
    """It would learn by it what it may not learn by `known`."""
    said = body("enrol", unless_known=True, threshold=1)
    strict = known(DEVICE, recipient_only=True)
    with pytest.raises(DeviceRightsError):
        checker(devices=strict).check(signed(said), "enrol")
