"""What every command prints: results on standard output, everything else on standard error.

With `--json` a command prints exactly one JSON document on standard output, an error included. Without it, a result
is a line or a table for people. A failure always shows as a panel on standard error.

Nothing else in Veilmatch writes to standard output. What cannot be written there is an OutputError that says what was
done; what cannot be shown on standard error is lost, because the exit status says how it ended. A character that a
stream cannot encode is escaped and fails nothing.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO, cast

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from veilmatch.common.hints import hint, span
from veilmatch.crypto.errors import BudgetExceededError, OutputError, VeilmatchError

#: No table is as wide, in characters.
_WIDEST = 10_000
#: Shows the trace of an unforeseen error. Off by default: its text may quote what was being handled.
DEBUG_VARIABLE = "VEILMATCH_DEBUG"


# -- streams ----------------------------------------------------------------------------------


class _Stream(io.TextIOBase):
    """A standard stream, None if it is closed, on which no character fails."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in typeshed
        """That of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def writable(self) -> bool:
        """Whether it is for writing: always."""
        return True

    def isatty(self) -> bool:
        """Whether a person is at the other end."""
        with suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    def fileno(self) -> int:
        """The descriptor. Raises OSError if there is none."""
        if self._stream is None:
            raise OSError("closed")
        return self._stream.fileno()

    def close(self) -> None:
        """Leave the standard stream open: it is not this object's."""

    def _put(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError("text only")
        if self._stream is None:
            raise OSError("it is closed")
        self._stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
        self._stream.flush()


class Results(_Stream):
    """Standard output. `used`: whether anything was written."""

    used = False

    def write(self, text: str) -> int:
        """Write text through to the other end. Raises OutputError if it does not get there."""
        try:
            self._put(text)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise OutputError("the result could not be printed", got=reason, expected="a standard output") from None
        self.used = self.used or bool(text)
        return len(text)

    def flush(self) -> None:
        """Everything is written through already."""


class Messages(_Stream):
    """Standard error: what does not get there is lost."""

    def write(self, text: str) -> int:
        """Write text, if there is anybody to read it."""
        with suppress(OSError, ValueError):
            self._put(text)
        return len(text)

    def flush(self) -> None:
        """Everything is written through already."""


@contextmanager
def standard_streams() -> Iterator[Results]:
    """Have everything that is printed meanwhile, by libraries too, go through these streams."""
    before = sys.stdout, sys.stderr
    results = Results(before[0])
    sys.stdout, sys.stderr = results, Messages(before[1])
    try:
        yield results
    finally:
        sys.stdout, sys.stderr = before


# -- results ----------------------------------------------------------------------------------


def show(text: str, *, done: str) -> None:
    """Print a line of a result. Names of subjects come from servers: no control character gets through.

    done: what was done, as a clause; the OutputError says it if nobody can read the line.
    """
    _print("".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" or c == "\t" else "?" for c in text) + "\n", done)


def show_json(document: object, *, done: str) -> None:
    """Print the one JSON document of a command. done: see `show`."""
    text = json.dumps(document, ensure_ascii=False)
    try:
        text.encode(_results().encoding)
    except UnicodeEncodeError:  # a file name that is no text, or a stream in another encoding
        text = json.dumps(document)
    _print(text + "\n", done)


def show_tables(*tables: RenderableType, done: str, style: str | None = None) -> None:
    """Print tables and lines for people; nothing of a cell is left out. done: see `show`."""
    try:
        _print_tables(Console(file=cast("IO[str]", _results()), highlight=False), tables, style)
    except OutputError as error:
        raise _not_printed(done, error) from None


def _print_tables(console: Console, tables: Sequence[RenderableType], style: str | None) -> None:
    """Print tables as wide as they are where no terminal limits them; where it is too narrow, a row is a paragraph."""
    for table in tables:
        if not isinstance(table, Table):
            console.print(Text(table) if isinstance(table, str) else table, style=style)  # brackets are no markup
            continue
        for column in table.columns:
            column.overflow = "fold"
        width = Measurement.get(console, console.options.update(max_width=_WIDEST), table)
        if not console.is_terminal:
            console.width = max(width.maximum, console.width)
            console.print(table, style=style)
        elif width.minimum <= console.width:
            console.print(table, style=style)
        else:
            for line in _paragraphs(table):
                console.print(line, style=style, markup=False, soft_wrap=True)


def _paragraphs(table: Table) -> Iterator[str]:
    """Return a table as lines: `column: value`, and an empty line between rows."""
    if table.title:
        yield f"{table.title}:"
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        yield ""
        for column, cell in zip(table.columns, cells, strict=True):
            if str(cell):
                yield f"{column.header}: {cell}" if str(column.header) else str(cell)


def _print(text: str, done: str) -> None:
    try:
        _results().write(text)
    except OutputError as error:
        raise _not_printed(done, error) from None


def _results() -> Results:
    return sys.stdout if isinstance(sys.stdout, Results) else Results(sys.stdout)


def _not_printed(done: str, error: OutputError) -> OutputError:
    return OutputError(f"{done}, but it could not be printed", got=error.got, expected=error.expected)


# -- messages ---------------------------------------------------------------------------------


def messages() -> Console:
    """Return the console for progress and remarks: standard error."""
    file = sys.stderr if isinstance(sys.stderr, Messages) else Messages(sys.stderr)
    return Console(file=cast("IO[str]", file), highlight=False)


def say(line: str) -> None:
    """Print a remark for people, as it is."""
    messages().print(line, soft_wrap=True, markup=False)


def say_tables(*tables: RenderableType) -> None:
    """Print tables for people as remarks; nothing of a cell is left out."""
    _print_tables(messages(), tables, None)


def report(error: VeilmatchError, *, as_json: bool) -> None:
    """Show an error to a person, and to a program if it asked for JSON and has no document yet."""
    if as_json and not isinstance(error, OutputError) and not _results().used:
        with suppress(OutputError):  # the exit status is that of the error, and the panel follows
            show_json({"error": error_document(error)}, done=error.message)
    body = Text(error.message)
    for name, value in _lines(error):
        body.append(f"\n{name}: ", style="bold").append(value)
    messages().print(Panel(body, title=Text(error.code), title_align="left", border_style="red"))


def error_document(error: VeilmatchError) -> dict[str, Any]:
    """Return the fields of an error, its exit status and its hint."""
    return error.fields() | {"exit_status": error.exit_status, "hint": hint(error)}


def unforeseen(error: BaseException) -> VeilmatchError:
    """Return what is said of an error that is none of ours: its kind and place, not its text."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error, file=sys.stderr)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return VeilmatchError(
        f"this should not have happened; set {DEBUG_VARIABLE}=1 to see where",
        got=f"{type(error).__name__}{place}",
    )


def _lines(error: VeilmatchError) -> Iterator[tuple[str, str]]:
    """What the panel says below the message."""
    if isinstance(error, BudgetExceededError) and error.budget:
        yield "budget", error.budget
    for name, value in (("expected", error.expected), ("got", error.got), ("party", error.party)):
        if value:
            yield name, value
    if error.party and error.said_by and error.party != error.said_by[0]:
        first, *passed_on = error.said_by
        yield "said by", first + (f", passed on by {', '.join(passed_on)}" if passed_on else "")
    if error.alternatives:
        yield "pairs that can do without it", ", ".join(error.alternatives)
    if error.retry_after_s is not None:
        yield "ask again in", span(error.retry_after_s)
    if error.request_id:
        yield "request", f"{error.request_id}: operators find it in the logs of every party that it reached"
    yield "hint", hint(error)
