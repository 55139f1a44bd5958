"""The dealer of a pair sees shares of answers: answer bits of honest searches, and those that were refused.

An answer bit leaves as a share of x AND y, y being the valid bit: c_* ^ ((x ^ a) & b_*) ^ ((y ^ b) & a_*) and what is
public. Whoever dealt a, b and c knows all but x where b_* is 1 (y is known: 1 for an honest probe, 0 for one that its
own device made invalid). So one matcher's share of a list of candidates shows half of it, and a device that sees both
shares reads half of the bits that the gate refused to it. docs/protocol.md.

Every attack runs twice: with the session's mask taken out it reads the bits, with the mask in none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.attacks.dealer import Dealer
from tests.attacks.tools import take_mask_out
from tests.crypto.gates.test_gates import bit_triples
from tests.crypto.toys import TOY, keys_of
from tests.enumeration.steps import run_circuits
from tests.simulator import MINUS, PLUS, Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.dealing import BitTriples
from veilmatch.crypto.gates.answer import answer_cost
from veilmatch.crypto.gates.boolean import Evaluator
from veilmatch.crypto.gates.decision import only_if_cost
from veilmatch.crypto.gates.lookup import all_at_once, lookup_cost
from veilmatch.crypto.gates.validity import validity_cost
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.messages import DecisionShare, TemplateShare
from veilmatch.crypto.pair.request import Operation

PROBE, *FACES = unit_vectors(np.random.default_rng(601), 4 * TOY.slots + 1, TOY)
TEMPLATES = np.array(FACES)
#: Refused: it has twice the length of a face, and would match many.
LOUD = 2 * PROBE
RNG = np.random.default_rng(602)
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

#: Rows of the last gate of validity that are joined here; ten in the gate itself, which tells 32 times less.
ROWS = 5
#: What they are for a vector out of range, and for one that is too short.
FAR, SHORT = 0b11000, 0b01111
VECTORS, TELLING = 8000, 120.0


def evidence(cause: int, *, masked: bool) -> float:
    """How much more likely FAR than SHORT makes the minus holder's shares of refused vectors, to their dealer.

    It knows all triples, and not the two numbers of the holders, which are uniform: it goes through all of them. A
    logarithm.
    """
    size = 1 << ROWS
    held = RNG.integers(0, size, VECTORS)
    parts = bit_triples(lookup_cost(VECTORS, ROWS, 1))
    both = [Evaluator(part, is_plus=i == 0) for i, part in enumerate(parts)]
    numbers = held, held ^ cause
    rows = [np.array([number >> i & 1 for i in range(ROWS)], dtype=np.uint8) for number in numbers]
    plus, minus = run_circuits(*(all_at_once(row, e) for row, e in zip(rows, both, strict=True))).ended
    assert not np.any(plus ^ minus), "they are refused"
    share = minus[0] ^ (RNG.integers(0, 2, VECTORS, dtype=np.uint8) if masked else 0)

    a, b, a_minus, b_minus, c_minus = (
        np.unpackbits(x, count=VECTORS * (size - 1), bitorder="little").reshape(size - 1, VECTORS)
        for x in (parts[0].a ^ parts[1].a, parts[0].b ^ parts[1].b, parts[1].a, parts[1].b, parts[1].c)
    )
    constant = np.bitwise_xor.reduce(c_minus ^ (a & b_minus) ^ (b & a_minus), axis=0)
    nothing = np.zeros((1, VECTORS), dtype=np.uint8)
    of_plus, of_minus = np.vstack([nothing, b_minus]), np.vstack([nothing, a_minus])
    likely = []
    for rows_are in (FAR, SHORT):
        fits = np.zeros(VECTORS)
        for p in range(size):
            complement = p ^ rows_are ^ (size - 1)
            first = np.bitwise_xor.reduce(a_minus, axis=0) ^ 1 if complement == 0 else 0
            fits += share == constant ^ of_plus[p] ^ of_minus[complement] ^ first
        likely.append(np.log(fits / size))
    return float(np.sum(likely[0] - likely[1]))


def test_without_the_mask_a_device_learns_why_its_vectors_were_refused() -> None:
    assert evidence(FAR, masked=False) > TELLING and evidence(SHORT, masked=False) < -TELLING


def test_with_the_mask_a_device_learns_that_they_were_refused_and_not_why() -> None:
    for cause in (FAR, SHORT):
        assert abs(evidence(cause, masked=True)) < TELLING


@pytest.mark.parametrize("operation", ["enrol", "verify"])
def test_the_share_of_validity_that_leaves_is_masked(operation: Operation) -> None:
    simulator = PairSimulator(keys_of("stand-in"))
    gallery, seen = SimulatedGallery.of(simulator.keys.scheme, TEMPLATES[:1]), set()
    for _ in range(40):
        ends = simulator.run(simulator.request(operation, 1), simulator.encrypt(LOUD), gallery, gallery.places)
        plus, minus = (int(np.ravel(end.valid)[0]) for end in ends)
        assert plus == minus, "it is refused"
        seen.add(minus)
    assert seen == {0, 1}


# -- whether a new face was known -----------------------------------------------------------------------------


def read_known(template: Array, holder: int) -> int | None:
    """Enrol PROBE unless it is known; whether it was, as one holder's share of what the device is told shows it to the
    dealer: about every second time, else None. A share that nothing fits is None as well.
    """
    keys = keys_of("stand-in")
    simulator = PairSimulator(keys)
    dealer, gallery = Dealer(simulator), SimulatedGallery.of(keys.scheme, template[None])
    request = simulator.request("enrol", THRESHOLD, unless_known=True)
    ends: Sequence[TemplateShare] = simulator.run(request, simulator.encrypt(PROBE), gallery, gallery.places)
    dealer.next("bits", validity_cost(1, TOY))
    dealt = dealer.next("bits", answer_cost("known", 1, TOY.ring_bits))
    shown = _behind_and(ends[holder].valid[1:], _last(dealt, only_if_cost(1)), 1, holder)
    return None if shown is None or shown[0] < 0 else int(shown[0])


@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_without_the_mask_one_matcher_s_share_shows_of_half_of_all_faces_whether_they_were_known(
    holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_mask_out(monkeypatch)
    for template, known in ((PROBE, 1), (-PROBE, 0)):
        found = [read_known(template, holder) for _ in range(30)]
        assert set(found) == {known, None}


@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_with_the_mask_what_it_shows_is_a_coin_whether_they_were_known_or_not(holder: int) -> None:
    for template in (PROBE, -PROBE):
        found = [read_known(template, holder) for _ in range(60)]
        assert {0, 1} <= set(found), "as often wrong as right"
