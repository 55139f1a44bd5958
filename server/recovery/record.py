"""recovery.json: that three organisations have made new shares together, signed by each. Nothing in it is secret.

It says for which public.json, in which session and epoch, whose share was lost, what the three had agreed on, and the
digest of all that they were told. A signature says: this organisation has its new share, and has seen the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from veilmatch.crypto.digests import DIGEST_BYTES, digest
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import IntegrityError, KeyFileError
from veilmatch.crypto.gallery_change import SIGNATURE_BYTES
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.ground.organisation import OrganisationKey, verify

FORMAT = "veilmatch recovery 1"
_CONTEXT = "key share recovery v1"
_MAX_BYTES = 1 << 13
_DIGESTS = ("session", "transcript", "agreement", "public")
_FIELDS = {"format", "epoch", "lost", "signatures", *_DIGESTS}


@dataclass(frozen=True)
class RecoveryRecord:
    """One recovery. Digests have 32 bytes. epoch: of the new shares. agreement: see greeting.py."""

    session: bytes
    transcript: bytes
    agreement: bytes
    public: bytes
    epoch: int
    lost: Party | None
    signatures: Mapping[Party, bytes]

    @staticmethod
    def of(
        session: bytes, transcript: bytes, agreement: bytes, public: PublicFile, epoch: int, lost: Party | None
    ) -> RecoveryRecord:
        """Return the record of a recovery, not signed yet."""
        return RecoveryRecord(session, transcript, agreement, _digest_of(public), epoch, lost, {})

    def signed(self, key: OrganisationKey) -> bytes:
        """Return an organisation's signature."""
        return key.sign(_CONTEXT, self._message())

    def with_signature(self, party: Party, signature: bytes, public: PublicFile) -> RecoveryRecord:
        """Return the record with a signature. Raises IntegrityError if it is not that organisation's."""
        self._require(party, signature, public)
        return replace(self, signatures={**self.signatures, party: signature})

    def require_of(self, public: PublicFile) -> None:
        """Raise IntegrityError unless this is a record of that public key, signed by all three organisations."""
        if self.public != _digest_of(public):
            raise IntegrityError("the record of another key's recovery", got=self.public.hex()[:16])
        for party in PARTIES:
            self._require(party, self.signatures.get(party, b""), public)

    def encode(self) -> bytes:
        """Return the file's content."""
        digests = {name: getattr(self, name).hex() for name in _DIGESTS}
        signatures = {party: self.signatures[party].hex() for party in PARTIES if party in self.signatures}
        fields = {"format": FORMAT, "epoch": self.epoch, "lost": self.lost, **digests, "signatures": signatures}
        return (json.dumps(fields, indent=1) + "\n").encode()

    @staticmethod
    def decode(data: bytes) -> RecoveryRecord:
        """Return what `data` holds. Raises KeyFileError if it is not exactly one encoding of a record of all three."""
        try:
            if len(data) > _MAX_BYTES:
                raise ValueError
            fields = json.loads(data)
            if not isinstance(fields, dict) or set(fields) != _FIELDS or fields["format"] != FORMAT:
                raise ValueError
            session, transcript, agreed, public = (bytes.fromhex(fields[name]) for name in _DIGESTS)
            if type(fields["epoch"]) is not int or not 1 <= fields["epoch"] < 1 << 32:
                raise ValueError
            lost = next(party for party in (*PARTIES, None) if party == fields["lost"])
            signatures = {party: bytes.fromhex(fields["signatures"][party]) for party in PARTIES}
            found = RecoveryRecord(session, transcript, agreed, public, fields["epoch"], lost, signatures)
            lengths = {len(getattr(found, name)) for name in _DIGESTS}, {len(one) for one in signatures.values()}
            if lengths != ({DIGEST_BYTES}, {SIGNATURE_BYTES}) or found.encode() != data:
                raise ValueError
        except (ValueError, TypeError, KeyError, StopIteration, RecursionError):
            raise KeyFileError("not the record of a recovery", expected=FORMAT) from None
        return found

    @staticmethod
    def read(path: Path) -> RecoveryRecord:
        """Return the record in a file. Raises KeyFileError if it cannot be read or is none."""
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise KeyFileError("the record of a recovery cannot be read", got=f"{path}: {error.strerror}") from None
        return RecoveryRecord.decode(data)

    def _message(self) -> bytes:
        return digest(
            "recovery record", self.session, self.transcript, self.agreement, self.public, self.epoch, self.lost or ""
        )

    def _require(self, party: Party, signature: bytes, public: PublicFile) -> None:
        if not verify(public.signer(party), _CONTEXT, self._message(), signature):
            raise IntegrityError(
                f"organisation {party} has not signed that it took part in this recovery", party=f"keyholder-{party}"
            )


def _digest_of(public: PublicFile) -> bytes:
    return digest("public file", public.encode())
