"""How much dealing a peer may ask for: a burst after a rest, a rate without end, and never less than a refill takes."""

from __future__ import annotations

import pytest

from tests.keyholder.dealers import Clock
from veilmatch.crypto.dealing import BLOCK_UNITS, STOCK_KINDS
from veilmatch.crypto.errors import BudgetExceededError
from veilmatch.server.config import DealingLimits, KeyHolderSettings
from veilmatch.server.keyholder.allowance import Allowance
from veilmatch.server.keyholder.stock.stocks import _REFILL_PAUSE_S

B = "keyholder-b"
DEFAULT_STOCK = {
    kind: KeyHolderSettings.model_fields[name].default // BLOCK_UNITS[kind]
    for kind, name in zip(STOCK_KINDS, ("stock_triples", "stock_bytes", "stock_products"), strict=True)
}


@pytest.fixture
def clock() -> Clock:
    return Clock(5e5)


@pytest.fixture
def small(clock: Clock) -> Allowance:
    return Allowance(DealingLimits(burst=100, per_minute=60), clock)


def refusal(allowance: Allowance, count: int, peer: str = B) -> BudgetExceededError:
    with pytest.raises(BudgetExceededError) as caught:
        allowance.take_blocks(peer, count)
    return caught.value


def test_a_burst_is_dealt_and_then_no_more_than_the_rate(small: Allowance, clock: Clock) -> None:
    small.take_blocks(B, 60)
    small.take_blocks(B, 40)
    error = refusal(small, 1)
    assert (error.budget, error.limit, error.retry_after_s) == ("dealing to keyholder-b", 100, 1.0)
    for _ in range(50):
        clock.now += 1
        small.take_blocks(B, 1)
        assert refusal(small, 1).retry_after_s == pytest.approx(1.0)


def test_what_is_refused_is_dealt_when_the_error_said_so_and_not_before(small: Allowance, clock: Clock) -> None:
    small.take_blocks(B, 100)
    clock.now += 10
    wait_s = refusal(small, 30).retry_after_s
    assert wait_s == pytest.approx(20)
    clock.now += 19.9
    refusal(small, 30)
    clock.now += 0.2
    small.take_blocks(B, 30)


def test_a_refusal_costs_nothing_and_a_rest_gives_no_more_than_the_burst(small: Allowance, clock: Clock) -> None:
    small.take_blocks(B, 90)
    for _ in range(20):
        refusal(small, 11)
    small.take_blocks(B, 10)
    clock.now += 1e6
    small.take_blocks(B, 100)
    refusal(small, 1)


def test_more_than_the_burst_can_never_be_dealt_at_once(small: Allowance) -> None:
    assert refusal(small, 101).retry_after_s is None
    small.take_blocks(B, 100)


def test_peers_are_counted_apart(small: Allowance) -> None:
    small.take_blocks(B, 100)
    refusal(small, 1)
    small.take_blocks("keyholder-a", 100)


def test_what_was_dealt_last_is_committed_to_though_the_bucket_is_empty_and_that_has_an_end(
    small: Allowance, clock: Clock
) -> None:
    small.take_blocks(B, 100)
    for _ in range(64):
        small.take_commitment(B)
    with pytest.raises(BudgetExceededError):
        small.take_commitment(B)
    assert refusal(small, 1).retry_after_s == pytest.approx(65), "commitments are counted"
    clock.now += 65
    small.take_blocks(B, 1)


def test_the_default_stock_is_dealt_and_checked_at_once_many_times_over() -> None:
    allowance = Allowance(DealingLimits(), Clock())
    for _ in range(5):
        for blocks in DEFAULT_STOCK.values():
            for _ in range(blocks):
                allowance.take_blocks(B, 1)
                allowance.take_commitment(B)


def test_a_refill_without_end_never_meets_the_limit(clock: Clock) -> None:
    """A turn is one block of each kind, and a pause."""
    allowance = Allowance(DealingLimits(), clock)
    for _ in range(20_000):
        for _ in STOCK_KINDS:
            allowance.take_blocks(B, 1)
            allowance.take_commitment(B)
        clock.now += _REFILL_PAUSE_S
    refusal(allowance, DealingLimits().burst + 1)
    allowance.take_blocks(B, 2000)
