"""`veilmatch audit verify`: every change of a log is found and located, and two logs are held against each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from veilmatch.client.commands.base.application import build_app
from veilmatch.crypto.errors import ConfigurationError, InvalidInputError
from veilmatch.crypto.keys.parties import Party
from veilmatch.server.keyholder.audit import log as audit_log
from veilmatch.server.keyholder.audit.chain import decode, encode, files_in
from veilmatch.server.keyholder.audit.check import check_log, compare
from veilmatch.server.keyholder.audit.log import AuditLog

Lines = list[bytes]


def write(
    folder: Path, party: Party = "a", entries: list[dict[str, Any]] | None = None, file_bytes: int = 4096
) -> Path:
    log = AuditLog(folder, party, b"k" * 16, file_bytes, now=lambda: 1e9)
    for fields in session_entries(range(40)) if entries is None else entries:
        log.append(fields)
    log.close()
    return folder


def session_entries(numbers: range, **changes: object) -> list[dict[str, Any]]:
    return [
        {
            "event": "session", "session": f"{n:064x}", "request": f"{n + 1:064x}", "operation": "candidates",
            "gallery": "main", "output_bits": n, "device": "device-1", "model": "m", "threshold": 7, "pair": "ab",
            "sequence": 3, "chain": "cc" * 32,
        }
        | changes
        for n in numbers
    ]  # fmt: skip


def lines_of(path: Path) -> Lines:
    return path.read_bytes().splitlines(keepends=True)


def rehashed(line: bytes, **changes: object) -> bytes:
    entry = decode(line)
    return encode({**entry.fields, **changes}, entry.number, entry.prev)[0]


TAMPERING: Mapping[str, tuple[Callable[[Lines], Lines], int, str]] = {
    "a changed value": (lambda x: [*x[:4], x[4].replace(b"device-1", b"device-2"), *x[5:]], 5, "was changed"),
    "a changed entry with its own hash": (lambda x: [*x[:4], rehashed(x[4], device="d"), *x[5:]], 6, "follow"),
    "an entry left out": (lambda x: x[:4] + x[5:], 5, "entry 5 where entry 4"),
    "an entry twice": (lambda x: x[:5] + x[4:], 6, "entry 4 where entry 5"),
    "two entries exchanged": (lambda x: [*x[:4], x[5], x[4], *x[6:]], 5, "entry 5 where entry 4"),
    "an empty line": (lambda x: [*x[:4], b"\n", *x[4:]], 5, "not JSON"),
    "other spacing": (lambda x: [*x[:4], x[4].replace(b",", b", "), *x[5:]], 5, "another way"),
    "no object": (lambda x: [*x[:4], b"[]\n", *x[5:]], 5, "not a JSON object"),
    "no number": (lambda x: [*x[:4], b"{}\n", *x[5:]], 5, "no entry number"),
    "no hash": (lambda x: [*x[:4], b'{"seq":4}\n', *x[5:]], 5, "no hash"),
    "a line cut in the middle of the log": (lambda x: [*x[:4], x[4][:50], *x[5:]], 5, "not JSON"),
    "a line too long": (lambda x: [*x[:4], b"x" * 70000, *x[5:]], 5, "not JSON"),
    "no first entry": (lambda x: x[1:], 1, "does not begin with the party"),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERING)
def test_the_first_break_is_found_and_located(tmp_path: Path, what: str) -> None:
    tamper, line, why = TAMPERING[what]
    first = files_in(write(tmp_path) / "audit")[0]
    assert check_log(tmp_path).broken is None
    first.write_bytes(b"".join(tamper(lines_of(first))))
    broken = check_log(tmp_path).broken
    assert broken is not None and (broken.file, broken.line) == (first.name, line)
    assert why in broken.why


def test_a_missing_a_renamed_and_a_foreign_file_are_breaks(tmp_path: Path) -> None:
    one, two, three, *_ = files_in(write(tmp_path, file_bytes=4096) / "audit")
    content = two.read_bytes()
    two.unlink()
    assert (broken := check_log(tmp_path).broken) and broken.file == three.name and broken.line == 1
    two.with_name("audit-000000000002.jsonl").write_bytes(content)
    assert (broken := check_log(tmp_path).broken) and "named after" in broken.why
    two.with_name("audit-000000000002.jsonl").write_bytes(b"")
    assert (broken := check_log(tmp_path).broken) and "emptied" in broken.why
    foreign = files_in(write(tmp_path / "other", "b") / "audit")[0]
    (tmp_path / "mixed").mkdir()
    for file in (one, foreign):
        (tmp_path / "mixed" / file.name.replace("0000.", "0000." if file is one else "0099.")).write_bytes(
            file.read_bytes()
        )
    assert check_log(tmp_path / "mixed").broken


def test_a_cut_end_leaves_another_head_and_a_line_being_written_is_no_break(tmp_path: Path) -> None:
    last = files_in(write(tmp_path) / "audit")[-1]
    before = check_log(tmp_path)
    *kept, end = lines_of(last)
    last.write_bytes(b"".join(kept))
    shorter = check_log(tmp_path)
    assert shorter.broken is None and shorter.entries == before.entries - 1 and shorter.head != before.head
    last.write_bytes(b"".join(kept) + end[:-1])
    torn = check_log(tmp_path)
    assert (torn.broken, torn.torn_bytes, torn.head) == (None, len(end) - 1, shorter.head)


def test_a_file_alone_is_checked_from_where_it_begins(tmp_path: Path) -> None:
    _, two, *_ = files_in(write(tmp_path) / "audit")
    checked = check_log(two)
    assert checked.broken is None and checked.first > 0 and checked.party == "keyholder-a"


# -- two logs ----------------------------------------------------------------------------------


def test_logs_of_the_same_sessions_agree(tmp_path: Path) -> None:
    others = session_entries(range(100, 103), pair="ac")
    refused = [{"event": "refused", "code": "request_expired"}]
    ours = write(tmp_path / "a", "a", session_entries(range(9)) + others)
    theirs = write(tmp_path / "b", "b", refused + session_entries(range(9))[::-1])
    _, _, found = compare(ours, theirs)
    assert (found.common, found.differences, found.agree) == (9, [], True)


def test_a_session_that_one_side_lacks_is_listed_with_that_side(tmp_path: Path) -> None:
    ours = write(tmp_path / "a", "a", session_entries(range(1, 9)))
    theirs = write(tmp_path / "b", "b", session_entries(range(8)))
    _, _, found = compare(ours, theirs)
    assert {(d.session[-1], d.missing_at) for d in found.differences} == {("0", "keyholder-a"), ("8", "keyholder-b")}
    assert found.common == 7 and not found.agree


def test_a_session_that_failed_before_the_other_noted_it_is_explained(tmp_path: Path) -> None:
    failed = [*session_entries(range(3)), {**session_entries(range(2, 3))[0], "event": "failed", "code": "unavailable"}]
    ours, theirs = write(tmp_path / "a", "a", failed), write(tmp_path / "b", "b", session_entries(range(2)))
    _, _, found = compare(ours, theirs)
    assert [d.failed for d in found.differences] == [True] and found.agree


@pytest.mark.parametrize(
    ("name", "value"),
    [("request", "ee" * 32), ("operation", "verify"), ("gallery", "other"), ("output_bits", 99), ("chain", "dd" * 32)],
)
def test_a_session_noted_differently_is_listed_with_both_values(tmp_path: Path, name: str, value: object) -> None:
    ours = write(tmp_path / "a", "a", session_entries(range(3)))
    altered = session_entries(range(3))
    altered[1] |= {name: value}
    _, _, found = compare(ours, write(tmp_path / "b", "b", altered))
    assert [d.fields for d in found.differences] == [{name: (session_entries(range(3))[1][name], value)}]
    assert not found.agree


def test_sessions_from_before_the_other_log_begins_are_counted_and_not_compared(tmp_path: Path) -> None:
    ours = write(tmp_path / "a", "a", session_entries(range(3)))
    log = AuditLog(tmp_path / "b", "b", b"k" * 16, 4096, now=lambda: 2e9)
    for fields in session_entries(range(50, 90)):
        log.append(fields)
    log.close()
    _, newest = files_in(tmp_path / "b" / "audit")[0], files_in(tmp_path / "b" / "audit")[-1]
    _, _, found = compare(ours, newest)
    assert found.not_covered == 3 and {d.missing_at for d in found.differences} == {"keyholder-a"}


def test_two_logs_of_one_party_or_of_two_keys_are_not_compared(tmp_path: Path) -> None:
    ours = write(tmp_path / "a", "a", [])
    AuditLog(tmp_path / "b", "b", b"x" * 16, 4096).close()
    for other in (write(tmp_path / "again", "a", []), tmp_path / "b"):
        with pytest.raises(InvalidInputError, match="two key holders"):
            compare(ours, other)


# -- the command -------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app("audit"), ["audit", *map(str, arguments)])


def test_verify_ends_with_0_for_an_intact_log_and_7_for_a_broken_one(tmp_path: Path) -> None:
    first = files_in(write(tmp_path) / "audit")[0]
    for path in (tmp_path, tmp_path / "audit"):
        done = run("verify", path, "--json")
        document = json.loads(done.stdout)
        assert (done.exit_code, document["status"], document["logs"][0]["broken"]) == (0, 0, None)
        assert document["logs"][0]["counts"]["session"] == 40
    assert "intact" in run("verify", first).stdout
    first.write_bytes(first.read_bytes().replace(b"device-1", b"device-2", 1))
    done = run("verify", tmp_path, "--json")
    assert done.exit_code == 7 and json.loads(done.stdout)["logs"][0]["broken"]["line"] == 2
    assert run("verify", tmp_path).exit_code == 7 and "BROKEN" in run("verify", tmp_path).stdout


def test_verify_ends_with_7_for_logs_that_differ_and_3_for_no_log(tmp_path: Path) -> None:
    ours = write(tmp_path / "a", "a", session_entries(range(3)))
    theirs = write(tmp_path / "b", "b", session_entries(range(2)))
    done = run("verify", ours, "--against", theirs, "--json")
    document = json.loads(done.stdout)
    assert done.exit_code == 7 and document["comparison"]["common"] == 2 and not document["comparison"]["agree"]
    assert "not at keyholder-b" in run("verify", ours, "--against", theirs).stdout
    assert run("verify", write(tmp_path / "c", "b", session_entries(range(3))), "--against", ours).exit_code == 0
    assert run("verify", tmp_path / "nowhere").exit_code == 3
    with pytest.raises(ConfigurationError):
        check_log(tmp_path / "nowhere")


def test_show_filters_and_shows_the_latest(tmp_path: Path) -> None:
    others = session_entries(range(3, 5), device="door\x1b[31m")
    write(tmp_path, "a", [*session_entries(range(3), gallery="B\u00fcro"), *others])
    done = run("show", tmp_path, "--device", "device-1", "--last", 2, "--json")
    assert [entry["output_bits"] for entry in json.loads(done.stdout)["entries"]] == [1, 2]
    done = run("show", tmp_path, "--gallery", "Bu\u0308ro", "--json")
    assert [entry["output_bits"] for entry in json.loads(done.stdout)["entries"]] == [0, 1, 2]
    shown = run("show", tmp_path, "--event", "session")
    assert shown.exit_code == 0 and "\x1b[31m" not in shown.stdout and "5 of 6" in shown.stdout
    assert json.loads(run("show", tmp_path, "--since", "2030", "--json").stdout)["entries"] == []


def test_show_finds_the_requests_of_a_disagreement_and_how_they_ended(tmp_path: Path) -> None:
    requests = [digest * 8 for digest in ("0a1b2c3d", "0a1b2c3e", "ffffffff")]
    entries = [entry | {"request": request} for entry, request in zip(session_entries(range(3)), requests, strict=True)]
    failed = {"event": "failed", "session": f"{1:064x}", "code": "unavailable"}
    refused = {"event": "refused", "request": requests[2], "code": "budget_exceeded"}
    write(tmp_path, "a", [*entries, failed, refused])

    def found(*arguments: str) -> list[tuple[str, str | None]]:
        shown = json.loads(run("show", tmp_path, *arguments, "--json").stdout)["entries"]
        return [(entry["event"], entry.get("request")) for entry in shown]

    assert found("--request", requests[1][:16].upper()) == [("session", requests[1]), ("failed", None)]
    both = found("--request", requests[0], "--request", "ffffffff")
    assert both == [("session", requests[0]), ("session", requests[2]), ("refused", requests[2])]
    assert found("--request", "0a1b2c3d", "--event", "failed") == []
    assert found("--request", "0a1b2c3e", "--event", "failed") == [("failed", None)]
    assert found("--request", "12345678") == []
    for wrong in ("0a1b2c", "0a1b2c3g", "0a1b2c3d" * 9, ""):
        assert run("show", tmp_path, "--request", wrong).exit_code == 3


BANK = {"recipient": "bank", "recipient_id": "ab" * 32}


def test_the_recipient_is_shown_found_and_covered_by_the_chain(tmp_path: Path) -> None:
    shop = {"recipient": "B\u00fcro\x1b[31m", "recipient_id": "cd" * 32}
    entries = [
        *session_entries(range(2)), *session_entries(range(2, 4), **BANK), *session_entries(range(4, 5), **shop),
    ]  # fmt: skip
    first = files_in(write(tmp_path, entries=entries) / "audit")[0]
    for name, numbers in (("bank", [3, 4]), ("ab" * 32, [3, 4]), ("cd" * 32, [5]), ("nobody", [])):
        shown = json.loads(run("show", tmp_path, "--recipient", name, "--json").stdout)["entries"]
        assert [entry["seq"] for entry in shown] == numbers
        assert all({entry["recipient"], entry["recipient_id"]} & {name} for entry in shown)
    bare = json.loads(run("show", tmp_path, "--device", "device-1", "--json").stdout)["entries"]
    assert ["recipient" in entry for entry in bare] == [False, False, True, True, True]
    text = run("show", tmp_path).stdout
    assert text.count("bank") == 2 and "\x1b[31m" not in text
    lines = lines_of(first)
    for old, new in ((b'"bank"', b'"bang"'), (b"abab", b"abac")):
        first.write_bytes(b"".join([*lines[:3], lines[3].replace(old, new), *lines[4:]]))
        assert (broken := check_log(tmp_path).broken) and (broken.line, "was changed" in broken.why) == (4, True)


def test_two_logs_that_name_different_recipients_do_not_agree(tmp_path: Path) -> None:
    ours = write(tmp_path / "a", "a", session_entries(range(3), **BANK))
    for number, changes in enumerate(({"recipient": "shop"}, {"recipient_id": "cd" * 32}, None)):
        other = session_entries(range(2, 3), **(BANK | changes if changes else {}))
        theirs = write(tmp_path / f"b{number}", "b", session_entries(range(2), **BANK) + other)
        _, _, found = compare(ours, theirs)
        (difference,) = found.differences
        assert not found.agree and set(difference.fields) == set(changes or BANK)


def test_a_log_from_before_recipients_were_noted_verifies_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "FORMAT", 1)
    write(tmp_path, entries=session_entries(range(3)), file_bytes=1 << 20)
    checked = check_log(tmp_path)
    assert checked.head == "e390171d570ea85124b00916ff8bf739aca63b59d8cc5568a68cf130d3661137", "what that version wrote"
    monkeypatch.undo()
    write(tmp_path, entries=session_entries(range(3, 5), **BANK), file_bytes=1 << 20)
    checked = check_log(tmp_path)
    assert (checked.broken, checked.entries, len(checked.files)) == (None, 7, 1)
    shown = json.loads(run("show", tmp_path, "--event", "open", "--json").stdout)["entries"]
    assert [entry["format"] for entry in shown] == [1, 2]
