"""Opening a key holder's key: public file, passphrase, sealed file."""

from __future__ import annotations

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation.passphrase import read_passphrase
from veilmatch.server.installation.sealed import open_sealed
from veilmatch.server.keyholder.refresh.key_files import KeyFiles


def open_key(settings: KeyHolderSettings) -> tuple[PublicFile, KeyHolderKey]:
    """Return the installation's public file and this key holder's key; see `sealed.unseal` for errors."""
    files = open_key_files(settings, read_passphrase(settings.passphrase_file))
    return files.public, files.current


def open_key_files(settings: KeyHolderSettings, passphrase: str) -> KeyFiles:
    """Return this key holder's key files, opened; see `sealed.unseal` and `KeyFiles` for errors."""
    public = read_public_file(settings.public_key)
    return KeyFiles(settings.key_file, *open_sealed(settings.key_file, settings.party, public, passphrase))
