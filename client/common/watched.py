"""Files that are replaced while they are in use, certificates above all: whether they have been."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitedTooLong
from pathlib import Path

#: Nobody waits longer for a file that was put in place.
LOOK_S = 2.0
#: What tells one content of a file from another: times of change, size, number of the file; None: it is not there.
_Mark = tuple[int, int, int, int] | None


class Watched:
    """A few files, and how they were when they were last looked at. Costs one look at each in every LOOK_S.

    now: a clock that does not go back, in seconds. within_s: how long a look is waited for, where nobody may wait for a
    disk that hangs, as in an event loop; None: as long as it takes.
    """

    def __init__(
        self, files: Sequence[Path], now: Callable[[], float] = time.monotonic, within_s: float | None = None
    ) -> None:
        self._files = tuple(files)
        self._now = now
        self._within_s = within_s
        #: A look that was not waited for any longer.
        self._under_way: Future[tuple[_Mark, ...]] | None = None
        self._looked = now()
        self._marks = self._look()

    def changed(self, *, at_once: bool = False) -> bool:
        """Return whether a file is another one than at the last look. at_once: look, however long that was ago.

        What a late look has found is returned by a later call.
        """
        now = self._now()
        if not at_once and now - self._looked < LOOK_S:
            return False
        self._looked, before = now, self._marks
        self._marks = self._look() if self._within_s is None else self._look_apart(self._within_s)
        return self._marks != before

    def _look_apart(self, within_s: float) -> tuple[_Mark, ...]:
        """Return what a thread finds, or what is known if it is late."""
        if self._under_way is None:
            self._under_way = looking = Future[tuple[_Mark, ...]]()
            threading.Thread(target=lambda: looking.set_result(self._look()), name="watched", daemon=True).start()
        elif not self._under_way.done():
            return self._marks
        try:
            found = self._under_way.result(within_s)
        except WaitedTooLong:
            return self._marks
        self._under_way = None
        return found

    def _look(self) -> tuple[_Mark, ...]:
        return tuple(_mark(file) for file in self._files)


def _mark(file: Path) -> _Mark:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
