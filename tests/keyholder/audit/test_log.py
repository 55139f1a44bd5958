"""The audit log on disk: what is acknowledged stays, what was torn goes, what cannot be written is no entry."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from veilmatch.crypto.errors import AuditLogError, IntegrityError
from veilmatch.server.ground.own_failures import Self, own_failures
from veilmatch.server.keyholder.audit import log as audit_log
from veilmatch.server.keyholder.audit.chain import decode, encode, files_in
from veilmatch.server.keyholder.audit.check import check_log, entries_of
from veilmatch.server.keyholder.audit.log import AuditLog

FILE_BYTES = 1 << 20
KEY_ID = bytes(range(16))


def opened(folder: Path, file_bytes: int = FILE_BYTES, **changes: Any) -> AuditLog:
    return AuditLog(folder, "a", KEY_ID, file_bytes, **changes)


def noted(folder: Path) -> list[object]:
    """The numbers in the entries of a log whose chain has to be intact."""
    assert check_log(folder).broken is None
    return [entry.fields["n"] for entry in entries_of(folder) if entry.event == "session"]


def session(n: int) -> dict[str, object]:
    return {"event": "session", "n": n}


def last_file(folder: Path) -> Path:
    return files_in(folder / "audit")[-1]


def test_the_first_entry_names_the_party_and_its_key(tmp_path: Path) -> None:
    opened(tmp_path, now=lambda: 0.0).close()
    (entry,) = entries_of(tmp_path)
    assert (entry.number, entry.prev) == (0, "00" * 32)
    assert entry.fields == {
        "event": "open", "party": "keyholder-a", "key_id": KEY_ID.hex(), "format": 2, "at": "1970-01-01T00:00:00.000Z",
    }  # fmt: skip
    assert stat.S_IMODE(last_file(tmp_path).stat().st_mode) == 0o600


def test_entries_follow_each_other_over_restarts(tmp_path: Path) -> None:
    for start in range(3):
        log = opened(tmp_path)
        for n in range(2):
            log.append(session(10 * start + n))
        assert log.head[0] == 3 * (start + 1)
        log.close()
    checked = check_log(tmp_path)
    assert (checked.broken, checked.entries, checked.head, len(checked.files)) == (None, 9, log.head[1], 1)
    assert noted(tmp_path) == [0, 1, 10, 11, 20, 21]


def test_a_full_file_is_followed_by_another_and_the_chain_goes_on(tmp_path: Path) -> None:
    log = opened(tmp_path, 4096)
    for n in range(60):
        log.append(session(n))
    log.close()
    opened(tmp_path, 4096).close()
    files = files_in(tmp_path / "audit")
    assert len(files) >= 3 and all(file.stat().st_size < 2 * 4096 for file in files)
    assert all(decode(file.read_bytes().split(b"\n")[0]).event == "open" for file in files)
    assert noted(tmp_path) == list(range(60))


@pytest.mark.parametrize("torn", [b"{", b'{"at":"2026', b"\x00" * 100])
def test_a_torn_last_line_is_cut_off_and_the_next_entry_says_so(tmp_path: Path, torn: bytes) -> None:
    log = opened(tmp_path)
    log.append(session(1))
    log.close()
    with last_file(tmp_path).open("ab") as file:
        file.write(torn)
    assert check_log(tmp_path).torn_bytes == len(torn)
    opened(tmp_path).close()
    assert noted(tmp_path) == [1]
    assert entries_of(tmp_path)[-1].fields["dropped_bytes"] == len(torn)


def test_a_complete_last_line_stays_even_if_nobody_was_told_of_it(tmp_path: Path) -> None:
    log = opened(tmp_path)
    with last_file(tmp_path).open("ab") as file:
        file.write(encode(session(1), *log.head)[0])
    log.close()
    opened(tmp_path).close()
    assert noted(tmp_path) == [1]


@pytest.mark.parametrize("left", [b"", b'{"at":'])
@pytest.mark.parametrize("rotated", [True, False])
def test_a_file_that_was_only_being_made_is_made_anew(tmp_path: Path, left: bytes, rotated: bool) -> None:
    log = opened(tmp_path)
    log.append(session(1))
    number = log.head[0]
    log.close()
    if not rotated:
        last_file(tmp_path).unlink()
        number = 0
    unfinished = tmp_path / "audit" / f"audit-{number:012}.jsonl.new"
    unfinished.write_bytes(left)
    log = opened(tmp_path)
    log.append(session(2))
    log.close()
    assert not unfinished.exists()
    assert noted(tmp_path) == ([1, 2] if rotated else [2])


@pytest.mark.parametrize("left", [0, 20])
@pytest.mark.parametrize("rotated", [True, False])
def test_a_file_that_was_emptied_keeps_the_daemon_from_starting(tmp_path: Path, left: int, rotated: bool) -> None:
    """As logrotate with copytruncate does: no new log begins in silence over what is left."""
    log = opened(tmp_path, 4096 if rotated else FILE_BYTES)
    for n in range(40):
        log.append(session(n))
    log.close()
    assert (len(files_in(tmp_path / "audit")) > 1) is rotated
    os.truncate(last_file(tmp_path), left)
    before = last_file(tmp_path).read_bytes()
    for _ in range(2):
        with pytest.raises(IntegrityError, match="emptied"):
            opened(tmp_path)
    assert last_file(tmp_path).read_bytes() == before
    broken = check_log(tmp_path).broken
    assert broken is not None and (broken.file, broken.line) == (last_file(tmp_path).name, 1)


def test_a_damaged_last_entry_keeps_the_daemon_from_starting(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append(session(1))
    log.close()
    path = last_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":2'))
    with pytest.raises(IntegrityError, match="last entry"):
        opened(tmp_path)
    path.write_bytes(b"x" * 70000)
    with pytest.raises(IntegrityError, match="damaged"):
        opened(tmp_path)


# -- a disk that does not take it --------------------------------------------------------------


def full(_descriptor: int, _data: bytes) -> int:
    raise OSError(errno.ENOSPC, "full")


def half(real: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
    return lambda descriptor, data: real(descriptor, data[: len(data) // 2])


@pytest.mark.parametrize("call", ["full", "half", "fsync"])
def test_an_entry_that_cannot_be_written_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    log = opened(tmp_path)
    log.append(session(1))
    head = log.head
    with monkeypatch.context() as broken:
        if call == "fsync":
            broken.setattr(audit_log.os, "fsync", lambda _: full(0, b""))
        else:
            broken.setattr(audit_log.os, "write", full if call == "full" else half(os.write))
        for n in (2, 3):
            with pytest.raises(AuditLogError) as caught:
                log.append(session(n))
            assert caught.value.available == os.strerror(errno.ENOSPC)
            assert (caught.value.party, caught.value.alternatives) == ("keyholder-a", ("bc",))
    assert log.head == head
    log.append(session(4))
    log.close()
    assert noted(tmp_path) == [1, 4]


def test_a_file_that_cannot_be_begun_is_begun_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(tmp_path, 4096)
    n = 0
    while log._size < 4096:
        log.append(session(n := n + 1))

    def no_room(*_: object) -> int:
        return full(0, b"")

    for module, name, failing in (
        (audit_log.os, "open", no_room), (audit_log.os, "write", half(os.write)), (audit_log.os, "fsync", no_room),
        (Path, "rename", no_room), (audit_log, "_sync_folder", no_room),
    ):  # fmt: skip
        with monkeypatch.context() as broken:
            broken.setattr(module, name, failing)
            with pytest.raises(AuditLogError):
                log.append(session(-1))
    log.append(session(n + 1))
    log.close()
    assert len(files_in(tmp_path / "audit")) == 2
    assert noted(tmp_path) == list(range(1, n + 2))


def test_a_log_that_another_process_holds_is_not_written(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with last_file(tmp_path).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(AuditLogError):
            opened(tmp_path)
    opened(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_named_as_the_log_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("in the way")
    with pytest.raises(AuditLogError):
        opened(tmp_path)


# -- a file that is not where it was ------------------------------------------------------------


def removed(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("audit.1"))


def replaced(path: Path) -> None:
    """By a copy, as editors and wrong tools do."""
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


def emptied(path: Path) -> None:
    """As logrotate with copytruncate does."""
    os.truncate(path, 0)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def written_to(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"{}\n")


def folder_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


WAYS = [removed, moved, replaced, emptied, cut, written_to, folder_removed]


def alerts(said: list[MutableMapping[str, Any]]) -> list[str]:
    return [line["reason"] for line in said if (line["event"], line["log_level"]) == ("alert", "error")]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_served_once_the_file_is_not_what_was_written(tmp_path: Path, way: Callable[[Path], None]) -> None:
    log = opened(tmp_path)
    log.append(session(1))
    head = log.head
    way(last_file(tmp_path))
    with capture_logs() as said:
        for n in (2, 3):
            with pytest.raises(AuditLogError, match="not in its place") as caught:
                log.append(session(n))
            assert (caught.value.party, caught.value.alternatives) == ("keyholder-a", ("bc",))
            assert "audit-000000000000.jsonl" in str(caught.value.available)
    assert alerts(said) == [caught.value.available], "said once, and not with every request"
    assert log.head == head
    log.close()


@pytest.mark.parametrize("way", [removed, moved, emptied])
def test_an_entry_that_nobody_would_read_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path], None]
) -> None:
    """The file goes away while the entry is being written to it."""
    log = opened(tmp_path)
    log.append(session(1))
    head, path = log.head, last_file(tmp_path)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(audit_log.os, "fsync", lambda _: way(path))
        with pytest.raises(AuditLogError, match="not in its place"):
            log.append(session(2))
    assert log.head == head
    log.close()


def test_a_file_that_is_put_back_is_gone_on_with(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append(session(1))
    path = last_file(tmp_path)
    away = path.rename(tmp_path / "away")
    with pytest.raises(AuditLogError):
        log.append(session(2))
    away.rename(path)
    with capture_logs() as said:
        log.append(session(3))
    assert [(line["event"], line["log_level"]) for line in said] == [("audit log back in its place", "info")]
    log.close()
    assert noted(tmp_path) == [1, 3]


def test_a_deleted_file_can_be_saved_from_the_running_daemon(tmp_path: Path) -> None:
    """What docs/operations.md says: copied from /proc before the restart."""
    log = opened(tmp_path)
    log.append(session(1))
    path = last_file(tmp_path)
    path.unlink()
    with pytest.raises(AuditLogError):
        log.append(session(2))
    path.write_bytes(Path(f"/proc/{os.getpid()}/fd/{log._descriptor}").read_bytes())
    log.close()
    log = opened(tmp_path)
    log.append(session(3))
    log.close()
    assert noted(tmp_path) == [1, 3]


@pytest.mark.parametrize("whole_folder", [False, True], ids=["the file", "the folder"])
def test_a_deleted_file_is_put_back_when_that_is_asked_for(whole_folder: bool, tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append(session(1))
    shutil.rmtree(tmp_path / "audit") if whole_folder else last_file(tmp_path).unlink()
    with pytest.raises(AuditLogError):
        log.append(session(2))
    with capture_logs() as logged:
        log.put_back()
        log.put_back()
    assert [entry["event"] for entry in logged] == ["audit log put back"]
    log.append(session(3))
    assert noted(tmp_path) == [1, 3]
    put_back = [entry.fields["put_back_bytes"] for entry in entries_of(tmp_path) if "put_back_bytes" in entry.fields]
    assert put_back == [logged[0]["bytes"]]
    assert stat.S_IMODE(last_file(tmp_path).stat().st_mode) == 0o600
    with pytest.raises(AuditLogError):
        opened(tmp_path)  # it is locked as before
    log.close()
    again = opened(tmp_path)
    again.append(session(4))
    again.close()
    assert noted(tmp_path) == [1, 3, 4]


def test_a_file_that_is_there_or_was_moved_is_left_alone(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append(session(1))
    before = last_file(tmp_path).read_bytes()
    log.put_back()
    assert last_file(tmp_path).read_bytes() == before
    file = last_file(tmp_path)
    file.rename(tmp_path / "away")
    log.put_back()
    assert not file.exists(), "two copies would be two logs"
    (tmp_path / "away").rename(file)
    log.append(session(2))
    log.close()
    assert noted(tmp_path) == [1, 2]


def test_a_file_that_cannot_be_put_back_is_tried_again(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append(session(1))
    file = last_file(tmp_path)
    file.unlink()
    file.with_name(file.name + ".new").mkdir()
    with pytest.raises(AuditLogError):
        log.put_back()
    file.with_name(file.name + ".new").rmdir()
    log.put_back()
    log.append(session(2))
    log.close()
    assert noted(tmp_path) == [1, 2]


def test_files_before_the_last_may_be_moved_to_an_archive(tmp_path: Path) -> None:
    log = opened(tmp_path, 4096)
    for n in range(40):
        log.append(session(n))
    first, *others = files_in(tmp_path / "audit")
    assert others
    first.rename(tmp_path / first.name)
    log.append(session(40))
    log.close()


def test_a_log_that_begins_is_told_of(tmp_path: Path) -> None:
    for expected in (["audit log begins"], []):
        with capture_logs() as said:
            opened(tmp_path).close()
        assert [line["event"] for line in said] == expected


# -- entries that come together ------------------------------------------------------------------------


def together(log: AuditLog, entries: Sequence[dict[str, object]]) -> list[BaseException | None]:
    """What becomes of entries that all wait for one that is being written."""
    with log._lock:
        first = log.enter(session(-1))
        while not first.running():
            time.sleep(0.001)
        futures = [log.enter(fields) for fields in entries]
    first.exception(10)
    return [future.exception(10) for future in futures]


def test_entries_that_wait_are_written_with_one_sync_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, synced, sync = opened(tmp_path), [], os.fsync

    def counting(descriptor: int) -> None:
        synced.append(descriptor)
        sync(descriptor)

    monkeypatch.setattr(audit_log.os, "fsync", counting)
    assert together(log, [session(n) for n in range(20)]) == [None] * 20
    assert len(synced) == 2
    log.append(session(20))
    log.close()
    assert noted(tmp_path) == [-1, *range(21)]


def test_an_entry_that_is_no_json_is_refused_among_many_alone(tmp_path: Path) -> None:
    log = opened(tmp_path)
    bad = [{"event": "session", "n": float("nan")}, {"event": "session", "n": b"bytes"}]
    found = together(log, [session(0), bad[0], session(1), bad[1], session(2)])
    assert [type(error) for error in found] == [type(None), ValueError, type(None), TypeError, type(None)]
    log.append(session(3))
    log.close()
    assert noted(tmp_path) == [-1, 0, 1, 2, 3]


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_disk_that_fails_refuses_all_entries_that_wait_and_then_heals(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path)
    log.append(session(0))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(audit_log.os, call, full)
        found = together(log, [session(n) for n in range(1, 9)])
    assert {type(error) for error in found} == {AuditLogError} and len({id(error) for error in found}) == 8
    assert {error.party for error in found if isinstance(error, AuditLogError)} == {"keyholder-a"}
    assert together(log, [session(9), session(10)]) == [None] * 2
    log.close()
    assert noted(tmp_path) == [0, -1, 9, 10]


def test_a_log_that_was_closed_takes_nothing_more(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.close()
    with pytest.raises(AuditLogError) as caught:
        log.append(session(0))
    assert (caught.value.party, caught.value.available) == ("keyholder-a", "stopped")
    assert noted(tmp_path) == []


def test_a_log_that_is_not_in_its_place_is_said_once_for_all_that_wait(tmp_path: Path) -> None:
    log = opened(tmp_path)
    with capture_logs() as lines:
        path = last_file(tmp_path)
        path.rename(tmp_path / "elsewhere")
        found = together(log, [session(n) for n in range(5)])
        (tmp_path / "elsewhere").rename(path)
    assert {type(error) for error in found} == {AuditLogError} and len({id(error) for error in found}) == 5
    server = Self("keyholder-a", ("bc",))
    with capture_logs() as later:
        for error in found:
            with pytest.raises(AuditLogError), own_failures(server):
                raise error or AssertionError
    assert [line["event"] for line in lines] == ["alert"] and not [line for line in later if line["event"] == "alert"]
    log.append(session(9))
    log.close()
