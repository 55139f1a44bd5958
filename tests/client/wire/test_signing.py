"""Signed requests: signature, digests, times, and a key that does not show itself."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.client.conftest import PARAMETERS
from tests.client.fakes import body_of
from veilmatch.client.wire.signing import DeviceKey, Draft, RequestSigner, new_token
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption import knowledge
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import ConfigurationError, InvalidInputError, KeyFileError, KnowledgeProofError
from veilmatch.crypto.keys.ceremony import Ceremony
from veilmatch.crypto.liveness import Verdict
from veilmatch.crypto.requests import payload_digest, signed_bytes, subject_digest
from veilmatch.protos.v1 import request_pb2 as pb


@pytest.fixture
def signer(signing_handle: DeviceKey, ceremony: Ceremony) -> RequestSigner:
    return RequestSigner(signing_handle, "kiosk-1", "staff", ceremony.public_key, 30.0, now=lambda: 1_700_000_000.25)


@pytest.fixture(scope="module")
def probe(ceremony: Ceremony) -> KnownCiphertexts:
    count = PARAMETERS.lane_ciphertexts
    return KnownCiphertexts.encrypt(Paillier(ceremony.public_key), [Integer(5 + i) for i in range(count)])


def test_signature_verifies_over_the_prefixed_body(
    signer: RequestSigner, device_key: Ed25519PrivateKey, probe: KnownCiphertexts
) -> None:
    signed = signer.sign(Draft(pb.OPERATION_VERIFY, probe, 180, "alice", model="toy"), "ab")
    device_key.public_key().verify(signed.signature, signed_bytes(signed.body))
    with pytest.raises(InvalidSignature):
        device_key.public_key().verify(signed.signature, signed.body)


def test_body_says_what_is_asked_and_by_whom(
    signer: RequestSigner, ceremony: Ceremony, probe: KnownCiphertexts
) -> None:
    signed = signer.sign(Draft(pb.OPERATION_VERIFY, probe, 180, "alice", model="toy"), "bc")
    body = body_of(signed)
    assert body.parameter_set == PARAMETERS.name
    assert body.key_id == ceremony.public_key.key_id
    assert (body.device, body.gallery, body.operation) == ("kiosk-1", "staff", pb.OPERATION_VERIFY)
    assert (body.threshold, body.pair, body.token, len(body.nonce)) == (180, "bc", b"", 32)
    assert body.payload_digest == payload_digest(probe.ciphertexts)
    assert tuple(signed.ciphertexts) == probe.ciphertexts


def test_request_expires_after_its_lifetime(signer: RequestSigner) -> None:
    body = body_of(signer.sign(Draft(pb.OPERATION_SUBJECTS), "ab"))
    assert (body.issued_at_ms, body.expires_at_ms) == (1_700_000_000_250, 1_700_000_030_250)


def test_subject_is_in_the_body_only_as_a_salted_digest(signer: RequestSigner) -> None:
    signed = signer.sign(Draft(pb.OPERATION_ERASE, subject="alice", token=new_token()), "ab")
    assert b"alice" not in signed.body
    assert body_of(signed).subject_digest == subject_digest(signed.subject_salt, "alice")
    assert len(signed.subject_salt) == 16


def test_request_without_a_subject_has_no_salt(signer: RequestSigner) -> None:
    signed = signer.sign(Draft(pb.OPERATION_SUBJECTS), "ab")
    assert (signed.subject, signed.subject_salt, body_of(signed).subject_digest) == ("", b"", b"")


def test_signing_again_changes_nonce_and_proof_and_nothing_that_names_the_request(
    signer: RequestSigner, probe: KnownCiphertexts
) -> None:
    draft = Draft(pb.OPERATION_ENROL, probe, subject="alice", token=new_token(), model="toy")
    first, second = (body_of(signer.sign(draft, "ab")) for _ in range(2))
    assert first.nonce != second.nonce and first.knowledge != second.knowledge
    first.nonce, first.knowledge = second.nonce, second.knowledge
    assert first == second


def test_bulk_digest_takes_the_place_of_the_payload(signer: RequestSigner) -> None:
    draft = Draft(pb.OPERATION_BULK_ENROL, token=new_token(), bulk_digest=bytes(range(32)), model="toy")
    assert body_of(signer.sign(draft, "ab")).payload_digest == bytes(range(32))


def test_model_is_named_where_vectors_are_sent_and_nowhere_else(signer: RequestSigner, probe: KnownCiphertexts) -> None:
    search = Draft(pb.OPERATION_CANDIDATES, probe, 180, model="sface-1")
    bulk = Draft(pb.OPERATION_BULK_ENROL, token=new_token(), bulk_digest=bytes(32), model="sface-1")
    bare = [Draft(pb.OPERATION_SUBJECTS), Draft(pb.OPERATION_ERASE, subject="alice", token=new_token())]
    named = [body_of(signer.sign(draft, "ab")).model for draft in (search, bulk, *bare)]
    assert named == ["sface-1", "sface-1", "", ""]


@pytest.mark.parametrize("model", ["", "x" * 65, "a\nb"])
def test_what_cannot_be_a_model_is_refused(model: str) -> None:
    with pytest.raises(InvalidInputError):
        Draft(pb.OPERATION_BULK_ENROL, bulk_digest=bytes(32), model=model)


@pytest.mark.parametrize("subject", ["x" * 129, " alice", "a\nb", "e\u0301"])
def test_what_cannot_be_a_subject_is_refused(subject: str) -> None:
    with pytest.raises(InvalidInputError):
        Draft(pb.OPERATION_ERASE, subject=subject)


def test_token_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        Draft(pb.OPERATION_ERASE, subject="alice", token=b"short")


def test_draft_shows_neither_ciphertexts_nor_randomisers(probe: KnownCiphertexts) -> None:
    draft = Draft(pb.OPERATION_VERIFY, probe, 1, "alice", model="toy")
    shown = f"{draft!r} {draft}"
    assert "lanes" not in shown and repr(probe.ciphertexts[0])[2:-1] not in shown
    assert not [r for r in probe._randomisers if str(r) in shown]
    for spread in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            spread(draft)


# -- liveness ----------------------------------------------------------------------------------------


def test_a_verdict_of_liveness_is_signed_with_the_request_and_part_of_what_its_proof_is_bound_to(
    signer: RequestSigner, signing_handle: DeviceKey, ceremony: Ceremony, probe: KnownCiphertexts
) -> None:
    verdict = Verdict(bytes(range(32)), 1_700_000_000_000)
    signed = signer.sign(Draft(pb.OPERATION_VERIFY, probe, 180, "alice", model="toy", liveness=verdict), "ab")
    said = body_of(signed)
    assert (said.liveness.detector, said.liveness.checked_at_ms) == (verdict.detector, verdict.checked_at_ms)
    other = pb.SignedRequest.FromString(signed.SerializeToString())
    said.ClearField("liveness")
    other.body = said.SerializeToString(deterministic=True)
    context = context_of(other, signing_handle.public_bytes())
    with pytest.raises(KnowledgeProofError):
        knowledge.check(ceremony.public_key, context, signed.ciphertexts, said.knowledge)


def test_no_verdict_is_from_after_its_request(signer: RequestSigner, probe: KnownCiphertexts) -> None:
    late = Verdict(bytes(32), 1_800_000_000_000)
    said = body_of(signer.sign(Draft(pb.OPERATION_KNOWN, probe, 180, model="toy", liveness=late), "ab"))
    assert said.liveness.checked_at_ms == said.issued_at_ms


# -- the proof of knowledge ------------------------------------------------------------------------


def context_of(signed: pb.SignedRequest, device_key: bytes) -> bytes:
    fields = {field.name: getattr(body_of(signed), field.name) for field in pb.RequestBody.DESCRIPTOR.fields}
    del (
        fields["knowledge"],
        fields["new_key_id"],
        fields["enrolment"],
        fields["details"],
        fields["card_serial"],
    )  # but the first: of requests without vectors
    said = fields.pop("liveness")
    fields["liveness"] = Verdict(said.detector, said.checked_at_ms) if said.detector else None
    return knowledge.context_digest(device_key=device_key, **fields)


def test_every_request_with_lane_ciphertexts_proves_that_the_device_knows_them(
    signer: RequestSigner, signing_handle: DeviceKey, ceremony: Ceremony, probe: KnownCiphertexts
) -> None:
    key = ceremony.public_key
    for draft in (
        Draft(pb.OPERATION_VERIFY, probe, 180, "alice", model="toy"),
        Draft(pb.OPERATION_CANDIDATES, probe, 180, model="toy"),
        Draft(pb.OPERATION_IDENTIFY, probe, 180, model="toy"),
        Draft(pb.OPERATION_KNOWN, probe, 180, model="toy", liveness=Verdict(bytes(range(32)), 1_700_000_000_000)),
        Draft(pb.OPERATION_ENROL, probe, subject="alice", token=new_token(), model="toy"),
    ):
        signed, again = (signer.sign(draft, "ab") for _ in range(2))
        proof = body_of(signed).knowledge
        knowledge.check(key, context_of(signed, signing_handle.public_bytes()), signed.ciphertexts, proof)
        for context in (context_of(again, signing_handle.public_bytes()), context_of(signed, bytes(32))):
            with pytest.raises(KnowledgeProofError):
                knowledge.check(key, context, signed.ciphertexts, proof)


def test_requests_without_lane_ciphertexts_prove_nothing(signer: RequestSigner) -> None:
    for draft in (
        Draft(pb.OPERATION_SUBJECTS),
        Draft(pb.OPERATION_ERASE, subject="alice", token=new_token()),
        Draft(pb.OPERATION_BULK_ENROL, token=new_token(), bulk_digest=bytes(32), model="toy"),
    ):
        assert body_of(signer.sign(draft, "ab")).knowledge == b""


# -- the key ---------------------------------------------------------------------------------------


def _pem(key: Ed25519PrivateKey, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def test_key_comes_from_a_pem_file(tmp_path: Path, device_key: Ed25519PrivateKey) -> None:
    (tmp_path / "key.pem").write_bytes(_pem(device_key))
    (tmp_path / "key.pem").chmod(0o600)
    loaded = DeviceKey.from_file(tmp_path / "key.pem")
    assert loaded.public_bytes() == device_key.public_key().public_bytes_raw()


def test_key_handle_shows_nothing_and_is_not_copied(signing_handle: DeviceKey) -> None:
    assert repr(signing_handle) == "<DeviceKey>"
    for spread in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            spread(signing_handle)


def test_missing_key_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.pem"):
        DeviceKey.from_file(tmp_path / "none.pem")


def test_other_files_are_not_keys(device_key: Ed25519PrivateKey) -> None:
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for data in (b"", b"not a key", _pem(device_key)[:60], _pem(device_key, b"locked"), other):
        with pytest.raises(KeyFileError) as caught:
            DeviceKey.from_pem(data)
        assert caught.value.__suppress_context__ or caught.value.__cause__ is None
