"""Every file with a secret that a party reads is refused if anybody but its owner has a right to it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.installation.making import CHEAP, PASSPHRASE, organisation_keys, public_file
from tests.transport.parties import tls_of
from veilmatch.common.secret_file import read_private
from veilmatch.crypto.errors import ConfigurationError, KeyFileError
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.certifying.certifier import Certifier, Grant
from veilmatch.server.installation.certifying.certifier_file import seal_certifier, unseal_certifier
from veilmatch.server.installation.certifying.devices import request_again
from veilmatch.server.installation.files import write_file
from veilmatch.server.installation.folders import Issuer
from veilmatch.server.installation.organisation_file import seal_organisation, unseal_organisation
from veilmatch.server.installation.passphrase import read_passphrase
from veilmatch.server.transport.channels import channel_to, server_credentials

#: Every right that group or others can have, and the modes that people set.
WRONG = [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o660, 0o666, 0o777]


def tls_server(folder: Path) -> tuple[Path, Callable[[], object]]:
    tls = tls_of(folder, "matcher-a")
    return tls.key, lambda: server_credentials(tls)


def tls_channel(folder: Path) -> tuple[Path, Callable[[], object]]:
    tls = tls_of(folder, "matcher-a")
    return tls.key, lambda: channel_to("localhost:1", "matcher-b", tls)


def certifier_key(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = folder / "certifier.key"
    seal_certifier(path, Certifier.fresh("a"), public_file(), PASSPHRASE, CHEAP)
    return path, lambda: unseal_certifier(path, "a", public_file(), PASSPHRASE)


def organisation_key(folder: Path) -> tuple[Path, Callable[[], object]]:
    path = folder / "organisation.key"
    seal_organisation(path, organisation_keys()["a"], public_file(), PASSPHRASE, CHEAP)
    return path, lambda: unseal_organisation(path, "a", public_file(), PASSPHRASE)


def authority_key(folder: Path) -> tuple[Path, Callable[[], object]]:
    (folder / "authority").mkdir()
    path = folder / "authority" / "ca-key.pem"
    authority = Authority.fresh()
    write_file(path, authority.key_pem(PASSPHRASE, CHEAP), secret=True)
    write_file(path.with_name("ca.pem"), authority.certificate_pem())
    write_file(folder / "public.json", public_file().encode())
    return path, lambda: Issuer.open(folder, PASSPHRASE, CHEAP)


def signing_key(folder: Path) -> tuple[Path, Callable[[], object]]:
    write_file(folder / "public.json", public_file().encode())
    request_again(folder, "door", Grant(("enrol",), ("main",), 30))
    return folder / "signing.key", lambda: request_again(folder, "door", Grant(("enrol",), ("main",), 30))


def passphrase_file(folder: Path) -> tuple[Path, Callable[[], object]]:
    write_file(folder / "passphrase", b"a passphrase", secret=True)
    return folder / "passphrase", lambda: read_passphrase(folder / "passphrase")


FILES = [tls_server, tls_channel, certifier_key, organisation_key, authority_key, signing_key, passphrase_file]


@pytest.mark.parametrize("mode", WRONG, ids=oct)
@pytest.mark.parametrize("made", FILES)
def test_a_file_with_a_secret_that_is_open_to_others_is_refused(
    made: Callable[[Path], tuple[Path, Callable[[], object]]], mode: int, tmp_path: Path
) -> None:
    path, use = made(tmp_path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="open to others") as caught:
        use()
    assert (caught.value.got, caught.value.expected) == (f"{path}: mode {mode:04o}", "mode 0600")


@pytest.mark.parametrize("made", [tls_server, organisation_key, authority_key, signing_key, passphrase_file])
def test_a_file_of_the_owner_alone_is_read(
    made: Callable[[Path], tuple[Path, Callable[[], object]]], tmp_path: Path
) -> None:
    path, use = made(tmp_path)
    for mode in (0o600, 0o400):
        path.chmod(mode)
        use()


def test_a_pipe_in_place_of_a_key_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFileError, match="not a file"):
        read_private(tmp_path / "pipe", "the TLS key")


def test_a_passphrase_may_come_through_a_pipe() -> None:
    out, into = os.pipe()
    try:
        os.write(into, b"through a pipe\n")
        os.close(into)
        assert read_passphrase(Path(f"/dev/fd/{out}")) == "through a pipe"
    finally:
        os.close(out)


def test_a_missing_file_is_still_what_it_was(tmp_path: Path) -> None:
    tls = tls_of(tmp_path, "matcher-a").model_copy(update={"key": tmp_path / "missing.pem"})
    with pytest.raises(ConfigurationError, match=re.escape("missing.pem")):
        server_credentials(tls)
