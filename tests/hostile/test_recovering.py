"""Who deviates while a lost key holder is replaced: all stays as before, or what the honest two have is sound."""

from __future__ import annotations

import pytest

from tests.hostile.recovering import RECOVERY_DEVIATIONS, RecoveryDeviation, outcome

#: What the honest ones end with.
REFUSED = {
    "puts in another share of o": "integrity",
    "puts in another share of kappa": "integrity",
    "adds an error to Gamma*o of others": "key_safety",
    "adds an error to Gamma*kappa of others": "key_safety",
    "alters what it shows of a share": "protocol",
    "alters its hash of what b shows": "protocol",
}


def name(deviation: RecoveryDeviation) -> str:
    return f"{deviation.who} {deviation.what}"


@pytest.mark.parametrize("deviation", RECOVERY_DEVIATIONS, ids=name)
def test_a_deviation_is_refused_and_only_by_the_checks(deviation: RecoveryDeviation) -> None:
    found = outcome(deviation, believing=False)
    assert found.refused == {REFUSED[deviation.what]}, str(found)
    # A hash alone spoils nothing.
    kept = "kept, and sound" if "its hash" in deviation.what else "kept, and wrong"
    assert str(outcome(deviation, believing=True)).startswith(kept)
