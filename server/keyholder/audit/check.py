"""Checking audit logs: the chain of one, and whether those of two key holders tell of the same sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veilmatch.crypto.errors import ConfigurationError, InvalidInputError
from veilmatch.server.keyholder.audit.chain import MAX_LINE_BYTES, START, Entry, decode, files_in, first_number

#: What both holders of a session have to have noted alike. caller and the time are each holder's own.
COMMON = (
    "request", "operation", "gallery", "output_bits", "device", "model", "threshold", "pair", "sequence", "chain",
    "recipient", "recipient_id",
)  # fmt: skip
#: A file gets its name with its first entry.
_EMPTIED = "a file without an entry: it was emptied"


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain breaks first. line: from 1."""

    file: str
    line: int
    why: str


@dataclass
class Checked:
    """What the check of one log found.

    first, entries: number of the first entry, and how many follow each other unbroken from there. head: hash of the
    last of them; kept elsewhere, it shows later that nothing was cut off the end. torn_bytes: of a last line that is
    not complete: an entry being written, or one that a crash cut off; neither was acknowledged.
    """

    path: Path
    files: list[Path]
    party: str = ""
    key_id: str = ""
    first: int = 0
    entries: int = 0
    head: str = START
    torn_bytes: int = 0
    broken: Break | None = None
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """A session that two logs tell of differently. missing_at: the party whose log does not have it, or "".

    fields: what the two state differently, with both values. failed: the session failed where it was noted, so that
    the other may never have come to note it.
    """

    session: str
    at: str
    missing_at: str
    fields: dict[str, tuple[Any, Any]]
    failed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Sessions of the two parties of two logs. not_covered: from before the other log begins, so not compared."""

    common: int
    not_covered: int
    differences: list[Difference]

    @property
    def agree(self) -> bool:
        """Whether nothing differs but sessions that failed before the other side could note them."""
        return all(difference.failed and not difference.fields for difference in self.differences)


def check_log(path: Path, note: Callable[[Entry], None] = lambda _: None) -> Checked:
    """Check the chain of a log file or of all files of a folder; calls `note` for each entry up to the first break.

    A data directory of a key holder may be given too. Raises ConfigurationError if there is no log or it cannot be
    read. A chain that does not begin with entry 0 is taken as it begins.
    """
    try:
        checked = Checked(path, _files(path))
        for file in checked.files:
            _check_file(file, checked, note)
            if checked.broken:
                break
    except OSError as error:
        raise ConfigurationError("an audit log cannot be read", got=f"{path}: {error.strerror}") from None
    return checked


def compare(ours: Path, theirs: Path) -> tuple[Checked, Checked, Comparison]:
    """Check two logs and compare the sessions that their two key holders served together, up to a break.

    Raises ConfigurationError as `check_log`, InvalidInputError if both are of one party or of different keys.
    """
    sides = [_sessions(path) for path in (ours, theirs)]
    a, b = sides[0].checked, sides[1].checked
    if a.party == b.party or a.key_id != b.key_id:
        raise InvalidInputError(
            "not the logs of two key holders of one installation",
            got=f"{b.party or 'nobody'}, key {b.key_id[:8] or 'none'}",
            expected=f"not {a.party or 'nobody'}, key {a.key_id[:8] or 'none'}",
        )
    letters = {a.party[-1:], b.party[-1:]}
    common, not_covered, differences = 0, 0, []
    for mine, other in (sides, sides[::-1]):
        for session, entry in mine.sessions.items():
            if set(str(entry.fields.get("pair"))) != letters:
                continue
            counterpart = other.sessions.get(session)
            if counterpart is None and other.checked.first > 0 and str(entry.fields.get("at")) < other.begins:
                not_covered += 1
            elif counterpart is None:
                failed = session in mine.failed
                differences.append(Difference(session, str(entry.fields.get("at")), other.checked.party, {}, failed))
            elif mine is sides[0]:
                common += 1
                fields = {
                    name: (entry.fields.get(name), counterpart.fields.get(name))
                    for name in COMMON
                    if entry.fields.get(name) != counterpart.fields.get(name)
                }
                if fields:
                    differences.append(Difference(session, str(entry.fields.get("at")), "", fields, failed=False))
    return a, b, Comparison(common, not_covered, sorted(differences, key=lambda found: found.at))


def entries_of(path: Path) -> list[Entry]:
    """Return the entries of a log up to its first break. Raises ConfigurationError as `check_log`."""
    found: list[Entry] = []
    check_log(path, found.append)
    return found


# -- one log ----------------------------------------------------------------------------------------


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = files_in(path) or (files_in(path / "audit") if (path / "audit").is_dir() else [])
    else:
        files = [path] if path.exists() else []
    if not files:
        raise ConfigurationError("no audit log here", got=str(path), expected="a log file, or a folder of them")
    return files


def _check_file(file: Path, checked: Checked, note: Callable[[Entry], None]) -> None:
    line, is_last = 0, file == checked.files[-1]
    for line, text in enumerate(_lines(file), start=1):
        if not text.endswith(b"\n") and is_last and len(text) < MAX_LINE_BYTES:
            checked.torn_bytes = len(text)
            if line == 1:
                checked.broken = Break(file.name, 1, _EMPTIED)
            return
        try:
            entry = decode(text)
            _check_place(entry, checked, file if line == 1 else None)
        except ValueError as error:
            checked.broken = Break(file.name, line, str(error))
            return
        if entry.event == "open":
            checked.party, checked.key_id = str(entry.fields.get("party")), str(entry.fields.get("key_id"))
        checked.entries += 1
        checked.head = entry.hash
        checked.counts[entry.event] = checked.counts.get(entry.event, 0) + 1
        note(entry)
    if line == 0:
        checked.broken = Break(file.name, 1, _EMPTIED)


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as lines:
        while text := lines.readline(MAX_LINE_BYTES):
            yield text


def _check_place(entry: Entry, checked: Checked, begun: Path | None) -> None:
    """Raise ValueError if the entry does not belong here. begun: the file that it is the first entry of."""
    if checked.entries == 0:
        checked.first, checked.head = entry.number, entry.prev
        if entry.number == 0 and entry.prev != START:
            raise ValueError("entry 0 follows something")
    if entry.number != (expected := checked.first + checked.entries):
        raise ValueError(f"entry {entry.number} where entry {expected} belongs")
    if entry.prev != checked.head:
        raise ValueError("it does not follow the entry before: one was changed, left out or put in")
    if begun is not None:
        if entry.event != "open":
            raise ValueError("a file that does not begin with the party and its key")
        if (stated := first_number(begun)) not in (None, entry.number):
            raise ValueError(f"entry {entry.number} in a file that is named after entry {stated}")
    if entry.event == "open" and checked.party not in ("", entry.fields.get("party")):
        raise ValueError("an entry of another party")


# -- two logs ---------------------------------------------------------------------------------------


@dataclass
class _Side:
    checked: Checked
    sessions: dict[str, Entry]
    failed: set[str]
    begins: str


def _sessions(path: Path) -> _Side:
    side = _Side(Checked(path, []), {}, set(), "")

    def note(entry: Entry) -> None:
        side.begins = side.begins or str(entry.fields.get("at"))
        if entry.event == "session":
            side.sessions[str(entry.fields.get("session"))] = entry
        elif entry.event == "failed":
            side.failed.add(str(entry.fields.get("session")))

    side.checked = check_log(path, note)
    return side
