"""The sealed key file of a key holder: its key encrypted under a passphrase.

    seal(Path("share.key"), key, public, passphrase)
    key = unseal(Path("share.key"), "a", public, passphrase)
    reseal(Path("share.key"), "a", public, passphrase, another)

Layout, integers big-endian: magic (8 bytes), party (1), key id (16), epoch (4), log2 n, r and p of scrypt (1 each),
salt (16), nonce (12), installation (16); then the key under AES-256-GCM with its tag. The associated data is all
of this header and the name of the parameter set, so nothing that the file was made for can be changed in it.
"""

from __future__ import annotations

import os
import secrets
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, KeyMismatchError, WrongPassphraseError
from veilmatch.crypto.keys import KeyHolderKey, Party
from veilmatch.crypto.public_key_format import PublicFile
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.installation.files import write_file
from veilmatch.server.installation.stretching import DEFAULT_COST, ScryptCost, stretch

__all__ = ["DEFAULT_COST", "ScryptCost", "reseal", "seal", "unseal"]

_HEADER = struct.Struct(">8s1s16sIBBB16s12s16s")
_MAGIC = b"VMSEAL01"
_TAG_BYTES = 16
#: No sealed key is longer; one of 3072 bits has 1.1 kB.
_MAX_BYTES = 1 << 14


@dataclass(frozen=True)
class _Header:
    """What a sealed file says in clear about itself."""

    party: bytes
    key_id: bytes
    epoch: int
    cost: ScryptCost
    salt: bytes
    nonce: bytes
    installation: bytes

    def encode(self) -> bytes:
        cost = (self.cost.log2_n, self.cost.r, self.cost.p)
        return _HEADER.pack(
            _MAGIC, self.party, self.key_id, self.epoch, *cost, self.salt, self.nonce, self.installation
        )

    @staticmethod
    def decode(data: bytes) -> _Header:
        magic, party, key_id, epoch, log2_n, r, p, salt, nonce, installation = _HEADER.unpack(data)
        if magic != _MAGIC:
            raise KeyFileError("not a sealed key file", expected=_MAGIC.decode())
        return _Header(party, key_id, epoch, ScryptCost(log2_n, r, p).check(), salt, nonce, installation)

    def cipher(self, passphrase: str) -> AESGCM:
        """Derive the key of the file."""
        return AESGCM(stretch(passphrase, self.salt, self.cost))

    def context(self, public: PublicFile) -> bytes:
        """The associated data."""
        return digest("sealed key", self.encode(), public.public_key.parameters.name)


def seal(path: Path, key: KeyHolderKey, public: PublicFile, passphrase: str, cost: ScryptCost = DEFAULT_COST) -> None:
    """Write the key's sealed file: mode 0600, atomically and durably; an older one is replaced.

    Raises KeyMismatchError if the key is not of this public key, ConfigurationError if the passphrase is
    not text, KeyFileError for an unreasonable cost, OSError if the file cannot be written.
    """
    if key.key_id != public.public_key.key_id:
        raise KeyMismatchError("a key share of another public key", got=key.key_id.hex())
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    header = _Header(key.party.encode(), key.key_id, key.epoch, cost, salt, nonce, public.installation)
    secret = key.to_secret_bytes(public.public_key, SECRET_ACCESS)
    sealed = header.cipher(passphrase).encrypt(nonce, secret, header.context(public))
    write_file(path, header.encode() + sealed, secret=True)


def unseal(path: Path, party: Party, public: PublicFile, passphrase: str, *, epoch: int | None = None) -> KeyHolderKey:
    """Return the key in a sealed file, which must be of this party, installation and public key.

    epoch: which one it must be of; None accepts any, as the file is where a daemon learns its epoch. Raises
    KeyFileError if the file is missing, truncated, altered, readable by group or others, or of another party;
    KeyMismatchError if it is for another installation, public key or epoch; WrongPassphraseError if the passphrase
    does not open it; UnavailableError if memory is too short for its scrypt cost.
    """
    data = _read(path)
    header, sealed = _Header.decode(data[: _HEADER.size]), data[_HEADER.size :]
    if header.party != party.encode():
        raise KeyFileError("the key file of another party", got=header.party.decode("ascii", "replace"), expected=party)
    for what, got, expected in (
        ("public key", header.key_id.hex(), public.public_key.key_id.hex()),
        ("installation", header.installation.hex(), public.installation.hex()),
        ("epoch", header.epoch, header.epoch if epoch is None else epoch),
    ):
        if got != expected:
            raise KeyMismatchError(f"the key file belongs to another {what}", got=got, expected=expected)
    try:
        secret = header.cipher(passphrase).decrypt(header.nonce, sealed, header.context(public))
    except InvalidTag:
        # A wrong passphrase and an altered file look alike to the cipher.
        raise WrongPassphraseError(
            "the passphrase does not open the key file, or the file was altered", got=str(path)
        ) from None
    key = KeyHolderKey.from_secret_bytes(secret, public.public_key)
    if key.party != party or key.epoch != header.epoch:
        raise KeyFileError("the key file contradicts its own header")
    return key


def reseal(path: Path, party: Party, public: PublicFile, old: str, new: str, cost: ScryptCost = DEFAULT_COST) -> None:
    """Let a sealed file open with the passphrase `new` instead of `old`; the key in it stays the same.

    The file is replaced at once when the new one is complete and durable: until then the old one is untouched. A
    link stays, and the file that it leads to is replaced. Raises what `unseal` raises, and ConfigurationError if
    both passphrases are the same, if the file is another user's, who could not read a new one, or if it cannot be
    written.
    """
    key = unseal(path, party, public, old)
    if new == old:
        raise ConfigurationError("the new passphrase is the present one", expected="another passphrase")
    target = path.resolve()
    try:
        if target.stat().st_uid != os.geteuid():
            raise ConfigurationError("the key file is another user's", expected="to be run by its owner")
        seal(target, key, public, new, cost)
    except OSError as error:
        raise ConfigurationError("the key file cannot be written", got=error.strerror, expected=str(path)) from None


def _read(path: Path) -> bytes:
    """Return the file's bytes; its mode is that of the very file that is read."""
    try:
        # Not blocking: a pipe in place of the file must not hang a daemon.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            data = file.read(_MAX_BYTES + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise KeyFileError("the key file cannot be read", got=error.strerror, expected=str(path)) from None
    if not stat.S_ISREG(mode):
        raise KeyFileError("the key file is not a file", expected=str(path))
    if stat.S_IMODE(mode) & 0o077:
        raise KeyFileError("the key file is open to others", got=oct(stat.S_IMODE(mode)), expected="mode 0600")
    if len(data) <= _HEADER.size + _TAG_BYTES:
        raise KeyFileError("the key file is truncated", got=f"{len(data)} bytes")
    if len(data) > _MAX_BYTES:
        raise KeyFileError("not a sealed key file", got=f"over {_MAX_BYTES} bytes")
    return data
