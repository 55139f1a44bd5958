"""A file of a daemon that is damaged at its start is told of in the last line of its log, which is JSON."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.world import ENVIRONMENT, hold_ceremony, supervised
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.installation.plan import folder_of

TOY = ParameterSet(modulus_bits=1024)
PARTIES = ("keyholder-b", "matcher-b")


def gone(file: Path) -> None:
    file.unlink()


def rubbish(file: Path) -> None:
    file.write_bytes(secrets.token_bytes(max(64, file.stat().st_size)))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new installation, and the folders of a key holder and of a matcher as they were."""
    directory = tmp_path_factory.mktemp("damaged files") / "installation"
    hold_ceremony(directory, TOY)
    for party in PARTIES:
        shutil.copytree(directory / folder_of(party), directory / "kept" / party)
    yield directory


@pytest.mark.parametrize(
    ("party", "file", "damage", "code"),
    [
        ("keyholder-b", "public.json", gone, "configuration"),
        ("keyholder-b", "organisation.key", rubbish, "key_file"),
        ("keyholder-b", "ca.pem", gone, "configuration"),
        ("keyholder-b", "crl.pem", rubbish, "configuration"),
        ("keyholder-b", "keyholder.toml", rubbish, "configuration"),
        ("matcher-b", "tls.pem", rubbish, "configuration"),
        ("matcher-b", "matcher.toml", rubbish, "configuration"),
    ],
)
def test_a_damaged_file_is_told_in_the_last_line(
    kept: Path, party: str, file: str, damage: Callable[[Path], None], code: str
) -> None:
    folder = kept / folder_of(party)
    shutil.rmtree(folder)
    shutil.copytree(kept / "kept" / party, folder)
    damage(folder / file)
    with supervised(kept, ENVIRONMENT) as parties:
        parties.start(party)
        with pytest.raises(VeilmatchError, match=f"{party} did not start") as caught:
            parties.wait_ready()
    assert caught.value.code == code
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert (lines[-1]["event"], lines[-1]["level"]) == ("did not start", "error")
