"""The sealed key file of a key holder: its key encrypted under a passphrase.

Layout: magic, scrypt parameters, 16-byte salt, 12-byte nonce, AES-256-GCM ciphertext. The
associated data binds the header, the party, key id, epoch, parameter set and installation, so a file cannot
be used as another party's, or after a change of anything it was made for.
"""

from __future__ import annotations

import secrets
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import KeyFileError, KeyMismatchError, WrongPassphraseError
from veilmatch.crypto.keys import KeyHolderKey, Party
from veilmatch.crypto.public_key_format import PublicFile
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.installation.files import write_file

_HEADER = struct.Struct(">8s1s16sIBBB16s12s")  # magic, party, key id, epoch, log2 n, r, p, salt, nonce
_MAGIC = b"VMSEAL01"
_TAG_BYTES = 16


@dataclass(frozen=True)
class ScryptCost:
    """Cost of trying one passphrase: n = 2^log2_n. The default takes about 0.4 s and 128 MiB."""

    log2_n: int = 17
    r: int = 8
    p: int = 1

    def check(self) -> ScryptCost:
        """Return self if the cost is one that a file may ask for: at most 1 GiB. Raises KeyFileError."""
        if not (10 <= self.log2_n <= 20 and 1 <= self.r <= 8 and 1 <= self.p <= 4):
            raise KeyFileError("the key file asks for an unreasonable scrypt cost", expected="n 2^10..2^20, r 1..8, p 1..4")
        return self


def seal(path: Path, key: KeyHolderKey, public: PublicFile, passphrase: str, cost: ScryptCost = ScryptCost()) -> None:  # noqa: B008
    """Write the key's sealed file: mode 0600, atomically and durably."""
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    cost.check()
    header = _HEADER.pack(
        _MAGIC, key.party.encode(), key.key_id, key.epoch, cost.log2_n, cost.r, cost.p, salt, nonce
    )
    secret = key.to_secret_bytes(public.public_key, SECRET_ACCESS)
    sealed = AESGCM(_derive(passphrase, salt, cost)).encrypt(nonce, secret, _context(header, public))
    write_file(path, header + sealed, secret=True)


def unseal(path: Path, party: Party, public: PublicFile, passphrase: str) -> KeyHolderKey:
    """Return the key in a sealed file.

    Raises KeyFileError if it is missing, truncated, readable by others, or of another party;
    KeyMismatchError if it is for another public key; WrongPassphraseError if the passphrase does not open it.
    """
    header, sealed = _read(path)
    magic, letter, key_id, epoch, log2_n, r, p, salt, nonce = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise KeyFileError("not a sealed key file", expected=_MAGIC.decode())
    if letter != party.encode():
        raise KeyFileError("the key file of another party", got=letter.decode("ascii", "replace"), expected=party)
    if key_id != public.public_key.key_id:
        raise KeyMismatchError(
            "the key file belongs to another public key", got=key_id.hex(), expected=public.public_key.key_id.hex()
        )
    aead = AESGCM(_derive(passphrase, salt, ScryptCost(log2_n, r, p).check()))
    try:
        secret = aead.decrypt(nonce, sealed, _context(header, public))
    except InvalidTag:
        # An altered file and a wrong passphrase look alike to the cipher.
        raise WrongPassphraseError(
            "the passphrase does not open the key file, or the file was altered or is of another installation"
        ) from None
    key = KeyHolderKey.from_secret_bytes(secret, public.public_key)
    if key.party != party or key.epoch != epoch:
        raise KeyFileError("the key file contradicts its own header")
    return key


def _read(path: Path) -> tuple[bytes, bytes]:
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise KeyFileError("the key file cannot be read", got=error.strerror, expected=str(path)) from None
    if stat.S_IMODE(mode) & 0o077:
        raise KeyFileError("the key file is open to others", got=oct(stat.S_IMODE(mode)), expected="mode 0600")
    if len(data) <= _HEADER.size + _TAG_BYTES:
        raise KeyFileError("the key file is truncated", got=f"{len(data)} bytes")
    return data[: _HEADER.size], data[_HEADER.size :]


def _derive(passphrase: str, salt: bytes, cost: ScryptCost) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << cost.log2_n, r=cost.r, p=cost.p).derive(passphrase.encode())


def _context(header: bytes, public: PublicFile) -> bytes:
    return digest("sealed key", header, public.public_key.parameters.name, public.installation)
