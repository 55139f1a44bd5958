"""What the key holders see of a session is the same, whatever comes out: kinds, sizes, counts and order.

Of a query, whoever matches; of any vector, valid or not: no message of a session carries the validity. And whatever
shares the minus holder has, wherever they lie: what is done next depends on none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

from tests.crypto.toys import TOY, aimed, lane_shares, repeated
from tests.simulator import Aim, Keys, PairSimulator, SimulatedGallery, first_taken, unit_vectors
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.messages import Reserve
from veilmatch.crypto.pair.request import Operation

PROBE, *OTHERS = unit_vectors(np.random.default_rng(71), TOY.slots + 8, TOY)
STRANGERS = np.array([t if t @ PROBE < 1 else -t for t in OTHERS if t @ PROBE])


def seen_by_holders(
    keys: Keys,
    operation: Operation,
    templates: Array,
    vectors: Sequence[Array] = (PROBE,),
    by_device: list[bool] | None = None,
    aim: Aim | None = None,
) -> list[tuple[Any, ...]]:
    """Every action of both holders with the size of everything in it: messages, stock, work and answers."""
    seen: list[tuple[Any, ...]] = []
    simulator = PairSimulator(keys, observe=lambda holder, action: seen.append((holder, shape(action))), aim=aim)
    gallery = SimulatedGallery.of(keys.scheme, templates)
    ciphertexts = [c for vector in vectors for c in simulator.encrypt(vector)]
    shares = simulator.run(simulator.request(operation, 1), ciphertexts, gallery, gallery.places, by_device)
    assert not aim or False in first_taken(simulator), "something was aimed, and another seed drawn"
    return [*seen, *((holder, shape(share)) for holder, share in enumerate(shares))]


def shape(value: Any) -> Any:
    """The kind of a value and the sizes of its parts; of numbers, that there is one."""
    if isinstance(value, Reserve):
        return "Reserve", value.kind, value.count
    if is_dataclass(value):
        return type(value).__name__, *(shape(getattr(value, f.name)) for f in fields(value))
    if isinstance(value, np.ndarray):
        return value.shape
    if isinstance(value, str):
        return value
    return len(value) if isinstance(value, bytes | list | tuple) else type(value).__name__


def with_match_at(*places: int) -> Array:
    templates = STRANGERS.copy()
    templates[list(places)] = PROBE
    return templates


@pytest.mark.parametrize("operation", ["verify", "candidates", "identify", "known"])
def test_holders_see_the_same_whoever_matches(keys: Keys, operation: Operation) -> None:
    nobody = seen_by_holders(keys, operation, STRANGERS)
    assert len(nobody) > (40 if operation == "verify" else 70)
    for places in ((0,), (len(STRANGERS) - 1,), (3, 4, TOY.slots + 1)):
        assert seen_by_holders(keys, operation, with_match_at(*places)) == nobody


#: Too short, too long, out of range, out of its lane. None is zero mod 2^k, of which the stand-in makes equal results.
INVALID = (
    np.eye(1, TOY.dimension, dtype=np.int64)[0],
    3 * PROBE,
    PROBE + (TOY.clip + 1),
    PROBE + (1 << TOY.ring_bits),
    -PROBE * ((1 << 40) + 1),
)


@pytest.mark.parametrize("operation", ["verify", "candidates", "identify", "known", "enrol"])
def test_holders_see_the_same_whether_a_vector_is_valid(keys: Keys, operation: Operation) -> None:
    valid = seen_by_holders(keys, operation, STRANGERS)
    for vector in INVALID:
        assert seen_by_holders(keys, operation, STRANGERS, [vector]) == valid


@pytest.mark.parametrize("by_device", [[True] * 5, [False] * 5, [True, False, True, True, False]], ids=str)
@pytest.mark.parametrize("operation", ["erase", "rotate"])
def test_holders_see_the_same_whichever_records_are_valid(
    keys: Keys, operation: Operation, by_device: list[bool]
) -> None:
    def seen(vectors: Sequence[Array]) -> list[tuple[Any, ...]]:
        return seen_by_holders(keys, operation, STRANGERS, vectors, by_device)

    valid = seen(STRANGERS[:5])
    assert sum("LastMask" in str(action) for action in valid) == 1 + any(by_device), "a gate for those of a device"
    for invalid in ([0], [4], [0, 1, 2, 3, 4]):
        assert seen([INVALID[i] if i in invalid else STRANGERS[i] for i in range(5)]) == valid


@pytest.mark.parametrize("by_device", [[True] * 5, [False] * 5, [True, False, True, True, False]], ids=str)
def test_holders_of_a_verification_see_the_same_whichever_records_are_valid(keys: Keys, by_device: list[bool]) -> None:
    valid = seen_by_holders(keys, "verify", STRANGERS[:5], by_device=by_device)
    for invalid in ([0], [4], [0, 1, 2, 3, 4]):
        templates = np.array([INVALID[i] if i in invalid else STRANGERS[i] for i in range(5)])
        assert seen_by_holders(keys, "verify", templates, by_device=by_device) == valid


@pytest.mark.parametrize("operation", ["verify", "candidates", "identify", "known", "enrol", "erase", "rotate"])
def test_holders_see_the_same_wherever_the_shares_of_the_minus_holder_lie(keys: Keys, operation: Operation) -> None:
    by_chance = seen_by_holders(keys, operation, STRANGERS)
    vectors = 1 + len(STRANGERS) if operation == "verify" else 1
    at_the_end_of_a_lane = lane_shares(repeated((1 << TOY.lane_bits) - 1, TOY), TOY) * vectors
    at_the_modulus = [keys.scheme.modulus - 1] * TOY.lane_ciphertexts * vectors
    all_wrap = lane_shares(repeated(1 << TOY.lane_bits - 2, TOY), TOY)  # 0 mod 2^k
    unsafe = [aimed(at_the_end_of_a_lane), aimed(at_the_modulus)]
    if operation in ("candidates", "identify", "known"):
        unsafe += [aimed(all_wrap), lambda number, count: [keys.scheme.modulus - 1] * count if number else None]
    for aim in unsafe:
        assert seen_by_holders(keys, operation, STRANGERS, aim=aim) == by_chance


def test_the_galleries_of_this_test_differ_in_what_comes_out(keys: Keys) -> None:
    for places, number in (((), 0), ((0,), 1), ((len(STRANGERS) - 1,), len(STRANGERS)), ((3, 4), 4)):
        gallery = SimulatedGallery.of(keys.scheme, with_match_at(*places))
        bits = PairSimulator(keys).decide("identify", PROBE, gallery, 1)
        assert sum(int(bit) << i for i, bit in enumerate(bits)) == number
        assert PairSimulator(keys).decide("verify", PROBE, gallery, 1).tolist() == [int(bool(places))]
        assert np.flatnonzero(PairSimulator(keys).decide("candidates", PROBE, gallery, 1)).tolist() == list(places)
