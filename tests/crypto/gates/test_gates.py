"""Gates on shared bits: exhaustive where they can be, and with costs that are exactly those reserved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilmatch.crypto.dealing import BitTriples
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.gates.boolean import Evaluator, Wire
from veilmatch.crypto.gates.decision import decide, decide_cost, decision_input
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import D512, DEFAULT

RNG = np.random.default_rng(20240229)


def random_bytes(count: int) -> Wire:
    return RNG.integers(0, 256, count, dtype=np.uint8)


def bit_triples(count: int) -> tuple[BitTriples, BitTriples]:
    """Both parts of right bit triples."""
    a, b, a_minus, b_minus, c_minus = (random_bytes(count) for _ in range(5))
    minus = BitTriples(a_minus, b_minus, c_minus)
    return BitTriples(a ^ a_minus, b ^ b_minus, (a & b) ^ c_minus), minus


class BothHolders:
    """Runs a circuit at both holders against each other; counts layers and bytes."""

    def __init__(self, triple_bytes: int) -> None:
        parts = bit_triples(triple_bytes)
        self.evaluators = [Evaluator(part, is_plus=i == 0) for i, part in enumerate(parts)]
        self.layers = 0

    @property
    def used(self) -> int:
        assert self.evaluators[0]._used == self.evaluators[1]._used
        return self.evaluators[0]._used

    def run(self, circuit: Callable[[Evaluator], Any]) -> list[Any]:
        running = [circuit(evaluator) for evaluator in self.evaluators]
        results: list[Any] = [None, None]
        sent: list[Any] = [None, None]
        while any(r is None for r in results):
            received = sent[::-1]
            for i, (steps, message) in enumerate(zip(running, received, strict=True)):
                try:
                    sent[i] = steps.send(message)
                except StopIteration as stop:
                    results[i] = stop.value
            self.layers += results[0] is None
        return results


def decided(u: Array, v: Array, k: int) -> tuple[Array, BothHolders]:
    """The opened bits "u + v is not negative mod 2^k"."""
    both = BothHolders(decide_cost(len(u), k))
    plus, minus = both.run(lambda e: decide(u if e.is_plus else v, k, e))
    return np.unpackbits(plus ^ minus, count=len(u), bitorder="little").astype(bool), both


# -- AND, NOT ------------------------------------------------------------------------------------------------


def test_and_of_all_sixteen_sharings_is_right() -> None:
    x, x_minus, y, y_minus = (np.array([b >> i & 1 for b in range(16)], dtype=np.uint8) for i in range(4))
    shares = {True: (x ^ x_minus, y ^ y_minus), False: (x_minus, y_minus)}
    both = BothHolders(16)
    plus, minus = both.run(lambda e: e.all_of([shares[e.is_plus][0]], [shares[e.is_plus][1]]))
    assert np.array_equal(plus[0] ^ minus[0], x & y)
    assert both.used == 16 and both.layers == 1


def test_layer_gives_back_wires_of_the_lengths_it_got() -> None:
    lengths = [3, 1, 5]
    clear = [(random_bytes(n), random_bytes(n)) for n in lengths]
    masks = [(random_bytes(n), random_bytes(n)) for n in lengths]

    def circuit(e: Evaluator) -> Any:
        shares = [
            [w ^ m if e.is_plus else m for w, m in zip(c, k, strict=True)] for c, k in zip(clear, masks, strict=True)
        ]
        return e.all_of([x for x, _ in shares], [y for _, y in shares])

    plus, minus = BothHolders(9).run(circuit)
    assert [len(w) for w in plus] == lengths
    assert all(np.array_equal(p ^ m, x & y) for p, m, (x, y) in zip(plus, minus, clear, strict=True))


def test_not_flips_one_share_only() -> None:
    wire = random_bytes(4)
    plus, minus = BothHolders(0).evaluators
    assert np.array_equal(plus.negate(wire) ^ minus.negate(wire), np.full(4, 255))


def test_evaluator_never_uses_a_triple_twice() -> None:
    evaluator = Evaluator(bit_triples(10)[0], is_plus=True)
    taken = [evaluator._take(count) for count in (3, 0, 7)]
    assert np.array_equal(np.concatenate([t[0] for t in taken]), evaluator._triples.a)
    with pytest.raises(ProtocolError):
        evaluator._take(1)


@pytest.mark.parametrize("length", [0, 7, 9, 16])
def test_layer_of_another_size_is_refused(length: int) -> None:
    layer = Evaluator(bit_triples(4)[0], is_plus=True).all_of([random_bytes(4)], [random_bytes(4)])
    assert len(next(layer)) == 8
    with pytest.raises(ProtocolError):
        layer.send(bytes(length))


# -- the decision ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "M", "T"), [(6, 6, 9), (8, 20, 42)])
def test_decision_is_right_for_every_score_threshold_and_carry(k: int, M: int, T: int) -> None:
    assert 2 * (M + T) + 1 < 2 ** (k - 1) <= 2 * (M + T + 2) + 1, "the sizes are at the bound"
    s, carry = (x.ravel() for x in np.meshgrid(np.arange(-M, M + 1), [0, 1]))
    for t in range(-T, T + 1):
        minus = RNG.integers(0, 2**k, len(s))
        plus = (2 * s + carry + minus) % 2**k
        u = decision_input(plus, t, k, is_plus=True)
        v = decision_input(minus, t, k, is_plus=False)
        assert np.array_equal((u + v - (2 * (s - t) + carry)) % 2**k, np.zeros_like(s))
        assert np.array_equal(decided(u, v, k)[0], s >= t)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_decision_is_the_sign_of_the_sum_for_all_inputs(k: int) -> None:
    u, v = (x.ravel() for x in np.meshgrid(np.arange(2**k), np.arange(2**k)))
    assert np.array_equal(decided(u, v, k)[0], (u + v) % 2**k < 2 ** (k - 1))


@given(st.integers(2, 32), st.integers(1, 40), st.data())
@settings(max_examples=60, deadline=None)
def test_decision_is_right_at_every_width_and_number_of_slots(k: int, count: int, data: st.DataObject) -> None:
    edges = st.sampled_from((0, 1, 2 ** (k - 1) - 1, 2 ** (k - 1), 2**k - 1))
    value = st.one_of(edges, st.integers(0, 2**k - 1))
    u, v = (np.array(data.draw(st.lists(value, min_size=count, max_size=count)), dtype=np.int64) for _ in "uv")
    bits, both = decided(u, v, k)
    assert np.array_equal(bits, (u + v) % 2**k < 2 ** (k - 1))
    assert both.used == decide_cost(count, k), "reserved is what is used"
    assert both.layers == 1 + (k - 2).bit_length()


def test_decision_costs_what_the_design_says() -> None:
    # About 37 ANDs and 5 rounds at k = 14.
    _, both = decided(np.zeros(8, np.int64), np.zeros(8, np.int64), 14)
    assert (both.used, both.layers) == (33, 5)


def test_decision_at_the_real_sizes_is_right_at_every_boundary() -> None:
    for p in (DEFAULT, D512):
        M, k = p.norm_max, p.ring_bits
        for t in (1, p.threshold(0.35), p.threshold_max):
            s = np.array([-M, -1, 0, t - 1, t, t + 1, M])
            for carry in (0, 1):
                minus = RNG.integers(0, 2**k, len(s))
                u = decision_input((2 * s + carry + minus) % 2**k, t, k, is_plus=True)
                v = decision_input(minus, t, k, is_plus=False)
                assert np.array_equal(decided(u, v, k)[0], s >= t)


def test_circuit_with_too_little_stock_stops() -> None:
    both = BothHolders(decide_cost(8, 14) - 1)
    with pytest.raises(ProtocolError):
        both.run(lambda e: decide(np.zeros(8, np.int64), 14, e))
