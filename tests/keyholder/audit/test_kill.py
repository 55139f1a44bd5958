"""A key holder that is killed has every entry it was ever told is on disk, and its chain is intact."""

from __future__ import annotations

import random
from pathlib import Path

from tests.keyholder.killing import run_and_kill
from veilmatch.server.keyholder.audit.chain import files_in
from veilmatch.server.keyholder.audit.check import check_log, entries_of


def test_no_acknowledged_entry_is_lost_over_all_kills(tmp_path: Path) -> None:
    rng, acknowledged = random.Random(1), []
    for round_number in range(5):
        first = 1_000_000 * round_number
        acknowledged += run_and_kill(
            "tests.keyholder.audit_loop", tmp_path, first,
            after_s=rng.uniform(0.0, 0.25), after=lambda numbers: len(numbers) > 20,
        )  # fmt: skip
        checked = check_log(tmp_path)
        assert checked.broken is None
        assert checked.counts["open"] >= round_number + 1
    noted = [entry.fields["n"] for entry in entries_of(tmp_path) if entry.event == "session"]
    assert len(set(noted)) == len(noted)
    assert set(acknowledged) <= set(noted) and len(acknowledged) > 50
    # At most one entry for each thread of each process was on disk and not yet told.
    assert len(noted) - len(acknowledged) <= 5 * 4
    assert len(files_in(tmp_path / "audit")) > 1
