"""The sealed files of an organisation, its secrets encrypted under a passphrase: key share and certification key.

    seal(Path("share.key"), key, public, passphrase)
    key = unseal(Path("share.key"), "a", public, passphrase)
    reseal(Path("share.key"), "a", public, passphrase, another)

and `seal_certifier`, `unseal_certifier`, `reseal_certifier` for `certifier.key`.

Layout, integers big-endian: magic (8 bytes), party (1), key id (16), epoch (4), log2 n, r and p of scrypt (1 each),
salt (16), nonce (12), installation (16); then the key under AES-256-GCM with its tag. The associated data is all
of this header and the name of the parameter set, so nothing that the file was made for can be changed in it. The
two kinds differ by their magic. A certification key is not of one public key and may outlive it: key id, epoch and
the name of the parameter set are empty there.
"""

from __future__ import annotations

import os
import secrets
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, KeyMismatchError, WrongPassphraseError
from veilmatch.crypto.keys import KeyHolderKey, Party
from veilmatch.crypto.public_key_format import PublicFile
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.installation.certifier import Certifier
from veilmatch.server.installation.files import write_file
from veilmatch.server.installation.stretching import DEFAULT_COST, ScryptCost, stretch

__all__ = [
    "DEFAULT_COST", "ScryptCost", "reseal", "reseal_certifier", "seal", "seal_certifier", "unseal", "unseal_certifier",
]  # fmt: skip

_HEADER = struct.Struct(">8s1s16sIBBB16s12s16s")
_MAGIC = b"VMSEAL01"
_CERTIFIER_MAGIC = b"VMCERT01"
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
    magic: bytes = _MAGIC

    def encode(self) -> bytes:
        cost = (self.cost.log2_n, self.cost.r, self.cost.p)
        return _HEADER.pack(
            self.magic, self.party, self.key_id, self.epoch, *cost, self.salt, self.nonce, self.installation
        )

    @staticmethod
    def decode(data: bytes, expected: bytes = _MAGIC) -> _Header:
        magic, party, key_id, epoch, log2_n, r, p, salt, nonce, installation = _HEADER.unpack(data)
        if magic != expected:
            raise KeyFileError("not a sealed key file of this kind", expected=expected.decode())
        return _Header(party, key_id, epoch, ScryptCost(log2_n, r, p).check(), salt, nonce, installation, magic)

    def cipher(self, passphrase: str) -> AESGCM:
        """Derive the key of the file."""
        return AESGCM(stretch(passphrase, self.salt, self.cost))

    def context(self, parameter_set: str) -> bytes:
        """The associated data."""
        return digest("sealed key", self.encode(), parameter_set)


@dataclass(frozen=True)
class _Kind:
    """What a sealed file is for. epoch: None accepts any."""

    magic: bytes
    party: Party
    installation: bytes
    key_id: bytes = bytes(16)
    epoch: int | None = 0
    parameter_set: str = ""

    @staticmethod
    def share(party: Party, public: PublicFile, epoch: int | None) -> _Kind:
        key = public.public_key
        return _Kind(_MAGIC, party, public.installation, key.key_id, epoch, key.parameters.name)

    @staticmethod
    def certifier(party: Party, public: PublicFile) -> _Kind:
        return _Kind(_CERTIFIER_MAGIC, party, public.installation)


def seal(path: Path, key: KeyHolderKey, public: PublicFile, passphrase: str, cost: ScryptCost = DEFAULT_COST) -> None:
    """Write the key's sealed file: mode 0600, atomically and durably; an older one is replaced.

    Raises KeyMismatchError if the key is not of this public key, ConfigurationError if the passphrase is
    not text, KeyFileError for an unreasonable cost, OSError if the file cannot be written.
    """
    if key.key_id != public.public_key.key_id:
        raise KeyMismatchError("a key share of another public key", got=key.key_id.hex())
    secret = key.to_secret_bytes(public.public_key, SECRET_ACCESS)
    _write(path, _Kind.share(key.party, public, key.epoch), key.epoch, secret, passphrase, cost)


def seal_certifier(
    path: Path, certifier: Certifier, public: PublicFile, passphrase: str, cost: ScryptCost = DEFAULT_COST
) -> None:
    """Write the sealed file of an organisation's certification key, as `seal` does that of a key share."""
    secret = certifier.to_secret_bytes(SECRET_ACCESS)
    _write(path, _Kind.certifier(certifier.party, public), 0, secret, passphrase, cost)


def unseal(path: Path, party: Party, public: PublicFile, passphrase: str, *, epoch: int | None = None) -> KeyHolderKey:
    """Return the key in a sealed file, which must be of this party, installation and public key.

    epoch: which one it must be of; None accepts any, as the file is where a daemon learns its epoch. Raises
    KeyFileError if the file is missing, truncated, altered, readable by group or others, or of another party;
    KeyMismatchError if it is for another installation, public key or epoch; WrongPassphraseError if the passphrase
    does not open it; UnavailableError if memory is too short for its scrypt cost.
    """
    header, secret = _open(path, _Kind.share(party, public, epoch), passphrase)
    key = KeyHolderKey.from_secret_bytes(secret, public.public_key)
    if key.party != party or key.epoch != header.epoch:
        raise KeyFileError("the key file contradicts its own header")
    return key


def unseal_certifier(path: Path, party: Party, public: PublicFile, passphrase: str) -> Certifier:
    """Return the certification key in a sealed file: that which the public file names for this organisation.

    Raises what `unseal` raises.
    """
    _, secret = _open(path, _Kind.certifier(party, public), passphrase)
    certifier = Certifier.from_secret_bytes(party, secret)
    if certifier.public_bytes != public.organisation(party):
        raise KeyFileError("the certification key is not the one that the public file names", got=str(path))
    return certifier


def reseal(path: Path, party: Party, public: PublicFile, old: str, new: str, cost: ScryptCost = DEFAULT_COST) -> None:
    """Let a sealed file open with the passphrase `new` instead of `old`; the key in it stays the same.

    The file is replaced at once when the new one is complete and durable: until then the old one is untouched. A
    link stays, and the file that it leads to is replaced. Raises what `unseal` raises, and ConfigurationError if
    both passphrases are the same, if the file is another user's, who could not read a new one, or if it cannot be
    written.
    """
    key = unseal(path, party, public, old)
    _replace(path, old, new, lambda target: seal(target, key, public, new, cost))


def reseal_certifier(
    path: Path, party: Party, public: PublicFile, old: str, new: str, cost: ScryptCost = DEFAULT_COST
) -> None:
    """The same for a certification key. One that opens with `new` already is left as it is.

    So both files of an organisation, this one first, can be resealed again after an interruption between them.
    """
    try:
        certifier = unseal_certifier(path, party, public, old)
    except WrongPassphraseError:
        unseal_certifier(path, party, public, new)
        return
    _replace(path, old, new, lambda target: seal_certifier(target, certifier, public, new, cost))


# -- both kinds ---------------------------------------------------------------------------------


def _write(path: Path, kind: _Kind, epoch: int, secret: bytes, passphrase: str, cost: ScryptCost) -> None:
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    header = _Header(kind.party.encode(), kind.key_id, epoch, cost, salt, nonce, kind.installation, kind.magic)
    sealed = header.cipher(passphrase).encrypt(nonce, secret, header.context(kind.parameter_set))
    write_file(path, header.encode() + sealed, secret=True)


def _open(path: Path, kind: _Kind, passphrase: str) -> tuple[_Header, bytes]:
    data = _read(path)
    header, sealed = _Header.decode(data[: _HEADER.size], kind.magic), data[_HEADER.size :]
    if header.party != kind.party.encode():
        found = header.party.decode("ascii", "replace")
        raise KeyFileError("the key file of another party", got=found, expected=kind.party)
    for what, got, expected in (
        ("public key", header.key_id.hex(), kind.key_id.hex()),
        ("installation", header.installation.hex(), kind.installation.hex()),
        ("epoch", header.epoch, header.epoch if kind.epoch is None else kind.epoch),
    ):
        if got != expected:
            raise KeyMismatchError(f"the key file belongs to another {what}", got=got, expected=expected)
    try:
        secret = header.cipher(passphrase).decrypt(header.nonce, sealed, header.context(kind.parameter_set))
    except InvalidTag:
        # A wrong passphrase and an altered file look alike to the cipher.
        raise WrongPassphraseError(
            "the passphrase does not open the key file, or the file was altered", got=str(path)
        ) from None
    return header, secret


def _replace(path: Path, old: str, new: str, seal_at: Callable[[Path], None]) -> None:
    if new == old:
        raise ConfigurationError("the new passphrase is the present one", expected="another passphrase")
    target = path.resolve()
    try:
        if target.stat().st_uid != os.geteuid():
            raise ConfigurationError("the key file is another user's", expected="to be run by its owner")
        seal_at(target)
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
