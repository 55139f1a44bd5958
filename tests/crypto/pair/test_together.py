"""Verifications that go together are answered as they would be alone; what is wrong with one ends it alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attacks.test_malformed_ciphertexts import malformed
from tests.crypto.toys import TOY, keys_of
from tests.simulator import MINUS, PLUS, Keys, PairSimulator, unit_vectors
from veilmatch.crypto.errors import (
    CiphertextError,
    GalleryMismatchError,
    KeyMismatchError,
    KeySafetyError,
    ProtocolError,
    VeilmatchError,
)
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.messages import (
    Coins,
    Composed,
    DecisionShare,
    Envelope,
    GateLayer,
    Hello,
    LastMask,
    Openings,
    Reserve,
    SafetyProof,
    SafetyWork,
    Standing,
)
from veilmatch.crypto.pair.request import MAX_TEMPLATES, MAX_TOGETHER, Part

RNG = np.random.default_rng(50)
FACES = unit_vectors(RNG, 24, TOY)
INVALID = 3 * FACES[0]


@dataclass(frozen=True)
class Asked:
    """A verification in clear. by_device: of each record."""

    probe: Array
    records: Sequence[Array]
    by_device: Sequence[bool]
    threshold: int

    @staticmethod
    def of(probe: Array, *records: Array, gated: bool = False, above: int = 0) -> Asked:
        """A threshold that the best record reaches, or misses by `above`; at least 1."""
        best = max(int(probe @ record) for record in records)
        return Asked(probe, records, [gated] * len(records), max(1, best + above))

    @property
    def expected(self) -> tuple[int, int]:
        """The answer, and whether the probe is valid."""
        valid = is_valid(self.probe)
        compared = zip(self.records, self.by_device, strict=True)
        reached = any((is_valid(r) or not gated) and int(self.probe @ r) >= self.threshold for r, gated in compared)
        return int(valid and reached), int(valid)

    def part(self, simulator: PairSimulator) -> Part:
        ciphertexts = [c for vector in (self.probe, *self.records) for c in simulator.encrypt(vector)]
        return Part(simulator.request("verify", self.threshold), ciphertexts, np.array([True, *self.by_device]))


def is_valid(vector: Array) -> bool:
    return bool(np.abs(vector).max() <= TOY.clip and TOY.norm_min <= int(vector @ vector) <= TOY.norm_max)


#: A tie and one above it, a stranger, an invalid probe, some templates, records of devices, one of which is invalid.
MIXED = [
    Asked.of(FACES[0], FACES[0]),
    Asked.of(FACES[1], FACES[1], above=1),
    Asked.of(INVALID, FACES[0]),
    Asked.of(FACES[2], FACES[3], FACES[2], FACES[4]),
    Asked(FACES[5], [INVALID, FACES[5]], [True, False], int(FACES[5] @ FACES[5])),
    Asked(FACES[0], [INVALID], [True], 1),
    Asked.of(FACES[6], *FACES[7:17], FACES[6]),
    Asked.of(FACES[6], *FACES[7:13], FACES[6], gated=True),
]


@pytest.fixture
def simulator(keys: Keys) -> PairSimulator:
    return PairSimulator(keys)


def answers(simulator: PairSimulator, plus: Sequence[Part | None], minus: Sequence[Part]) -> list[tuple[int, int]]:
    """What those that go on are answered."""
    (_, mine), (_, theirs) = simulator.together(plus, minus)
    return [(int(p.bits[0] ^ m.bits[0]), p.valid ^ m.valid) for p, m in zip(mine, theirs, strict=True)]


def messages(simulator: PairSimulator, kind: type) -> int:
    return sum(isinstance(e.message, kind) for _, e in simulator.sent)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_each_is_answered_as_it_would_be_alone(simulator: PairSimulator, count: int) -> None:
    asked = MIXED[:count]
    parts = [one.part(simulator) for one in asked]
    assert answers(simulator, parts, parts) == [one.expected for one in asked]
    ones = messages(simulator, Hello), messages(simulator, LastMask), messages(simulator, Coins)
    assert (*ones, messages(simulator, SafetyProof), messages(simulator, Openings)) == (2, 1, 2, 2, 2), "once for all"
    for part, one in zip(parts, asked, strict=True):
        assert answers(simulator, [part], [part]) == [one.expected]


def test_the_mixed_ones_are_answered_in_all_ways() -> None:
    assert {one.expected for one in MIXED} == {(0, 0), (0, 1), (1, 1)}


FACE = st.integers(0, len(FACES) - 1)
VECTOR = st.one_of(FACE.map(lambda i: FACES[i]), st.just(INVALID))


@st.composite
def asked_ones(draw: st.DrawFn) -> Asked:
    probe = draw(VECTOR)
    by_device = draw(st.lists(st.booleans(), min_size=1, max_size=5))
    records = [draw(VECTOR) if gated else FACES[draw(FACE)] for gated in by_device]
    near = int(probe @ draw(st.sampled_from(records))) + draw(st.integers(-1, 1))
    return Asked(probe, records, by_device, min(max(1, near), TOY.threshold_max))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=st.lists(asked_ones(), min_size=1, max_size=6))
def test_answers_equal_those_of_integers(asked: list[Asked]) -> None:
    simulator = PairSimulator(keys_of("stand-in"))
    parts = [one.part(simulator) for one in asked]
    assert answers(simulator, parts, parts) == [one.expected for one in asked]


def test_as_many_as_may_and_no_more() -> None:
    simulator = PairSimulator(keys_of("stand-in"))
    parts = [MIXED[i % 4].part(simulator) for i in range(MAX_TOGETHER + 1)]
    assert answers(simulator, parts[:-1], parts[:-1]) == [MIXED[i % 4].expected for i in range(MAX_TOGETHER)]
    with pytest.raises(ProtocolError):
        simulator.together(parts, parts)


def test_only_verifications_go_together() -> None:
    simulator = PairSimulator(keys_of("stand-in"))
    verification, enrolment = MIXED[0].part(simulator), simulator.encrypt(FACES[0])
    parts = [verification, Part(simulator.request("enrol", 0), enrolment, np.array([True]))]
    for both in (parts, parts[::-1]):
        with pytest.raises(ProtocolError):
            simulator.together(both, both)


def test_each_has_shares_and_a_session_id_of_its_own(simulator: PairSimulator) -> None:
    parts = [one.part(simulator) for one in MIXED[:4]]
    seen = np.zeros((0, 4), dtype=int)
    for _ in range(24):
        (_, plus), (_, minus) = simulator.together(parts, parts)
        ids = [share.session_id for share in plus]
        assert (
            ids
            == [share.session_id for share in minus]
            == [simulator.last_sessions[PLUS].id_of(part) for part in parts]
        )
        assert len({*ids, simulator.last_sessions[PLUS].session_id}) == 5
        seen = np.vstack([seen, [int(share.bits[0]) for share in plus]])
    assert np.all(seen.min(axis=0) == 0) and np.all(seen.max(axis=0) == 1), "each bit of a share was 0 and 1"


# -- one that is not here, or not the same at both ---------------------------------------------------------------


def test_those_that_are_missing_at_the_plus_holder_take_no_part(simulator: PairSimulator) -> None:
    parts = [one.part(simulator) for one in MIXED[:5]]
    here = [None, parts[1], None, parts[3], parts[4]]
    (at_plus, plus), (at_minus, minus) = simulator.together(here, parts)
    assert at_plus.going == at_minus.going == (1, 3, 4) and not at_plus.refused and not at_minus.refused
    found = [(int(p.bits[0] ^ m.bits[0]), p.valid ^ m.valid) for p, m in zip(plus, minus, strict=True)]
    assert found == [MIXED[i].expected for i in (1, 3, 4)]


def other_records(simulator: PairSimulator, part: Part) -> Part:
    return replace(part, ciphertexts=[*part.ciphertexts[:-1], simulator.keys.scheme.encrypt(part.ciphertexts[0] * 0)])


def stale(_: PairSimulator, part: Part) -> Part:
    return replace(part, request=replace(part.request, sequence=part.request.sequence + 1))


def of_another_threshold(_: PairSimulator, part: Part) -> Part:
    return replace(part, request=replace(part.request, threshold=part.request.threshold + 1))


def of_another_epoch(_: PairSimulator, part: Part) -> Part:
    return replace(part, request=replace(part.request, epoch=2))


def of_other_origins(_: PairSimulator, part: Part) -> Part:
    return replace(part, by_device=np.ones(len(part.by_device), dtype=np.bool_))


DIFFERENCES: dict[str, tuple[Callable[[PairSimulator, Part], Part], type[VeilmatchError]]] = {
    "other records": (other_records, ProtocolError),
    "a stale gallery": (stale, GalleryMismatchError),
    "another threshold": (of_another_threshold, ProtocolError),
    "another epoch": (of_another_epoch, KeyMismatchError),
    "records of a device": (of_other_origins, ProtocolError),
}


@pytest.mark.parametrize("holder", [PLUS, MINUS])
@pytest.mark.parametrize("what", DIFFERENCES)
def test_one_that_is_not_the_same_at_both_ends_alone_and_nothing_of_it_is_opened(
    simulator: PairSimulator, what: str, holder: int
) -> None:
    change, error = DIFFERENCES[what]
    parts = [one.part(simulator) for one in MIXED[:4]]
    both = [list(parts), list(parts)]
    both[holder][2 - holder] = change(simulator, parts[2 - holder])
    told = simulator.together(both[PLUS], both[MINUS])
    going = tuple(i for i in range(4) if i != 2 - holder)
    for composed, _ in told:
        assert composed.going == going and list(composed.refused) == [2 - holder]
        assert type(composed.refused[2 - holder]) is error
    found = [
        (int(p.bits[0] ^ m.bits[0]), p.valid ^ m.valid) for p, m in zip(told[PLUS][1], told[MINUS][1], strict=True)
    ]
    assert found == [MIXED[i].expected for i in going]
    opened = [e.message for _, e in simulator.sent if isinstance(e.message, Openings)]
    size = (simulator.keys.scheme.modulus.bit_length() + 7) // 8
    assert [len(m.values) for m in opened] == [2 * size * sum(len(parts[i].ciphertexts) for i in going)] * 2


@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_malformed_ciphertext_ends_its_own_request_alone(simulator: PairSimulator, at: int) -> None:
    parts = [one.part(simulator) for one in MIXED[:5]]
    bad = [*parts[at].ciphertexts]
    bad[0] = malformed(simulator.keys, bad[0])
    parts[at] = replace(parts[at], ciphertexts=bad)
    (plus, _), (minus, _) = told = simulator.together(parts, parts)
    assert plus.going == minus.going == tuple(i for i in range(5) if i != at)
    assert all(type(one.refused[at]) is CiphertextError and len(one.refused) == 1 for one in (plus, minus))
    found = [
        (int(p.bits[0] ^ m.bits[0]), p.valid ^ m.valid) for p, m in zip(told[PLUS][1], told[MINUS][1], strict=True)
    ]
    assert found == [MIXED[i].expected for i in plus.going]


def test_where_nothing_goes_on_no_stock_is_used_and_nothing_opened(simulator: PairSimulator) -> None:
    parts = [one.part(simulator) for one in MIXED[:3]]
    seen: list[Any] = []
    simulator.observe = lambda holder, action: seen.append((holder, action))
    with pytest.raises(GalleryMismatchError):
        simulator.together([None, *(stale(simulator, part) for part in parts[1:])], parts)
    assert not any(isinstance(action, Reserve | DecisionShare) for _, action in seen)
    (composed,) = (action for _, action in seen if isinstance(action, Composed))
    assert composed.going == () and set(composed.refused) == {1, 2}
    assert not messages(simulator, Openings)


# -- a holder that lies ----------------------------------------------------------------------------------------


def with_standing(*changes: tuple[int, int]) -> Callable[[int, Envelope], list[Envelope]]:
    """The plus holder says something else of the requests at these places."""

    def altered(sender: int, envelope: Envelope) -> list[Envelope]:
        if isinstance(envelope.message, Hello) and envelope.message.standing:
            said = bytearray(envelope.message.standing)
            for place, standing in changes:
                said[place] = standing
            return [replace(envelope, message=replace(envelope.message, standing=bytes(said)))]
        return [envelope]

    return altered


@pytest.mark.parametrize("standing", [Standing.MISSING, Standing.REFUSED, 3, 255])
def test_who_says_something_else_of_a_request_ends_the_session_for_all(keys: Keys, standing: int) -> None:
    simulator = PairSimulator(keys, on_the_way=with_standing((1, standing)))
    parts = [one.part(simulator) for one in MIXED[:3]]
    with pytest.raises(ProtocolError):
        simulator.together(parts, parts)
    assert all(holder == PLUS for holder, e in simulator.sent if isinstance(e.message, Openings | GateLayer))


def test_who_goes_on_with_a_wrong_one_ends_the_session_for_all(keys: Keys) -> None:
    simulator = PairSimulator(keys, on_the_way=with_standing((1, Standing.GOES_ON)))
    parts = [one.part(simulator) for one in MIXED[:3]]
    with pytest.raises(ProtocolError):
        simulator.together([parts[0], stale(simulator, parts[1]), parts[2]], parts)
    assert not any(holder == MINUS for holder, e in simulator.sent if isinstance(e.message, Openings))


@pytest.mark.parametrize("holder", [PLUS, MINUS])
@pytest.mark.parametrize("at", [0, 5, 11])
def test_an_altered_opening_of_any_is_found_and_nobody_is_answered(keys: Keys, holder: int, at: int) -> None:
    """The proof is about all conversions of the session, and no share leaves before it."""
    size = (keys.scheme.modulus.bit_length() + 7) // 8

    def altered(sender: int, envelope: Envelope) -> list[Envelope]:
        if sender == holder and isinstance(envelope.message, Openings):
            values = bytearray(envelope.message.values)
            place = 2 * size * at + size - 1
            values[place] ^= 1
            return [replace(envelope, message=Openings(bytes(values)))]
        return [envelope]

    simulator = PairSimulator(keys, on_the_way=altered)
    seen: list[tuple[int, Any]] = []
    simulator.observe = lambda who, action: seen.append((who, action))
    parts = [one.part(simulator) for one in MIXED[:3]]
    with pytest.raises(KeySafetyError):
        simulator.together(parts, parts)
    handed = {who for who, action in seen if isinstance(action, DecisionShare)}
    assert (1 - holder) not in handed, "the honest one hands nothing over, of none"
    works = [action for _, action in seen if isinstance(action, SafetyWork)]
    assert {len(work.ciphertexts) for work in works} == {sum(len(part.ciphertexts) for part in parts)}


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[: len(b) // 2], lambda b: b""])
@pytest.mark.parametrize("name", ["context", "ciphertexts", "fingerprints", "standing"])
@pytest.mark.parametrize("holder", [PLUS, MINUS])
def test_a_hello_of_another_size_ends_the_session(change: Callable[[bytes], bytes], name: str, holder: int) -> None:
    if name == "standing" and holder == MINUS:
        pytest.skip("it says nothing of that")

    def altered(sender: int, envelope: Envelope) -> list[Envelope]:
        if sender == holder and isinstance(envelope.message, Hello):
            cut = change(getattr(envelope.message, name))
            return [replace(envelope, message=replace(envelope.message, **{name: cut}))]
        return [envelope]

    simulator = PairSimulator(keys_of("stand-in"), on_the_way=altered)
    parts = [one.part(simulator) for one in MIXED[:3]]
    with pytest.raises(ProtocolError):
        simulator.together(parts, parts)


def test_hellos_of_others_in_another_order_are_no_hello_of_this_session(simulator: PairSimulator) -> None:
    parts = [one.part(simulator) for one in MIXED[:2]]
    with pytest.raises(ProtocolError):
        simulator.together(parts[::-1], parts)


# -- what holders see ------------------------------------------------------------------------------------------


def test_holders_see_the_same_whatever_comes_out_of_any() -> None:
    def seen(asked: Sequence[Asked]) -> list[Any]:
        simulator = PairSimulator(keys_of("stand-in"))
        parts = [one.part(simulator) for one in asked]
        simulator.together(parts, parts)
        return [(holder, type(e.message), _size(e.message)) for holder, e in simulator.sent]

    ones = [Asked.of(FACES[0], FACES[1]), Asked.of(FACES[2], FACES[3]), Asked.of(FACES[4], FACES[5])]
    usual = seen(ones)
    for i, other in (
        (0, Asked.of(FACES[0], FACES[0])),
        (1, Asked.of(INVALID, FACES[3])),
        (2, Asked.of(FACES[4], 0 * FACES[5])),
    ):
        assert seen([*ones[:i], other, *ones[i + 1 :]]) == usual


def _size(message: Any) -> list[int]:
    values = (getattr(message, name) for name in type(message).__dataclass_fields__)
    return [len(value) for value in values if isinstance(value, bytes)]


def test_the_largest_goes_alone_as_before() -> None:
    simulator = PairSimulator(keys_of("stand-in"))
    records = [*(0 * FACES[0] for _ in range(MAX_TEMPLATES - 1)), FACES[0]]
    part = Asked.of(FACES[0], *records).part(simulator)
    assert answers(simulator, [part], [part]) == [(1, 1)]
