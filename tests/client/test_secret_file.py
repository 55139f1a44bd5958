"""The keys of a device are refused if anybody but its owner has a right to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.transport.parties import tls_of
from veilmatch.client.config import DeviceSettings
from veilmatch.client.wire.signing import DeviceKey
from veilmatch.client.wire.transport import open_matchers
from veilmatch.common.access_list import ATTRIBUTE, ENTRY, HEADER, VERSION, Tag
from veilmatch.common.secret_file import read_secret
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import KeyFileError

WRONG = [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o660, 0o666, 0o777]


@pytest.mark.parametrize("mode", WRONG, ids=oct)
def test_a_signing_key_that_is_open_to_others_is_refused(settings: DeviceSettings, mode: int) -> None:
    settings.signing_key.chmod(mode)
    with pytest.raises(KeyFileError, match="signing key of the device is open to others") as caught:
        DeviceKey.from_file(settings.signing_key)
    assert (caught.value.got, caught.value.expected) == (f"{settings.signing_key}: mode {mode:04o}", "mode 0600")


@pytest.mark.parametrize("mode", WRONG, ids=oct)
async def test_a_tls_key_that_is_open_to_others_is_refused(settings: DeviceSettings, mode: int, tmp_path: Path) -> None:
    tls = TlsSettings(**tls_of(tmp_path, "kiosk-1", is_server=False).model_dump())
    tls.key.chmod(mode)
    with pytest.raises(KeyFileError, match="TLS key is open to others") as caught:
        open_matchers(settings.model_copy(update={"tls": tls}))
    assert caught.value.got == f"{tls.key}: mode {mode:04o}"
    tls.key.chmod(0o400)
    open_matchers(settings.model_copy(update={"tls": tls}))


def test_what_is_no_file_or_too_long_for_a_key_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "long").touch(mode=0o600)
    os.truncate(tmp_path / "long", (1 << 16) + 1)
    for name, why in (("pipe", "is not a file"), ("long", "is not a key")):
        with pytest.raises(KeyFileError, match=why):
            read_secret(tmp_path / name, "the TLS key")


#: An access list as systemd makes it for the user of a service, without the entries that a test varies.
BASE = [(Tag.OWNER, 4, 0xFFFFFFFF), (Tag.MOST, 4, 0xFFFFFFFF), (Tag.OTHERS, 0, 0xFFFFFFFF)]
MINE, NO_GROUP = (Tag.USER, 4, os.geteuid()), (Tag.OWNING_GROUP, 0, 0xFFFFFFFF)


def listed(path: Path, *entries: tuple[int, int, int]) -> Path:
    path.write_bytes(b"a secret")
    packed = HEADER.pack(VERSION) + b"".join(ENTRY.pack(*entry) for entry in sorted((*BASE, *entries)))
    try:
        os.setxattr(path, ATTRIBUTE, packed)
    except OSError as error:
        pytest.skip(f"no access lists on this file system: {error.strerror}")
    return path


def test_what_an_access_list_gives_to_this_user_alone_is_read(tmp_path: Path) -> None:
    path = listed(tmp_path / "credential", MINE, NO_GROUP)
    assert path.stat().st_mode & 0o777 == 0o440  # what a mode alone would be refused for
    assert read_secret(path, "the TLS key") == b"a secret"


@pytest.mark.parametrize(
    "others",
    [
        [MINE, (Tag.OWNING_GROUP, 4, 0xFFFFFFFF)],
        [MINE, NO_GROUP, (Tag.USER, 4, os.geteuid() + 1)],
        [MINE, NO_GROUP, (Tag.GROUP, 4, os.getegid())],
    ],
    ids=["owning group", "another user", "a group"],
)
def test_an_access_list_that_names_anybody_else_is_refused(others: list[tuple[int, int, int]], tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="open to others"):
        read_secret(listed(tmp_path / "credential", *others), "the TLS key")
