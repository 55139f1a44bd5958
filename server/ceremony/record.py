"""ceremony.json: that three organisations have made a key together, signed by each. Nothing in it is secret.

It says which key (a digest of public.json), in which session, and the digest of all that they were told in it. A
signature says: this organisation has its part of this key, and has seen the same as the others. What it does not prove
to anybody else is that the three did what they say: docs/ceremony.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from veilmatch.crypto.digests import DIGEST_BYTES, digest
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, KeyFileError
from veilmatch.crypto.gallery_change import SIGNATURE_BYTES
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.ground.organisation import OrganisationKey, verify

FORMAT = "veilmatch ceremony 1"
FILE = "ceremony.json"
_CONTEXT = "key ceremony v1"
_MAX_BYTES = 1 << 13
_FIELDS = {"format", "session", "transcript", "agreement", "public", "signatures"}


@dataclass(frozen=True)
class CeremonyRecord:
    """One ceremony. Digests have 32 bytes. agreement: see introduction.py; public: of the content of public.json."""

    session: bytes
    transcript: bytes
    agreement: bytes
    public: bytes
    signatures: Mapping[Party, bytes]

    @staticmethod
    def of(session: bytes, transcript: bytes, agreement: bytes, public: PublicFile) -> CeremonyRecord:
        """Return the record of a ceremony, not signed yet."""
        return CeremonyRecord(session, transcript, agreement, _digest_of(public), {})

    def signed(self, key: OrganisationKey) -> bytes:
        """Return an organisation's signature."""
        return key.sign(_CONTEXT, self._message())

    def with_signature(self, party: Party, signature: bytes, public: PublicFile) -> CeremonyRecord:
        """Return the record with a signature. Raises IntegrityError if it is not that organisation's."""
        self._require(party, signature, public)
        return replace(self, signatures={**self.signatures, party: signature})

    def require_of(self, public: PublicFile) -> None:
        """Raise IntegrityError unless this is the record of that public key, signed by all three organisations."""
        if self.public != _digest_of(public):
            raise IntegrityError("the record of another key's ceremony", got=self.public.hex()[:16])
        for party in PARTIES:
            self._require(party, self.signatures.get(party, b""), public)

    def encode(self) -> bytes:
        """Return the file's content."""
        fields = {
            "format": FORMAT,
            "session": self.session.hex(),
            "transcript": self.transcript.hex(),
            "agreement": self.agreement.hex(),
            "public": self.public.hex(),
            "signatures": {party: self.signatures[party].hex() for party in PARTIES if party in self.signatures},
        }
        return (json.dumps(fields, indent=1) + "\n").encode()

    @staticmethod
    def decode(data: bytes) -> CeremonyRecord:
        """Return what `data` holds. Raises KeyFileError if it is not exactly one encoding of a record of all three."""
        try:
            if len(data) > _MAX_BYTES:
                raise ValueError
            fields = json.loads(data)
            if not isinstance(fields, dict) or set(fields) != _FIELDS or fields["format"] != FORMAT:
                raise ValueError
            digests = [bytes.fromhex(fields[name]) for name in ("session", "transcript", "agreement", "public")]
            signatures = {party: bytes.fromhex(fields["signatures"][party]) for party in PARTIES}
            found = CeremonyRecord(digests[0], digests[1], digests[2], digests[3], signatures)
            lengths = {len(one) for one in digests}, {len(one) for one in signatures.values()}
            if lengths != ({DIGEST_BYTES}, {SIGNATURE_BYTES}) or found.encode() != data:
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            raise KeyFileError("not the record of a key ceremony", expected=FORMAT) from None
        return found

    @staticmethod
    def read(path: Path) -> CeremonyRecord:
        """Return the record in a file. Raises ConfigurationError if it cannot be read, KeyFileError if it is none."""
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(
                "the record of the ceremony cannot be read", got=f"{path}: {error.strerror}", expected=FILE
            ) from None
        return CeremonyRecord.decode(data)

    def _message(self) -> bytes:
        return digest("ceremony record", self.session, self.transcript, self.agreement, self.public)

    def _require(self, party: Party, signature: bytes, public: PublicFile) -> None:
        if not verify(public.signer(party), _CONTEXT, self._message(), signature):
            raise IntegrityError(
                f"organisation {party} has not signed that it took part in this ceremony", party=f"keyholder-{party}"
            )


def _digest_of(public: PublicFile) -> bytes:
    return digest("public file", public.encode())
