"""A server that deviates but sees no answers learns nothing: what servers see is the same whoever stands there."""

from __future__ import annotations

import pytest

from tests.crypto.toys import TOY, keys_of
from tests.hostile.alone import QUERIES, faces, run
from tests.hostile.deviations import DEVIATIONS, Deviation
from veilmatch.crypto.pair.request import Operation

KEYS = keys_of("stand-in", TOY)


def name(deviation: Deviation) -> str:
    return f"{deviation.who} {deviation.what}"


@pytest.mark.parametrize("operation", QUERIES)
def test_without_a_deviation_answers_are_right(operation: Operation) -> None:
    for probe in faces(TOY)[1:]:
        assert run(KEYS, None, operation, probe)[0] == "right"


@pytest.mark.parametrize("deviation", DEVIATIONS, ids=name)
@pytest.mark.parametrize("operation", QUERIES)
def test_what_servers_see_of_a_deviation_does_not_depend_on_the_probe(
    operation: Operation, deviation: Deviation
) -> None:
    _, known, stranger = faces(TOY)
    outcome, seen = run(KEYS, deviation, operation, known)
    assert outcome in deviation.outcomes
    for probe in (stranger, known):
        again, seen_again = run(KEYS, deviation, operation, probe)
        assert again in deviation.outcomes
        assert seen_again == seen
