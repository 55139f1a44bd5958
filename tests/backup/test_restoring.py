"""A backup that somebody made up is not put into the folder of a party that is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.backup.test_manifest import GOOD
from tests.crypto.encryption.test_public_key_format import FILE
from veilmatch.crypto.errors import KeyMismatchError
from veilmatch.server.backup.manifest import Manifest
from veilmatch.server.backup.restoring import _require_own


def test_a_backup_with_the_name_of_the_installation_and_other_keys_is_refused(tmp_path: Path) -> None:
    """Its galleries are signed with these keys, so it is sound for whoever looks at it alone."""
    backup, folder = tmp_path / "backup", tmp_path / "folder"
    for place in (backup, folder):
        place.mkdir()
        (place / "public.json").write_bytes(FILE.encode())
    manifest = Manifest.model_validate(GOOD | {"installation": FILE.installation.hex()})
    _require_own(manifest, backup, folder)
    made_up = replace(FILE, signers=tuple(bytes([7 * one + 1]) * 32 for one in range(1, 4)))
    (backup / "public.json").write_bytes(made_up.encode())
    with pytest.raises(KeyMismatchError, match=r"another public\.json"):
        _require_own(manifest, backup, folder)
    (backup / "public.json").write_bytes(replace(made_up, installation=bytes(16)).encode())
    with pytest.raises(KeyMismatchError, match="another installation"):
        _require_own(manifest, backup, folder)
