"""How long checks wait after one that failed: it doubles, it ends, and it bounds the attempts of a dealer."""

from __future__ import annotations

from itertools import cycle
from math import log2

import pytest
from structlog.testing import capture_logs

from tests.keyholder.dealers import Clock
from veilmatch.crypto.dealing import BLOCK_UNITS, BlockName
from veilmatch.crypto.dealing.buckets import undetected_bits
from veilmatch.crypto.errors import DealtOpeningError, DealtStockError, UnavailableError, VeilmatchError
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.keyholder.stock.standing import FIRST_WAIT_S, LONGEST_WAIT_S, Failure, Standing

BLOCK = BlockName("ab", bytes(32), 1, "bits", 3)
WRONG = DealtStockError("bits dealt by keyholder-c did not pass the check", party="keyholder-c")
OPENED = DealtOpeningError("keyholder-b opened other values", party="keyholder-b")
SILENT = UnavailableError("keyholder-c did not say", party="keyholder-c")
NAMES = ("keyholder-b", "keyholder-c")
DAY_S = 86400.0


@pytest.fixture
def clock() -> Clock:
    return Clock(1e6)


@pytest.fixture
def standing(clock: Clock) -> Standing:
    return Standing(NAMES, clock)


def wait_of(standing: Standing) -> float:
    """How long a check would wait."""
    try:
        standing.require_good()
    except VeilmatchError as error:
        return float(error.fields()["retry_after_s"])
    return 0.0


def lose(standing: Standing, error: Failure = WRONG) -> float:
    return float(standing.lose(BLOCK, error).fields()["retry_after_s"])


def test_nobody_waits_before_a_failure(standing: Standing) -> None:
    standing.require_good()
    standing.win()
    standing.require_good()


@pytest.mark.parametrize("error", [WRONG, OPENED, SILENT])
def test_the_wait_doubles_to_the_longest_and_says_who_failed_and_for_how_long(
    error: Failure, standing: Standing, clock: Clock
) -> None:
    for expected in (5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600):
        lost = standing.lose(BLOCK, error)
        clock.now += expected / 5
        with pytest.raises(type(error)) as caught:
            standing.require_good()
        assert (type(caught.value), caught.value.party) == (type(error), error.party)
        assert (lost.fields()["retry_after_s"], caught.value.retry_after_s) == (expected, 0.8 * expected)
        assert caught.value.message == error.message
        clock.now += 0.8 * expected
        standing.require_good()


def test_parties_are_counted_apart_and_the_longest_wait_holds(standing: Standing, clock: Clock) -> None:
    assert [lose(standing), lose(standing), lose(standing, OPENED)] == [5, 10, 5]
    with pytest.raises(DealtStockError) as caught:
        standing.require_good()
    assert (caught.value.party, caught.value.retry_after_s) == ("keyholder-c", 10)
    clock.now += 9
    assert lose(standing, OPENED) == 10 and wait_of(standing) == 10


def test_a_success_resets_the_wait_an_hour_after_the_last_failure_and_not_before(
    standing: Standing, clock: Clock
) -> None:
    assert lose(standing) == 5
    clock.now += LONGEST_WAIT_S - 1
    standing.win()
    assert lose(standing) == 10
    clock.now += LONGEST_WAIT_S
    standing.win()
    assert lose(standing) == 5


def test_a_failure_is_an_alert_that_names_the_party(standing: Standing) -> None:
    with capture_logs() as logged:
        lose(standing, OPENED)
    assert logged == [{
        "event": "dealt block refused", "log_level": "error", "pair": "ab", "block": "bits 3", "named": "keyholder-b",
        "code": "dealt_opening", "reason": OPENED.message, "failures": 1, "retry_after_s": FIRST_WAIT_S,
    }]  # fmt: skip


@pytest.mark.parametrize("party", [None, "keyholder-a", "organisation 17", "x" * 1000])
def test_nobody_else_can_be_named(party: str | None, standing: Standing) -> None:
    with capture_logs() as logged, pytest.raises(ValueError, match="none of the two"):
        lose(standing, DealtStockError("wrong", party=party))
    assert not logged and wait_of(standing) == 0


def failures_in(days: int, errors: tuple[Failure, ...], rest_s: float, row: int) -> int:
    """How often a dealer can fail that fails as soon as it may, three kinds at once, and after `row` failures rests and
    succeeds once."""
    clock = Clock()
    standing, count, ways = Standing(NAMES, clock), 0, cycle(errors)
    with capture_logs():
        while clock.now < days * DAY_S:
            for _ in range(row):
                clock.now += wait_of(standing)
                for _ in range(3):
                    lose(standing, next(ways))
                    count += 1
            clock.now += rest_s
            standing.win()
    return count


#: Each name has the waits of its own failures at least, so two of them have twice as many.
MOST_A_DAY = 207


@pytest.mark.parametrize(("errors", "names"), [((WRONG,), 1), ((WRONG, SILENT), 1), ((WRONG, OPENED), 2)])
def test_a_dealer_has_few_attempts_a_day_however_it_fails_and_whenever_it_succeeds(
    errors: tuple[Failure, ...], names: int
) -> None:
    rests = (0.0, LONGEST_WAIT_S / 2, LONGEST_WAIT_S)
    most = max(failures_in(5, errors, rest_s, row) for rest_s in rests for row in (1, 2, 3, 4, 8)) / 5
    assert 24 <= most <= names * MOST_A_DAY


def test_a_wrong_block_passes_less_than_once_in_2_to_the_28_years() -> None:
    bits = min(undetected_bits(BLOCK_UNITS["bits"] // 8), undetected_bits(BLOCK_UNITS["products"]))
    assert bits - log2(2 * MOST_A_DAY * 365) > 28
    # And a check of each kind that is under way ends uncounted with each refresh that the dealer leads.
    refreshes_a_day = DAY_S / KeyHolderSettings.model_fields["refresh_interval_s"].default
    assert bits - log2((2 * MOST_A_DAY + 3 * refreshes_a_day) * 365) > 27
