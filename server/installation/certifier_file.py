"""The sealed file of an organisation's certification key, `certifier.key`, under the passphrase of its key share.

    seal_certifier(Path("certifier.key"), certifier, public, passphrase)
    certifier = unseal_certifier(Path("certifier.key"), "a", public, passphrase)

Layout, integers big-endian: magic (8 bytes), party (1), log2 n, r and p of scrypt (1 each), salt (16), nonce (12),
installation (16); then the key under AES-256-GCM with its tag. The associated data is all of this header. It is not of
one public key, and outlives it.
"""

from __future__ import annotations

import os
import secrets
import struct
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, KeyMismatchError, WrongPassphraseError
from veilmatch.crypto.keys.shares import Party
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.installation.certifier import Certifier
from veilmatch.server.installation.files import read_secret, write_file
from veilmatch.server.installation.stretching import DEFAULT_COST, ScryptCost, stretch

_HEADER = struct.Struct(">8s1sBBB16s12s16s")
_MAGIC = b"VMCERT01"
#: Header, key and tag.
_BYTES = _HEADER.size + 32 + 16


def seal_certifier(
    path: Path, certifier: Certifier, public: PublicFile, passphrase: str, cost: ScryptCost = DEFAULT_COST
) -> None:
    """Write the file, of mode 0600, complete and durable or not at all.

    Raises ConfigurationError if the passphrase is not text, KeyFileError for an unreasonable cost, OSError if the file
    cannot be written.
    """
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    header = _HEADER.pack(
        _MAGIC, certifier.party.encode(), cost.log2_n, cost.r, cost.p, salt, nonce, public.installation
    )
    cipher = AESGCM(stretch(passphrase, salt, cost))
    sealed = cipher.encrypt(nonce, certifier.to_secret_bytes(SECRET_ACCESS), _context(header))
    write_file(path, header + sealed, secret=True)


def unseal_certifier(path: Path, party: Party, public: PublicFile, passphrase: str) -> Certifier:
    """Return the certification key: that which the public file names for this organisation.

    Raises ConfigurationError if the file cannot be read, KeyFileError if it is readable by group or others, not one of
    this party or not the key that the public file names, KeyMismatchError if it is of another installation,
    WrongPassphraseError if the passphrase does not open it.
    """
    salt, cost, header, nonce, sealed = _opened(path, party, public)
    try:
        secret = AESGCM(stretch(passphrase, salt, cost)).decrypt(nonce, sealed, _context(header))
    except InvalidTag:
        raise WrongPassphraseError(
            "the passphrase does not open the certification key, or the file was altered", got=str(path)
        ) from None
    certifier = Certifier.from_secret_bytes(party, secret)
    if certifier.public_bytes != public.organisation(party):
        raise KeyFileError("the certification key is not the one that the public file names", got=str(path))
    return certifier


def require_sealed_certifier(path: Path, party: Party, public: PublicFile) -> None:
    """Raise what `unseal_certifier` raises, as far as can be told without the passphrase."""
    _opened(path, party, public)


def _opened(path: Path, party: Party, public: PublicFile) -> tuple[bytes, ScryptCost, bytes, bytes, bytes]:
    """Return salt, cost, header, nonce and what is sealed of the right file; see `unseal_certifier` for errors."""
    try:
        data = read_secret(path, "the certification key", _BYTES)
    except OSError as error:
        raise ConfigurationError("the certification key cannot be read", got=f"{path}: {error.strerror}") from None
    if len(data) != _BYTES or not data.startswith(_MAGIC):
        raise KeyFileError("not a sealed certification key", got=str(path), expected=f"{_BYTES} bytes")
    _, letter, log2_n, r, p, salt, nonce, installation = _HEADER.unpack_from(data)
    if letter != party.encode():
        raise KeyFileError(
            "the certification key of another party", got=letter.decode("ascii", "replace"), expected=party
        )
    if installation != public.installation:
        raise KeyMismatchError("the certification key of another installation", got=installation.hex())
    return salt, ScryptCost(log2_n, r, p).check(), data[: _HEADER.size], nonce, data[_HEADER.size :]


def reseal_certifier(
    path: Path, party: Party, public: PublicFile, old: str, new: str, cost: ScryptCost = DEFAULT_COST
) -> None:
    """Replace the file by one that opens with `new`; one that does already is left as it is.

    So both files of an organisation, this one first, can be resealed again after an interruption between them.
    """
    try:
        certifier = unseal_certifier(path, party, public, old)
    except WrongPassphraseError:
        unseal_certifier(path, party, public, new)
        return
    if new == old:
        raise ConfigurationError("the new passphrase is the present one", expected="another passphrase")
    target = path.resolve()
    try:
        if target.stat().st_uid != os.geteuid():
            raise ConfigurationError("the certification key is another user's", expected="to be run by its owner")
        seal_certifier(target, certifier, public, new, cost)
    except OSError as error:
        raise ConfigurationError("the certification key cannot be written", got=f"{path}: {error.strerror}") from None


def _context(header: bytes) -> bytes:
    return digest("sealed certification key", header)
