"""Whether the matchers of an installation hold the same: sequence number and chain value of every database."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from tests.e2e.world import MATCHERS
from veilmatch.server.installation.plan import folder_of

#: A third organisation follows within a second; after a fault it has to find the others first.
LEVEL_S = 15.0


def state_of(directory: Path, matcher: str) -> tuple[int, bytes]:
    """Return sequence number and chain value of what a matcher has committed."""
    database = directory / folder_of(matcher) / "data" / "gallery.db"
    with closing(sqlite3.connect(database, timeout=10.0)) as connection:
        (state,) = connection.execute("SELECT sequence, chain FROM galleries").fetchall()
        return state[0], bytes(state[1])


def wait_level(directory: Path, matchers: Iterable[str] = MATCHERS, timeout_s: float = LEVEL_S) -> float:
    """Wait until these matchers hold the same; return how long that took, in seconds."""
    began = time.monotonic()
    while len(states := {state_of(directory, matcher) for matcher in matchers}) > 1:
        assert len({sequence for sequence, _ in states}) > 1, "two chains under one number"
        assert time.monotonic() - began < timeout_s, f"not level: {[sequence for sequence, _ in states]}"
        time.sleep(0.05)
    return time.monotonic() - began
