"""The session of a pair: right answers, the rules of its order, and its exactness at every forced edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.crypto.toys import TOY, aimed, keys_of, lane_shares, repeated, take_validity_out, with_low_bits
from tests.simulator import FIRST, MINUS, PLUS, Keys, PairSimulator, SimulatedGallery, first_taken, seeds, unit_vectors
from veilmatch.crypto.arithmetic import Integer, random_below, random_bits
from veilmatch.crypto.dealing import STOCK_KINDS
from veilmatch.crypto.errors import (
    CiphertextError,
    GalleryMismatchError,
    KeyMismatchError,
    ProtocolError,
    VeilmatchError,
)
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair import mask
from veilmatch.crypto.pair.messages import (
    Agreement,
    AwaitResults,
    Coins,
    Composed,
    DecisionShare,
    Envelope,
    GateLayer,
    Hello,
    LastMask,
    LocalWork,
    Openings,
    ProbeShare,
    Receive,
    Reserve,
    Reserved,
    Results,
    SafetyProof,
    SafetyWork,
    Send,
    TemplateShare,
)
from veilmatch.crypto.pair.request import Operation, Request
from veilmatch.crypto.parameters import ParameterSet

RNG = np.random.default_rng(1234)
TEMPLATES = unit_vectors(RNG, TOY.slots + 9, TOY)
PROBE = unit_vectors(RNG, 1, TOY)[0]
SCORES = TEMPLATES @ PROBE
THRESHOLD = int(np.sort(SCORES)[-8])


@pytest.fixture
def gallery(keys: Keys) -> SimulatedGallery:
    return SimulatedGallery.of(keys.scheme, TEMPLATES)


@pytest.fixture
def simulator(keys: Keys) -> PairSimulator:
    return PairSimulator(keys)


def conversions(simulator: PairSimulator) -> int:
    """How many conversions the last run made."""
    return sum(isinstance(e.message, Openings) for holder, e in simulator.sent if holder == PLUS)


# -- answers ---------------------------------------------------------------------------------------------


def test_threshold_of_these_tests_accepts_some_and_refuses_some() -> None:
    assert 1 <= THRESHOLD <= TOY.threshold_max and 8 <= np.count_nonzero(SCORES >= THRESHOLD) < len(TEMPLATES)


def test_candidates_are_one_bit_a_template_in_order(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
    for threshold in (1, THRESHOLD, THRESHOLD + 1, TOY.threshold_max):
        bits = simulator.decide("candidates", PROBE, gallery, threshold)
        assert np.array_equal(bits, threshold <= SCORES)


def test_candidates_of_some_slots_are_those_slots(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
    chosen = sorted(RNG.choice(len(TEMPLATES), 7, replace=False).tolist())
    bits = simulator.decide("candidates", PROBE, gallery, THRESHOLD, [gallery.places[i] for i in chosen])
    assert np.array_equal(bits, SCORES[chosen] >= THRESHOLD)


@pytest.mark.parametrize("at", [0, 1, TOY.slots - 1, TOY.slots, TOY.slots + 8])
def test_verify_is_one_bit_of_one_slot(simulator: PairSimulator, gallery: SimulatedGallery, at: int) -> None:
    for threshold in {max(1, int(SCORES[at]) + d) for d in (-1, 0, 1)}:
        bits = simulator.decide("verify", PROBE, gallery, threshold, [gallery.places[at]])
        assert bits.tolist() == [int(SCORES[at] >= threshold)]


@pytest.mark.parametrize("count", [2, 3, 8, 9])
def test_verify_of_several_templates_is_whether_any_matches(
    simulator: PairSimulator, gallery: SimulatedGallery, count: int
) -> None:
    places = gallery.places[:count]
    best = int(SCORES[:count].max())
    for threshold in {max(1, best), max(1, best + 1), TOY.threshold_max}:
        bits = simulator.decide("verify", PROBE, gallery, threshold, places)
        assert bits.tolist() == [int(best >= threshold)]


@pytest.mark.parametrize("value", [-TOY.clip, 2, TOY.clip, "face"])
def test_enrolment_gives_both_matchers_exact_integer_shares(simulator: PairSimulator, value: int | str) -> None:
    template = PROBE if isinstance(value, str) else repeated(value, TOY)
    assert np.array_equal(simulator.enrol(template), template + TOY.offset)


@pytest.mark.parametrize("by_device", [True, False])
@pytest.mark.parametrize("operation", ["erase", "rotate"])
@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_records_of_several_templates_are_converted_exactly(
    simulator: PairSimulator, operation: Operation, count: int, by_device: bool
) -> None:
    ciphertexts = [c for template in TEMPLATES[:count] for c in simulator.encrypt(template)]
    plus, minus = simulator.run(simulator.request(operation, 0), ciphertexts, by_device=[by_device] * count)
    lanes, valid = simulator.opened((plus, minus))
    assert np.array_equal(lanes, (TEMPLATES[:count] + TOY.offset).ravel())
    assert valid.tolist() == [1] * (count if by_device and operation == "rotate" else 0), "of an erasure nobody is told"
    assert plus.is_plus and not minus.is_plus and plus.session_id == minus.session_id
    assert conversions(simulator) == 1


@pytest.mark.parametrize("operation", ["erase", "rotate"])
@pytest.mark.parametrize("invalid", [(), (0,), (4,), (1, 3), (0, 1, 2, 3, 4)], ids=str)
def test_records_of_a_device_that_are_not_valid_become_zero(
    simulator: PairSimulator, operation: Operation, invalid: tuple[int, ...]
) -> None:
    """Valid ones beside them stay as they are, and no message tells that there were others."""
    vectors = [3 * template if i in invalid else template for i, template in enumerate(TEMPLATES[:5])]
    ciphertexts = [c for vector in vectors for c in simulator.encrypt(vector)]
    lanes, valid = simulator.opened(simulator.run(simulator.request(operation, 0), ciphertexts))
    kept = [i not in invalid for i in range(5)]
    assert np.array_equal(lanes.reshape(5, -1), np.where(np.array(kept)[:, None], TEMPLATES[:5], 0) + TOY.offset)
    assert valid.tolist() == ([] if operation == "erase" else kept)
    assert conversions(simulator) == 1
    kinds = [type(e.message) for _, e in simulator.sent]
    assert kinds.count(LastMask) == 2 and kinds.count(GateLayer) == 2 * (4 + 2), "once for all five"


def note_probe_shares(simulator: PairSimulator) -> dict[int, list[ProbeShare]]:
    """The probe shares of all its runs, by holder."""
    seen: dict[int, list[ProbeShare]] = {PLUS: [], MINUS: []}
    simulator.observe = lambda holder, action: seen[holder].append(action) if isinstance(action, ProbeShare) else None
    return seen


def test_probe_shares_differ_by_the_probe_and_each_is_fresh(
    simulator: PairSimulator, gallery: SimulatedGallery
) -> None:
    seen = note_probe_shares(simulator)
    for _ in range(3):
        simulator.decide("candidates", PROBE, gallery, THRESHOLD)
    for plus, minus in zip(seen[PLUS], seen[MINUS], strict=True):
        assert plus.is_plus and not minus.is_plus and plus.session_id == minus.session_id
        assert np.array_equal((plus.exponents - minus.exponents - PROBE) % 2**TOY.ring_bits, repeated(0, TOY))
    shares = seen[PLUS] + seen[MINUS]
    assert len({tuple(share.exponents) for share in shares}) == 6 and len({share.session_id for share in shares}) == 3


def test_one_share_of_an_answer_says_nothing(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
    request, ciphertexts = simulator.request("candidates", THRESHOLD), simulator.encrypt(PROBE)
    shares = np.array([simulator.run(request, ciphertexts, gallery, gallery.places)[PLUS].bits for _ in range(24)])
    assert np.all(shares.min(axis=0) == 0) and np.all(shares.max(axis=0) == 1), "each bit of it was 0 and 1"


# -- order -------------------------------------------------------------------------------------------------


def note_actions(simulator: PairSimulator) -> tuple[list[Any], list[Any]]:
    """All that the holders ask for in its runs."""
    seen: tuple[list[Any], list[Any]] = ([], [])
    simulator.observe = lambda holder, action: seen[holder].append(action)
    return seen


def actions_of(keys: Keys, operation: Operation, gallery: SimulatedGallery) -> tuple[list[Any], list[Any]]:
    simulator = PairSimulator(keys)
    seen = note_actions(simulator)
    simulator.run(simulator.request(operation, 1), simulator.encrypt(PROBE), gallery, gallery.places[:3])
    return seen


def kind_of(action: Any) -> Any:
    return type(action.envelope.message) if isinstance(action, Send) else type(action)


def steps_of(keys: Keys, operation: Operation, gallery: SimulatedGallery, by_device: bool = True) -> Any:
    """What each holder does: kinds of actions, of messages that it sends, and ("got", kind) of those it receives."""
    simulator = PairSimulator(keys)
    seen: tuple[list[Any], list[Any]] = ([], [])
    on_wire: tuple[list[Any], list[Any]] = ([], [])

    def observe(holder: int, action: Any) -> None:
        kind = kind_of(action)
        if isinstance(action, Send):
            on_wire[1 - holder].append(kind)
        seen[holder].append(("got", on_wire[holder].pop(0)) if kind is Receive else kind)

    simulator.observe = observe
    simulator.run(simulator.request(operation, 1), simulator.encrypt(PROBE), gallery, gallery.places[:3], [by_device])
    return seen


def got(*kinds: Any) -> list[Any]:
    return [("got", kind) for kind in kinds]


def test_template_is_converted_in_the_order_of_the_rules(keys: Keys, gallery: SimulatedGallery) -> None:
    plus, minus = steps_of(keys, "enrol", gallery)
    layers = (4 + 2) * [GateLayer, *got(GateLayer)]
    assert plus == [
        LocalWork, *got(Hello), *[Reserve] * 3, Hello, Composed, Openings,
        *got(Openings, LastMask, Coins), Coins, *layers[:3], SafetyWork, SafetyProof,
        *got(SafetyProof), *layers[3:], *got(LastMask),
    ]  # fmt: skip
    assert minus == [
        LocalWork, Hello, *got(Hello), Composed, *[Reserve] * 3,
        *got(Openings), Openings, LastMask, Coins, GateLayer, *got(Coins), SafetyWork, SafetyProof,
        *layers[1:5], *got(SafetyProof), *layers[5:], LastMask,
    ]  # fmt: skip


@pytest.mark.parametrize("operation", ["erase", "rotate"])
def test_records_of_the_matchers_are_converted_without_any_gate(
    keys: Keys, operation: Operation, gallery: SimulatedGallery
) -> None:
    plus, minus = steps_of(keys, operation, gallery, by_device=False)
    assert plus == [
        LocalWork, *got(Hello), Reserve, Hello, Composed, Openings,
        *got(Openings, LastMask, Coins), Coins, SafetyWork, SafetyProof, *got(SafetyProof),
    ]  # fmt: skip
    assert minus == [
        LocalWork, Hello, *got(Hello), Composed, Reserve,
        *got(Openings), Openings, LastMask, Coins, *got(Coins), SafetyWork, SafetyProof, *got(SafetyProof),
    ]  # fmt: skip


def test_everything_of_a_verification_follows_one_conversion(keys: Keys, gallery: SimulatedGallery) -> None:
    """Validity, inner products and decision side by side: nothing goes to a matcher before the answer."""
    plus, minus = steps_of(keys, "verify", gallery)
    layers = 5 * [GateLayer, *got(GateLayer)]
    assert plus == [
        LocalWork, *got(Hello), *[Reserve] * 3, Hello, Composed, Openings,
        *got(Openings, LastMask, Coins), Coins, *layers[:3], SafetyWork, SafetyProof, *got(SafetyProof), *layers[3:],
    ]  # fmt: skip
    assert minus == [
        LocalWork, Hello, *got(Hello), Composed, *[Reserve] * 3,
        *got(Openings), Openings, LastMask, Coins, GateLayer, *got(Coins), SafetyWork, SafetyProof,
        *layers[1:5], *got(SafetyProof), *layers[5:],
    ]  # fmt: skip


@pytest.mark.parametrize("operation", ["candidates", "identify", "known"])
def test_probe_is_validated_while_the_matchers_work(
    keys: Keys, gallery: SimulatedGallery, operation: Operation
) -> None:
    """The first layer, which is most of the work; the others travel with the results."""
    for holder, steps in enumerate(steps_of(keys, operation, gallery)):
        handed, awaited = steps.index(ProbeShare), steps.index(AwaitResults)
        assert steps[handed:awaited].count(GateLayer) == (2 if holder == PLUS else 1)


@pytest.mark.parametrize("operation", ["verify", "candidates", "identify", "known", "enrol", "rotate"])
def test_nothing_is_opened_before_both_comparisons_and_the_reservation(
    keys: Keys, gallery: SimulatedGallery, operation: Operation
) -> None:
    for steps in steps_of(keys, operation, gallery):
        opened = [i for i, step in enumerate(steps) if step is Openings]
        for number, at in enumerate(opened):
            said = ("got", Agreement if number else Hello)
            assert steps[:at].count(said) == 1, "the other's digest and fingerprints came first, and were compared"
            assert LocalWork in steps[opened[number - 1] if number else 0 : at]
            assert Reserve in steps[opened[number - 1] if number else 0 : at]
        assert Reserve in steps[: steps.index(GateLayer)]


@pytest.mark.parametrize("operation", ["verify", "candidates", "identify", "known", "enrol", "erase", "rotate"])
@pytest.mark.parametrize("by_device", [True, False])
def test_coins_are_shown_when_all_is_opened(
    keys: Keys, gallery: SimulatedGallery, operation: Operation, by_device: bool
) -> None:
    """By each holder when it has the last opening of the other, and with its own or after it."""
    if not by_device and operation not in ("verify", "erase", "rotate"):
        pytest.skip("a device's own")
    for steps in steps_of(keys, operation, gallery, by_device):
        shown = steps.index(Coins)
        assert not {Openings, ("got", Openings)} & set(steps[shown:])
        assert steps[:shown].count(Openings) == steps[:shown].count(("got", Openings)) >= 1


@pytest.mark.parametrize("operation", ["verify", "candidates", "identify", "known", "enrol", "erase", "rotate"])
def test_nothing_is_handed_over_before_the_other_one_has_proved_its_openings(
    keys: Keys, gallery: SimulatedGallery, operation: Operation
) -> None:
    """But a share of a probe, which goes to the holder's own matcher."""
    simulator, ended = PairSimulator(keys), []

    def on_the_way(sender: int, envelope: Envelope) -> list[Envelope]:
        return [] if isinstance(envelope.message, SafetyProof) else [envelope]

    simulator.on_the_way = on_the_way
    simulator.observe = lambda holder, action: ended.append(kind_of(action))
    with pytest.raises((TimeoutError, ProtocolError)):
        simulator.run(simulator.request(operation, 1), simulator.encrypt(PROBE), gallery, gallery.places[:3])
    assert {DecisionShare, TemplateShare}.isdisjoint(ended)


def test_stock_is_reserved_above_the_floors_of_both(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
    """The minus holder has restarted, say, and counts more as used than the plus holder knows of."""
    for kind in STOCK_KINDS:
        simulator.stocks[MINUS].marks[kind] += 100
        floor = simulator.stocks[MINUS].marks[kind]
        bits = simulator.decide("verify", PROBE, gallery, THRESHOLD, gallery.places[:1])
        assert bits.tolist() == [int(SCORES[0] >= THRESHOLD)]
        said = next(e.message for h, e in simulator.sent if h == PLUS and isinstance(e.message, Hello))
        assert said.starts[kind] == floor
        assert simulator.stocks[PLUS].marks == simulator.stocks[MINUS].marks


def test_no_index_of_stock_is_handed_out_twice(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
    used: dict[tuple[int, str], list[int]] = {(h, kind): [] for h in (PLUS, MINUS) for kind in STOCK_KINDS}

    def noting(holder: int, reserve: Callable[[Reserve], Reserved]) -> Callable[[Reserve], Reserved]:
        def reserve_and_note(wanted: Reserve) -> Reserved:
            reserved = reserve(wanted)
            used[holder, wanted.kind].extend(range(reserved.start, reserved.start + wanted.count))
            return reserved

        return reserve_and_note

    for holder, stock in enumerate(simulator.stocks):
        stock.reserve = noting(holder, stock.reserve)  # type: ignore[method-assign]
    for operation in ("verify", "candidates", "identify", "known", "enrol", "erase", "rotate", "verify"):
        simulator.run(simulator.request(operation, 1), simulator.encrypt(PROBE), gallery, gallery.places[:3])
    for kind in STOCK_KINDS:
        assert used[PLUS, kind] == used[MINUS, kind] == list(range(len(used[PLUS, kind]))) != []


# -- what is refused -----------------------------------------------------------------------------------------


def changed_request(simulator: PairSimulator, **changes: Any) -> tuple[Request, Request]:
    request = simulator.request("candidates", THRESHOLD)
    return request, replace(request, **changes)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"operation": "identify"}, ProtocolError), ({"threshold": THRESHOLD + 1}, ProtocolError),
        ({"request_digest": bytes(32)}, ProtocolError), ({"device_nonce": bytes(32)}, ProtocolError),
        ({"gallery": "other"}, ProtocolError), ({"sequence": 8}, GalleryMismatchError),
        ({"chain": b"x" * 32}, GalleryMismatchError), ({"key_id": b"x" * 16}, KeyMismatchError),
        ({"epoch": 2}, KeyMismatchError), ({"pair": "ac"}, KeyMismatchError), ({"stock": b"x" * 32}, KeyMismatchError),
    ],
)  # fmt: skip
def test_holders_that_mean_different_sessions_stop_at_hello(
    simulator: PairSimulator, gallery: SimulatedGallery, changes: dict[str, Any], error: type[VeilmatchError]
) -> None:
    for requests in (changed_request(simulator, **changes), changed_request(simulator, **changes)[::-1]):
        with pytest.raises(VeilmatchError) as raised:
            simulator.run((requests[0], requests[1]), simulator.encrypt(PROBE), gallery, gallery.places)
        assert type(raised.value) is error
        assert all(isinstance(envelope.message, Hello) for _, envelope in simulator.sent)


@pytest.mark.parametrize("operation", ["verify", "candidates", "identify", "known", "enrol", "erase", "rotate"])
@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_wrong_number_of_lane_ciphertexts_is_refused(
    simulator: PairSimulator, gallery: SimulatedGallery, operation: Operation, count: int
) -> None:
    ciphertexts = (simulator.encrypt(PROBE) * 2)[:count]
    request = simulator.request(operation, 1)
    if operation in ("erase", "rotate") and count == 4:
        assert len(simulator.run(request, ciphertexts)[PLUS].lanes) == 2 * TOY.dimension
        return
    with pytest.raises(CiphertextError):
        simulator.run(request, ciphertexts, gallery, gallery.places)
    assert simulator.sent == []


@pytest.mark.parametrize(
    "change",
    [
        lambda r: Results(r.ciphertexts, np.zeros_like(r.wanted)),
        lambda r: Results(r.ciphertexts, r.wanted[:, :-1]),
        lambda r: Results(r.ciphertexts, r.wanted[:-1]),
        lambda r: Results(r.ciphertexts, r.wanted.ravel()),
        lambda r: Results(list(r.ciphertexts)[:-1], r.wanted),
        lambda r: Results([], r.wanted[:0]),
    ],
    ids=["none wanted", "a slot less", "a pack less", "flat", "a result less", "no results"],
)
def test_results_that_do_not_fit_their_mask_are_refused(
    simulator: PairSimulator, gallery: SimulatedGallery, change: Callable[[Results], Results]
) -> None:
    simulator.results_for = lambda holder, results: change(results)
    with pytest.raises(ProtocolError):
        simulator.decide("candidates", PROBE, gallery, THRESHOLD)
    assert conversions(simulator) == 1, "only that of the probe"


def one_slot_more(results: Results) -> Results:
    mask = results.wanted.copy()
    mask[-1, -1] = True
    return Results(results.ciphertexts, mask)


@pytest.mark.parametrize(
    "change",
    [
        one_slot_more,
        lambda r: Results([*r.ciphertexts[1:], r.ciphertexts[0]], r.wanted),
        lambda r: Results([*r.ciphertexts[:-1], r.ciphertexts[0]], r.wanted),
    ],
    ids=["a slot more", "another order", "another result"],
)
@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_holders_that_get_different_results_stop_before_anything_is_opened(
    simulator: PairSimulator, gallery: SimulatedGallery, change: Callable[[Results], Results], holder: int
) -> None:
    simulator.results_for = lambda to, results: change(results) if to == holder else results
    with pytest.raises(ProtocolError):
        simulator.decide("candidates", PROBE, gallery, THRESHOLD)
    assert conversions(simulator) == 1, "only that of the probe"


@pytest.mark.parametrize("surplus", [-1, 1])
def test_local_work_of_the_wrong_number_is_refused(simulator: PairSimulator, surplus: int) -> None:
    def work(holder: int, ciphertexts: Any) -> Any:
        shares = simulator._local_work(holder, ciphertexts)
        return shares[:surplus] if surplus < 0 else [*shares, shares[0]]

    simulator.local_work = work
    with pytest.raises(ProtocolError):
        simulator.enrol(PROBE)


@pytest.mark.parametrize("material", [None, [], ["not a triple"] * 2, (1, 2)])
def test_stock_of_the_wrong_kind_is_refused(simulator: PairSimulator, material: object) -> None:
    simulator.stocks[MINUS].reserve = lambda reserve: Reserved(0, material)  # type: ignore[method-assign]
    with pytest.raises(ProtocolError):
        simulator.enrol(PROBE)


def test_bits_of_the_wrong_kind_are_refused(simulator: PairSimulator, gallery: SimulatedGallery) -> None:
    stock = simulator.stocks[MINUS]
    right = stock.reserve
    stock.reserve = lambda r: right(r) if r.kind == "triples" else Reserved(0, [])  # type: ignore[method-assign]
    with pytest.raises(ProtocolError):
        simulator.decide("verify", PROBE, gallery, 1)


def test_session_that_gave_its_answer_answers_nothing_more(simulator: PairSimulator) -> None:
    simulator.enrol(PROBE)
    for session in simulator.last_sessions:
        assert session.finished
        with pytest.raises(ProtocolError):
            session.resume(None)
        with pytest.raises(ProtocolError):
            session.start()


def test_session_that_raised_answers_nothing_more(simulator: PairSimulator) -> None:
    simulator.local_work = lambda holder, ciphertexts: []
    with pytest.raises(ProtocolError):
        simulator.enrol(PROBE)
    ended = [session for session in simulator.last_sessions if session.finished]
    assert ended
    for session in ended:
        with pytest.raises(ProtocolError):
            session.resume([])


# -- lanes at the wrap point -------------------------------------------------------------------------------------

#: In the middle of a lane, and of 2^k.
SAFE = repeated((1 << TOY.lane_bits - 2) + (1 << (TOY.ring_bits - 1)), TOY)
EDGE = 2**TOY.lane_bits - TOY.lane_risk


def fields_with(at: int, value: int) -> Array:
    fields = SAFE.copy()
    fields[at] = value
    return fields


@pytest.mark.parametrize("at", [0, TOY.lanes - 1, TOY.lanes, TOY.dimension - 1])
@pytest.mark.parametrize("value", [EDGE, 2**TOY.lane_bits - 1])
def test_lane_at_the_wrap_point_gets_another_seed_and_stays_exact(
    keys: Keys, gallery: SimulatedGallery, at: int, value: int
) -> None:
    simulator = PairSimulator(keys, aim=aimed(lane_shares(fields_with(at, value), TOY)))
    assert np.array_equal(simulator.enrol(PROBE), PROBE + TOY.offset)
    assert conversions(simulator) == 1 and first_taken(simulator) == [False, None]
    assert np.array_equal(simulator.decide("candidates", PROBE, gallery, THRESHOLD), SCORES >= THRESHOLD)
    assert conversions(simulator) == 2 and first_taken(simulator) == [False, None]


@pytest.mark.parametrize("value", [0, EDGE - 1])
def test_lane_below_the_wrap_point_is_exact_at_once(keys: Keys, value: int) -> None:
    for template in (repeated(TOY.clip, TOY), repeated(-TOY.clip, TOY)):
        simulator = PairSimulator(keys, aim=aimed(lane_shares(repeated(value, TOY), TOY)))
        assert np.array_equal(simulator.enrol(template), template + TOY.offset)
        assert conversions(simulator) == 1 and first_taken(simulator) == [True, None]


def record_converted(simulator: PairSimulator, template: Array) -> list[int]:
    """What comes of a record that the matchers made, lane by lane less the offset."""
    shares = simulator.run(simulator.request("rotate", 0), simulator.encrypt(template), by_device=[False])
    return [x - TOY.offset for x in simulator.added_up(shares)]


def enrolled_ungated(simulator: PairSimulator, template: Array, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What comes of a template if the gate takes everything, mod 2^64 and less the offset."""
    take_validity_out(monkeypatch)
    shares = simulator.run(simulator.request("enrol", 0), simulator.encrypt(template))
    return [(x - TOY.offset) % 2**64 for x in simulator.added_up(shares)]


def test_without_the_rule_a_lane_at_the_wrap_point_is_wrong(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    aim = aimed(lane_shares(fields_with(3, 2**TOY.lane_bits - 1), TOY))
    assert record_converted(PairSimulator(keys, aim=aim), PROBE) == PROBE.tolist()
    monkeypatch.setattr(lanes, "at_risk", lambda fields, parameters: False)
    wrong = np.array(record_converted(PairSimulator(keys, aim=aim), PROBE)) - PROBE
    assert wrong.tolist() == [0, 0, 0, -(2**TOY.lane_bits), 1, *[0] * 7], "the lane wraps and carries into the next"
    found = enrolled_ungated(PairSimulator(keys, aim=aim), PROBE, monkeypatch)
    assert found == [int(x) % 2**64 for x in PROBE + wrong]


def test_without_the_rule_a_decision_at_the_threshold_is_wrong(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    template = repeated(2, TOY)
    template[4] = -1  # the lane after the one that carries
    gallery, probe = SimulatedGallery.of(keys.scheme, template[None]), repeated(2, TOY)
    score = int(template @ probe)
    at_risk, safe = lane_shares(fields_with(3, 2**TOY.lane_bits - 1), TOY), lane_shares(SAFE, TOY)
    # Of the probe the coordinate is one more and the score one less; of the record it is one more, and the score two.
    cases = ((aimed([*at_risk, *safe]), score, 1), (aimed([*safe, *at_risk]), score + 1, 0))
    for aim, threshold, right in cases:
        assert PairSimulator(keys, aim=aim).decide("verify", probe, gallery, threshold).tolist() == [right]
    monkeypatch.setattr(lanes, "at_risk", lambda fields, parameters: False)
    take_validity_out(monkeypatch)
    for aim, threshold, right in cases:
        assert PairSimulator(keys, aim=aim).decide("verify", probe, gallery, threshold).tolist() == [1 - right]


# -- shares at the modulus -----------------------------------------------------------------------------------------


def near_modulus(keys: Keys) -> Integer:
    """A w of the minus holder that wraps N with any valid lanes and has no lane at risk itself."""
    N = keys.scheme.modulus
    while True:
        w = N - 1 - random_below(Integer(1) << TOY.lane_bits * (TOY.lanes - 1))
        if not lanes.at_risk(lanes.unpack([w, w], TOY), TOY):
            return w


@pytest.mark.parametrize("at", [0, 1])
def test_lane_share_at_the_modulus_gets_another_seed_and_stays_exact(keys: Keys, at: int) -> None:
    template = repeated(TOY.clip, TOY)
    aim = lane_shares(SAFE, TOY)
    aim[at] = near_modulus(keys)
    simulator = PairSimulator(keys, aim=aimed(aim))
    assert np.array_equal(simulator.enrol(template), template + TOY.offset)
    assert conversions(simulator) == 1 and first_taken(simulator) == [False, None]
    assert record_converted(simulator, template) == template.tolist()
    assert conversions(simulator) == 1 and first_taken(simulator) == [False]


def test_without_the_rule_a_lane_share_at_the_modulus_is_wrong(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "wraps_modulus", lambda shares, modulus: False)
    template, aim = repeated(TOY.clip, TOY), lane_shares(SAFE, TOY)
    aim[0] = near_modulus(keys)
    wrong = np.array(record_converted(PairSimulator(keys, aim=aimed(aim)), template)) - template
    assert np.count_nonzero(wrong[: TOY.lanes]) >= TOY.lanes - 1 and not wrong[TOY.lanes :].any()
    found = enrolled_ungated(PairSimulator(keys, aim=aimed(aim)), template, monkeypatch)
    assert found == [int(x) % 2**64 for x in template + wrong]


def test_result_at_the_modulus_gets_another_seed_and_stays_exact(keys: Keys, gallery: SimulatedGallery) -> None:
    N = keys.scheme.modulus
    for w in (N - 1, N - (Integer(1) << (N.bit_length() - 64))):
        simulator = PairSimulator(keys, aim=aimed(None, [Integer(5), w]))
        assert np.array_equal(simulator.decide("candidates", PROBE, gallery, THRESHOLD), SCORES >= THRESHOLD)
        assert conversions(simulator) == 2 and first_taken(simulator) == [None, False]


def test_without_the_rule_a_result_at_the_modulus_is_wrong(
    keys: Keys, gallery: SimulatedGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "wraps_modulus", lambda shares, modulus: False)
    simulator = PairSimulator(keys, aim=aimed(None, [keys.scheme.modulus - 1, Integer(5)]))
    right = simulator.decide("candidates", PROBE, gallery, THRESHOLD) == (SCORES >= THRESHOLD)
    assert not right[: TOY.slots].all() and right[TOY.slots :].all()
    assert first_taken(simulator) == [None, True]


def test_share_just_below_the_headroom_is_exact_at_once(keys: Keys, gallery: SimulatedGallery) -> None:
    N = keys.scheme.modulus
    edge = N - (Integer(1) << (N.bit_length() - 64)) - 1
    simulator = PairSimulator(keys, aim=aimed(None, [edge, edge]))
    assert np.array_equal(simulator.decide("candidates", PROBE, gallery, THRESHOLD), SCORES >= THRESHOLD)
    assert conversions(simulator) == 2 and first_taken(simulator) == [None, True]


@pytest.mark.parametrize("unsafe", [1, 2, 100])
def test_seeds_are_drawn_until_one_is_safe_and_the_peer_hears_only_of_that(
    keys: Keys, unsafe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many were not: no more messages, no more stock, nothing opened again."""
    simulator = PairSimulator(keys)
    seen = note_actions(simulator)
    simulator.enrol(PROBE)
    undisturbed = [[kind_of(a) for a in actions] for actions in seen]
    for actions in seen:
        actions.clear()

    drawn = [Integer(0)] * unsafe  # FIRST, over and over
    monkeypatch.setattr(mask, "random_bits", lambda bits: drawn.pop() if drawn else random_bits(bits))
    simulator.aim = aimed(lane_shares(fields_with(0, 2**TOY.lane_bits - 1), TOY))
    assert np.array_equal(simulator.enrol(PROBE), PROBE + TOY.offset)
    assert not drawn and first_taken(simulator) == [False, None] and FIRST not in seeds(simulator)
    assert [[kind_of(a) for a in actions] for actions in seen] == undisturbed


# -- more wraps than a slot has room for ---------------------------------------------------------------------------

WIDE = ParameterSet(128, 60, 23, 512)
FIVES = repeated(5, WIDE)
TOP = (1 << WIDE.ring_bits) - 1


def wrapping(count: int) -> list[Integer]:
    """w of lanes whose first `count` coordinates wrap mod 2^k with any positive coordinate."""
    ring = np.where(np.arange(WIDE.dimension) < count, TOP, TOP // 2)
    return lane_shares(with_low_bits(ring, WIDE), WIDE)


@pytest.fixture(params=["stand-in", "paillier"])
def wide(request: pytest.FixtureRequest) -> tuple[Keys, SimulatedGallery]:
    keys = keys_of(request.param, WIDE)
    neighbour = repeated(0, WIDE)
    neighbour[:40] = 5
    return keys, SimulatedGallery.of(keys.scheme, np.array([FIVES, neighbour]))


THRESHOLD_WIDE = 1000  # exactly the neighbour's score


@pytest.mark.parametrize(
    ("count", "taken"), [(0, True), (WIDE.wrap_limit, True), (WIDE.wrap_limit + 1, False), (128, False)]
)
def test_more_wraps_than_w_get_another_seed_and_stay_exact(
    wide: tuple[Keys, SimulatedGallery], count: int, taken: bool
) -> None:
    keys, gallery = wide
    simulator = PairSimulator(keys, aim=aimed(wrapping(count)))
    shares = note_probe_shares(simulator)
    for threshold, expected in ((THRESHOLD_WIDE, [1, 1]), (THRESHOLD_WIDE + 1, [1, 0])):
        assert simulator.decide("candidates", FIVES, gallery, threshold).tolist() == expected
        assert conversions(simulator) == 2 and first_taken(simulator) == [taken, None]
        plus, minus = shares[PLUS][-1].exponents, shares[MINUS][-1].exponents
        assert np.array_equal((plus - minus - FIVES) % (TOP + 1), repeated(0, WIDE))
        assert np.count_nonzero(minus > plus) <= WIDE.wrap_limit


def test_without_the_rule_more_wraps_than_w_make_a_neighbour_wrong(
    wide: tuple[Keys, SimulatedGallery], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, gallery = wide
    monkeypatch.setattr(lanes, "wraps_at_risk", lambda ring, parameters: 0)
    simulator = PairSimulator(keys, aim=aimed(wrapping(128)))
    assert simulator.decide("candidates", FIVES, gallery, THRESHOLD_WIDE).tolist() == [1, 0]
    assert first_taken(simulator) == [True, None]


def test_as_many_wraps_as_w_of_the_largest_coordinates_stay_in_their_slot(
    wide: tuple[Keys, SimulatedGallery], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, c, W = wide[0], WIDE.clip, WIDE.wrap_limit
    for sign in (1, -1):
        worst = repeated(0, WIDE)
        worst[:W] = sign * c
        probe = repeated(0, WIDE)
        probe[:8] = c
        neighbour = FIVES
        gallery = SimulatedGallery.of(keys.scheme, np.array([worst, neighbour, worst]))
        scores = gallery.templates @ probe
        for results in ([Integer(0)], [(Integer(1) << (WIDE.slots * WIDE.slot_bits)) - 1]):  # no carry; all carries
            for threshold in {int(scores[1]), int(scores[1]) + 1, max(1, int(scores[0]))}:
                simulator = PairSimulator(keys, aim=aimed(wrapping(W), results))
                bits = simulator.decide("candidates", probe, gallery, threshold)
                assert np.array_equal(bits, scores >= threshold)
                assert first_taken(simulator) == [True, True]
