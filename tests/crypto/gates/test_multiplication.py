"""Products of shared numbers mod 2^64: right for all numbers, and a vector times its bit exact as integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilmatch.crypto.dealing import Products, Words
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.gates.multiplication import Multiplication, multiply, only_valid, only_valid_cost
from veilmatch.crypto.parameters import D512, DEFAULT, LANE_BITS, ParameterSet

RNG = np.random.default_rng(64)
TOP = 1 << 64
#: Any number mod 2^64, often at an edge.
WORDS = st.one_of(
    st.sampled_from((0, 1, 2, 1 << 32, (1 << 63) - 1, 1 << 63, TOP - 2, TOP - 1)), st.integers(0, TOP - 1)
)


def words(values: Sequence[int]) -> Words:
    return np.array(values, dtype=np.uint64)


def dealt(count: int) -> tuple[Products, Products]:
    """Both parts of right products."""
    u, v, minus = (RNG.integers(0, TOP, count, dtype=np.uint64, endpoint=False) for _ in range(3))
    return Products(u, u * v + minus), Products(v, minus)


class Both:
    """Two circuits run against each other: what they return, and what each sent."""

    def __init__(self, plus: Multiplication, minus: Multiplication) -> None:
        self.sent: list[tuple[bytes, bytes]] = []
        self.results: list[Words] = []
        received: list[bytes | None] = [None, None]
        while not self.results:
            sent = []
            for circuit, message in zip((plus, minus), received, strict=True):
                try:
                    sent.append(circuit.send(message))  # type: ignore[arg-type]
                except StopIteration as stop:
                    self.results.append(stop.value)
            if sent:
                self.sent.append((sent[0], sent[1]))
                received = [sent[1], sent[0]]

    @property
    def difference(self) -> list[int]:
        """Mod 2^64."""
        plus, minus = self.results
        assert plus.dtype == minus.dtype == np.uint64
        return (plus - minus).tolist()  # type: ignore[no-any-return]


# -- multiply ---------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=20))
def test_shares_of_a_product_differ_by_it(pairs: list[tuple[int, int]]) -> None:
    x, y = (words(column) for column in zip(*pairs, strict=True))
    of_plus, of_minus = dealt(len(pairs))
    both = Both(multiply(x, of_plus, is_plus=True), multiply(y, of_minus, is_plus=False))
    assert both.difference == [a * b % TOP for a, b in pairs]
    assert len(both.sent) == 1, "one message of each holder"


def test_what_is_sent_is_masked_by_a_factor_of_its_own() -> None:
    x, y, (of_plus, of_minus) = words([5, 5, 5]), words([7, 7, 7]), dealt(3)
    ((plus, minus),) = Both(multiply(x, of_plus, is_plus=True), multiply(y, of_minus, is_plus=False)).sent
    assert np.array_equal(np.frombuffer(plus, "<u8") + of_plus.factor, x)
    assert np.array_equal(np.frombuffer(minus, "<u8") + of_minus.factor, y)
    assert len({plus[i : i + 8] for i in (0, 8, 16)}) == 3


def test_nothing_is_multiplied_by_nothing() -> None:
    of_plus, of_minus = dealt(0)
    both = Both(multiply(words([]), of_plus, is_plus=True), multiply(words([]), of_minus, is_plus=False))
    assert both.difference == [] and both.sent == [(b"", b"")]


@pytest.mark.parametrize("is_plus", [True, False])
@pytest.mark.parametrize(("factors", "products"), [(2, 2), (4, 4), (0, 0), (3, 2), (2, 3), (3, 4)])
def test_products_of_another_number_are_refused(factors: int, products: int, is_plus: bool) -> None:
    part = Products(words([1] * factors), words([1] * products))
    with pytest.raises(ProtocolError):
        next(multiply(words([1, 2, 3]), part, is_plus=is_plus))


CHANGES: list[Callable[[bytes], bytes]] = [
    lambda b: b[:-1], lambda b: b[:-8], lambda b: b + b"\0", lambda b: b + bytes(8), lambda b: b"",
]  # fmt: skip


@pytest.mark.parametrize("is_plus", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_message_of_another_size_is_refused(change: Callable[[bytes], bytes], is_plus: bool) -> None:
    circuit = multiply(words([1, 2, 3]), dealt(3)[0], is_plus=is_plus)
    with pytest.raises(ProtocolError):
        circuit.send(change(next(circuit)))


# -- a vector times its bit -----------------------------------------------------------------------------------


def multiplied(lanes: Words, x: Sequence[int], valid: Sequence[int], masks: Sequence[int], offset: int) -> Both:
    """Run `only_valid` on vectors x, joined, whose lanes the minus holder has; masks: the minus holder's bits."""
    n = len(valid)
    plus_lanes = words([int(q) + v + offset for q, v in zip(lanes, x, strict=True)])
    bits = [np.packbits(b, bitorder="little") for b in (np.bitwise_xor(valid, masks), masks)]
    of_plus, of_minus = dealt(only_valid_cost(n, len(x) // n))
    both = Both(
        only_valid(bits[0], plus_lanes, n, offset, of_plus, is_plus=True),
        only_valid(bits[1], lanes, n, offset, of_minus, is_plus=False),
    )
    assert len(both.sent) == 2, "two layers"
    return both


@pytest.mark.parametrize("p", [ParameterSet(12, 8, 3, 512), DEFAULT, D512], ids=lambda p: p.name)
@pytest.mark.parametrize("valid", [0, 1])
@pytest.mark.parametrize("mask", [0, 1])
def test_every_coordinate_is_itself_or_zero_whatever_the_shares(p: ParameterSet, valid: int, mask: int) -> None:
    """All x of [-c, c], each with lanes at both ends of what the minus holder's rule admits, and between."""
    largest = (1 << p.lane_bits) - p.lane_risk - 1
    lanes = [0, 1, largest, largest - 1, 1 << p.lane_bits - 1, *RNG.integers(0, largest, 5).tolist()]
    x = np.repeat(np.arange(-p.clip, p.clip + 1), len(lanes)).tolist()
    both = multiplied(words(lanes * (2 * p.clip + 1)), x, [valid], [mask], p.offset)
    assert both.difference == [valid * v + p.offset for v in x]


@st.composite
def several(draw: st.DrawFn) -> tuple[int, list[int], list[int], list[int], list[int]]:
    """c, valid bits, the minus holder's bits and lanes, and coordinates, of some vectors."""
    c, n, size = draw(st.sampled_from((1, 3, 38, 1023))), draw(st.integers(1, 19)), draw(st.integers(1, 6))
    bits = st.lists(st.integers(0, 1), min_size=n, max_size=n)
    largest = (1 << LANE_BITS) - 4 * c - 5
    lane = st.one_of(st.sampled_from((0, 1, largest)), st.integers(0, largest))
    x = st.one_of(st.sampled_from((-c, 0, c)), st.integers(-c, c))
    lanes, vectors = (draw(st.lists(value, min_size=n * size, max_size=n * size)) for value in (lane, x))
    return c, draw(bits), draw(bits), lanes, vectors


@given(several())
@settings(deadline=None)
def test_each_of_several_vectors_is_itself_or_zero(
    given_: tuple[int, list[int], list[int], list[int], list[int]],
) -> None:
    c, valid, masks, lanes, x = given_
    size = len(x) // len(valid)
    both = multiplied(words(lanes), x, valid, masks, c + 1)
    assert both.difference == [valid[i // size] * v + c + 1 for i, v in enumerate(x)]


@given(st.lists(WORDS, min_size=3, max_size=3), st.lists(WORDS, min_size=3, max_size=3), st.integers(0, 1))
def test_of_a_vector_that_is_not_valid_nothing_is_left(p: list[int], q: list[int], mask: int) -> None:
    """Its lanes differ by anything: what comes out is zero, not only for coordinates in range."""
    of_plus, of_minus = dealt(only_valid_cost(1, 3))
    both = Both(
        only_valid(np.array([mask], np.uint8), words(p), 1, 4, of_plus, is_plus=True),
        only_valid(np.array([mask], np.uint8), words(q), 1, 4, of_minus, is_plus=False),
    )
    assert both.difference == [4, 4, 4]


def test_dirt_beside_the_bits_counts_for_nothing() -> None:
    """What a gate leaves in the last byte behind the bits of the vectors."""
    lanes, x, (of_plus, of_minus) = words([9] * 6), [1, -1, 2, -2, 3, -3], dealt(only_valid_cost(3, 2))
    both = Both(
        only_valid(np.array([0b11111101], np.uint8), words([9 + v + 4 for v in x]), 3, 4, of_plus, is_plus=True),
        only_valid(np.array([0b00000000], np.uint8), lanes, 3, 4, of_minus, is_plus=False),
    )
    assert both.difference == [5, 3, 4, 4, 7, 1]


def test_each_share_of_what_comes_out_is_fresh() -> None:
    """The same vector with the same lanes, and other dealt products: no share comes twice."""
    runs = [multiplied(words([5] * 4), [1, 2, 3, -3], [1], [0], 4).results for _ in range(50)]
    for holder in (0, 1):
        assert len({word for run in runs for word in run[holder].tolist()}) == 200


@pytest.mark.parametrize(("vectors", "dimension"), [(1, 1), (1, 12), (5, 12), (9, 128)])
def test_as_many_products_are_used_as_it_says(vectors: int, dimension: int) -> None:
    count = only_valid_cost(vectors, dimension)
    assert count == vectors + 2 * vectors * dimension
    lanes, bits = words([5] * (vectors * dimension)), np.zeros(-(-vectors // 8), dtype=np.uint8)
    for other in (count - 1, count + 1, vectors, 0):
        circuit = only_valid(bits, lanes, vectors, 4, dealt(other)[0], is_plus=True)
        with pytest.raises(ProtocolError):
            circuit.send(next(circuit))


@pytest.mark.parametrize("is_plus", [True, False])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("change", CHANGES)
def test_message_of_another_size_is_refused_in_either_layer(
    change: Callable[[bytes], bytes], layer: int, is_plus: bool
) -> None:
    circuit = only_valid(np.zeros(1, np.uint8), words([5] * 6), 2, 4, dealt(only_valid_cost(2, 3))[0], is_plus=is_plus)
    sent = next(circuit)
    if layer:
        sent = circuit.send(sent)
    with pytest.raises(ProtocolError):
        circuit.send(change(sent))


@pytest.mark.parametrize(("bits", "lanes", "vectors"), [(1, 6, 9), (2, 6, 2), (0, 6, 2), (1, 5, 2), (1, 0, 2)])
def test_bits_or_lanes_that_do_not_fit_the_vectors_are_refused(bits: int, lanes: int, vectors: int) -> None:
    with pytest.raises(ProtocolError):
        next(only_valid(np.zeros(bits, np.uint8), words([5] * lanes), vectors, 4, dealt(50)[0], is_plus=True))
