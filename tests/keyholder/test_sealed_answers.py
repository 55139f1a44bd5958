"""Whole sessions for a recipient: what leaves a key holder is sealed, and opens to the plaintext answer."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.installation.making import organisation_keys
from tests.keyholder.trio import (
    TOY,
    Trio,
    ceremony,
    device_key,
    encrypted,
    known,
    public_file,
    results_of,
    signed,
)
from tests.simulator import SimulatedGallery, unit_vectors
from veilmatch.client.wire.signing import DeviceKey, Draft, RequestSigner
from veilmatch.crypto.answer_share import SealedShare as StatedShare
from veilmatch.crypto.answer_share import labels_digest
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import (
    DeviceRightsError,
    InvalidInputError,
    ProtocolError,
    RecipientCertificateError,
    RecipientRevokedError,
    StorageError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party
from veilmatch.crypto.keys.recipient_certificate import CONTEXT, RecipientCertificate
from veilmatch.crypto.keys.recipient_certificate import Statement as Said
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.sealed_answer import SealedAnswer
from veilmatch.protos.v1 import request_pb2
from veilmatch.relying import RecipientKey, Statement, Trust
from veilmatch.server.admission.revoked import revoked_path
from veilmatch.server.keyholder.audit.check import compare, entries_of
from veilmatch.server.matcher.query.keyholder_call import KeyHolderCall, SealedShare

TEMPLATES = unit_vectors(np.random.default_rng(5), 6, TOY)
LABELS = ("ada", "bob", "bob", "cyd", "dan", "eve")
OPERATIONS = {
    "verify": request_pb2.OPERATION_VERIFY, "identify": request_pb2.OPERATION_IDENTIFY,
    "candidates": request_pb2.OPERATION_CANDIDATES,
}  # fmt: skip


def recipient(signers: str = "ab") -> RecipientKey:
    key, now = X25519PrivateKey.generate(), int(time.time())
    said = Said(
        public_file().installation, "bank", key.public_key().public_bytes_raw(), now - 100, now + 100_000, bytes(16)
    )
    made = RecipientCertificate(said)
    for party in signers:
        made = made.with_signature(party, organisation_keys()[party].sign(CONTEXT, said.id))  # type: ignore
    return RecipientKey(key, made)


BANK = recipient()
TRUST = Trust.decode(public_file().encode())


def request_for(
    operation: str, probe: Array, pair: Pair, threshold: int, key: RecipientKey = BANK
) -> tuple[Any, bytes]:
    """A request of device-1, as a key holder gets it, and the salt of its subject."""
    draft = Draft(
        OPERATIONS[operation], known(probe), threshold, "ada" if operation == "verify" else "", model="toy",
        recipient=key.certificate, challenge=b"now",
    )  # fmt: skip
    signer = RequestSigner(DeviceKey(device_key("device-1")), "device-1", "main", ceremony().public_key, 60.0)
    request = signer.sign(draft, pair)
    request.subject, request.subject_salt = "", b""
    return request, draft.salt if operation == "verify" else b""


async def answered(
    trio: Trio,
    operation: str,
    probe: Array,
    pair: Pair,
    threshold: int,
    labels: bytes | None = None,
    key: RecipientKey = BANK,
) -> tuple[tuple[str, ...], bytes]:
    """The statements of both key holders of a pair, as their matchers get them, and the salt."""
    request, salt = request_for(operation, probe, pair, threshold, key)
    gallery = SimulatedGallery.of(Paillier(ceremony().public_key), TEMPLATES)
    stated = labels_digest(LABELS) if labels is None and operation != "verify" else labels or b""
    count = {"verify": 1, "identify": 3, "candidates": 6}[operation]
    async with trio.both(request, pair, labels_digest=stated, **records(operation)) as calls:
        if operation == "verify":
            shares = await asyncio.gather(*(call.sealed_share(count, 2) for call in calls.values()))
        else:
            results = await results_of(calls, gallery, range(len(TEMPLATES)), pair)
            data = [Paillier(ceremony().public_key).serialise(c) for c in results.ciphertexts]

            async def one(call: KeyHolderCall) -> SealedShare:
                await call.send_results(data, results.wanted)
                return await call.sealed_share(count, len(data))

            shares = await asyncio.gather(*(one(call) for call in calls.values()))
        assert shares[0].session_id == shares[1].session_id
        return tuple(share.statement.decode() for share in shares), salt


def records(operation: str) -> dict[str, Any]:
    """What a matcher gives its key holder beside the request: of a verification, the record of the first template."""
    return {"record": encrypted(TEMPLATES[0]), "by_device": [False]} if operation == "verify" else {}


def read(statements: tuple[str, ...], salt: bytes, operation: str, key: RecipientKey = BANK) -> Statement:
    search = operation != "verify"
    answer = SealedAnswer(statements, salt, LABELS if search else ())
    return Statement.open(
        answer, TRUST, key, seen=None, expect_subject=None if search else "ada", expect_challenge=b"now"
    )


@pytest.mark.parametrize("pair", PAIRS)
async def test_the_recipient_learns_what_plain_integers_say(trio: Trio, pair: Pair) -> None:
    for probe in (TEMPLATES[0], TEMPLATES[3], unit_vectors(np.random.default_rng(6), 1, TOY)[0]):
        scores = TEMPLATES @ probe
        threshold = int(np.clip(probe @ probe, 1, TOY.threshold_max))
        found = read(*await answered(trio, "verify", probe, pair, threshold), "verify")
        assert bool(found) is bool(scores[0] >= threshold) and found.valid
        assert (found.pairs, found.threshold, found.sequence, found.device) == ((pair,), threshold, 7, "device-1")
        found = read(*await answered(trio, "candidates", probe, pair, threshold), "candidates")
        assert set(found.subjects) == {LABELS[i] for i in np.flatnonzero(scores >= threshold)}
        found = read(*await answered(trio, "identify", probe, pair, threshold), "identify")
        assert found.subject == (LABELS[int(scores.argmax())] if scores.max() >= threshold else None)


async def test_an_invalid_probe_is_stated_to_be_that(trio: Trio) -> None:
    found = read(*await answered(trio, "verify", 0 * TEMPLATES[0], "ab", 1), "verify")
    assert not found and not found.valid


async def test_each_share_by_itself_is_a_fair_coin(trio: Trio) -> None:
    """Of a match: what the recipient opens of one organisation is masked as ever. 48 coins: 2^-47 to be all alike."""
    ones = np.zeros((2, 2), int)
    for _ in range(24):
        statements, _ = await answered(trio, "verify", TEMPLATES[0], "ab", 1)
        shares = np.array([list(share_of(statement)) for statement in statements])
        assert (shares[0] ^ shares[1]).tolist() == [1, 1]
        ones += shares
    assert ((ones > 0) & (ones < 24)).all()


def share_of(statement: str) -> bytes:
    said = StatedShare.decode(base64.urlsafe_b64decode(statement.split(".")[1] + "=="))
    return BANK.open(said.sealed, said.about.info())


async def test_a_matcher_is_given_no_share_in_clear(trio: Trio) -> None:
    request, _ = request_for("verify", TEMPLATES[0], "ab", 1)
    async with trio.both(request, "ab", **records("verify")) as calls:
        for call in calls.values():
            message = await call._link.receive()
            assert message.WhichOneof("content") == "sealed_share"
            assert [field.name for field, _ in message.sealed_share.ListFields()] == [
                "statement",
                "count",
                "session_id",
            ]


async def test_a_matcher_that_says_nothing_of_the_subjects_gets_no_statement(trio: Trio) -> None:
    for operation, labels in (("candidates", b""), ("candidates", b"short"), ("verify", bytes(32))):
        with pytest.raises(ProtocolError, match="digest of the subjects"):
            await answered(trio, operation, TEMPLATES[0], "ab", 1, labels)


async def test_a_key_holder_seals_to_nobody_that_two_organisations_did_not_certify(trio: Trio) -> None:
    request, _ = request_for("verify", TEMPLATES[0], "ab", 1, recipient("a"))
    with pytest.raises(RecipientCertificateError, match="too few"):
        await first_share(trio, request)
    # Neither does a matcher get what the device wanted sealed by leaving the certificate out.
    request, _ = request_for("verify", TEMPLATES[0], "ab", 1)
    request.recipient_certificate = b""
    with pytest.raises(VeilmatchError) as caught:
        await first_share(trio, request)
    assert isinstance(caught.value, RecipientCertificateError | InvalidInputError)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_key_holder_seals_nothing_to_a_recipient_that_is_revoked_there_from_then_on(
    trio: Trio, operation: str
) -> None:
    await answered(trio, operation, TEMPLATES[0], "ab", 1)
    other, file = recipient(), revoked_path(trio.revoked_dir("b"), BANK.certificate.statement.id)
    file.write_bytes(b"")
    request, _ = request_for(operation, TEMPLATES[0], "ab", 1)
    with pytest.raises(RecipientRevokedError) as caught:
        await first_share(trio, request, "b")
    assert (caught.value.got, caught.value.party) == ("bank", "keyholder-b")
    await answered(trio, operation, TEMPLATES[0], "ab", 1, key=other)
    sessions = [e for e in entries_of(trio.data_dir("b")) if e.event == "refused"]
    assert [e.fields["code"] for e in sessions] == ["recipient_revoked"]
    file.unlink()
    await answered(trio, operation, TEMPLATES[0], "ab", 1)


async def test_a_key_holder_that_cannot_tell_who_is_revoked_seals_to_nobody(trio: Trio) -> None:
    folder = trio.revoked_dir("a")
    away = folder.rename(folder.with_name("away"))
    request, _ = request_for("verify", TEMPLATES[0], "ab", 1)
    with pytest.raises(StorageError, match="revoked recipients"):
        await first_share(trio, request)
    away.rename(folder)
    await answered(trio, "verify", TEMPLATES[0], "ab", 1)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_key_holder_serves_a_device_for_a_recipient_only_if_its_certificate_says_so(
    trio: Trio, operation: str
) -> None:
    for party in PARTIES:
        trio.certify(party, "device-1", recipient_only=True)
    assert read(*await answered(trio, operation, TEMPLATES[0], "ab", 1), operation)
    with pytest.raises(DeviceRightsError, match="for a recipient only") as caught:
        await first_share(trio, signed(TEMPLATES[0], operation=OPERATIONS[operation]))
    assert caught.value.party == "keyholder-a"
    async with trio.both(signed(TEMPLATES[0], operation=request_pb2.OPERATION_ENROL), "ab") as calls:
        await asyncio.gather(*(call.template_shares(1, told=1) for call in calls.values()))


async def test_both_holders_note_who_the_recipient_is_and_nothing_of_the_answer(trio: Trio) -> None:
    statements, _ = await answered(trio, "verify", TEMPLATES[0], "ab", 1)
    said = BANK.certificate.statement
    for party in PARTIES:
        sessions = [e for e in entries_of(trio.data_dir(party)) if e.event == "session"]
        assert [(e.fields["recipient"], e.fields["recipient_id"]) for e in sessions] == (
            [("bank", said.id.hex())] if party in "ab" else []
        )
        text = b"".join(path.read_bytes() for path in (trio.data_dir(party) / "audit").iterdir())
        assert not [secret for secret in (*statements, b"now".hex()) if secret.encode() in text]
    _, _, found = compare(trio.data_dir("a"), trio.data_dir("b"))
    assert found.common == 1 and found.agree


async def first_share(trio: Trio, request: request_pb2.SignedRequest, party: Party = "a") -> None:
    verify = request_pb2.RequestBody.FromString(request.body).operation == request_pb2.OPERATION_VERIFY
    async with trio.call(request, party, "ab", **records("verify" if verify else "")) as call:
        await (call.sealed_share(1, 2) if verify else call.probe_share())


def test_every_organisation_states_with_its_own_key() -> None:
    assert {organisation_keys()[party].public_bytes for party in PARTIES} == set(TRUST.signers)
