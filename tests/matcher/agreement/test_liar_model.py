"""Every world of the model with a liar: what the honest two have agreed on stays, and each rule is needed for that."""

from __future__ import annotations

import pytest

from tests.matcher.agreement.liar_model import Variant, explore
from tests.matcher.agreement.model import ViolationError

#: Of one exploration; one sitting more takes hours.
SITTINGS, ROUNDS = 3, 3


def test_a_liar_takes_back_nothing_that_the_honest_two_have_accepted() -> None:
    assert explore(SITTINGS, ROUNDS, Variant()) > 10_000


@pytest.mark.parametrize(
    ("rule", "sittings", "rounds"), [("claims_are_shown", 3, 3), ("lower_certificates_are_refused", 5, 4)]
)
def test_without_either_rule_it_does(rule: str, sittings: int, rounds: int) -> None:
    with pytest.raises(ViolationError, match="taken back"):
        explore(sittings, rounds, Variant(**{rule: False}))
