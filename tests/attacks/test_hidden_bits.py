"""Bits that a check mod 2^k does not see: a neighbour's template rewritten, the key read from refusals.

The validity gate compares whole lanes and everything above them: what it refuses becomes zero, and only the device
hears of it. Each attack works with a gate that checks mod 2^k alone, and not with the real one.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.attacks.tools import secrets_of
from tests.attacks.vectors import LAST, P, changed, check_mod_2_to_k_only, encrypted, enrolled, plaintexts
from tests.crypto.toys import SCHEMES, keys_of
from tests.simulator import Keys, PairSimulator, SimulatedGallery, unit_vectors
from tests.storing import store
from veilmatch.crypto.arithmetic import Integer, invert
from veilmatch.crypto.errors import ServerDeviationError
from veilmatch.crypto.pair import converting
from veilmatch.crypto.pair.conversion import output_share

VICTIM, MALLORY, COVER = unit_vectors(np.random.default_rng(52), 3, P)
THRESHOLD = P.threshold(0.6)


@pytest.fixture(params=SCHEMES)
def keys(request: pytest.FixtureRequest) -> Keys:
    return keys_of(request.param, P)


# -- a template that writes into the next slot ---------------------------------------------------------------


def found_after_overwriting(keys: Keys) -> dict[str, list[int]]:
    """Who matches slots 0 and 1. Slot 1 holds the victim; into slot 0 comes a template whose upper bits hold more.

    That is the difference to Mallory, where the next slot begins.
    """
    gallery = SimulatedGallery.of(keys.scheme, np.array([np.zeros_like(VICTIM), VICTIM]))
    template = plaintexts(COVER + ((MALLORY - VICTIM) << P.slot_bits))
    simulator = PairSimulator(keys)
    store(gallery, 0, simulator.run(simulator.request("enrol", 0), encrypted(keys, template)))
    return {
        name: simulator.decide("candidates", face, gallery, THRESHOLD, [(0, 0), (0, 1)]).tolist()
        for name, face in (("victim", VICTIM), ("mallory", MALLORY), ("cover", COVER))
    }


def test_with_a_check_mod_2_to_k_a_template_takes_the_place_of_its_neighbour(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_mod_2_to_k_only(monkeypatch)
    assert found_after_overwriting(keys) == {"victim": [0, 0], "mallory": [0, 1], "cover": [1, 0]}


def test_template_that_writes_into_the_next_slot_becomes_zero_and_leaves_its_neighbour_alone(keys: Keys) -> None:
    assert found_after_overwriting(keys) == {"victim": [0, 1], "mallory": [0, 0], "cover": [0, 0]}


# -- the key from accepted and refused templates ---------------------------------------------------------------


class DeviatingHolder:
    """A minus holder with a device: shifts an opening so that the last plaintext becomes m + (o - guess) * 2^at.

    It knows m, its own. What its device hears of the template then tells whether the guess is right.
    """

    def __init__(self, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys, self.m, self.at = keys, plaintexts(MALLORY), P.lane_bits * (LAST - 1)
        self.guess = 0
        self._index = {True: 0, False: 0}
        monkeypatch.setattr(converting, "output_share", self._output_share)

    def accepted(self, guess: int) -> bool:
        self.guess, self._index = guess, {True: 0, False: 0}
        return enrolled(self.keys, self.m)[1]

    def _output_share(self, triple, mine, theirs, N, *, is_plus):  # type: ignore[no-untyped-def]
        index = self._index[is_plus]
        self._index[is_plus] = (index + 1) % P.lane_ciphertexts
        if index != P.lane_ciphertexts - 1:
            return output_share(triple, mine, theirs, N, is_plus=is_plus)
        shift = (Integer(1) << self.at) * invert(self.m[-1], N) % N
        shifted = type(mine)(mine.d, mine.e + shift) if is_plus else type(theirs)(theirs.d, theirs.e + shift)
        if is_plus:
            return output_share(triple, shifted, theirs, N, is_plus=True)
        w = output_share(triple, mine, shifted, N, is_plus=False)
        return (w + (Integer(self.guess) << self.at)) % N


def test_with_a_check_mod_2_to_k_an_accepted_template_tells_low_bits_of_the_key(
    paillier_at_p: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_mod_2_to_k_only(monkeypatch)
    holder, (o, _) = DeviatingHolder(paillier_at_p, monkeypatch), secrets_of(paillier_at_p)
    low = int(o % (1 << P.ring_bits))
    assert any(holder.accepted(low) for _ in range(4))
    for wrong in (100, 1000, 1 << P.ring_bits - 1):
        assert not any(holder.accepted(low + wrong) for _ in range(4))


def test_no_guess_of_low_bits_is_accepted_by_the_gate(paillier_at_p: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, (o, _) = DeviatingHolder(paillier_at_p, monkeypatch), secrets_of(paillier_at_p)
    for bits in (0, P.ring_bits, P.lane_bits, 300):
        assert not any(holder.accepted(int(o % (1 << bits))) for _ in range(4))
    assert holder.accepted(int(o)), "only the whole key is"


@pytest.fixture
def paillier_at_p() -> Keys:
    return keys_of("paillier", P)


# -- a lane that carries into its neighbour --------------------------------------------------------------------


def outcomes(keys: Keys) -> set[int]:
    """What forty runs of one verification answer, at a threshold that one more in coordinate 1 decides."""
    probe, template = MALLORY.copy(), np.where(np.arange(P.dimension) < 64, MALLORY, VICTIM)
    probe[1], template[1] = 3, 7
    gallery = SimulatedGallery.of(keys.scheme, template[None])
    threshold = int(probe @ template) + 7
    m = changed(probe, 0, lambda x: x + (Integer(1) << P.lane_bits - 1))
    simulator, seen = PairSimulator(keys), set()
    for _ in range(40):
        plus, minus = simulator.run(simulator.request("verify", threshold), encrypted(keys, m), gallery, gallery.places)
        if plus.valid == minus.valid:
            raise ServerDeviationError("an invalid vector")
        seen |= set((plus.bits ^ minus.bits).tolist())
    return seen


def test_with_a_check_mod_2_to_k_an_answer_tells_of_the_holders_shares(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_mod_2_to_k_only(monkeypatch)
    assert outcomes(keys) == {0, 1}, "one more in a coordinate if the minus holder's lane below is in its upper half"


def test_lane_that_carries_into_its_neighbour_is_refused(keys: Keys) -> None:
    with pytest.raises(ServerDeviationError):
        outcomes(keys)
