"""Each party is lost once, and comes back from its backup; what a backup must never do is refused, or not in it."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.world import EVERYBODY, KEY_HOLDERS, PASSPHRASE, World, running, unit, veilmatch
from tests.monitoring.conftest import page
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.errors import DeviceRightsError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.backup.manifest import FORMAT

TOY = ParameterSet(modulus_bits=1024)
FACES = unit(np.random.default_rng(29), 6, TOY.dimension)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One installation, whose parties are lost one after the other."""
    with running(tmp_path_factory.mktemp("drills") / "installation", TOY) as made:
        with made.client() as client:
            for name, face in zip(("ann", "ben"), FACES, strict=False):
                client.enrol_embedding(name, face, model="toy")
        until_level(made)
        yield made


@pytest.fixture(scope="module")
def backups(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A backup of every daemon, made while all of them serve."""
    into = tmp_path_factory.mktemp("backups")
    return {party: Path(command(0, "make", into, "--config", world.folder(party))["path"]) for party in EVERYBODY}


@pytest.fixture
def copied(backups: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda party: Path(shutil.copytree(backups[party], tmp_path / f"copy of {party}"))


def command(status: int, verb: str, *words: object) -> dict[str, Any]:
    """Run `veilmatch backup`, which has to end with this status; return what it prints."""
    done = veilmatch("backup", verb, *map(str, words), "--json")
    assert done.returncode == status, (done.stdout, done.stderr)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def refused(status: int, verb: str, *words: object) -> str:
    error = command(status, verb, *words)["error"]
    return f"{error['message']} | {error['got']} | {error['expected']} | {error['hint']}"


def until_level(world: World) -> None:
    deadline = time.monotonic() + 60
    while veilmatch("gallery", "status", "--config", str(world.folder("matcher-a") / "matcher.toml")).returncode:
        assert time.monotonic() < deadline, "the matchers are not level"
        time.sleep(0.1)


def lose(world: World, party: str) -> Path:
    """Take a daemon's machine away; return where its folder is kept, for what only the authority could give again."""
    world.parties.stop(party)
    gone = world.directory / f"lost {len(list(world.directory.iterdir()))}"
    world.folder(party).rename(gone)
    return gone


def renewed(gone: Path, folder: Path) -> None:
    """Put there what `veilmatch authority renew` hands out: a TLS key is in no backup."""
    shutil.copy2(gone / "tls-key.pem", folder / "tls-key.pem")


# -- what is in a backup, and what is not ----------------------------------------------------------------------


def test_a_backup_holds_what_may_be_taken_and_nothing_else(world: World, backups: dict[str, Path]) -> None:
    common = {"organisation.key", "public.json", "ca.pem", "tls.pem", "crl.pem", "devices/device-1.cert"}
    for party, folder in backups.items():
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        own = {"keyholder.toml", "share.key", "certifier.key", "audit/audit-000000000000.jsonl"}
        own = own if party in KEY_HOLDERS else {"matcher.toml", "gallery.db"}
        assert found == common | own | {"backup.json"}, party
        assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.rglob("*")))
        said = command(0, "verify", folder)
        assert said["party"] == party
        assert said["digest"] == command(0, "verify", folder, "--digest", said["digest"])["digest"]
        left_out = " ".join(said["left_out"])
        assert "tls-key.pem" in left_out and "ledger.db" in left_out
        assert ("stock.db" in left_out) == (party in KEY_HOLDERS)
    # Not a byte of the stock, which no name would show.
    stock = sqlite3.connect(world.folder("keyholder-a") / "data" / "stock.db")
    with closing(stock):
        (generation,) = stock.execute("SELECT value FROM generation").fetchone()
    assert not any(generation in path.read_bytes() for path in backups["keyholder-a"].rglob("*") if path.is_file())


@pytest.mark.parametrize("party", ["keyholder-a", "matcher-b"])
def test_metrics_tell_when_the_last_one_was_made(world: World, backups: dict[str, Path], party: str) -> None:
    made_at = json.loads((backups[party] / "backup.json").read_bytes())["made_at"]
    told = re.findall(r"^veilmatch_backup_timestamp_seconds (\S+)$", page(world, party), re.M)
    assert [float(one) for one in told] == [
        pytest.approx(datetime.datetime.fromisoformat(made_at).timestamp(), abs=1.0)
    ]


def test_a_backup_of_a_matcher_says_where_its_galleries_are(backups: dict[str, Path]) -> None:
    said = [command(0, "verify", backups[f"matcher-{party}"])["galleries"] for party in "abc"]
    assert said[0] == said[1] == said[2]
    assert (said[0][0]["name"], said[0][0]["sequence"]) == ("main", 2)


def test_the_sealed_files_are_opened_with_the_passphrase(backups: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.touch(mode=0o600)
    file.write_text(PASSPHRASE)
    assert command(0, "verify", backups["keyholder-b"], "--passphrase-file", file)["damaged"] is False
    file.write_text("another one")
    found = command(7, "verify", backups["keyholder-b"], "--passphrase-file", file)["findings"]
    assert {Path(one["file"]).name for one in found} == {"organisation.key", "share.key", "certifier.key"}


# -- what is refused --------------------------------------------------------------------------------------------


def edit(folder: Path, **changes: object) -> None:
    path = folder / "backup.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def damage(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)


def test_whatever_is_altered_in_a_backup_is_named_and_not_restored(
    copied: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copied("matcher-b")
    for name in ("gallery.db", "organisation.key", "matcher.toml", "devices/device-1.cert"):
        damage(folder, name)
        (finding,) = command(7, "verify", folder)["findings"]
        assert Path(finding["file"]) == folder / name
        assert "damaged" in refused(7, "restore", folder, tmp_path / "new")
        damage(folder, name)
    (folder / "crl.pem").rename(tmp_path / "crl.pem")
    assert command(7, "verify", folder)["findings"][0]["what"].startswith("it is missing")
    (tmp_path / "crl.pem").rename(folder / "crl.pem")
    (folder / "data").mkdir()
    (folder / "data" / "ledger.db").touch()
    assert "not part of the backup" in command(7, "verify", folder)["findings"][0]["what"]
    assert not (tmp_path / "new").exists()


def test_a_backup_that_names_a_stock_is_refused(copied: Callable[[str], Path]) -> None:
    folder = copied("keyholder-a")
    (folder / "data").mkdir()
    (folder / "data" / "stock.db").write_bytes(b"")
    files = json.loads((folder / "backup.json").read_text())["files"]
    empty = {"bytes": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
    for name in ("data/stock.db", "../stock.db"):
        edit(folder, files=[*files, {"name": name} | empty])
        found = command(7, "verify", folder)["findings"]
        assert any("no backup of such a party has this file" in one["what"] for one in found)


def test_another_digest_and_a_newer_format_are_refused(copied: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copied("matcher-c")
    digest = command(0, "verify", folder)["digest"]
    edit(folder, version="9.9")
    assert command(0, "verify", folder)["digest"] != digest
    found = command(7, "verify", folder, "--digest", digest)["findings"]
    assert "another backup than the one that was noted" in found[0]["what"]
    edit(folder, format=FORMAT + 1)
    assert "newer than this program" in refused(7, "verify", folder)
    assert "newer than this program" in refused(7, "restore", folder, tmp_path / "new")
    assert "not a backup" in refused(3, "verify", tmp_path)


def test_galleries_that_are_not_those_of_the_backup_are_found(copied: Callable[[str], Path]) -> None:
    folder = copied("matcher-a")
    galleries = json.loads((folder / "backup.json").read_text())["galleries"]
    edit(folder, galleries=[galleries[0] | {"sequence": 1}])
    assert "other galleries than the backup says" in command(7, "verify", folder)["findings"][0]["what"]


def test_a_folder_in_use_and_one_of_another_party_are_refused(
    world: World, backups: dict[str, Path], tmp_path: Path
) -> None:
    assert "another daemon uses the data directory" in refused(
        3, "restore", backups["matcher-a"], world.folder("matcher-a")
    )
    other = Path(shutil.copytree(world.folder("matcher-b"), tmp_path / "b", ignore=shutil.ignore_patterns("data")))
    assert "the backup of another party" in refused(3, "restore", backups["matcher-a"], other)
    assert "the backup of another party" in refused(3, "restore", backups["keyholder-b"], other)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").touch()
    assert "is not empty" in refused(3, "restore", backups["matcher-a"], tmp_path / "full")


def test_nothing_goes_beside_data_that_is_there(backups: dict[str, Path], tmp_path: Path) -> None:
    for party, name in (("keyholder-c", "stock.db"), ("matcher-c", "gallery.db")):
        folder = tmp_path / party
        command(0, "restore", backups[party], folder)
        (folder / "data" / name).touch()
        (folder / "organisation.key").unlink()
        assert name in refused(3, "restore", backups[party], folder)
        assert not (folder / "organisation.key").exists()


def test_what_is_damaged_is_not_taken(world: World, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(world.folder("matcher-b"), tmp_path / "b", ignore=shutil.ignore_patterns("data")))
    (folder / "data").mkdir()
    places = (world.folder("matcher-b") / "data" / "gallery.db", folder / "data" / "gallery.db")
    with closing(sqlite3.connect(places[0])) as source, closing(sqlite3.connect(places[1])) as target:
        source.backup(target)
        record = "(SELECT content_id FROM templates WHERE subject = 'ben')"
        target.execute(f"UPDATE contents SET body = zeroblob(length(body)) WHERE id = {record}")
        target.commit()
    assert "no backup was made" in refused(7, "make", tmp_path, "--config", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_no_backup_is_made_while_a_refresh_is_not_finished(backups: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "a"
    command(0, "restore", backups["keyholder-a"], folder)
    shutil.copy2(folder / "share.key", folder / "share.key.next")
    assert "refresh" in refused(3, "make", tmp_path, "--config", folder, "--without-audit")


# -- drills --------------------------------------------------------------------------------------------------


def test_a_matcher_is_lost(world: World, backups: dict[str, Path]) -> None:
    with world.client() as client:
        client.enrol_embedding("cid", FACES[2], model="toy")
    until_level(world)
    gone = lose(world, "matcher-b")
    done = command(0, "restore", backups["matcher-b"], world.folder("matcher-b"))
    assert "gallery.db" in done["written"] and not done["kept"] and "tls-key.pem" in done["notes"][0]
    renewed(gone, world.folder("matcher-b"))
    # An old copy, which says so: it votes about nothing before it has met the other two.
    with closing(sqlite3.connect(world.folder("matcher-b") / "data" / "gallery.db")) as connection:
        assert connection.execute("SELECT sequence, unmet FROM galleries").fetchall() == [(2, "ac")]
    world.restart()
    until_level(world)
    with world.client(pairs=["ab"]) as client:
        assert client.verify_embedding("cid", FACES[2], model="toy")
        client.erase("cid")
    until_level(world)


def test_a_key_holder_is_lost(world: World, backups: dict[str, Path], tmp_path: Path) -> None:
    def generation() -> bytes:
        with closing(sqlite3.connect(world.folder("keyholder-a") / "data" / "stock.db")) as connection:
            return bytes(connection.execute("SELECT value FROM generation").fetchone()[0])

    before = generation()
    gone = lose(world, "keyholder-a")
    # What no backup does, a copy does: the whole folder, with its stock.
    config = Path(shutil.copytree(gone, tmp_path / "copy")) / "keyholder.toml"
    started = veilmatch("keyholder", "--config", str(config))
    assert started.returncode == 7, started.stderr
    assert "is a copy, or was moved" in started.stderr and "veilmatch keyholder moved" in started.stderr
    assert veilmatch("keyholder", "moved", "--config", str(config)).returncode == 0
    assert not list((tmp_path / "copy" / "data").glob("stock.db*"))
    done = command(0, "restore", backups["keyholder-a"], world.folder("keyholder-a"))
    assert any("epoch" in note for note in done["notes"])
    assert [path.name for path in (world.folder("keyholder-a") / "data").iterdir()] == ["lock"]
    renewed(gone, world.folder("keyholder-a"))
    world.restart()
    assert generation() != before
    for pair in ("ab", "ac"):
        with world.client(pairs=[pair]) as client:
            assert client.verify_embedding("ann", FACES[0], model="toy")
    config = world.folder("keyholder-a") / "keyholder.toml"
    assert veilmatch("keyholder", "moved", "--config", str(config)).returncode == 3, "its daemon runs"


def test_a_whole_organisation_is_lost(world: World, backups: dict[str, Path]) -> None:
    for party in ("matcher-c", "keyholder-c"):
        gone = lose(world, party)
        command(0, "restore", backups[party], world.folder(party))
        renewed(gone, world.folder(party))
    with world.client() as client:
        client.enrol_embedding("dee", FACES[3], model="toy")
    world.restart()
    until_level(world)
    with world.client(pairs=["bc"]) as client:
        assert client.verify_embedding("dee", FACES[3], model="toy")


def test_all_matchers_are_lost(world: World, backups: dict[str, Path], tmp_path: Path) -> None:
    """The newest backup has what counts; what came after it is gone."""
    newer = Path(command(0, "make", tmp_path, "--config", world.folder("matcher-a"))["path"])
    with world.client() as client:
        client.enrol_embedding("eve", FACES[4], model="toy")
    for party in ("matcher-a", "matcher-b", "matcher-c"):
        gone = lose(world, party)
        command(0, "restore", newer if party == "matcher-a" else backups[party], world.folder(party))
        renewed(gone, world.folder(party))
    world.restart()
    until_level(world)
    with world.client() as client:
        assert [found.subject for found in client.subjects()] == ["ann", "ben", "dee"]
        client.enrol_embedding("fay", FACES[5], model="toy")
    until_level(world)


def test_a_device_is_lost(world: World, tmp_path: Path) -> None:
    """It has no backup: its certificate is refused for good, also after a restore, and another device is made."""
    for party in EVERYBODY:
        done = veilmatch("device", "revoke", "device-1", "--folder", str(world.folder(party)))
        assert done.returncode == 0, done.stderr
    with world.client() as client, pytest.raises(DeviceRightsError):
        client.verify_embedding("ann", FACES[0], model="toy")
    done = veilmatch("device", "issue", str(world.directory), "door-2", "--lowest", "0")
    assert done.returncode == 0, done.stderr
    with Client(DeviceSettings.load(world.directory / "door-2" / "device.toml")) as client:
        assert client.verify_embedding("ann", FACES[0], model="toy")
    made = command(0, "make", tmp_path, "--config", world.folder("matcher-a"))
    command(0, "restore", made["path"], tmp_path / "again")
    files = {path.name for path in (tmp_path / "again" / "devices").iterdir()}
    assert {"door-2.cert", "device-1.cert"} < files and any(name.endswith(".revoked") for name in files)
