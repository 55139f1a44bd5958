"""A server that is killed while it writes for many at once has every nonce and every count of what it served."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.keyholder.killing import run_and_kill
from tests.transport.ledger_loop import LIMITS, NAMES, THREADS, entry, nonce_of
from veilmatch.crypto.errors import RequestReplayedError
from veilmatch.server.admission.ledger import Ledger

KILLS = 5


def test_no_kill_loses_a_nonce_or_a_count_or_parts_the_two(tmp_path: Path) -> None:
    rng, entered = random.Random(3), set[int]()
    for round_number in range(KILLS):
        first = 1_000_000 * round_number
        printed = run_and_kill(
            "tests.transport.ledger_loop", tmp_path, first,
            after_s=rng.uniform(0.0, 0.25), after=lambda numbers: len(numbers) > 2 * THREADS,
        )  # fmt: skip
        entered |= {n for n in printed if n >= 0}
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
            nonces = {nonce for (nonce,) in connection.execute("SELECT nonce FROM nonces")}
            counts = dict(connection.execute("SELECT scope, sum(amount) FROM used GROUP BY scope"))
        assert {nonce_of(n) for n in entered} <= nonces
        # Both are there or neither, also of what was under way when the kill came.
        assert counts == dict.fromkeys(NAMES, len(nonces))
        assert len(nonces) <= len(entered) + THREADS * (round_number + 1)
    assert len(entered) > KILLS * THREADS
    ledger = Ledger(tmp_path, LIMITS, "keyholder-a")
    for number in rng.sample(sorted(entered), 20):
        with pytest.raises(RequestReplayedError):
            ledger.enter(entry(number)).result()
    ledger.close()
