"""A sealed file of an organisation's Ed25519 key, under a passphrase: what certifier.key and organisation.key are.

Layout, integers big-endian: magic (8 bytes), party (1), log2 n, r and p of scrypt (1 each), salt (16), nonce (12),
installation (16); then the key under AES-256-GCM with its tag. The associated data is all of this header. It is not of
one public key, and outlives it.
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from veilmatch.common.secret_file import read_private
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, KeyMismatchError, WrongPassphraseError
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.secret_access import SECRET_ACCESS, SecretAccess
from veilmatch.server.installation.files import write_file
from veilmatch.server.installation.stretching import DEFAULT_COST, ScryptCost, stretch

_HEADER = struct.Struct(">8s1sBBB16s12s16s")
#: Header, key and tag.
_BYTES = _HEADER.size + 32 + 16


class SigningKey(Protocol):
    """A handle of an Ed25519 key of an organisation."""

    @property
    def party(self) -> Party:
        """Whose it is."""

    @property
    def public_bytes(self) -> bytes:
        """The public key, 32 bytes."""

    def to_secret_bytes(self, access: SecretAccess) -> bytes:
        """Return the private key, 32 bytes."""


_K = TypeVar("_K", bound=SigningKey)


@dataclass(frozen=True)
class SigningFile(Generic[_K]):
    """One kind of such a file.

    magic: 8 bytes. name: of what is in it, for errors. made: the handle of a secret. named: the public key that the
    public file says for an organisation.
    """

    magic: bytes
    name: str
    made: Callable[[Party, bytes], _K]
    named: Callable[[PublicFile, Party], bytes]

    def seal(self, path: Path, key: _K, public: PublicFile, passphrase: str, cost: ScryptCost = DEFAULT_COST) -> None:
        """Write the file, of mode 0600, complete and durable or not at all.

        Raises ConfigurationError if the passphrase is not text, KeyFileError for an unreasonable cost, OSError if the
        file cannot be written.
        """
        salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
        header = _HEADER.pack(
            self.magic, key.party.encode(), cost.log2_n, cost.r, cost.p, salt, nonce, public.installation
        )
        cipher = AESGCM(stretch(passphrase, salt, cost))
        sealed = cipher.encrypt(nonce, key.to_secret_bytes(SECRET_ACCESS), self._context(header))
        write_file(path, header + sealed, secret=True)

    def unseal(self, path: Path, party: Party, public: PublicFile, passphrase: str) -> _K:
        """Return the key: that which the public file names for this organisation.

        Raises ConfigurationError if the file cannot be read, KeyFileError if it is readable by group or others, not one
        of this party or not the key that the public file names, KeyMismatchError if it is of another installation,
        WrongPassphraseError if the passphrase does not open it.
        """
        salt, cost, header, nonce, sealed = self._opened(path, party, public)
        try:
            secret = AESGCM(stretch(passphrase, salt, cost)).decrypt(nonce, sealed, self._context(header))
        except InvalidTag:
            raise WrongPassphraseError(
                f"the passphrase does not open the {self.name}, or the file was altered", got=str(path)
            ) from None
        key = self.made(party, secret)
        if key.public_bytes != self.named(public, party):
            raise KeyFileError(f"the {self.name} is not the one that the public file names", got=str(path))
        return key

    def require_sealed(self, path: Path, party: Party, public: PublicFile) -> None:
        """Raise what `unseal` raises, as far as can be told without the passphrase."""
        self._opened(path, party, public)

    def reseal(
        self, path: Path, party: Party, public: PublicFile, old: str, new: str, cost: ScryptCost = DEFAULT_COST
    ) -> None:
        """Replace the file by one that opens with `new`; one that does already is left as it is.

        So all files of a party can be resealed again after an interruption between them.
        """
        try:
            key = self.unseal(path, party, public, old)
        except WrongPassphraseError:
            self.unseal(path, party, public, new)
            return
        if new == old:
            raise ConfigurationError("the new passphrase is the present one", expected="another passphrase")
        target = path.resolve()
        try:
            if target.stat().st_uid != os.geteuid():
                raise ConfigurationError(f"the {self.name} is another user's", expected="to be run by its owner")
            self.seal(target, key, public, new, cost)
        except OSError as error:
            raise ConfigurationError(f"the {self.name} cannot be written", got=f"{path}: {error.strerror}") from None

    def _opened(self, path: Path, party: Party, public: PublicFile) -> tuple[bytes, ScryptCost, bytes, bytes, bytes]:
        """Return salt, cost, header, nonce and what is sealed of the right file; see `unseal` for errors."""
        try:
            data = read_private(path, f"the {self.name}", _BYTES)
        except OSError as error:
            raise ConfigurationError(f"the {self.name} cannot be read", got=f"{path}: {error.strerror}") from None
        if len(data) != _BYTES or not data.startswith(self.magic):
            raise KeyFileError(f"not a sealed {self.name}", got=str(path), expected=f"{_BYTES} bytes")
        _, letter, log2_n, r, p, salt, nonce, installation = _HEADER.unpack_from(data)
        if letter != party.encode():
            raise KeyFileError(
                f"the {self.name} of another party", got=letter.decode("ascii", "replace"), expected=party
            )
        if installation != public.installation:
            raise KeyMismatchError(f"the {self.name} of another installation", got=installation.hex())
        return salt, ScryptCost(log2_n, r, p).check(), data[: _HEADER.size], nonce, data[_HEADER.size :]

    def _context(self, header: bytes) -> bytes:
        return digest(f"sealed {self.name}", header)
