"""A lane at the wrap point: without the minus holder's rule an enrolment changes another subject's score."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.crypto.toys import SCHEMES, aimed, keys_of, lane_shares, repeated
from tests.simulator import Keys, PairSimulator, SimulatedGallery, first_taken
from tests.storing import store
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.parameters import ParameterSet

P = ParameterSet(16, 40, 15, 512)
#: Its lane wraps at this coordinate, so that 2 * 2^46 is taken from the enrolled column.
AT = 3
#: Where that lands: slot and bit within it.
SLOT, BIT = divmod(P.lane_bits + 1, P.slot_bits)


@pytest.fixture(params=SCHEMES)
def wide(request: pytest.FixtureRequest) -> Iterator[Keys]:
    yield keys_of(request.param, P)


def victim_is_accepted(keys: Keys, *, first: bool) -> bool:
    """Enrol somebody at slot 0 whose minus share has a lane at the wrap point; then ask about a victim further up.

    first: whether the seed is taken under which it lies there.
    """
    victim = np.resize(np.array([10, 5, -4, 13], dtype=np.int64), P.dimension)
    enrolled = repeated(11, P)
    templates = np.zeros((SLOT + 1, P.dimension), dtype=np.int64)
    templates[SLOT] = victim
    gallery = SimulatedGallery.of(keys.scheme, templates)
    fields = repeated(1 << P.lane_bits - 2, P)
    fields[AT] = 2**P.lane_bits - 1
    simulator = PairSimulator(keys, aim=aimed(lane_shares(fields, P)))
    store(gallery, 0, simulator.run(simulator.request("enrol", 0), simulator.encrypt(enrolled)))
    assert first_taken(simulator) == [first, None]
    accepted = PairSimulator(keys).decide("candidates", victim, gallery, int(victim @ victim), [(0, SLOT)])
    return bool(accepted[0])


def test_the_wrap_lands_in_the_low_bits_of_another_slot() -> None:
    assert SLOT >= 1 and P.ring_bits - 1 > BIT


def test_with_another_seed_the_victim_keeps_its_score(wide: Keys) -> None:
    assert victim_is_accepted(wide, first=False)


def test_without_the_rule_the_victim_is_refused(wide: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "at_risk", lambda fields, parameters: False)
    assert not victim_is_accepted(wide, first=True), (
        "the validity gate relies on the minus holder's rule and sees nothing"
    )
