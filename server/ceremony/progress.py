"""What people see who wait for a ceremony: a bar on a terminal, else a line for each step."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from veilmatch.common.output import messages
from veilmatch.crypto.keys.parties import Party

#: Of the bar.
COLUMNS = (
    TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f} rounds"),
    TextColumn("{task.fields[megabytes]:,.0f} MB sent"), TimeElapsedColumn(),
)  # fmt: skip


class Progress(Protocol):
    """What a ceremony tells. Called from any thread."""

    def reached(self, part: str, rounds: int) -> None:
        """A part begins, of about so many rounds; 0 if it has none."""

    def sent(self, total_bytes: int) -> None:
        """A round has ended; so many bytes were sent since the beginning."""

    def waiting(self, peer: Party, why: str) -> None:
        """A peer is not there yet."""

    def say(self, text: str) -> None:
        """Something people should know."""


class Lines:
    """One line for each step, on standard error; with as_json a JSON object each."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json, self._started = as_json, time.monotonic()
        self._waited: dict[Party, str] = {}
        self._rounds = self._bytes = 0

    def reached(self, part: str, rounds: int) -> None:
        """See Progress."""
        self._put(part, step=part, expected_rounds=rounds)

    def sent(self, total_bytes: int) -> None:
        """See Progress."""
        self._rounds, self._bytes = self._rounds + 1, total_bytes

    def waiting(self, peer: Party, why: str) -> None:
        """See Progress; the same reason is said once."""
        if self._waited.get(peer) != why:
            self._waited[peer] = why
            self._put(f"waiting for keyholder-{peer}: {why}", waiting_for=f"keyholder-{peer}", why=why)

    def say(self, text: str) -> None:
        """See Progress."""
        self._put(text, message=text)

    def _put(self, line: str, **fields: object) -> None:
        elapsed = time.monotonic() - self._started
        if self._as_json:
            state = {"elapsed_s": round(elapsed, 3), "rounds": self._rounds, "sent_bytes": self._bytes}
            line = json.dumps(fields | state)
        else:
            line = f"{elapsed:8.1f} s  {line}"
        messages().print(line, soft_wrap=True, markup=False, highlight=False)


class Bar:
    """A bar for the step, with rounds and megabytes."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None
        self._waiting: dict[Party, str] = {}

    def reached(self, part: str, rounds: int) -> None:
        """See Progress."""
        if self._task is not None:
            # What a step takes is known about; it has ended, whatever the bar has come to.
            done = next(task.completed for task in self._bars.tasks if task.id == self._task)
            self._bars.update(self._task, total=max(done, 1), completed=max(done, 1))
        self._waiting.clear()
        self._task = self._bars.add_task(part, total=rounds or None, megabytes=0.0)

    def sent(self, total_bytes: int) -> None:
        """See Progress."""
        if self._task is not None:
            self._bars.update(self._task, advance=1, megabytes=total_bytes / 1e6)

    def waiting(self, peer: Party, why: str) -> None:
        """See Progress."""
        if self._waiting.get(peer) != why:
            self._waiting[peer] = why
            self._bars.console.print(f"waiting for keyholder-{peer}: {why}", markup=False)

    def say(self, text: str) -> None:
        """See Progress."""
        self._bars.console.print(text, markup=False)


@contextmanager
def shown(*, as_json: bool) -> Iterator[Progress]:
    """Give what fits standard error: bars for people, lines for everything else."""
    console = messages()
    if as_json or not console.is_terminal:
        yield Lines(as_json=as_json)
        return
    with Bars(*COLUMNS, console=console) as bars:
        yield Bar(bars)
