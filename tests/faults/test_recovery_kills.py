"""One of three key holders dies while new shares are made, at a random message: nothing is half done, and all serve.

`python -m tests.faults --part recoveries` does it at every message.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.e2e.world import KEY_HOLDERS
from tests.faults.recoveries import KINDS, recovery_faults

#: Each receives, and sends where it is called, more messages than that.
MESSAGES = 20


def test_a_kill_leaves_new_shares_at_all_three_or_none_in_use(tmp_path: Path) -> None:
    with recovery_faults(tmp_path / "installation") as dying:
        party, kind, at = random.choice(KEY_HOLDERS), random.choice(list(KINDS)), random.randint(1, MESSAGES)
        print(f"{kind}: {party} killed at message {at}")  # pytest shows it if the test fails
        assert dying.kill_during_recovery(party, kind, at).died
