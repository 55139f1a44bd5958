"""`veilmatch audit verify` and `veilmatch audit show`: reading the audit logs of key holders."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from veilmatch.common.output import show_json, show_tables
from veilmatch.crypto.errors import InvalidInputError

if TYPE_CHECKING:
    from veilmatch.server.keyholder.audit.check import Checked, Comparison

Log = Annotated[
    Path, typer.Argument(help="A log file, a folder of them, or a key holder's data directory.", readable=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

_INTACT, _DIFFERENT = 0, 7
_BROKEN = _DIFFERENT
#: Differences shown to a person; --json has all.
_SHOWN = 50
_COLUMNS = ("seq", "at", "event", "device", "operation", "gallery", "recipient", "pair", "output_bits", "code")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    audit = typer.Typer(help="Audit logs of key holders.", no_args_is_help=True)
    audit.command()(verify)
    audit.command()(show)
    app.add_typer(audit, name="audit")


def verify(
    log: Log,
    against: Annotated[
        Path | None, typer.Option(help="Log of another key holder, to compare with.", readable=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the hash chain of an audit log, and whether another key holder's log tells of the same sessions.

    Exit status: 0 intact, and both agree; 3 no such log; 7 a chain is broken, or the two tell of different sessions.
    """
    from veilmatch.server.keyholder.audit.check import check_log, compare

    if against is None:
        logs, comparison = [check_log(log)], None
    else:
        *logs, comparison = compare(log, against)
    status = _BROKEN if any(found.broken for found in logs) else _INTACT
    if comparison is not None and not comparison.agree:
        status = status or _DIFFERENT
    done = "the log was checked"
    if as_json:
        document: dict[str, Any] = {"status": status, "logs": [_document(found) for found in logs]}
        if comparison is not None:
            document["comparison"] = asdict(comparison) | {"agree": comparison.agree}
        show_json(document, done=done)
    else:
        compared = [] if comparison is None else _comparison(comparison)
        show_tables(_logs_table(logs), *compared, done=done)
    raise typer.Exit(status)


def show(
    log: Log,
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    event: Annotated[str | None, typer.Option(help="Only open, session, failed, refused or refresh.")] = None,
    operation: Annotated[str | None, typer.Option(help="Only this operation.")] = None,
    gallery: Annotated[str | None, typer.Option(help="Only this gallery.")] = None,
    recipient: Annotated[
        str | None, typer.Option(help="Only answers for this recipient: its name, or the id of its certificate.")
    ] = None,
    request: Annotated[
        list[str] | None,
        typer.Option(help="Only this request: its digest or id, 8 hex digits or more; may be given several times."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From this UTC time on, as in the log: 2026-01-31 or longer.")
    ] = None,
    last: Annotated[int, typer.Option(min=1, help="At most this many, the latest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show entries of an audit log, up to its first break (exit status 7 then)."""
    from veilmatch.server.keyholder.audit.chain import Entry
    from veilmatch.server.keyholder.audit.check import check_log

    # As in configuration files and certificates.
    composed, named = (name and unicodedata.normalize("NFC", name) for name in (gallery, recipient))
    wanted = {"device": device, "event": event, "operation": operation, "gallery": composed}
    requests = [_digits(one) for one in request or ()]
    found: list[dict[str, Any]] = []
    #: A session that failed is noted a second time, by its id alone.
    sessions: set[str] = set()

    def is_asked_for(fields: dict[str, Any]) -> bool:
        if any(str(fields.get("request")).startswith(one) for one in requests):
            sessions.add(str(fields.get("session")))
            return True
        return not requests or ("session" in fields and fields["session"] in sessions)

    def note(entry: Entry) -> None:
        fields = {"seq": entry.number, **entry.fields}
        fits = all(value is None or fields.get(name) == value for name, value in wanted.items())
        fits = fits and (named is None or named in (fields.get("recipient"), fields.get("recipient_id")))
        if is_asked_for(fields) and fits and (since is None or str(fields.get("at")) >= since):
            found.append(fields)
            del found[:-last]

    checked, done = check_log(log, note), "the log was read"
    if as_json:
        show_json({"entries": found, "broken": _document(checked)["broken"]}, done=done)
    else:
        table = Table(*_COLUMNS, title=f"{checked.party}: {len(found)} of {checked.entries} entries")
        for fields in found:
            table.add_row(*(Text(_clean(fields.get(name, ""))) for name in _COLUMNS))
        broken = checked.broken
        remarks = [Text(f"broken at {broken.file}, line {broken.line}: {broken.why}")] if broken else []
        show_tables(table, *remarks, done=done)
    raise typer.Exit(_BROKEN if checked.broken else _INTACT)


def _digits(request: str) -> str:
    """Return the beginning of a request's digest as it is in the log. Raises InvalidInputError."""
    digits = request.lower()
    if not 8 <= len(digits) <= 64 or set(digits) - set("0123456789abcdef"):
        raise InvalidInputError("not a request", got=ascii(request[:80]), expected="8 to 64 hex digits")
    return digits


def _document(checked: Checked) -> dict[str, Any]:
    document = asdict(checked)
    return document | {"path": str(checked.path), "files": [file.name for file in checked.files]}


def _logs_table(logs: list[Checked]) -> Table:
    table = Table("", *(_clean(found.party or str(found.path)) for found in logs), title="audit log")
    rows: dict[str, list[object]] = {
        "key": [found.key_id[:16] for found in logs],
        "files": [len(found.files) for found in logs],
        "first entry": [found.first for found in logs],
        "entries": [found.entries for found in logs],
        **{name: [found.counts.get(name, 0) for found in logs] for name in ("session", "failed", "refused", "refresh")},
        "head": [found.head[:16] for found in logs],
        "incomplete last line": [f"{found.torn_bytes} bytes" if found.torn_bytes else "no" for found in logs],
        "chain": [
            f"BROKEN at {found.broken.file}, line {found.broken.line}: {found.broken.why}" if found.broken else "intact"
            for found in logs
        ],
    }
    for name, values in rows.items():
        table.add_row(name, *(Text(_clean(value)) for value in values))
    return table


def _comparison(comparison: Comparison) -> list[RenderableType]:
    shown: list[RenderableType] = [f"{comparison.common} sessions are in both logs"]
    if comparison.not_covered:
        shown.append(f"{comparison.not_covered} sessions are from before the other log begins: not compared")
    if not comparison.differences:
        return shown
    table = Table("session", "at", "difference", title=f"{len(comparison.differences)} differences")
    for found in comparison.differences[:_SHOWN]:
        what = [f"not at {found.missing_at}"] if found.missing_at else []
        what += ["failed before it could be noted there"] if found.failed else []
        what += [f"{name}: {ours} and {theirs}" for name, (ours, theirs) in found.fields.items()]
        table.add_row(*(Text(_clean(text)) for text in (found.session[:16], found.at, "; ".join(what))))
    return [*shown, table]


def _clean(value: object) -> str:
    """Text of a log goes to a terminal: no control character gets through."""
    return "".join(c if c.isprintable() else "?" for c in str(value))
