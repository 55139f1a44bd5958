"""One organisation that lies has somebody erased who is in use, by the rule `idle_days`: docs/limitations.md says so.

A matcher knows of its own pairs on which day a subject was asked for. Whoever is verified with pair ac alone looks idle
at b; in pair ab it is a that would know better. Other rules are of what all three know, and hold against it.
"""

from __future__ import annotations

import pytest

from tests.matcher.test_retention import NOW_S, RULES, template
from veilmatch.server.matcher.gallery.disk.reading import Detail
from veilmatch.server.matcher.retention.rules import due, in_both

PACKS, SLOTS = 1, 8
LIE = b"\xff" * (PACKS * SLOTS // 8)


def erased(at_a: bytes, at_b: Detail) -> list[tuple[int, int]]:
    return in_both(at_a, due([at_b], RULES, NOW_S).bitmap(PACKS, SLOTS), SLOTS)


@pytest.mark.parametrize("lies", [False, True])
def test_whom_only_the_liar_and_the_third_have_asked_for_is_erased(lies: bool) -> None:
    asked_today, heard_of_by_b = template(3), template(3, asked_days_ago=31)
    at_a = LIE if lies else due([asked_today], RULES, NOW_S).bitmap(PACKS, SLOTS)
    assert erased(at_a, heard_of_by_b) == ([(0, 3)] if lies else [])


def test_nobody_is_erased_whom_the_other_one_has_asked_for_or_whose_time_is_not_over() -> None:
    assert erased(LIE, template(3, age_days=364, asked_days_ago=30)) == []
