"""Receipts of erasures: what two organisations signed opens for one subject, and for nobody else's eyes or files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.crypto.toys import toy_public_key
from tests.matcher.galleries import ORGANISATIONS, PARAMETERS
from veilmatch.client.commands.base.application import build_app
from veilmatch.client.receipt import ErasureReceipt
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import KeyMismatchError, ReceiptError
from veilmatch.crypto.gallery_change import mutation_identity, next_chain, token_digest
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Certificate, Scope, Vote
from veilmatch.server.matcher.gallery.mutation import Mutation

KEY = toy_public_key(PARAMETERS)
OWN = tuple(OrganisationKey.fresh(party).public_bytes for party in PARTIES)
PUBLIC = PublicFile(KEY, bytes(16), OWN, tuple(ORGANISATIONS[party].public_bytes for party in PARTIES))
TOKEN, PREVIOUS, MADE_S = b"token of erasure", b"p" * 32, 1_760_000_000


def erased(subject: str = "ada", enrolment: bytes = b"", *by: OrganisationKey) -> ErasureReceipt:
    """Return the receipt of an erasure as matchers make it; `by` signs in place of organisations a and c."""
    identity = mutation_identity("door-1", "erase", TOKEN, subject, enrolment)
    pack = bytes(PARAMETERS.dimension * PARAMETERS.ciphertext_bytes)
    mutation = Mutation(
        "erase", token_digest(TOKEN), identity, {0: pack}, [], [(0, 0), (0, 3)], '{"templates": 2}', "", "door-1",
        made_s=MADE_S,
    )  # fmt: skip
    mutation.check(PARAMETERS)
    body = mutation.body.encode()
    vote = Vote(7, next_chain(PREVIOUS, 7, mutation.digest()), Ballot(3, "ac"))
    signers = by or (ORGANISATIONS["a"], ORGANISATIONS["c"])
    certificate = Certificate(
        vote, tuple(vote.sign("gallery change v1", Scope("staff", KEY.key_id), x) for x in signers)
    )
    change = pb.CertifiedChange(sequence=7, previous_chain=PREVIOUS, body=body, certificate=certificate.encode())
    return ErasureReceipt.of(change, "staff", KEY.key_id, TOKEN, enrolment)


RECEIPT = erased()


def test_a_receipt_says_what_was_signed_and_opens_for_its_subject_alone() -> None:
    again = ErasureReceipt.decode(RECEIPT.encode())
    again.check(PUBLIC, "ada")
    assert again == RECEIPT
    assert (again.templates, again.device, again.organisations) == (2, "door-1", ("a", "c"))
    assert again.erased_at.timestamp() == MADE_S
    with pytest.raises(ReceiptError, match="another subject"):
        again.check(PUBLIC, "bea")
    one = erased("ada", b"sixteen bytes ok")
    one.check(PUBLIC, "ada", taken_back=True)
    with pytest.raises(ReceiptError, match="another subject"):
        replace(one, enrolment=b"").check(PUBLIC, "ada")


def test_one_enrolment_that_was_taken_back_is_no_receipt_of_a_subject(tmp_path: Path) -> None:
    """A device needs no right to erase for it, and enrols whom it likes: other templates of hers may be there."""
    one = erased("ada", b"sixteen bytes ok")
    one.check(PUBLIC)
    with pytest.raises(ReceiptError, match="one enrolment of the subject was taken back"):
        one.check(PUBLIC, "ada")

    (tmp_path / "public.json").write_bytes(PUBLIC.encode())
    (tmp_path / "receipt").write_bytes(one.encode())
    command = ["receipt", "check", str(tmp_path / "receipt"), "--public", str(tmp_path / "public.json")]
    refused = CliRunner().invoke(build_app("receipt"), [*command, "--subject", "ada", "--json"])
    assert refused.exit_code == 7 and "taken back" in refused.stdout
    taken = CliRunner().invoke(build_app("receipt"), [*command, "--subject", "ada", "--taken-back"])
    assert taken.exit_code == 0 and "2 templates of one enrolment of ada in staff" in taken.stdout


def test_without_its_salt_it_is_as_signed_and_confirms_no_name() -> None:
    shown = RECEIPT.without_salt()
    shown.check(PUBLIC)
    with pytest.raises(ReceiptError, match="salt"):
        shown.check(PUBLIC, "ada")
    assert TOKEN.hex() not in shown.encode().decode() and "ada" not in shown.encode().decode()


ALTERED = {
    "another gallery": replace(RECEIPT, gallery="guests"),
    "another number": replace(RECEIPT, sequence=8),
    "another history": replace(RECEIPT, previous_chain=b"q" * 32),
    "another time": replace(RECEIPT, body=RECEIPT.body.replace(b"1760000000", b"1760000001")),
    "fewer templates": replace(RECEIPT, body=RECEIPT.body.replace(b"[[0,0],[0,3]]", b"[[0,0]]")),
    "another salt": replace(RECEIPT, salt=b"token of another"),
    "one signature": replace(RECEIPT, certificate=RECEIPT.certificate[:-64] + bytes(64)),
    "one organisation twice": erased("ada", b"", ORGANISATIONS["a"], ORGANISATIONS["a"]),
    "another pair": replace(RECEIPT, certificate=RECEIPT.certificate[:48] + b"bc" + RECEIPT.certificate[50:]),
    "cut off": replace(RECEIPT, certificate=RECEIPT.certificate[:-1]),
    "an enrolment": replace(RECEIPT, body=RECEIPT.body.replace(b'"erase"', b'"enrol"')),
    "no change": replace(RECEIPT, body=b"[1]"),
}


@pytest.mark.parametrize("receipt", ALTERED.values(), ids=ALTERED)
def test_an_altered_receipt_is_refused(receipt: ErasureReceipt) -> None:
    with pytest.raises(ReceiptError):
        ErasureReceipt.decode(receipt.encode()).check(PUBLIC, "ada")


def test_that_of_another_installation_is_refused() -> None:
    keys = tuple(OrganisationKey.fresh(party).public_bytes for party in PARTIES)
    with pytest.raises(ReceiptError, match="organisation a has not signed"):
        RECEIPT.check(PublicFile(KEY, bytes(16), OWN, keys))
    with pytest.raises(KeyMismatchError, match="another key"):
        replace(RECEIPT, key_id=bytes(16)).check(PUBLIC)


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 0},
        {"sequence": True},
        {"sequence": 1 << 64},
        {"gallery": ["staff"]},
        {"gallery": ""},
        {"body": 3},
        {"salt": "zz"},
        {"format": "veilmatch erasure receipt 2"},
        {"more": 1},
    ],
    ids=str,
)
def test_only_the_one_encoding_is_read(change: dict[str, object], tmp_path: Path) -> None:
    fields = json.loads(RECEIPT.encode()) | change
    for data in ((json.dumps(fields, indent=1) + "\n").encode(), RECEIPT.encode().rstrip(), b"\xff", b"[]"):
        with pytest.raises(ReceiptError):
            ErasureReceipt.decode(data)


def test_no_secret_is_in_its_repr() -> None:
    assert TOKEN.hex() not in repr(RECEIPT) and repr(TOKEN)[2:-1] not in repr(RECEIPT)
