"""The sealed key file of a key holder: its key encrypted under a passphrase.

    seal(Path("share.key"), key, public, passphrase)
    key = unseal(Path("share.key"), "a", public, passphrase)
    reseal(Path("share.key"), "a", public, passphrase, another)
    key, sealing = open_sealed(Path("share.key"), "a", public, passphrase)
    sealing.seal(Path("share.key.next"), refreshed)

Layout, integers big-endian: magic (8 bytes), party (1), key id (16), epoch (4), log2 n, r and p of scrypt (1 each),
salt (16), nonce (12), installation (16); then the key under AES-256-GCM with its tag. The associated data is all
of this header and the name of the parameter set, so nothing that the file was made for can be changed in it.
"""

from __future__ import annotations

import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from veilmatch.common.secret_file import read_private
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import (
    ConfigurationError,
    KeyFileError,
    KeyMismatchError,
    VeilmatchError,
    WrongPassphraseError,
)
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.keys.shares import KeyHolderKey, key_bytes
from veilmatch.crypto.secret_access import SECRET_ACCESS, SecretHolder
from veilmatch.server.installation.files import write_file
from veilmatch.server.installation.stretching import DEFAULT_COST, ScryptCost, stretch

__all__ = [
    "DEFAULT_COST",
    "ScryptCost",
    "Sealing",
    "old_file",
    "open_sealed",
    "recovered_file",
    "replaced_file",
    "reseal",
    "seal",
    "unfinished_files",
    "unseal",
    "waiting_file",
]

_HEADER = struct.Struct(">8s1s16sIBBB16s12s16s")
_MAGIC = b"VMSEAL01"
_TAG_BYTES, _SALT_BYTES, _NONCE_BYTES = 16, 16, 12
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

    def context(self, public: PublicFile) -> bytes:
        """The associated data."""
        return digest("sealed key", self.encode(), public.public_key.parameters.name)


def seal(path: Path, key: KeyHolderKey, public: PublicFile, passphrase: str, cost: ScryptCost = DEFAULT_COST) -> None:
    """Write the key's sealed file: mode 0600, atomically and durably; an older one is replaced.

    Raises KeyMismatchError if the key is not of this public key, ConfigurationError if the passphrase is
    not text, KeyFileError for an unreasonable cost, OSError if the file cannot be written.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    Sealing(key.party, public, salt, cost, AESGCM(stretch(passphrase, salt, cost))).seal(path, key)


def unseal(path: Path, party: Party, public: PublicFile, passphrase: str, *, epoch: int | None = None) -> KeyHolderKey:
    """Return the key in a sealed file, which must be of this party, installation and public key.

    epoch: which one it must be of; None accepts any, as the file is where a daemon learns its epoch. Raises
    KeyFileError if the file is missing, truncated, altered, readable by group or others, or of another party;
    KeyMismatchError if it is for another installation, public key or epoch; WrongPassphraseError if the passphrase
    does not open it; UnavailableError if memory is too short for its scrypt cost.
    """
    return open_sealed(path, party, public, passphrase, epoch=epoch)[0]


def require_sealed(path: Path, party: Party, public: PublicFile) -> int:
    """Return the epoch that a sealed file states, as far as can be told without its passphrase; see `unseal`."""
    return _opened(path, party, public, None)[0].epoch


def open_sealed(
    path: Path, party: Party, public: PublicFile, passphrase: str, *, epoch: int | None = None
) -> tuple[KeyHolderKey, Sealing]:
    """Return what `unseal` returns, and what seals other keys of this party under the same passphrase."""
    header, sealed = _opened(path, party, public, epoch)
    cipher = AESGCM(stretch(passphrase, header.salt, header.cost))
    sealing = Sealing(party, public, header.salt, header.cost, cipher)
    return sealing.decrypt(path, header, sealed), sealing


@dataclass(frozen=True, slots=True, repr=False)
class Sealing(SecretHolder):
    """What a daemon keeps instead of the passphrase: the key that was derived from it, with its salt and cost.

    It opens and seals the key files of one party under one passphrase. Nonces are random: 2^16 refreshes are far
    from the 2^32 files that one AES-GCM key may seal.
    """

    party: Party
    public: PublicFile
    _salt: bytes
    _cost: ScryptCost
    _cipher: AESGCM

    def seal(self, path: Path, key: KeyHolderKey) -> None:
        """Write a key's sealed file; see `seal`."""
        if key.key_id != self.public.public_key.key_id:
            raise KeyMismatchError("a key share of another public key", got=key.key_id.hex())
        nonce = secrets.token_bytes(_NONCE_BYTES)
        header = _Header(
            key.party.encode(), key.key_id, key.epoch, self._cost, self._salt, nonce, self.public.installation
        )
        secret = key.to_secret_bytes(self.public.public_key, SECRET_ACCESS)
        sealed = self._cipher.encrypt(nonce, secret, header.context(self.public))
        write_file(path, header.encode() + sealed, secret=True)

    def unseal(self, path: Path, *, epoch: int | None = None) -> KeyHolderKey:
        """Return the key in a file of the same sealing; see `unseal`. Raises KeyMismatchError for another sealing."""
        header, sealed = _opened(path, self.party, self.public, epoch)
        if (header.salt, header.cost) != (self._salt, self._cost):
            raise KeyMismatchError(
                f"the key file of keyholder-{self.party} was sealed again, under another passphrase, or altered",
                got=str(path),
                party=f"keyholder-{self.party}",
            )
        try:
            return self.decrypt(path, header, sealed)
        except WrongPassphraseError:
            # This passphrase has opened a file of the same salt.
            raise KeyFileError(
                f"the key file of keyholder-{self.party} was altered",
                got=str(path),
                expected="the copy that was made after the last refresh",
            ) from None

    def decrypt(self, path: Path, header: _Header, sealed: bytes) -> KeyHolderKey:
        """Return the key in the content of the file `path`."""
        try:
            secret = self._cipher.decrypt(header.nonce, sealed, header.context(self.public))
        except InvalidTag:
            # A wrong passphrase and an altered file look alike to the cipher.
            raise WrongPassphraseError(
                f"the passphrase does not open the key file of keyholder-{self.party}, or the file was altered",
                party=f"keyholder-{self.party}",
                got=str(path),
            ) from None
        key = KeyHolderKey.from_secret_bytes(secret, self.public.public_key)
        if key.party != self.party or key.epoch != header.epoch:
            raise KeyFileError("the key file contradicts its own header")
        return key


def waiting_file(path: Path) -> Path:
    """Return where the key of the next epoch waits while a refresh is not finished: beside the key file itself."""
    return _beside(path, ".next")


def old_file(path: Path) -> Path:
    """Return where the key of the epoch before is kept while a refresh is not finished."""
    return _beside(path, ".old")


def recovered_file(path: Path) -> Path:
    """Return where a new share waits until a recovery takes it into use (server/recovery)."""
    return _beside(path, ".recovered")


def replaced_file(path: Path) -> Path:
    """Return where the share of before a recovery is kept until all three are known to use their new ones."""
    return _beside(path, ".replaced")


def unfinished_files(path: Path) -> list[Path]:
    """Return what is beside a key file because a refresh or a recovery is not finished."""
    found = waiting_file(path), old_file(path), recovered_file(path), replaced_file(path)
    return [one for one in found if one.exists()]


def _beside(path: Path, suffix: str) -> Path:
    # A link stays what it is: the file that it leads to is replaced.
    target = path.resolve()
    return target.with_name(target.name + suffix)


def reseal(path: Path, party: Party, public: PublicFile, old: str, new: str, cost: ScryptCost = DEFAULT_COST) -> None:
    """Let a sealed file open with the passphrase `new` instead of `old`; the key in it stays the same.

    The file is replaced at once when the new one is complete and durable: until then the old one is untouched. A
    link stays, and the file that it leads to is replaced. Raises what `unseal` raises, and ConfigurationError if
    both passphrases are the same, if the file is another user's, who could not read a new one, if it cannot be
    written, or if a refresh is not finished: the other key beside it would need the old passphrase.
    """
    key = unseal(path, party, public, old)
    for other in unfinished_files(path):
        raise ConfigurationError(
            "a refresh or a recovery is not finished", got=str(other), expected="the other key holders, to finish it"
        )
    if new == old:
        raise ConfigurationError("the new passphrase is the present one", expected="another passphrase")
    target = path.resolve()
    try:
        if target.stat().st_uid != os.geteuid():
            raise ConfigurationError("the key file is another user's", expected="to be run by its owner")
        seal(target, key, public, new, cost)
    except OSError as error:
        raise ConfigurationError("the key file cannot be written", got=error.strerror, expected=str(path)) from None


def _opened(path: Path, party: Party, public: PublicFile, epoch: int | None) -> tuple[_Header, bytes]:
    """Return a file's header, which is that of the right file, and what is sealed, of the size of a key.

    See `unseal` for errors.
    """
    try:
        return _checked(_read(path), party, public, epoch)
    except (KeyFileError, KeyMismatchError) as error:
        if str(path) in str(error):
            raise
        raise VeilmatchError.from_fields(error.fields() | {"message": f"{path}: {error.message}"}) from None


def _checked(data: bytes, party: Party, public: PublicFile, epoch: int | None) -> tuple[_Header, bytes]:
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
    if len(sealed) != (size := key_bytes(public.public_key) + _TAG_BYTES):
        what = "is truncated" if len(sealed) < size else "is too long"
        raise KeyFileError(
            f"the key file of keyholder-{party} {what}", got=f"{len(data)} bytes", expected=_HEADER.size + size
        )
    return header, sealed


def _read(path: Path) -> bytes:
    """Return the file's bytes; its mode is that of the very file that is read."""
    try:
        data = read_private(path, "the key file", _MAX_BYTES)
    except OSError as error:
        raise KeyFileError("the key file cannot be read", got=error.strerror, expected=str(path)) from None
    if len(data) <= _HEADER.size + _TAG_BYTES:
        raise KeyFileError("the key file is truncated", got=f"{len(data)} bytes")
    if len(data) > _MAX_BYTES:
        raise KeyFileError("not a sealed key file", got=f"over {_MAX_BYTES} bytes")
    return data
