"""A server that deviates but sees no answers learns nothing: what servers see is the same whatever a request holds."""

from __future__ import annotations

import pytest

from tests.crypto.toys import TOY, keys_of
from tests.hostile.alone import WORK, Work, run, two_vectors
from tests.hostile.deviations import DEVIATIONS, Deviation

KEYS = keys_of("stand-in", TOY)
CASES = [(deviation, work) for deviation in DEVIATIONS for work in WORK if work.kind in deviation.where]


def name(value: Deviation | Work) -> str:
    return f"{value.who} {value.what}" if isinstance(value, Deviation) else str(value)


@pytest.mark.parametrize("work", WORK, ids=str)
def test_without_a_deviation_answers_and_templates_are_right(work: Work) -> None:
    one, other = (run(KEYS, None, work, vector) for vector in two_vectors(work, TOY))
    assert one[0] == other[0] == "right" and one[1] == other[1]


@pytest.mark.parametrize(("deviation", "work"), CASES, ids=name)
def test_what_servers_see_of_a_deviation_does_not_depend_on_the_vector(deviation: Deviation, work: Work) -> None:
    one, other = two_vectors(work, TOY)
    outcome, seen = run(KEYS, deviation, work, one)
    assert outcome in deviation.outcomes
    for vector in (other, one):
        again, seen_again = run(KEYS, deviation, work, vector)
        assert again in deviation.outcomes
        assert seen_again == seen
