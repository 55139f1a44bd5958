"""Who deviates in a key ceremony: it ends in an error, or in a sound key, and what refuses it is the check."""

from __future__ import annotations

import pytest

from tests.hostile.ceremonies import (
    CEREMONY_DEVIATIONS,
    KEY_ROUNDS,
    SOUND,
    UNNOTICED,
    WRONG,
    CeremonyDeviation,
    after_the_search,
    altering_in_turn,
)


@pytest.mark.parametrize("deviation", CEREMONY_DEVIATIONS, ids=lambda x: f"{x.who} {x.what}")
def test_a_deviation_ends_in_an_error_or_in_a_sound_key(
    deviation: CeremonyDeviation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        found = deviation.run(patch, False)
    expected = SOUND if deviation.refused == SOUND else f"refused ({deviation.refused})"
    assert set(found) == {expected}


@pytest.mark.parametrize("deviation", [x for x in CEREMONY_DEVIATIONS if x.check], ids=lambda x: f"{x.who} {x.what}")
def test_without_its_check_it_goes_further(deviation: CeremonyDeviation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key is kept, or nothing is noticed; of N only a later check finds it, the tests of shares."""
    with monkeypatch.context() as patch:
        (found,) = deviation.run(patch, True)
    of_modulus = deviation.check in ("N is tested", "the third pair tests N")
    assert found in (("refused (integrity)",) if of_modulus else (WRONG, UNNOTICED))


def test_some_messages_that_are_altered_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them: tests/crypto/ceremony/test_key.py, and `python -m tests.hostile`."""
    found = altering_in_turn(range(1, KEY_ROUNDS, 9), after_the_search, monkeypatch, False)
    assert found.total() > 4 and WRONG not in found
