"""What an organisation gives the other two before a key ceremony: its TLS authority, its keys, where it is reached.

A file, of one encoding only. Nothing in it is secret, and everything depends on its being the right one: whoever can
pass for two of three organisations has the key. So people compare its fingerprint by a way of their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from veilmatch.common.authorities import organisations_of
from veilmatch.common.pem import certificates_of
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.public_key_format import SIGNATURE_KEY_BYTES
from veilmatch.crypto.errors import ConfigurationError, InvalidInputError, KeyFileError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.installation.plan import Plan

FORMAT = "veilmatch introduction 1"
_MAX_BYTES = 1 << 14
#: Of a digest, what people compare: 2^128 attempts for another file with the same.
_FINGERPRINT_BYTES, _GROUP = 16, 4
_FIELDS = {"format", "organisation", "host", "base_port", "authority", "certifier", "signer"}


@dataclass(frozen=True)
class Introduction:
    """One organisation's.

    host, base_port: where its daemons are reached, as in `Plan`. authority: of its TLS certificates, and no other's.
    certifier, signer: its Ed25519 keys, for certificates of devices, and that its daemons sign with.
    """

    party: Party
    host: str
    base_port: int
    authority: x509.Certificate
    certifier: bytes
    signer: bytes

    @property
    def fingerprint(self) -> str:
        """What people read out: 32 hex digits, in groups of four."""
        text = digest("introduction", self.encode())[:_FINGERPRINT_BYTES].hex()
        return " ".join(text[i : i + _GROUP] for i in range(0, len(text), _GROUP))

    def encode(self) -> bytes:
        """Return the file's content."""
        fields = {
            "format": FORMAT,
            "organisation": self.party,
            "host": self.host,
            "base_port": self.base_port,
            "authority": self.authority.public_bytes(Encoding.PEM).decode(),
            "certifier": self.certifier.hex(),
            "signer": self.signer.hex(),
        }
        return (json.dumps(fields, indent=1) + "\n").encode()

    @staticmethod
    def decode(data: bytes) -> Introduction:
        """Return what `data` holds. Raises KeyFileError if it is not exactly one encoding of an introduction."""
        try:
            if len(data) > _MAX_BYTES:
                raise ValueError
            fields = json.loads(data)
            if not isinstance(fields, dict) or set(fields) != _FIELDS or fields["format"] != FORMAT:
                raise ValueError
            if type(fields["host"]) is not str or type(fields["base_port"]) is not int:
                raise ValueError
            found = Introduction(
                next(party for party in PARTIES if party == fields["organisation"]),
                fields["host"],
                fields["base_port"],
                certificates_of(fields["authority"].encode())[0],
                *(bytes.fromhex(fields[name]) for name in ("certifier", "signer")),
            )
            Plan(found.host, found.base_port)
            if {len(found.certifier), len(found.signer)} != {SIGNATURE_KEY_BYTES} or found.certifier == found.signer:
                raise ValueError
            if found.encode() != data:
                raise ValueError
        except (ValueError, TypeError, AttributeError, StopIteration, RecursionError, UnsupportedAlgorithm):
            raise KeyFileError("not an introduction of an organisation", expected=FORMAT) from None
        except InvalidInputError:
            raise KeyFileError("an introduction with no address", got=FORMAT, expected="a host and a port") from None
        if organisations_of(found.authority) != {found.party}:
            raise KeyFileError(
                "an introduction with an authority that is not this organisation's own",
                got=ascii(found.authority.subject.rfc4514_string()[:100]),
                expected=f"O=organisation-{found.party}",
            )
        return found


def file_of(folder: Path, party: Party) -> Path:
    """Return where the introduction of an organisation is."""
    return folder / f"organisation-{party}.json"


def read_introduction(folder: Path, party: Party) -> Introduction:
    """Return that of one organisation. Raises ConfigurationError if it is not there, KeyFileError if it is none."""
    path = file_of(folder, party)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"the introduction of organisation {party} is not here", got=f"{path}: {error.strerror}",
            expected=f"the file of that name from organisation {party}",
        ) from None  # fmt: skip
    try:
        found = Introduction.decode(data)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error.message}", got=error.got, expected=error.expected) from None
    if found.party != party:
        raise KeyFileError(f"{path}: of another organisation", got=found.party, expected=party)
    return found


def read_introductions(folder: Path, own: Party, fingerprints: Mapping[Party, str]) -> dict[Party, Introduction]:
    """Return those of all three. fingerprints: of the other two, as they have read them out.

    Raises ConfigurationError if one is missing, or its fingerprint is, or is another one; if two have a key or an
    authority in common; KeyFileError if a file is none.
    """
    found: dict[Party, Introduction] = {}
    for party in PARTIES:
        introduction = read_introduction(folder, party)
        if party != own:
            _require_read_out(introduction, fingerprints.get(party), file_of(folder, party))
        found[party] = introduction
    keys = [key for one in found.values() for key in (one.certifier, one.signer)]
    authorities = {
        one.authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for one in found.values()
    }
    if len(set(keys)) != len(keys) or len(authorities) != len(PARTIES):
        raise ConfigurationError("two organisations have a key in common", expected="keys of their own")
    return found


def agreement(parameters: str, dealer_only: Party | None, introductions: Mapping[Party, Introduction]) -> bytes:
    """Return the digest of what the three have to agree on before a ceremony, 32 bytes."""
    return digest(
        "ceremony agreement", parameters, dealer_only or "", *(introductions[party].encode() for party in PARTIES)
    )


def _require_read_out(introduction: Introduction, read_out: str | None, path: Path) -> None:
    party = introduction.party
    # What it should be is not said here: it would be copied from the screen, and nobody compared.
    if not read_out:
        raise ConfigurationError(
            f"the fingerprint of organisation {party} is missing", got=str(path),
            expected=f'[fingerprints] {party} = "...", as its people read it out',
            hint=f"Call organisation {party}: it has printed its fingerprint. Write down what you hear, do not have it"
            " sent with the file.",
        )  # fmt: skip
    if "".join(read_out.split()).lower() != introduction.fingerprint.replace(" ", ""):
        raise ConfigurationError(
            f"the introduction of organisation {party} is not the one whose fingerprint was read out", got=str(path),
            expected="the file that they have made, or the fingerprint of this one",
            hint="Have it read out again. If it still differs, somebody has put another file in its place: stop.",
        )  # fmt: skip
