"""`veilmatch check`: every kind of damage, one at a time, is named with its place; a sound party has none."""

from __future__ import annotations

import datetime
import json
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import EVERYBODY, KEY_HOLDERS, PASSPHRASE, World, running, unit, veilmatch
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.check.keys import check_tls
from veilmatch.server.check.party import check_data, check_party, find_configuration, load_configuration
from veilmatch.server.check.report import Finding, Report
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation.certifying.revocation_lists import sign_revocation
from veilmatch.server.installation.passphrase import VARIABLE
from veilmatch.server.installation.plan import folder_of

TOY = ParameterSet(modulus_bits=1024)
FACES = unit(np.random.default_rng(3), 4, TOY.dimension)
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def checked_while_serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Report], World]]:
    """An installation that has served, what the checks found while it did, and how it runs."""
    directory = tmp_path_factory.mktemp("check") / "installation"
    with running(directory, TOY) as world:
        with world.client() as client:
            for name, face in zip(("ann", "ben", "cy"), FACES, strict=False):
                client.enrol_embedding(name, face, model="toy")
            over, failed = threading.Event(), []

            def ask() -> None:
                while not over.is_set():
                    try:
                        assert client.verify_embedding("ann", FACES[0], model="toy")
                        client.enrol_embedding("dee", FACES[3], model="toy")
                        client.erase("dee")
                    except BaseException as error:
                        failed.append(error)
                        raise

            asking = threading.Thread(target=ask)
            asking.start()
            try:
                reports = {party: of(directory / folder_of(party), PASSPHRASE) for party in EVERYBODY}
            finally:
                over.set()
                asking.join()
            assert not failed, failed
        yield directory, reports, world


@pytest.fixture(scope="module")
def installation(
    checked_while_serving: tuple[Path, dict[str, Report], World], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same, stopped."""
    directory, _, world = checked_while_serving
    world.parties.stop()
    return directory


@pytest.fixture
def party(installation: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(installation / folder_of(name), tmp_path / name))


def of(folder: Path, passphrase: str | None = None) -> Report:
    path = find_configuration(folder)
    assert path is not None
    return check_party(load_configuration(path), passphrase)


def only(report: Report) -> Finding:
    assert len(report.findings) == 1, report.findings
    return report.findings[0]


def execute(database: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(statement, values).rowcount == 1
        connection.commit()


def flip(database: Path, table: str, column: str, where: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        row, value = connection.execute(f"SELECT rowid, {column} FROM {table} WHERE {where} LIMIT 1").fetchone()
        changed = bytearray(value)
        changed[len(changed) // 2] ^= 1
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (bytes(changed), row))
        connection.commit()


def garble(path: Path, at: float = 0.5, count: int = 4096) -> None:
    """Overwrite part of a file, keeping its mode; no byte stays what it was."""
    with path.open("r+b") as file:
        file.seek(start := int(path.stat().st_size * at))
        before = file.read(count)
        file.seek(start)
        file.write(bytes((byte + 1 + secrets.randbelow(255)) % 256 for byte in before))


# -- nothing is damaged ----------------------------------------------------------------------------


def test_a_party_that_serves_is_found_sound_and_is_not_disturbed(
    checked_while_serving: tuple[Path, dict[str, Report], World],
) -> None:
    _, reports, _ = checked_while_serving
    for name, report in reports.items():
        assert report.findings == [], name
        assert report.party == name
        seen = {Path(file).name for file, _ in report.looked_at}
        data = {"stock.db", "audit", "pace.db", "refresh.db"} if name in KEY_HOLDERS else {"gallery.db"}
        own = {"tls.pem", "ca.pem", "devices", "revoked", "public.json"}
        assert seen >= {*data, *own, "ledger.db"}, name
    opened = [what for file, what in reports["keyholder-a"].looked_at if file.endswith("stock.db")]
    assert "opened" in opened[0] and "not opened" not in opened[0] and not opened[0].startswith("0 ")


def test_both_matchers_have_one_fingerprint_and_a_changed_subject_another(
    installation: Path, party: Callable[[str], Path]
) -> None:
    def galleries(report: Report) -> list[str]:
        return [what for file, what in report.looked_at if file.endswith("gallery.db")]

    a, b = (galleries(of(installation / folder_of(name))) for name in ("matcher-a", "matcher-b"))
    assert a == b and "fingerprint" in a[0]
    folder = party("matcher-b")
    execute(folder / "data" / "gallery.db", "UPDATE templates SET subject = 'bem' WHERE subject = 'ben'")
    changed = of(folder)
    assert changed.findings == [] and galleries(changed) != a


# -- a matcher ----------------------------------------------------------------------------------------


def on(statement: str) -> Damage:
    return lambda data: execute(data / "gallery.db", statement)


def bit(table: str, column: str, where: str) -> Damage:
    return lambda data: flip(data / "gallery.db", table, column, where)


GALLERY: list[tuple[str, Damage, str]] = [
    ("pack", bit("contents", "body", "id = (SELECT content_id FROM packs)"), "pack 0"),
    ("record", bit("contents", "body", "id = (SELECT content_id FROM templates WHERE subject = 'ben')"), "of ben"),
    ("checksum", bit("contents", "checksum", "id = (SELECT content_id FROM templates WHERE subject = 'ben')"), "ben"),
    ("log", bit("log", "body", "sequence = 2"), "log"),
    ("chain", on("UPDATE galleries SET chain = zeroblob(32)"), "log"),
    ("index, slot out of range", on("UPDATE templates SET slot = 9999 WHERE subject = 'ben'"), "index"),
    ("index, a subject that is a number", on("UPDATE templates SET subject = x'ff' WHERE subject = 'ben'"), "index"),
    ("key", bit("identity", "key_id", "id = 1"), ""),
]


@pytest.mark.parametrize(("damage", "where"), [pytest.param(d, w, id=name) for name, d, w in GALLERY])
def test_damage_to_a_gallery_is_named_with_its_place(party: Callable[[str], Path], damage: Damage, where: str) -> None:
    folder = party("matcher-b")
    damage(folder / "data")
    found = only(of(folder))
    assert Path(found.file) == folder / "data" / "gallery.db"
    assert where in found.where
    # What the log names alone is damaged, or the log itself.
    remedy = "gallery mend" if where in ("pack 0", "of ben", "ben") else "gallery fetch --restored"
    assert remedy in found.remedy
    # Without the configuration it is found as well, but for whose it is.
    assert len(check_data(folder / "data").findings) >= (where != "")


def test_records_and_packs_that_are_gone_are_named(party: Callable[[str], Path]) -> None:
    folder = party("matcher-a")
    statement = "DELETE FROM contents WHERE id = (SELECT content_id FROM templates WHERE subject = 'cy')"
    execute(folder / "data" / "gallery.db", statement)
    places = [found.where for found in of(folder).findings]
    assert any("of cy" in where for where in places) and any("row" in where for where in places)


@pytest.mark.parametrize("name", ["gallery.db", "ledger.db"])
@pytest.mark.parametrize("how", ["header", "pages", "short", "text"])
def test_a_database_that_is_none_any_more_is_named(party: Callable[[str], Path], name: str, how: str) -> None:
    folder = party("matcher-a")
    path = folder / "data" / name
    for beside in ("-wal", "-shm"):
        path.with_name(name + beside).unlink(missing_ok=True)
    match how:
        case "header":
            garble(path, 0.0, 100)
        case "pages":
            garble(path, 0.01, path.stat().st_size)
        case "short":
            os.truncate(path, path.stat().st_size // 2)
        case "text":
            path.write_text("this is not a database at all" * 100)
    findings = of(folder).findings
    assert findings and {Path(found.file) for found in findings} == {path}
    assert all("stop th" in found.remedy for found in findings)


@pytest.mark.parametrize("file", ["data/gallery.db", "data/ledger.db", "tls-key.pem"])
def test_a_file_that_others_may_read_is_named(party: Callable[[str], Path], file: str) -> None:
    folder = party("matcher-a")
    (folder / file).chmod(0o644)
    found = only(of(folder))
    assert "0644" in found.what and "chmod 600" in found.remedy


def test_files_beside_the_data_are_looked_at(party: Callable[[str], Path], installation: Path) -> None:
    for file, damage, word in (
        (
            "tls.pem",
            lambda p: shutil.copy(installation / folder_of("matcher-b") / "tls.pem", p),
            "tls.key is not the key",
        ),
        ("tls.pem", lambda p: p.write_text("text"), "PEM"),
        ("tls-key.pem", lambda p: p.unlink(), "cannot be read"),
        (
            "ca.pem",
            lambda p: shutil.copy(installation / folder_of("matcher-b") / "tls.pem", p),
            "not of this authority",
        ),
        ("crl.pem", lambda p: p.unlink(), "revocation list"),
        ("crl.pem", lambda p: p.write_text(""), "revocation list"),
        ("public.json", lambda p: p.write_text("{}"), "public"),
        ("devices/device-1.cert", lambda p: p.write_text("{}"), "certificate"),
        ("revoked", lambda p: p.rmdir(), "revoked recipients"),
        ("revoked/bank.revoked", lambda p: p.write_text(""), "a name that revokes nobody"),
    ):
        folder = party("matcher-a")
        damage(folder / file)
        assert word in only(of(folder)).what, file
        shutil.rmtree(folder)


def test_the_lists_of_what_organisations_have_revoked_are_looked_at(
    party: Callable[[str], Path], installation: Path
) -> None:
    folder = party("matcher-a")
    assert "0 recipients" in dict(of(folder).looked_at)[str(folder / "revoked")]
    path = folder / "revoked"
    for number, organisation in ((1, "a"), (2, "b")):
        config = installation / folder_of(f"keyholder-{organisation}") / "keyholder.toml"
        settings = KeyHolderSettings.load(config).model_copy(update={"revoked_dir": path})
        for certificate in range(number):
            sign_revocation([bytes([certificate]) * 32], settings, PASSPHRASE)
    first = min(path.glob("*.list"))
    report = of(folder)
    assert report.findings == [] and report.notes == []
    said = [what for file, what in report.looked_at if file == str(path)][-1]
    assert "1 certificates revoked by two" in said and "number 1 of organisation a" in said and "number 2 of" in said
    first.rename(path / "renamed.list")
    assert len(of(folder).notes) == 1 and of(folder).findings == []
    (path / "renamed.list").write_bytes((path / "renamed.list").read_bytes().replace(b"a", b"b"))
    found = only(of(folder))
    assert found.file.endswith("renamed.list") and "other servers" in found.remedy


def test_a_certificate_that_has_expired_is_named_and_one_that_soon_will_is_noted(installation: Path) -> None:
    settings = load_configuration(installation / folder_of("matcher-a") / "matcher.toml")
    for days, findings, notes in ((0, 0, 0), (800, 0, 1), (830, 1, 0)):
        report = Report()
        at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        check_tls(settings.tls, "matcher-a", report, at.timestamp)
        assert (len(report.findings), len(report.notes)) == (findings, notes), days


@pytest.mark.parametrize(
    ("days", "mode", "what", "remedy"),
    [(-2, 0o600, "not valid before", "clock"), (830, 0o600, "expired on", "renewed"), (0, 0o644, "", "chmod 600")],
)
def test_each_fault_of_a_certificate_has_its_own_remedy(
    party: Callable[[str], Path], days: int, mode: int, what: str, remedy: str
) -> None:
    settings, report = load_configuration(party("matcher-a") / "matcher.toml"), Report()
    settings.tls.key.chmod(mode)
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    check_tls(settings.tls, "matcher-a", report, at.timestamp)
    assert report.findings
    for found in report.findings:
        assert what in found.what and remedy in found.remedy
        assert ("chmod" in found.remedy) is (mode != 0o600)
    if days > 0:
        assert not found.remedy.startswith("set the clock")


# -- a key holder --------------------------------------------------------------------------------------


def test_one_bit_of_a_sealed_block_is_named_if_the_passphrase_is_given(party: Callable[[str], Path]) -> None:
    folder = party("keyholder-b")
    newest = (
        "(SELECT MAX(number) FROM checked_blocks WHERE kind = 'triples')"  # the first ones may be passed over already
    )
    flip(folder / "data" / "stock.db", "checked_blocks", "sealed", f"kind = 'triples' AND number = {newest}")
    without = of(folder)
    assert without.findings == []
    assert any("not opened: that takes the passphrase" in what for _, what in without.looked_at)
    found = only(of(folder, PASSPHRASE))
    assert Path(found.file).name == "stock.db" and "of triples" in found.where and "delete stock.db" in found.remedy


PASSED_OVER = (
    "INSERT OR REPLACE INTO marks (stock, kind, mark) "
    "SELECT DISTINCT stock, kind, 1000000 FROM checked_blocks WHERE kind = 'triples'"
)


def test_an_altered_block_that_was_passed_over_is_noted_and_nothing_is_to_be_done(party: Callable[[str], Path]) -> None:
    folder = party("keyholder-b")
    flip(folder / "data" / "stock.db", "checked_blocks", "sealed", "kind = 'triples'")
    with closing(sqlite3.connect(folder / "data" / "stock.db")) as connection, connection:
        connection.execute(PASSED_OVER)
    report = of(folder, PASSPHRASE)
    assert report.findings == []
    assert any("triples" in note and "passed over already; nothing to do" in note for note in report.notes)


@pytest.mark.parametrize("name", ["stock.db", "pace.db", "refresh.db", "ledger.db", "replay.db", "budgets.db"])
def test_a_damaged_database_of_a_key_holder_is_named(party: Callable[[str], Path], name: str) -> None:
    folder = party("keyholder-c")
    path = folder / "data" / name
    for beside in ("-wal", "-shm"):
        path.with_name(name + beside).unlink(missing_ok=True)
    path.touch(0o600)  # as the daemon makes it
    path.write_text("garbage" * 1000)
    assert Path(only(of(folder)).file) == path


@pytest.mark.parametrize(
    ("damage", "passphrase"),
    [
        (lambda path: os.truncate(path, 40), None),
        (lambda path: path.chmod(0o640), None),
        (lambda path: path.unlink(), None),
        (lambda path: garble(path, 0.9, 1), PASSPHRASE),
    ],
    ids=["short", "open to others", "gone", "one byte"],
)
def test_a_damaged_key_file_is_named(
    party: Callable[[str], Path], damage: Callable[[Path], None], passphrase: str | None
) -> None:
    folder = party("keyholder-a")
    damage(folder / "share.key")
    found = only(of(folder, passphrase))
    assert Path(found.file) == folder / "share.key" and "share.key" in found.remedy


def test_a_damaged_certification_key_is_named_and_one_that_is_elsewhere_is_noted(party: Callable[[str], Path]) -> None:
    folder = party("keyholder-a")
    path = folder / "certifier.key"
    path.chmod(0o604)
    assert Path(only(of(folder)).file) == path
    path.unlink()
    report = of(folder)
    assert report.findings == [] and any("certifier.key is not here" in note for note in report.notes)


@pytest.mark.parametrize("name", ["keyholder-a", "matcher-b"])
def test_a_damaged_signing_key_of_the_organisation_is_named(party: Callable[[str], Path], name: str) -> None:
    path = party(name) / "organisation.key"
    garble(path, 0.9, 1)
    assert of(path.parent).findings == [], "that takes the passphrase"
    assert Path(only(of(path.parent, PASSPHRASE)).file) == path
    path.chmod(0o604)
    assert "organisation.key" in only(of(path.parent)).remedy
    path.unlink()
    assert Path(only(of(path.parent)).file) == path


def test_a_passphrase_file_that_others_may_read_is_named(party: Callable[[str], Path]) -> None:
    folder = party("keyholder-a")
    (folder / "passphrase").write_text(PASSPHRASE)
    (folder / "passphrase").chmod(0o644)
    config = folder / "keyholder.toml"
    config.write_text('passphrase_file = "passphrase"\n' + config.read_text())
    assert Path(only(of(folder)).file) == folder / "passphrase"


def test_a_changed_entry_of_the_audit_log_is_named_by_its_line(party: Callable[[str], Path]) -> None:
    folder = party("keyholder-a")
    (log,) = (folder / "data" / "audit").iterdir()
    lines = log.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b'"device-1"', b'"device-2"')
    log.write_bytes(b"\n".join(lines))
    for report in (of(folder), check_data(folder / "data")):
        found = only(report)
        assert found.where == f"{log.name}, line 2" and "evidence" in found.remedy


def test_an_audit_log_that_was_emptied_is_named(party: Callable[[str], Path]) -> None:
    folder = party("keyholder-a")
    (log,) = (folder / "data" / "audit").iterdir()
    os.truncate(log, 0)
    for report in (of(folder), check_data(folder / "data")):
        found = only(report)
        assert found.where == f"{log.name}, line 1" and "emptied" in found.what and "evidence" in found.remedy


@pytest.mark.parametrize("folder_too", [True, False])
def test_an_audit_log_that_is_gone_is_saved_before_anything_else(
    party: Callable[[str], Path], folder_too: bool
) -> None:
    """A daemon that runs still holds it: a restart would lose it for good."""
    folder = party("keyholder-a")
    (log,) = (folder / "data" / "audit").iterdir()
    log.unlink()
    if folder_too:
        log.parent.rmdir()
    for report in (of(folder), check_data(folder / "data")):
        found = only(report)
        assert Path(found.file) == log.parent and "do not restart" in found.remedy


# -- the command ---------------------------------------------------------------------------------------


def test_the_command_says_what_is_damaged_and_ends_with_seven(party: Callable[[str], Path]) -> None:
    folder = party("matcher-a")
    fine = veilmatch("check", str(folder / "matcher.toml"), "--json")
    assert fine.returncode == 0, fine.stderr
    assert json.loads(fine.stdout)["damaged"] is False
    bit("contents", "body", "id = (SELECT content_id FROM templates WHERE subject = 'ben')")(folder / "data")
    damaged = veilmatch("check", str(folder), "--json")
    assert damaged.returncode == 7
    document = json.loads(damaged.stdout)
    (found,) = document["findings"]
    assert found["where"].startswith("gallery main, pack 0, slot 1")
    people = veilmatch("check", str(folder / "data"))
    assert people.returncode == 7 and "DAMAGED" in people.stderr and "what to do" in people.stderr
    assert people.stdout == ""
    nothing = veilmatch("check", str(folder / "devices"))
    assert nothing.returncode == 3 and "nothing to check here" in nothing.stderr


def test_the_command_changes_no_file(party: Callable[[str], Path]) -> None:
    folder = party("keyholder-b")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    done = veilmatch("check", str(folder), **{VARIABLE: PASSPHRASE})
    assert done.returncode == 0, done.stderr
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.endswith(("-wal", "-shm"))}
    assert after == {p: data for p, data in before.items() if not p.name.endswith(("-wal", "-shm"))}


def test_a_stock_that_was_copied_is_noted(installation: Path, party: Callable[[str], Path]) -> None:
    def noted(folder: Path) -> bool:
        return any("made as another file" in note for note in of(folder).notes)

    assert noted(party("keyholder-c"))
    assert not noted(installation / folder_of("keyholder-c"))


def test_a_damaged_copy_of_what_is_being_fetched_is_found(party: Callable[[str], Path]) -> None:
    folder = party("matcher-c")
    path = folder / "data" / "catching-up" / "0123.db"
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(b"no database" * 100)
    found = only(of(folder))
    assert Path(found.file) == path and "fetched again" in found.remedy
