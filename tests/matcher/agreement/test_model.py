"""Every world of the model: the rules keep what they promise, and each of them is needed."""

from __future__ import annotations

import os

import pytest

from tests.matcher.agreement.model import Variant, ViolationError, explore
from veilmatch.crypto.errors import VeilmatchError

#: Sittings of one exploration; with 4, about a minute. Set higher for a night.
SITTINGS = int(os.environ.get("VEILMATCH_MODEL_SITTINGS", "3"))


def test_one_certificate_a_number_nothing_acknowledged_lost_and_no_deadlock() -> None:
    assert explore(SITTINGS, Variant()) > 10_000


@pytest.mark.parametrize(
    "rule",
    [
        "promises_are_durable",
        "both_promise_first",
        "highest_is_finished",
        "ballots_rise",
        "waits_for_both",
        "accepted_is_durable",
    ],
)
def test_without_any_one_rule_something_goes_wrong(rule: str) -> None:
    with pytest.raises((ViolationError, VeilmatchError)):
        explore(4, Variant(**{rule: False}))
