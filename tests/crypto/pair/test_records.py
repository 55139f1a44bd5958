"""Templates in a session: gated or not, exact as integers at every forced edge, and zero where a vector is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.toys import TOY, keys_of, repeated, valid_vectors
from tests.simulator import FIRST, PLUS, Keys, PairSimulator, SimulatedGallery, seeds, unit_vectors
from tests.storing import empty_gallery, records_of, store
from veilmatch.crypto.arithmetic import Integer, random_bits
from veilmatch.crypto.dealing import Words
from veilmatch.crypto.errors import CiphertextError, ProtocolError
from veilmatch.crypto.gates.multiplication import Multiplication, only_valid
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair import exchange, mask, records
from veilmatch.crypto.pair.mask import SessionMask, last_masked_words
from veilmatch.crypto.pair.messages import GateLayer, Openings
from veilmatch.crypto.pair.request import MAX_TEMPLATES, Operation
from veilmatch.crypto.parameters import ParameterSet

VECTORS = unit_vectors(np.random.default_rng(401), TOY.slots + 4, TOY)
FACE, OTHER = VECTORS[:2]
#: Too short, too long, out of range, and of another lane.
INVALID = (repeated(0, TOY), 3 * FACE, FACE + TOY.clip + 1, FACE + (1 << 20))
ZERO = repeated(0, TOY)


def run(
    simulator: PairSimulator, operation: Operation, vectors: Sequence[Array], by_device: list[bool] | None = None
) -> tuple[Array, list[int]]:
    """The coordinates that come out, int64[n, D], and what the device hears of each that is gated."""
    ciphertexts = [c for vector in vectors for c in simulator.encrypt(vector)]
    lanes, valid = simulator.opened(simulator.run(simulator.request(operation, 0), ciphertexts, by_device=by_device))
    return lanes.reshape(-1, TOY.dimension) - TOY.offset, valid.tolist()


# -- gated and ungated ones -------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["erase", "rotate"])
@pytest.mark.parametrize(
    "by_device", [[True, False], [False, True], [True, False, True], [False] * 3 + [True], [True] * 9 + [False]],
    ids=str,
)  # fmt: skip
def test_each_record_is_gated_or_not_as_it_is_told(keys: Keys, operation: Operation, by_device: list[bool]) -> None:
    simulator, vectors = PairSimulator(keys), VECTORS[: len(by_device)]
    found, valid = run(simulator, operation, vectors, by_device)
    assert np.array_equal(found, vectors)
    assert valid == ([1] * sum(by_device) if operation == "rotate" else [])
    # Invalid ones in the places that are gated become zero; in the others they come as they are.
    short = [INVALID[0] + (np.arange(TOY.dimension) == 0) for _ in by_device]
    found, valid = run(simulator, operation, short, by_device)
    assert np.array_equal(found, [ZERO if gated else x for gated, x in zip(by_device, short, strict=True)])
    assert valid == ([0] * sum(by_device) if operation == "rotate" else [])


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[Operation, list[tuple[Array, bool, bool]]]:
    """An operation, and records: vector, whether it is valid, whether a device encrypted it."""
    invalid = st.sampled_from(INVALID).map(lambda x: (x, False, True))
    valid = st.tuples(valid_vectors(TOY), st.just(True), st.booleans())
    made_zero = st.just((ZERO, True, False))
    made = draw(st.lists(st.one_of(valid, invalid, made_zero), min_size=1, max_size=10))
    return draw(st.sampled_from(("erase", "rotate"))), made


@settings(max_examples=40, deadline=None)
@given(mixtures())
def test_every_mixture_comes_out_exactly(given_: tuple[Operation, list[tuple[Array, bool, bool]]]) -> None:
    operation, made = given_
    found, told = run(PairSimulator(keys_of("stand-in")), operation, [x for x, _, _ in made], [g for _, _, g in made])
    assert np.array_equal(found, [x if valid else ZERO for x, valid, _ in made])
    assert told == ([int(valid) for _, valid, gated in made if gated] if operation == "rotate" else [])


@settings(max_examples=30, deadline=None)
@given(valid_vectors(TOY))
def test_every_valid_vector_is_enrolled_as_it_is(vector: Array) -> None:
    found, valid = run(PairSimulator(keys_of("stand-in")), "enrol", [vector])
    assert np.array_equal(found, [vector]) and valid == [1]


# -- what the two holders have to be told alike ---------------------------------------------------------------


@pytest.mark.parametrize("operation", ["erase", "rotate"])
@pytest.mark.parametrize(
    ("plus", "minus"),
    [([True], [False]), ([False], [True]), ([True, False], [False, True]), ([True, True], [True, False]),
     ([False] * 9, [False] * 8 + [True])],
    ids=str,
)  # fmt: skip
def test_holders_that_are_told_different_origins_stop_before_anything_is_opened(
    keys: Keys, operation: Operation, plus: list[bool], minus: list[bool]
) -> None:
    """Else one matcher could have the other's vectors converted without their gate."""
    simulator = PairSimulator(keys)
    ciphertexts = [c for vector in VECTORS[: len(plus)] for c in simulator.encrypt(vector)]
    with pytest.raises(ProtocolError, match="different ciphertexts"):
        simulator.run(simulator.request(operation, 0), ciphertexts, by_device=(plus, minus))
    assert not any(isinstance(e.message, Openings | GateLayer) for _, e in simulator.sent)


@pytest.mark.parametrize("operation", ["candidates", "identify", "known", "enrol"])
@pytest.mark.parametrize("by_device", [[False], [], [True, True], [False, False], [True, False]], ids=str)
def test_vector_of_a_device_is_never_taken_without_its_gate(
    keys: Keys, operation: Operation, by_device: list[bool]
) -> None:
    simulator = PairSimulator(keys)
    for count in {1, len(by_device)}:
        ciphertexts = simulator.encrypt(FACE) * count
        with pytest.raises((ProtocolError, CiphertextError)) as raised:
            simulator.run(simulator.request(operation, 1), ciphertexts, by_device=by_device)
        assert type(raised.value) is (ProtocolError if by_device == [False] else CiphertextError)
        assert simulator.sent == []


@pytest.mark.parametrize(
    "by_device", [[False, False], [False, True], [True], [], [True] * (2 + MAX_TEMPLATES)], ids=len
)
def test_verification_has_a_gated_probe_and_one_to_as_many_records_as_are_compared(
    keys: Keys, by_device: list[bool]
) -> None:
    simulator, request = PairSimulator(keys), PairSimulator(keys).request("verify", 1)
    both = (simulator.encrypt(FACE) * len(by_device),) * 2
    for session in simulator.sessions(request, both, by_device):
        with pytest.raises((ProtocolError, CiphertextError)) as raised:
            session.start()
        assert type(raised.value) is (ProtocolError if by_device[:1] == [False] else CiphertextError)


@pytest.mark.parametrize("by_device", [[], [True, True], [False] * 4], ids=str)
@pytest.mark.parametrize("operation", ["erase", "rotate"])
def test_as_many_origins_as_records_are_told(keys: Keys, operation: Operation, by_device: list[bool]) -> None:
    simulator = PairSimulator(keys)
    ciphertexts = [c for vector in VECTORS[:3] for c in simulator.encrypt(vector)]
    with pytest.raises(CiphertextError):
        simulator.run(simulator.request(operation, 0), ciphertexts, by_device=by_device)
    assert simulator.sent == []


# -- the minus holder's rule against wraps -------------------------------------------------------------------

EDGE = (1 << 64) - TOY.lane_risk


class AimedWords:
    """Gives the minus holder the words of a test under the last mask of FIRST, which it tries before any other."""

    def __init__(self, vector: Array, monkeypatch: pytest.MonkeyPatch, target: Sequence[int]) -> None:
        self._lanes = (vector + TOY.offset).astype(np.uint64)
        self._target = np.array(target, dtype=np.uint64)
        #: Whether FIRST was taken, of every last mask of words.
        self.taken: list[bool] = []
        self._masked: Words | None = None
        self._of_minus: Words | None = None
        self._of_words = False
        self._draw_seed = exchange.draw_seed
        monkeypatch.setattr(records, "only_valid", self._only_valid)
        monkeypatch.setattr(SessionMask, "words", lambda mask, count: self._words())
        monkeypatch.setattr(exchange, "draw_seed", self._draw)

    def _only_valid(self, *arguments: object, is_plus: bool) -> Multiplication:
        share = yield from only_valid(*arguments, is_plus=is_plus)  # type: ignore[arg-type]
        self._of_minus = share - self._lanes if is_plus else share
        return share

    def _words(self) -> Words:
        assert self._of_minus is not None
        self._of_words = True  # the next seed; both holders add the mask of the session before it is drawn
        return self._target - last_masked_words(self._of_minus, FIRST)

    def _draw(self, is_safe: Callable[[bytes], bool]) -> bytes:
        if not self._of_words:
            return self._draw_seed(is_safe)
        self._of_words = False
        self.taken.append(is_safe(FIRST))
        return FIRST if self.taken[-1] else self._draw_seed(is_safe)


def with_word(at: int, value: int) -> list[int]:
    return [value if i == at else 1 << 50 for i in range(TOY.dimension)]


@pytest.mark.parametrize("at", [0, 8, 9, TOY.dimension - 1])
@pytest.mark.parametrize("value", [EDGE, (1 << 64) - 1])
def test_word_at_the_wrap_point_gets_another_seed_and_stays_exact(
    keys: Keys, at: int, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = AimedWords(FACE, monkeypatch, with_word(at, value))
    simulator = PairSimulator(keys)
    found, valid = run(simulator, "enrol", [FACE])
    assert np.array_equal(found, [FACE]) and valid == [1]
    assert words.taken == [False] and len(seeds(simulator)) == 2 and FIRST not in seeds(simulator)
    kinds = [type(e.message) for h, e in simulator.sent if h == PLUS]
    assert kinds.count(Openings) == 1 and kinds.count(GateLayer) == 4 + 2, "a seed costs no conversion and no product"


@pytest.mark.parametrize("value", [0, 1, EDGE - 1])
def test_word_below_the_wrap_point_is_exact_at_once(keys: Keys, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for vector in (repeated(TOY.clip, TOY), repeated(-TOY.clip, TOY)):
        words = AimedWords(vector, monkeypatch, [value] * TOY.dimension)
        simulator = PairSimulator(keys)
        plus, minus = simulator.run(simulator.request("enrol", 0), simulator.encrypt(vector))
        assert minus.lanes.tolist() == [value] * TOY.dimension
        assert np.array_equal(simulator.opened((plus, minus))[0], vector + TOY.offset)
        assert words.taken == [True] and seeds(simulator)[1:] == [FIRST]
        monkeypatch.undo()


@pytest.mark.parametrize("operation", ["enrol", "erase", "rotate"])
def test_words_that_would_wrap_are_exact_in_every_operation(
    keys: Keys, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = AimedWords(FACE, monkeypatch, with_word(3, (1 << 64) - 1))
    simulator = PairSimulator(keys)
    assert np.array_equal(run(simulator, operation, [FACE])[0], [FACE])
    assert words.taken == [False] and len(seeds(simulator)) == 2


def test_without_the_rule_a_word_at_the_wrap_point_is_wrong_as_an_integer(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "words_at_risk", lambda words, parameters: False)
    words = AimedWords(FACE, monkeypatch, with_word(3, (1 << 64) - 1))
    simulator = PairSimulator(keys)
    shares = simulator.run(simulator.request("enrol", 0), simulator.encrypt(FACE))
    wrong = [x - int(v) - TOY.offset for x, v in zip(simulator.added_up(shares), FACE, strict=True)]
    assert wrong == [0, 0, 0, -(1 << 64), *[0] * 8], "what leaves is right mod 2^64, and not under encryption"
    assert words.taken == [True] and seeds(simulator)[1:] == [FIRST]
    record = records_of(keys.scheme, shares)
    again = simulator.run(simulator.request("rotate", 0), record, by_device=[False])
    assert simulator.added_up(again) != (FACE + TOY.offset).tolist(), "2^16 is taken from the next lane"


@pytest.mark.parametrize("unsafe", [1, 3, 100])
def test_seeds_of_words_are_drawn_until_one_is_safe_and_the_peer_hears_only_of_that(
    keys: Keys, unsafe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = AimedWords(FACE, monkeypatch, with_word(0, EDGE))
    by_itself, drawn = words._draw_seed, [Integer(0)] * unsafe  # FIRST, over and over

    def unsafe_ones(is_safe: Callable[[bytes], bool]) -> bytes:
        if words.taken:
            monkeypatch.setattr(mask, "random_bits", lambda bits: drawn.pop() if drawn else random_bits(bits))
        return by_itself(is_safe)

    words._draw_seed = unsafe_ones
    simulator = PairSimulator(keys)
    assert np.array_equal(run(simulator, "enrol", [FACE])[0], [FACE])
    assert not drawn and words.taken == [False] and len(seeds(simulator)) == 2 and FIRST not in seeds(simulator)


def test_words_of_every_template_have_to_be_safe_under_one_seed(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several in one session, of which the last word of the last would wrap; one seed masks them all."""
    asked: list[int] = []
    honest = lanes.words_at_risk

    def at_risk(words: Words, parameters: ParameterSet) -> bool:
        asked.append(len(words))
        assert not honest(words, parameters)
        changed = words.copy()
        changed[-1] = (1 << 64) - 1
        return honest(changed if len(asked) == 1 else words, parameters)

    monkeypatch.setattr(lanes, "words_at_risk", at_risk)
    simulator = PairSimulator(keys)
    found, _ = run(simulator, "rotate", VECTORS[:3], [True, False, True])
    assert np.array_equal(found, VECTORS[:3])
    assert asked == [2 * TOY.dimension] * 2 and len(seeds(simulator)) == 2


def test_words_are_at_risk_from_the_first_value_that_could_wrap() -> None:
    largest = 2 * TOY.clip + 1
    for value, expected in ((0, False), (EDGE - 1, False), (EDGE, True), ((1 << 64) - 1, True)):
        for at in (0, 5, TOY.dimension - 1):
            words = np.zeros(TOY.dimension, dtype=np.uint64)
            words[at] = value
            assert lanes.words_at_risk(words, TOY) is expected
            assert expected or value + largest < 1 << 64
    assert EDGE + largest <= 1 << 64, "with room to spare"


# -- a record that was refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", INVALID, ids=["zero", "too long", "out of range", "out of its lane"])
def test_refused_vector_becomes_an_empty_template_that_matches_nobody(keys: Keys, vector: Array) -> None:
    simulator, gallery = PairSimulator(keys), empty_gallery(keys.scheme)
    gallery.places = gallery.places[:3]
    for slot, enrolled in enumerate((OTHER, vector, FACE)):
        shares = simulator.run(simulator.request("enrol", 0), simulator.encrypt(enrolled))
        store(gallery, slot, shares)
        if slot == 1:
            assert simulator.opened(shares)[1].tolist() == [0]
            record = records_of(keys.scheme, shares)
    for probe in (FACE, OTHER, VECTORS[7], -FACE):
        scores = np.array([OTHER @ probe, 0, FACE @ probe])
        for threshold in (1, max(1, int(probe @ FACE)), TOY.threshold_max):
            assert np.array_equal(simulator.decide("candidates", probe, gallery, threshold), scores >= threshold)
            assert simulator.decide("verify", probe, gallery, threshold, gallery.places[1:2]).tolist() == [0]
        best = sum(int(b) << i for i, b in enumerate(simulator.decide("identify", probe, gallery, 1)))
        assert best == (int(np.argmax(scores)) + 1 if scores.max() >= 1 else 0)
    for operation in ("rotate", "erase"):
        lanes, valid = simulator.opened(simulator.run(simulator.request(operation, 0), record, by_device=[False]))
        assert lanes.tolist() == [TOY.offset] * TOY.dimension and valid.tolist() == []


def test_empty_template_is_rotated_and_erased_like_any_other(keys: Keys) -> None:
    """Rotated under the same key into a pack of its own, then erased from it: its neighbour is left as it was."""
    simulator, gallery, rotated = PairSimulator(keys), empty_gallery(keys.scheme), empty_gallery(keys.scheme)
    rotated.places = rotated.places[:2]
    kept = []
    for slot, vector in enumerate((INVALID[1], FACE)):
        shares = simulator.run(simulator.request("enrol", 0), simulator.encrypt(vector))
        store(gallery, slot, shares)
        again = simulator.run(simulator.request("rotate", 0), records_of(keys.scheme, shares), by_device=[False])
        store(rotated, slot, again)
        kept.append(records_of(keys.scheme, again))
    for left in ([0, 1], [1], []):
        expected = [0, int(FACE @ FACE) if 1 in left else 0]
        for threshold in (1, min(TOY.threshold_max, int(FACE @ FACE))):
            bits = simulator.decide("candidates", FACE, rotated, threshold)
            assert bits.tolist() == [int(x >= threshold) for x in expected]
        if left:
            erased = simulator.run(simulator.request("erase", 0), kept[left[0]], by_device=[False])
            store(rotated, left[0], erased, erase=True)


@pytest.mark.parametrize("at", [0, TOY.slots - 1])
def test_pack_with_an_erased_template_is_that_of_free_slots(keys: Keys, at: int) -> None:
    simulator, gallery = PairSimulator(keys), empty_gallery(keys.scheme)
    shares = simulator.run(simulator.request("enrol", 0), simulator.encrypt(FACE))
    store(gallery, at, shares)
    assert np.flatnonzero(simulator.decide("candidates", FACE, gallery, 1)).tolist() == [at]
    erased = simulator.run(simulator.request("erase", 0), records_of(keys.scheme, shares), by_device=[False])
    store(gallery, at, erased, erase=True)
    for probe in (FACE, -FACE):
        assert not simulator.decide("candidates", probe, gallery, 1).any()


def test_galleries_of_these_tests_are_made_of_what_both_matchers_store(keys: Keys) -> None:
    """Column and record of one enrolment hold the same vector."""
    simulator, gallery = PairSimulator(keys), empty_gallery(keys.scheme)
    shares = simulator.run(simulator.request("enrol", 0), simulator.encrypt(FACE))
    store(gallery, 2, shares)
    plain = SimulatedGallery.of(keys.scheme, np.vstack([0 * VECTORS[:2], VECTORS[:1]]))
    for probe in VECTORS[:6]:
        for threshold in (1, TOY.threshold_max):
            both = [simulator.decide("verify", probe, g, threshold, [(0, 2)]).tolist() for g in (gallery, plain)]
            assert both[0] == both[1] == [int(probe @ FACE >= threshold)]
    found, _ = simulator.opened(
        simulator.run(simulator.request("rotate", 0), records_of(keys.scheme, shares), by_device=[False])
    )
    assert np.array_equal(found, FACE + TOY.offset)
