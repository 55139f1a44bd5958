"""What a check closes is there without it, and gone with it: every row of the tables of `python -m tests.hostile`."""

from __future__ import annotations

import pytest

from tests.hostile.checked import ALONE, WITH_A_DEVICE, Attack


@pytest.mark.parametrize("attack", ALONE + WITH_A_DEVICE, ids=lambda attack: f"{attack.who} {attack.does}")
def test_attack_gets_something_without_its_check_and_nothing_with_it(attack: Attack) -> None:
    row = attack.row()
    assert not row["without_its_check"].startswith(("nothing", "refused")), row
    assert row["with_it"].startswith(("nothing", "refused")), row
    assert (row["who"], row["does"]) == (attack.who, attack.does)
