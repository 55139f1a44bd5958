"""Signed requests whose every field a test can set: right ones of each operation, to be spoilt."""

from __future__ import annotations

import datetime
import secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.installation.making import ceremony, certificate
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.card import SERIAL_BYTES, presented_digest
from veilmatch.crypto.digests import NONCE_BYTES
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts, context_digest, proof_bytes
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.public_key_format import KEY_ID_BYTES
from veilmatch.crypto.keys.device_certificate import Statement
from veilmatch.crypto.liveness import Verdict
from veilmatch.crypto.requests import (
    SALT_BYTES,
    TOKEN_BYTES,
    WITH_PROBE,
    Operation,
    payload_digest,
    signed_bytes,
    subject_digest,
)
from veilmatch.protos.v1 import request_pb2 as pb
from veilmatch.server.admission.requests import MUTATIONS, WITH_LANES, RequestChecker

NOW_S = 1_700_000_000.0
NOW_MS = int(NOW_S * 1000)
SKEW_S, LIFETIME_S = 30.0, 120.0
DEVICE, OTHER_DEVICE = "kiosk-1", "kiosk-2"
KEYS = {name: Ed25519PrivateKey.generate() for name in (DEVICE, OTHER_DEVICE)}
#: The key of a device that this installation does not list.
STRANGER = Ed25519PrivateKey.generate()
NEW_KEY_ID = secrets.token_bytes(KEY_ID_BYTES)
SUBJECT, SALT = "ada", secrets.token_bytes(SALT_BYTES)
CIPHERTEXTS = (b"c1", b"c2")
#: Ciphertexts whose randomisers are known here, for `proved`.
KNOWN = KnownCiphertexts.encrypt(
    Paillier(ceremony().public_key), [Integer(3)] * ceremony().public_key.parameters.lane_ciphertexts
)

NUMBERS: dict[Operation, pb.Operation] = {
    "verify": pb.OPERATION_VERIFY,
    "candidates": pb.OPERATION_CANDIDATES,
    "identify": pb.OPERATION_IDENTIFY,
    "known": pb.OPERATION_KNOWN,
    "enrol": pb.OPERATION_ENROL,
    "erase": pb.OPERATION_ERASE,
    "bulk": pb.OPERATION_BULK_ENROL,
    "subjects": pb.OPERATION_SUBJECTS,
    "rotate": pb.OPERATION_ROTATE,
    "retain": pb.OPERATION_RETAIN,
    "issue": pb.OPERATION_ISSUE,
    "present": pb.OPERATION_PRESENT,
    "revoke": pb.OPERATION_REVOKE,
}
OPERATIONS = tuple(NUMBERS)
#: Those that name a subject.
NAMED = ("verify", "enrol", "erase", "issue", "present")
#: What stands for one: requests are checked before the card in them is looked at.
CARD = b"a card"


class Known(dict[str, Statement]):
    """Devices by their names, as a server that has verified their certificates knows them."""

    def find(self, name: str) -> Statement | None:
        return self.get(name)


def known(*names: str, **grant: Any) -> Known:
    """These devices, with certificates of NOW_S. grant: fields of `Grant`, all rights everywhere unless said."""
    now, grant = datetime.datetime.fromtimestamp(NOW_S, datetime.UTC), {"rights": OPERATIONS} | grant
    return Known({name: certificate(name, KEYS[name], now=now, **grant).statement for name in names})


DEVICES = known(*KEYS)


def checker(**changes: Any) -> RequestChecker:
    """The checker of a server of this installation, at NOW_S."""
    arguments: dict[str, Any] = {
        "public_key": ceremony().public_key,
        "devices": DEVICES,
        "max_clock_skew_s": SKEW_S,
        "max_lifetime_s": LIFETIME_S,
        "server": "matcher-a",
        "now": lambda: NOW_S,
    }
    return RequestChecker(**arguments | changes)


def body(operation: Operation = "verify", /, **changes: Any) -> pb.RequestBody:
    """What a right request of that operation says, but for `changes`."""
    public_key = ceremony().public_key
    has_vectors = operation in WITH_LANES or operation == "bulk"
    fields: dict[str, Any] = {
        "parameter_set": public_key.parameters.name,
        "key_id": public_key.key_id,
        "device": DEVICE,
        "gallery": "main",
        "operation": NUMBERS[operation],
        "threshold": 1 if operation in WITH_PROBE else 0,
        "pair": "ab",
        "nonce": secrets.token_bytes(NONCE_BYTES),
        "token": secrets.token_bytes(TOKEN_BYTES) if operation in MUTATIONS else b"",
        "issued_at_ms": NOW_MS,
        "expires_at_ms": NOW_MS + 60_000,
        "payload_digest": payload_digest(CIPHERTEXTS if operation in WITH_LANES else ()),
        "subject_digest": subject_digest(SALT, SUBJECT) if operation in NAMED else b"",
        "model": "embedding" if has_vectors else "",
        "new_key_id": NEW_KEY_ID if operation == "rotate" else b"",
        # Of the right length, which is all that is looked at before the ciphertexts are.
        "knowledge": bytes(proof_bytes(public_key)) if operation in WITH_LANES else b"",
        "dated": operation in ("issue", "revoke"),
        "card_digest": presented_digest(CARD) if operation == "present" else b"",
        "card_expires_s": int(NOW_S) + 86400 if operation == "issue" else 0,
        "card_serial": bytes(SERIAL_BYTES) if operation == "revoke" else b"",
    }
    return pb.RequestBody(**fields | changes)


def signed(said: pb.RequestBody | bytes, key: Ed25519PrivateKey = KEYS[DEVICE], **changes: Any) -> pb.SignedRequest:
    """A request with this body, signed."""
    data = said if isinstance(said, bytes) else said.SerializeToString(deterministic=True)
    fields = {"body": data, "signature": key.sign(signed_bytes(data)), "ciphertexts": CIPHERTEXTS}
    if not isinstance(said, bytes) and said.operation == pb.OPERATION_PRESENT:
        fields["card"] = CARD
    return pb.SignedRequest(**fields | {"subject": SUBJECT, "subject_salt": SALT} | changes)


def proved(said: pb.RequestBody | None = None, /, **changes: Any) -> pb.RequestBody:
    """What a device says that knows what its ciphertexts hold, but for `changes` after it has proved it.

    said: the rest of the body, that of a verification unless given.
    """
    said = said or body()
    said.payload_digest, said.knowledge, said.nonce = payload_digest(KNOWN.ciphertexts), b"", bytes(32)
    said.knowledge = KNOWN.prove(context_of(said, KEYS[DEVICE]))
    for name, value in changes.items():
        setattr(said, name, value)
    return said


def verdict_of(said: pb.RequestBody) -> tuple[bytes, int]:
    return said.liveness.detector, said.liveness.checked_at_ms


def context_of(said: pb.RequestBody, key: Ed25519PrivateKey) -> bytes:
    fields = {field.name: getattr(said, field.name) for field in pb.RequestBody.DESCRIPTOR.fields}
    del (
        fields["knowledge"],
        fields["new_key_id"],
        fields["enrolment"],
        fields["details"],
        fields["card_serial"],
    )  # the others: of requests without vectors
    fields["liveness"] = Verdict(*verdict_of(said)) if said.HasField("liveness") else None
    return context_digest(device_key=key.public_key().public_bytes_raw(), **fields)
