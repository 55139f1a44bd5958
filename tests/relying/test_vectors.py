"""The known answers of tests/vectors/recipients.json, which a second implementation sealed and signed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.vectors.generate import load
from veilmatch.crypto import errors
from veilmatch.crypto.keys.recipient_certificate import RecipientCertificate
from veilmatch.relying import RecipientKey, Statement, Trust
from veilmatch.relying.recipient_key import SUITE

FILE = load("recipients")
TRUST = Trust.decode(json.dumps(FILE["public"]).encode())
SECRET = X25519PrivateKey.from_private_bytes(bytes.fromhex(FILE["private_key"]))
KEY = RecipientKey(SECRET, RecipientCertificate.decode(FILE["certificate"].encode()))


def named(cases: list[dict[str, Any]]) -> Any:
    return [pytest.param(case, id=case["what"]) for case in cases]


def test_the_suite_opens_the_vector_of_the_rfc() -> None:
    rfc = {name: bytes.fromhex(value) for name, value in FILE["rfc_9180_a_2_1_1"].items()}
    key = X25519PrivateKey.from_private_bytes(rfc["private_key"])
    # The vector has associated data, and the library's public interface none.
    opened = openssl.hpke._decrypt_with_aad(SUITE, rfc["sealed"], key, rfc["info"], rfc["aad"])
    assert opened == rfc["plain"]


@pytest.mark.parametrize("case", named(FILE["certificates"]))
def test_certificate_of_a_recipient_is_the_known_one_or_refused(case: dict[str, Any]) -> None:
    data = case["file"].encode()
    if case["expect"] == "valid":
        found = RecipientCertificate.decode(data)
        assert found.encode() == data and found.statement.id.hex() == case["id"]
        TRUST.require(found)
        return
    with pytest.raises(getattr(errors, case["expect"])):
        TRUST.require(RecipientCertificate.decode(data))


@pytest.mark.parametrize("case", named(FILE["answers"]))
def test_a_sealed_answer_opens_as_the_known_one_or_is_refused(case: dict[str, Any]) -> None:
    def opened() -> Statement:
        return Statement.open(
            json.dumps(case["answer"]), TRUST, KEY, seen=None, expect_subject=case["subject"],
            expect_challenge=bytes.fromhex(FILE["challenge"]), now=FILE["now"],
        )  # fmt: skip

    if case["expect"] == "valid":
        found = opened()
        assert (found.decision, found.threshold, found.gallery, found.cosine) == (case["decision"], 6351, "main", 0.4)
        assert found.subject == case.get("found", case["subject"])
        assert list(found.subjects) == case.get("subjects", [])
        return
    with pytest.raises(errors.VeilmatchError) as caught:
        opened()
    assert type(caught.value).__name__ == case["expect"]
