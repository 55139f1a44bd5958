"""Bars of progress for what takes minutes, one for each stage."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from veilmatch.common.output import messages


def progress_bars() -> Progress:
    """Return bars on standard error, as a context manager."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=messages())


class Stages:
    """Shows progress, one bar a stage; a stage that starts again gets another bar."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say how much of a stage is done."""
        if stage != self._stage or done == 0:
            self._stage, self._task = stage, self._bars.add_task(stage, total=total)
        self._bars.update(self._task, completed=done, total=total)
