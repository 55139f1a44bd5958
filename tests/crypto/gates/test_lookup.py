"""Functions of a few bits in one layer: every input at small sizes, and the costs and layers that are promised."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.crypto.gates.test_gates import BothHolders
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.gates.answer import FEW_SLOTS, answer, answer_cost
from veilmatch.crypto.gates.boolean import Evaluator, Wire
from veilmatch.crypto.gates.lookup import every, every_cost, lookup, lookup_cost, reaches, reaches_cost

RNG = np.random.default_rng(411)


def shared(bits: Wire) -> tuple[Wire, Wire]:
    mine = RNG.integers(0, 2, bits.shape, dtype=np.uint8)
    return mine, mine ^ bits


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_any_function_of_two_numbers_is_looked_up(width: int) -> None:
    p, q = np.array(list(product(range(1 << width), repeat=2))).T
    truth = RNG.integers(0, 2, (3, 1 << width, 1 << width)).astype(bool)
    both = BothHolders(lookup_cost(len(p), width, 3))
    found = both.run(
        lambda e: lookup(p if e.is_plus else q, width, 3, lambda values: truth[:, values[:, 0]][:, :, q], e)
    )
    assert np.array_equal(found[0] ^ found[1], truth[:, p, q])
    assert (both.layers, both.used) == (1, lookup_cost(len(p), width, 3))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 10, 16, 64, 65])
def test_all_bits_are_one_or_not(rows: int) -> None:
    bits = np.ones((rows, 2 + rows), dtype=np.uint8)
    bits[:, 1] = 0
    bits[np.arange(rows), 2 + np.arange(rows)] = 0  # all but one
    parts, both = shared(bits), BothHolders(every_cost(rows, bits.shape[1]))
    plus, minus = both.run(lambda e: every(parts[not e.is_plus], e))
    assert (plus ^ minus).tolist() == bits.all(axis=0).astype(int).tolist()
    assert both.used == every_cost(rows, bits.shape[1])
    assert both.layers == (0 if rows == 1 else 1 if rows <= 8 else 2 if rows <= 64 else 3)


def compared(u: np.ndarray, v: np.ndarray, k: int) -> tuple[np.ndarray, BothHolders]:
    both = BothHolders(reaches_cost(len(u), k))
    plus, minus = both.run(lambda e: reaches(u if e.is_plus else v, k, e))
    return plus ^ minus, both


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6, 7])
def test_every_pair_of_small_numbers_is_compared_exactly(k: int) -> None:
    u, v = np.array(list(product(range(1 << k), repeat=2))).T
    found, both = compared(u, v, k)
    assert np.array_equal(found, ((u + v) % (1 << k) < 1 << (k - 1)).astype(np.uint8))
    assert both.used == reaches_cost(len(u), k), "reserved is what is used"


@pytest.mark.parametrize(("k", "layers"), [(5, 1), (6, 2), (14, 2), (15, 2), (17, 2), (19, 2), (21, 2), (22, 3)])
def test_numbers_at_every_edge_are_compared_exactly(k: int, layers: int) -> None:
    edges = {0, 1, (1 << k) - 1, 1 << (k - 1), (1 << (k - 1)) - 1}
    edges |= {x & ((1 << k) - 1) for bit in range(k) for x in ((1 << bit) - 1, 1 << bit, -(1 << bit))}
    u, v = np.array(list(product(sorted(edges), repeat=2))).T
    found, both = compared(u, v, k)
    assert np.array_equal(found, ((u + v) % (1 << k) < 1 << (k - 1)).astype(np.uint8))
    assert (both.layers, both.used) == (layers, reaches_cost(len(u), k))


@given(st.integers(2, 24), st.data())
def test_any_numbers_are_compared_exactly(k: int, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, (1 << k) - 1)] * 2), min_size=1, max_size=20))
    u, v = np.array(pairs).T
    assert np.array_equal(compared(u, v, k)[0], ((u + v) % (1 << k) < 1 << (k - 1)).astype(np.uint8))


@pytest.mark.parametrize(
    ("operation", "slots", "layers"),
    [("candidates", 1, 3), ("candidates", FEW_SLOTS, 3), ("candidates", FEW_SLOTS + 1, 6)],
)
def test_answers_of_few_slots_take_few_layers(operation: str, slots: int, layers: int) -> None:
    """And those of many take less dealt randomness: where there are that many, sizes weigh more than messages."""
    k = 17
    s = RNG.integers(-(1 << 14), 1 << 14, slots)
    u = RNG.integers(0, 1 << k, slots)
    v = (2 * s + RNG.integers(0, 2, slots) - u) % (1 << k)
    for valid in (0, 1):
        parts, both = shared(np.array([valid], dtype=np.uint8)), BothHolders(answer_cost(operation, slots, k))

        def run(e: Evaluator, parts: tuple[Wire, Wire] = parts) -> object:
            return answer(operation, u if e.is_plus else v, k, parts[not e.is_plus], e)

        found, is_valid = (plus ^ minus for plus, minus in zip(*both.run(run), strict=True))
        bits = np.unpackbits(found, count=slots, bitorder="little")
        assert np.array_equal(bits.astype(bool), (s >= 0) & bool(valid)) and is_valid[0] & 1 == valid
        assert (both.layers, both.used) == (layers, answer_cost(operation, slots, k))


def test_messages_of_another_size_are_refused() -> None:
    circuit = reaches(np.array([5]), 9, BothHolders(100).evaluators[0])
    sent = next(circuit)
    with pytest.raises(ProtocolError):
        circuit.send(sent + b"\0")
