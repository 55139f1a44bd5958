"""The validity gate: exhaustive on narrow lanes and small moduli, and at every edge of the real ones."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.gates.test_gates import BothHolders, random_bytes
from tests.crypto.toys import TOY, coordinates, plaintexts, repeated, valid_vectors
from tests.simulator import unit_vectors
from veilmatch.crypto.arithmetic import Integer, random_below
from veilmatch.crypto.dealing import Products
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.gates.boolean import Evaluator, together
from veilmatch.crypto.gates.decision import only_if, only_if_cost
from veilmatch.crypto.gates.lookup import every, every_cost
from veilmatch.crypto.gates.validity import _PIECE_WORDS, PARITIES, _parities, deviations, validate, validity_cost
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.packing.fields import Array, join
from veilmatch.crypto.parameters import D512, DEFAULT, EARLIER_LANE_BITS, LANE_BITS, ParameterSet

RNG = np.random.default_rng(48)
SETS = [TOY, DEFAULT, D512]
#: Several lanes of one ciphertext, and bits above them.
SMALL = ParameterSet(dimension=4, scale=8, clip=7, modulus_bits=512)


def products(count: int) -> tuple[Products, Products]:
    """Both parts of right products."""
    u, v, minus = (RNG.integers(0, 2**64, count, dtype=np.uint64) for _ in range(3))
    return Products(u, u * v + minus), Products(v, minus)


@cache
def modulus_of(p: ParameterSet) -> Integer:
    return random_below(Integer(1) << (p.modulus_bits - 1)) | (Integer(1) << (p.modulus_bits - 1)) | 1


def shares_of(m: Sequence[Integer], N: Integer, p: ParameterSet) -> tuple[list[Integer], list[Integer]]:
    """Random w of both holders after the minus holder's rule."""
    while True:
        minus = [random_below(N) for _ in m]
        if not lanes.wraps_modulus(minus, N) and not lanes.at_risk(lanes.unpack(minus, p), p):
            return [(x + w) % N for x, w in zip(m, minus, strict=True)], minus


def found_valid(m: Sequence[Integer], N: Integer, p: ParameterSet) -> list[bool]:
    """What the gate says about each of the vectors in these plaintexts."""
    w, n = shares_of(m, N, p), len(m) // p.lane_ciphertexts
    dealt, session, both = products(n * p.dimension), secrets.token_bytes(32), BothHolders(validity_cost(n, p))

    def circuit(e: Evaluator) -> Any:
        at = 0 if e.is_plus else 1
        return validate(lanes.unpack(w[at], p), lanes.above(w[at], p), p, session, dealt[at], e)

    plus, minus = both.run(circuit)
    assert len(plus) == len(minus) == -(-n // 8)
    assert both.used == validity_cost(n, p), "reserved is what is used"
    assert both.layers == 4, "also for several"
    return np.unpackbits(plus ^ minus, count=n, bitorder="little").astype(bool).tolist()  # type: ignore[no-any-return]


def passes(m: Sequence[Integer], N: Integer, p: ParameterSet) -> bool:
    """What the gate says about one vector."""
    (valid,) = found_valid(m, N, p)
    return valid


def is_valid(m: Sequence[Integer], p: ParameterSet) -> bool:
    """The same from the plaintexts in clear, in plain integers."""
    x: list[int] = []
    for i, part in enumerate(m):
        used = min(p.lanes, p.dimension - i * p.lanes)
        x += [int(part >> p.lane_bits * j) % 2**p.lane_bits - p.offset for j in range(used)]
        if part >> p.lane_bits * used:
            return False
    return all(abs(v) <= p.clip for v in x) and p.norm_min <= sum(v * v for v in x) <= p.norm_max


def packed(x: Array, p: ParameterSet) -> list[Integer]:
    return lanes.pack(x, p)


# -- lanes, exhaustively ---------------------------------------------------------------------------------


def zero_columns(p: Array, q: Array, clip: int, width: int) -> Array:
    """bool[n]: which lanes deviate in nothing."""
    h = (2 * clip + 1).bit_length()
    both = BothHolders((2 * 2**h + width - h) * -(-len(p) // 8))
    plus, minus = both.run(lambda e: deviations(p if e.is_plus else q, clip, width, e))
    assert both.layers == 2 and both.used == len(both.evaluators[0]._triples.a)
    opened = np.unpackbits(plus ^ minus, axis=1, bitorder="little")
    assert not opened[:, len(p) :].any(), "columns of no lane say nothing"
    return ~opened[:, : len(p)].any(axis=0)


@pytest.mark.parametrize(("clip", "width"), [(1, 4), (1, 7), (2, 6), (3, 7), (4, 8), (7, 8), (10, 9)])
def test_lane_is_accepted_exactly_if_the_difference_is_in_range(clip: int, width: int) -> None:
    p, q = (x.ravel() for x in np.meshgrid(np.arange(2**width), np.arange(2**width - 2 * (2 * clip + 2))))
    assert np.array_equal(zero_columns(p, q, clip, width), (p - q >= 1) & (p - q <= 2 * clip + 1))


@pytest.mark.parametrize(("N", "width", "used"), [(1021, 4, 2), (997, 5, 1), (521, 4, 2), (769, 8, 1)])
def test_of_all_plaintexts_mod_n_only_the_valid_ones_pass_whatever_the_shares(N: int, width: int, used: int) -> None:
    """Every m in [0, N) with every w of the minus holder that its rule admits; narrow lanes of a small modulus."""
    clip, size = 1, 1 << width
    minus = np.arange(N)
    for j in range(used):
        minus = minus[(minus >> width * j) % size < size - 2 * (2 * clip + 2)]
    m, w = (x.ravel() for x in np.meshgrid(np.arange(N), minus))
    plus = (m + w) % N
    accepted = plus >> width * used == w >> width * used
    valid = m >> width * used == 0
    for j in range(used):
        p, q, v = ((x >> width * j) % size for x in (plus, w, m))
        accepted &= zero_columns(p, q, clip, width)
        valid &= (v >= 1) & (v <= 2 * clip + 1)
    # A valid m may wrap mod N here, where no 64 bits are left free above the lanes: then it is refused.
    fits = m + w < N
    assert np.array_equal(accepted, valid & fits) and np.count_nonzero(accepted) > 0


@pytest.mark.parametrize("clip", [DEFAULT.clip, D512.clip, 1, 127])
@pytest.mark.parametrize("width", [LANE_BITS, EARLIER_LANE_BITS])
def test_a_lane_is_compared_as_a_whole(clip: int, width: int) -> None:
    top, half = 2**width - 2 * (2 * clip + 2) - 1, 2 ** (width - 1)
    q = np.concatenate([[0, 1, top, top - 1, half - 1, half], RNG.integers(0, top, 40)])
    differences = [-1, 0, 1, 2, clip, 2 * clip, 2 * clip + 1, 2 * clip + 2, 2 * clip + 3]
    differences += [s * 2**i + d for i in range(1, width) for s in (-1, 1) for d in (0, 1, clip + 1)]
    for d in differences:
        p = (q + d) % 2**width
        assert np.array_equal(zero_columns(p, q, clip, width), (p - q >= 1) & (p - q <= 2 * clip + 1))


# -- whole plaintexts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", SETS, ids=lambda p: p.name)
def test_honest_vectors_always_pass(p: ParameterSet) -> None:
    N = modulus_of(p)
    for x in unit_vectors(RNG, 20, p):
        if p.norm_min <= x @ x <= p.norm_max:
            assert passes(packed(x, p), N, p)


def with_norm(norm: int, p: ParameterSet) -> Array:
    """A vector of this squared norm, with as many coordinates of +-c as fit."""
    x, left = np.zeros(p.dimension, dtype=np.int64), norm
    for i in range(p.dimension):
        x[i] = min(p.clip, int(left**0.5))
        left -= int(x[i]) ** 2
    assert left == 0
    return RNG.permutation(x) * RNG.choice([-1, 1], p.dimension)


@pytest.mark.parametrize("p", [DEFAULT, D512], ids=lambda p: p.name)
def test_norms_are_compared_exactly(p: ParameterSet) -> None:
    N = modulus_of(p)
    for norm in (p.norm_min, p.norm_min + 1, p.scale**2, p.norm_max - 1, p.norm_max):
        assert passes(packed(with_norm(norm, p), p), N, p), norm
    for norm in (0, 1, p.norm_min - 1, p.norm_max + 1, p.norm_max + 2, 2 * p.norm_max):
        assert not passes(packed(with_norm(norm, p), p), N, p), norm
    assert not passes(packed(repeated(p.clip, p), p), N, p)


def test_norms_that_no_clipped_vector_exceeds_are_compared_too() -> None:
    assert TOY.dimension * TOY.clip**2 < TOY.norm_max
    N = modulus_of(TOY)
    for x, expected in ((repeated(TOY.clip, TOY), True), (repeated(0, TOY), False), (repeated(1, TOY), False)):
        assert passes(packed(x, TOY), N, TOY) == expected
    assert passes(packed(with_norm(TOY.norm_min, TOY), TOY), N, TOY)
    assert not passes(packed(with_norm(TOY.norm_min - 1, TOY), TOY), N, TOY)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_valid_vector_passes(data: st.DataObject) -> None:
    p = data.draw(st.sampled_from((TOY, SMALL)))
    assert passes(packed(data.draw(valid_vectors(p)), p), modulus_of(p), p)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_gate_says_of_every_plaintext_what_plain_integers_say(data: st.DataObject) -> None:
    """A valid vector with one ciphertext replaced or changed: by any residue, one bit, a multiple of a lane."""
    p = data.draw(st.sampled_from((TOY, SMALL)))
    N = modulus_of(p)
    m = packed(data.draw(valid_vectors(p)), p)
    at = data.draw(st.integers(0, len(m) - 1))
    bit = st.integers(0, p.modulus_bits - 1).map(lambda i: Integer(1) << i)
    change = data.draw(st.one_of(bit, bit.map(lambda x: -x), plaintexts(N), plaintexts(N).map(lambda x: x - m[at])))
    m[at] = (m[at] + change) % N
    assert passes(m, N, p) == is_valid(m, p)


@pytest.mark.parametrize("p", SETS, ids=lambda p: p.name)
def test_every_single_bit_out_of_place_is_refused(p: ParameterSet) -> None:
    N, x = modulus_of(p), unit_vectors(RNG, 1, p)[0]
    bits = range(p.modulus_bits - 1) if p is TOY else RNG.integers(0, p.modulus_bits - 1, 60).tolist()
    for bit in bits:
        for sign in (1, -1):
            m = packed(x, p)
            m[-1] = (m[-1] + sign * (Integer(1) << bit)) % N
            assert passes(m, N, p) == is_valid(m, p)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9, 17])
@pytest.mark.parametrize("p", [TOY, SMALL], ids=lambda p: p.name)
def test_each_of_several_vectors_has_a_bit_of_its_own(p: ParameterSet, count: int) -> None:
    N, good = modulus_of(p), unit_vectors(RNG, count, p)
    assert found_valid([c for v in good for c in packed(v, p)], N, p) == [True] * count
    outsized = (repeated(0, p), repeated(p.clip + 1, p))
    for bad in (*({at} for at in range(count)), set(range(count)), set(range(0, count, 2))):
        vectors = [outsized[i % 2] if i in bad else v for i, v in enumerate(good)]
        m = [c for v in vectors for c in packed(v, p)]
        assert found_valid(m, N, p) == [i not in bad for i in range(count)]
        # In a bit above the lanes, or in a lane.
        m = [c for v in good for c in packed(v, p)]
        for i in bad:
            m[i * p.lane_ciphertexts] += Integer(1) << (p.modulus_bits - 3 if i % 2 else 100)
        assert found_valid(m, N, p) == [i not in bad for i in range(count)]


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_gate_says_of_several_plaintexts_what_plain_integers_say_of_each(data: st.DataObject) -> None:
    p = data.draw(st.sampled_from((TOY, SMALL)))
    N, size, m = modulus_of(p), p.lane_ciphertexts, []
    for _ in range(data.draw(st.integers(1, 10))):
        vector = packed(data.draw(st.one_of(valid_vectors(p), coordinates(p))), p)
        if data.draw(st.integers(0, 2)) == 0:
            vector[data.draw(st.integers(0, size - 1))] = data.draw(plaintexts(N))
        m += vector
    assert found_valid(m, N, p) == [is_valid(m[i : i + size], p) for i in range(0, len(m), size)]


def test_gate_has_four_layers_at_the_shipped_sizes() -> None:
    for p in (DEFAULT, D512):
        assert passes(packed(unit_vectors(RNG, 1, p)[0], p), modulus_of(p), p), "which counts them"


# -- its parts --------------------------------------------------------------------------------------------------


def test_bits_above_are_all_those_that_no_lane_uses() -> None:
    for p in (*SETS, SMALL):
        for _ in range(5):
            w = [random_below(Integer(1) << p.modulus_bits) for _ in range(p.lane_ciphertexts)]
            bits = np.unpackbits(lanes.above(w, p), bitorder="little")
            clear: list[int] = []
            for i, x in enumerate(w):
                used = p.lane_bits * min(p.lanes, p.dimension - i * p.lanes)
                clear += [int(x >> b) & 1 for b in range(used, p.modulus_bits)]
                clear += [0] * (-(p.modulus_bits - used) % 8)
            assert bits.tolist() == clear


def test_parities_are_linear_and_miss_nothing() -> None:
    session = secrets.token_bytes(32)
    for length in (1, 3, 40):
        x, y = random_bytes(5 * length).reshape(5, -1), random_bytes(5 * length).reshape(5, -1)
        assert np.array_equal(_parities(x ^ y, session), _parities(x, session) ^ _parities(y, session))
        assert _parities(x, session).shape == (5, PARITIES) and _parities(x, session).max() == 1
        assert np.array_equal(_parities(x[3:4], session)[0], _parities(x, session)[3]), "each string by itself"
        assert not _parities(np.zeros_like(x), session).any()
        single = np.packbits(np.eye(8 * length, dtype=np.uint8), axis=1, bitorder="little")
        assert _parities(single, session).any(axis=1).all()


def test_parities_of_a_long_string_see_each_of_its_pieces() -> None:
    piece = 8 * _PIECE_WORDS
    length = 3 * piece + 5
    places = (0, piece - 1, piece, 2 * piece, length - 5, length - 1)
    strings = np.zeros((len(places), length), dtype=np.uint8)
    strings[range(len(places)), places] = 1
    seen = {row.tobytes() for row in _parities(strings, secrets.token_bytes(32))}
    assert len(seen) == 6 and bytes(PARITIES) not in seen, "pieces have places of their own"


def test_parities_of_another_session_are_others() -> None:
    string = random_bytes(100)[None]
    found = [_parities(string, secrets.token_bytes(32))[0] for _ in range(200)]
    ones = np.sum(found, axis=0)
    assert np.all((ones > 40) & (ones < 160)), "each of the 64 is a fair coin"


@pytest.mark.parametrize("valid", [0, 1])
def test_answer_is_decision_and_valid(valid: int) -> None:
    bits, mask = random_bytes(17), random_bytes(17)
    other = random_bytes(1)  # its upper bits are dirt
    both = BothHolders(only_if_cost(17 * 8))
    plus, minus = both.run(
        lambda e: only_if(other ^ valid if e.is_plus else other, bits ^ mask if e.is_plus else mask, e)
    )
    assert np.array_equal(plus ^ minus, bits if valid else np.zeros_like(bits))
    assert both.layers == 1 and both.used == 17


def test_circuits_run_together_as_they_do_alone() -> None:
    clear = [np.array(bits, dtype=np.uint8)[:, None] for bits in ([1] * 5, [1, 0], [1], [1] * 70)]
    masks = [random_bytes(len(bits))[:, None] & 1 for bits in clear]

    def circuit(e: Evaluator, i: int) -> Any:
        return every(clear[i] ^ masks[i] if e.is_plus else masks[i], e)

    both = BothHolders(sum(every_cost(len(bits), 1) for bits in clear))
    plus, minus = both.run(lambda e: together(*(circuit(e, i) for i in range(4))))
    assert [int((x ^ y)[0]) for x, y in zip(plus, minus, strict=True)] == [1, 0, 1, 1]
    assert both.layers == 3, "those of the longest"


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b""])
def test_layer_of_another_size_is_refused(change: Callable[[bytes], bytes]) -> None:
    w, dealt = shares_of(packed(unit_vectors(RNG, 1, TOY)[0], TOY), modulus_of(TOY), TOY), products(TOY.dimension)
    evaluator = BothHolders(validity_cost(1, TOY)).evaluators[0]
    circuit = validate(lanes.unpack(w[0], TOY), lanes.above(w[0], TOY), TOY, bytes(32), dealt[0], evaluator)
    sent = next(circuit)
    with pytest.raises(ProtocolError):
        circuit.send(change(sent))


def test_products_of_another_number_are_refused() -> None:
    w, dealt = shares_of(packed(unit_vectors(RNG, 1, TOY)[0], TOY), modulus_of(TOY), TOY), products(TOY.dimension + 1)
    evaluator = BothHolders(validity_cost(1, TOY)).evaluators[0]
    with pytest.raises(ProtocolError):
        next(validate(lanes.unpack(w[0], TOY), lanes.above(w[0], TOY), TOY, bytes(32), dealt[0], evaluator))


def test_lane_plaintexts_of_these_tests_are_those_of_the_device() -> None:
    x = unit_vectors(RNG, 1, SMALL)[0]
    assert packed(x, SMALL) == [join([int(v) + SMALL.offset for v in x], SMALL.lane_bits)]
