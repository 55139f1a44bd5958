"""A server that is killed has counted everything that it admitted."""

from __future__ import annotations

import random
from pathlib import Path

from sqlalchemy import func, select

from tests.keyholder.killing import run_and_kill
from tests.transport.budget_loop import LIMIT, THREADS
from veilmatch.server.admission.budgets import metadata
from veilmatch.server.admission.ledger import Ledger

KILLS = 6


def test_kills_never_make_room_for_more_than_the_limit(tmp_path: Path) -> None:
    rng, admitted = random.Random(2), 0
    for round_number in range(KILLS):
        used_up = (lambda numbers: -2 in numbers) if round_number == KILLS - 1 else bool
        printed = run_and_kill(
            "tests.transport.budget_loop", tmp_path, 10_000 * round_number,
            after_s=rng.uniform(0.0, 0.06), after=used_up,
        )  # fmt: skip
        admitted += sum(n >= 0 for n in printed)
        with Ledger(tmp_path, [], "keyholder-a")._engine.connect() as connection:
            counted = connection.execute(select(func.sum(metadata.tables["used"].c.amount))).scalar() or 0
        # What was admitted was counted; what was counted and not admitted was under way when the kill came.
        assert admitted <= counted <= min(LIMIT, admitted + THREADS * (round_number + 1))
    assert counted == LIMIT
