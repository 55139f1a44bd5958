"""Receipts of erasures: the change that two organisations signed, and what opens whom it was about.

    receipt = client.erase("alice").receipt
    Path("alice.receipt").write_bytes(receipt.encode())

    ErasureReceipt.decode(Path("alice.receipt").read_bytes()).check(public_file, subject="alice")

Nothing is signed for a receipt: the certificate of a change is over the chain of the gallery, the chain over the body
of the change, and the body has a digest of the subject, salted with the device's token of that change. Servers keep a
digest of the token. So whoever has the receipt with its salt can tell for a name that it was the one; without the
salt (`without_salt`) it says when, where and by whom templates were erased, and nobody's name. No network here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import KeyMismatchError, ReceiptError
from veilmatch.crypto.gallery_change import (
    ACCEPTANCE,
    BALLOT_BYTES,
    CERTIFICATE_BYTES,
    CHAIN_BYTES,
    DATED_FORMAT,
    SEQUENCE_BYTES,
    SIGNATURE_BYTES,
    VOTE_BYTES,
    mutation_identity,
    next_chain,
    signed_by_organisation,
    token_digest,
    vote_message,
)
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Party
from veilmatch.crypto.requests import GALLERY_CHARACTERS, TOKEN_BYTES
from veilmatch.protos.v1 import matcher_pb2 as pb

FORMAT = "veilmatch erasure receipt 1"
#: No file is longer: an erasure names some packs and places.
MAX_BYTES = 1 << 24
_SEQUENCE_MAX = (1 << 8 * SEQUENCE_BYTES) - 1
_FIELDS = {"format", "gallery", "key_id", "sequence", "previous_chain", "body", "certificate", "enrolment", "salt"}


@dataclass(frozen=True)
class ErasureReceipt:
    """That templates of a subject were erased, signed by two organisations; right or wrong until `check`.

    sequence: number of the change. previous_chain: the chain value before it, 32 bytes. body: the change, JSON.
    certificate: number, chain value, ballot and two signatures, 178 bytes. enrolment: token of the one enrolment that
    was taken back, b"" for all templates of the subject. salt: 16 bytes, b"" if it was left out.
    """

    gallery: str
    key_id: bytes
    sequence: int
    previous_chain: bytes = field(repr=False)
    body: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    enrolment: bytes = field(default=b"", repr=False)
    salt: bytes = field(default=b"", repr=False)

    @staticmethod
    def of(change: pb.CertifiedChange, gallery: str, key_id: bytes, salt: bytes, enrolment: bytes) -> ErasureReceipt:
        """Return what a matcher has answered an erasure with, unchecked. salt: the token of the request."""
        signed = change.previous_chain, change.body, change.certificate
        return ErasureReceipt(gallery, key_id, change.sequence, *signed, enrolment, salt)

    # -- what it says -------------------------------------------------------------------------

    @property
    def erased_at(self) -> datetime:
        """When the device signed the request, UTC, whole seconds; both organisations took it within two minutes."""
        return datetime.fromtimestamp(self._said["made_s"], UTC)

    @property
    def templates(self) -> int:
        """How many templates were erased."""
        return len(self._said["removed"])

    @property
    def device(self) -> str:
        """The device that asked for it."""
        return str(self._said["device"])

    @property
    def subject_digest(self) -> str:
        """The salted digest of the subject, 64 hex digits."""
        return str(self._said["request_digest"])

    @property
    def chain(self) -> bytes:
        """The chain value of the gallery after the change, 32 bytes."""
        return next_chain(self.previous_chain, self.sequence, hashlib.sha256(self.body).digest())

    @property
    def organisations(self) -> tuple[Party, Party]:
        """Whose signatures it has to have."""
        pair = self._ballot[-2:].decode("ascii", "replace")
        if pair not in PAIRS:
            raise ReceiptError("the receipt names no pair of organisations", expected=" or ".join(PAIRS))
        first, second = (party for party in PARTIES if party in pair)
        return first, second

    # -- checking -----------------------------------------------------------------------------

    def check(self, public: PublicFile, subject: str | None = None, *, taken_back: bool = False) -> None:
        """Raise ReceiptError unless two organisations of the installation have signed exactly this erasure.

        subject: all whose templates it has to be about; None to leave that open. taken_back: it may be about one
        enrolment of the subject alone, which its device may take back without a right to erase. Raises KeyMismatchError
        if the gallery was under another key than that of `public`, as one of another installation is. Offline.
        """
        own = public.public_key.key_id
        if self.key_id != own:
            raise KeyMismatchError(
                "a receipt about a gallery under another key", got=self.key_id.hex(), expected=own.hex()
            )
        _ = self._said
        if self._vote != self.sequence.to_bytes(SEQUENCE_BYTES, "big") + self.chain + self._ballot:
            raise ReceiptError("the change is not the one that was signed", expected=f"change {self.sequence}")
        message = vote_message(self.gallery, self.key_id, self.sequence, self.chain, self._ballot)
        signatures = self.certificate[VOTE_BYTES:]
        for number, party in enumerate(self.organisations):
            signature = signatures[number * SIGNATURE_BYTES : (number + 1) * SIGNATURE_BYTES]
            if not _is_signed(public.signer(party), message, signature):
                raise ReceiptError(
                    f"organisation {party} has not signed this erasure",
                    expected="signatures of both organisations " + " and ".join(self.organisations),
                )
        self._check_opening(subject, taken_back)

    def _check_opening(self, subject: str | None, taken_back: bool) -> None:
        if self.salt and token_digest(self.salt).hex() != self._said["token"]:
            raise ReceiptError("the salt of the receipt is that of another change")
        if subject is None:
            return
        if not self.salt:
            raise ReceiptError("without its salt a receipt tells nobody's name", expected="a receipt with its salt")
        if mutation_identity(self.device, "erase", self.salt, subject, self.enrolment).hex() != self.subject_digest:
            raise ReceiptError("the erasure was about another subject", expected=self.subject_digest)
        if self.enrolment and not taken_back:
            raise ReceiptError(
                "one enrolment of the subject was taken back: of others it says nothing",
                expected="an erasure of all templates of the subject",
            )

    def without_salt(self) -> ErasureReceipt:
        """Return the receipt for somebody who is not to learn, or confirm, whom it is about."""
        return replace(self, salt=b"", enrolment=b"")

    # -- the file -----------------------------------------------------------------------------

    def encode(self) -> bytes:
        """Return the content of a file: JSON."""
        fields = {
            "format": FORMAT,
            "gallery": self.gallery,
            "key_id": self.key_id.hex(),
            "sequence": self.sequence,
            "previous_chain": self.previous_chain.hex(),
            "body": self.body.decode("ascii", "replace"),
            "certificate": self.certificate.hex(),
            "enrolment": self.enrolment.hex(),
            "salt": self.salt.hex(),
        }
        return (json.dumps(fields, indent=1) + "\n").encode()

    @staticmethod
    def decode(data: bytes) -> ErasureReceipt:
        """Return what `data` holds, unchecked. Raises ReceiptError unless it is exactly one encoding of a receipt."""
        try:
            if len(data) > MAX_BYTES:
                raise ValueError
            fields = json.loads(data)
            if (
                set(fields) != _FIELDS
                or type(fields["sequence"]) is not int
                or not 1 <= fields["sequence"] <= _SEQUENCE_MAX
                or type(fields["gallery"]) is not str
                or not 1 <= len(fields["gallery"]) <= GALLERY_CHARACTERS
            ):
                raise ValueError
            named = {name: bytes.fromhex(fields[name]) for name in ("key_id", "previous_chain", "certificate")}
            receipt = ErasureReceipt(
                fields["gallery"],
                named["key_id"],
                fields["sequence"],
                named["previous_chain"],
                fields["body"].encode("ascii"),
                named["certificate"],
                bytes.fromhex(fields["enrolment"]),
                bytes.fromhex(fields["salt"]),
            )
            same = receipt.encode() == data
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            same = False
        if not same:
            raise ReceiptError("not the receipt of an erasure", got=f"{len(data)} bytes", expected=FORMAT)
        return receipt

    # -- parts --------------------------------------------------------------------------------

    @property
    def _vote(self) -> bytes:
        return self.certificate[:VOTE_BYTES]

    @property
    def _ballot(self) -> bytes:
        return self._vote[-BALLOT_BYTES:]

    @cached_property
    def _said(self) -> dict[str, Any]:
        """What the body says. Raises ReceiptError unless it is a dated erasure."""
        try:
            said = json.loads(self.body)
            right = (
                (said["format"], said["kind"]) == (DATED_FORMAT, "erase")
                and type(said["made_s"]) is int
                and isinstance(said["removed"], list)
                and all(isinstance(said[name], str) for name in ("device", "request_digest", "token"))
            )
            datetime.fromtimestamp(said["made_s"], UTC)
        except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
            right = False
        sizes = len(self.certificate), len(self.previous_chain), len(self.salt), len(self.enrolment)
        possible = (CERTIFICATE_BYTES, CHAIN_BYTES)
        if not right or sizes[:2] != possible or not {*sizes[2:]} <= {0, TOKEN_BYTES}:
            raise ReceiptError("the receipt is about no erasure", expected=DATED_FORMAT)
        return dict(said)


def _is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed_by_organisation(ACCEPTANCE, message))
    except (InvalidSignature, ValueError):
        return False
    return True
