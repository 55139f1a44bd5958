"""The dealer of a pair sees shares of answers: answer bits of honest searches, and those that were refused.

An answer bit leaves as a share of x AND y, y being the valid bit: c_* ^ ((x ^ a) & b_*) ^ ((y ^ b) & a_*) and what is
public. Whoever dealt a, b and c knows all but x where b_* is 1 (y is known: 1 for an honest probe, 0 for one that its
own device made invalid). So one matcher's share of a list of candidates shows half of it, and a device that sees both
shares reads half of the bits that the gate refused to it. DESIGN.md sections 2, Mask, and 9.

Every attack runs twice: with the session's mask taken out it reads the bits, with the mask in none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.attacks.dealer import Dealer
from tests.attacks.tools import take_mask_out
from tests.crypto.toys import TOY, keys_of
from tests.simulator import MINUS, PLUS, Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.dealing import BitTriples
from veilmatch.crypto.gates.answer import answer_cost
from veilmatch.crypto.gates.decision import only_if_cost
from veilmatch.crypto.gates.validity import validity_cost
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.messages import DecisionShare
from veilmatch.crypto.pair.request import Operation

PROBE, *FACES = unit_vectors(np.random.default_rng(601), 4 * TOY.slots + 1, TOY)
TEMPLATES = np.array(FACES)
#: Refused: it has twice the length of a face, and would match many.
LOUD = 2 * PROBE
THRESHOLD = int(np.sort(TEMPLATES @ PROBE)[-12])
#: By slot: the bit, or -1 where it was not read.
Read = Array


@pytest.fixture
def keys() -> Keys:
    return keys_of("paillier")


class ReaderOfAnswers:
    """A dealer that sees some shares of what a search answers."""

    def __init__(self, keys: Keys, probe: Array) -> None:
        self._keys, self._probe = keys, probe

    def read(self, holders: Sequence[int], *, valid: int) -> Read | None:
        """Return what these holders' shares show of the bits behind "AND valid"; None if no bits fit the shares."""
        simulator, count = PairSimulator(self._keys), len(TEMPLATES)
        dealer = Dealer(simulator)
        gallery = SimulatedGallery.of(self._keys.scheme, TEMPLATES)
        request = simulator.request("candidates", THRESHOLD)
        ends: Sequence[DecisionShare] = simulator.run(request, simulator.encrypt(self._probe), gallery, gallery.places)
        dealer.next("bits", validity_cost(1, TOY))
        dealt = dealer.next("bits", answer_cost("candidates", count, TOY.ring_bits))
        found = np.full(count, -1)
        for holder in holders:
            shown = _behind_and(ends[holder].bits, _last(dealt, only_if_cost(count)), valid, holder)
            if shown is None:
                return None
            found = np.where(shown >= 0, shown, found)
        return found


def _last(dealt: Sequence[BitTriples], count: int) -> tuple[BitTriples, BitTriples]:
    plus, minus = (BitTriples(t.a[-count:], t.b[-count:], t.c[-count:]) for t in dealt)
    return plus, minus


def _behind_and(share: Array, dealt: Sequence[BitTriples], y: int, holder: int) -> Read | None:
    """x of one holder's shares of x AND y, where it shows; None if a bit contradicts it."""
    plus, minus = dealt
    a, b, own = plus.a ^ minus.a, plus.b ^ minus.b, dealt[holder]
    e = b ^ np.uint8(0xFF * y)  # opened to the holders, and known to whoever knows y
    known, factor = own.c ^ (a & own.b) ^ (e & own.a), own.b
    if holder == PLUS:  # which adds (x ^ a) & e
        known, factor = known ^ (a & e), factor ^ e
    of_known, of_x = (np.unpackbits(z, count=len(share), bitorder="little").astype(int) for z in (known, factor))
    x_where_shown = share ^ of_known
    if np.any(x_where_shown & (1 - of_x)):
        return None
    return np.where(of_x == 1, x_where_shown, -1)


def is_right(found: Read | None, expected: Array) -> bool:
    """Whether about half of the bits were read, and all of these are right."""
    if found is None:
        return False
    shown = found >= 0
    return 0.2 < shown.mean() < 0.8 and np.array_equal(found[shown], expected[shown])


EXPECTED = (TEMPLATES @ PROBE >= THRESHOLD).astype(int)
REFUSED = (TEMPLATES @ LOUD >= THRESHOLD).astype(int)


def test_bits_of_these_tests_are_some_of_each() -> None:
    assert 10 <= EXPECTED.sum() <= 20 and len(EXPECTED) > 100
    assert EXPECTED.sum() < REFUSED.sum() < len(REFUSED) - 10


@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_without_the_mask_one_matcher_s_share_shows_half_of_an_honest_answer(
    keys: Keys, holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_mask_out(monkeypatch)
    assert is_right(ReaderOfAnswers(keys, PROBE).read([holder], valid=1), EXPECTED)


@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_with_the_mask_no_bits_fit_one_matcher_s_share(keys: Keys, holder: int) -> None:
    assert [ReaderOfAnswers(keys, PROBE).read([holder], valid=1) for _ in range(4)] == [None] * 4


@pytest.mark.parametrize("holders", [[PLUS], [MINUS], [PLUS, MINUS]], ids=["plus", "minus", "both"])
def test_without_the_mask_a_device_reads_half_of_the_bits_that_were_refused(
    keys: Keys, holders: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_mask_out(monkeypatch)
    assert is_right(ReaderOfAnswers(keys, LOUD).read(holders, valid=0), REFUSED)


@pytest.mark.parametrize("holders", [[PLUS], [MINUS], [PLUS, MINUS]], ids=["plus", "minus", "both"])
def test_with_the_mask_a_device_that_sees_both_shares_reads_nothing(keys: Keys, holders: list[int]) -> None:
    """Both are masked by the same stream, so their difference is the answer, which is zeros."""
    assert [ReaderOfAnswers(keys, LOUD).read(holders, valid=0) for _ in range(4)] == [None] * 4


def test_with_the_mask_both_shares_of_a_refused_answer_are_equal_and_uniform(keys: Keys) -> None:
    simulator, gallery = PairSimulator(keys), SimulatedGallery.of(keys.scheme, TEMPLATES)
    runs = []
    for _ in range(12):
        request = simulator.request("candidates", THRESHOLD)
        plus, minus = simulator.run(request, simulator.encrypt(LOUD), gallery, gallery.places)
        assert np.array_equal(plus.bits, minus.bits) and plus.valid == minus.valid
        runs.append([*plus.bits, plus.valid])
    ones = np.array(runs)[:, :-1].mean()
    assert 0.42 < ones < 0.58, "of 1,248 fair coins"


# -- why a vector was refused --------------------------------------------------------------------------------

#: Out of range with a norm in its window, and too short with every coordinate in range.
FAR = np.where(np.arange(TOY.dimension) == 0, TOY.clip + 4, 0)
SHORT = np.where(np.arange(TOY.dimension) == 0, 1, 0)


def causes_read(operation: Operation, vector: Array, runs: int) -> set[int]:
    """What a dealer reads of "all coordinates in range" behind the valid bit of its device's refused vectors.

    The valid bit is that AND "the norm in its window". Its share shows the first where b_* is 1 and a_* is 0.
    """
    simulator = PairSimulator(keys_of("stand-in"))
    dealer, gallery = Dealer(simulator), SimulatedGallery.of(simulator.keys.scheme, TEMPLATES[:1])
    ciphertexts, seen = simulator.encrypt(vector), set()
    for _ in range(runs):
        ends = simulator.run(simulator.request(operation, 1), ciphertexts, gallery, gallery.places)
        plus, minus = (int(np.ravel(end.valid)[0]) for end in ends)
        assert plus == minus, "it is refused"
        of_plus, of_minus = _last(dealer.next("bits", validity_cost(1, TOY)), 1)
        if operation == "verify":
            dealer.next("bits", answer_cost("verify", 1, TOY.ring_bits))
        a, own_a, own_b, own_c = (int(x[0] & 1) for x in (of_plus.a ^ of_minus.a, of_minus.a, of_minus.b, of_minus.c))
        if own_b and not own_a:
            seen.add(minus ^ own_c ^ a)
    return seen


@pytest.mark.parametrize("operation", ["enrol", "verify"])
def test_without_the_mask_a_device_learns_why_its_vector_was_refused(
    operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_mask_out(monkeypatch)
    assert causes_read(operation, FAR, 80) == {0} and causes_read(operation, SHORT, 80) == {1}


@pytest.mark.parametrize("operation", ["enrol", "verify"])
def test_with_the_mask_a_device_learns_that_it_was_refused_and_not_why(operation: Operation) -> None:
    assert causes_read(operation, FAR, 160) == causes_read(operation, SHORT, 160) == {0, 1}
