"""The search in secret shares decides as plain integers do, and one server learns nothing, or its figures would mean
nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.peers.rows import Sizes
from benchmarks.peers.shared import Search, measuring, share_out
from benchmarks.peers.shared.search import Traffic, run
from benchmarks.peers.shared.server import Message, Program, Server
from benchmarks.peers.shared.shares import STRETCH, Bits, Numbers, Words, booleans, planes
from tests.crypto.toys import TOY, coordinates
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import DEFAULT

WIDTH = TOY.ring_bits - 1
#: Squared norm 16891, the largest of the default set.
LONGEST = np.array([38] * 11 + [31, 6, 3, 1] + [0] * 113)


@settings(max_examples=40, deadline=None)
@given(st.lists(coordinates(TOY), min_size=2, max_size=5), st.data())
def test_answers_are_those_of_plain_integers(vectors: list[Array], data: st.DataObject) -> None:
    *templates, probe = vectors
    scores = np.array(templates) @ probe
    edges = sorted({t for s in scores for t in (int(s), int(s) + 1) if 1 <= t <= TOY.threshold_max} | {1})
    threshold = data.draw(st.sampled_from([*edges, TOY.threshold_max]))
    search = Search(share_out(np.array(templates)), WIDTH)
    assert search.matches(probe, threshold).tolist() == (scores >= threshold).tolist()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("threshold", [1, DEFAULT.threshold_max])
def test_the_largest_scores_fit(sign: int, threshold: int) -> None:
    norm = int(LONGEST @ LONGEST)
    assert norm == DEFAULT.norm_max
    search = Search(share_out(sign * LONGEST[None]), DEFAULT.ring_bits - 1)
    assert search.matches(LONGEST, threshold).tolist() == [sign > 0]


def test_one_bit_less_would_not_do() -> None:
    search = Search(share_out(-LONGEST[None]), DEFAULT.ring_bits - 2)
    assert search.matches(LONGEST, DEFAULT.threshold_max).tolist() == [True]


@pytest.mark.parametrize("width", range(2, 17))
def test_signs_are_right_for_every_width(width: int) -> None:
    half = 1 << (width - 1)
    scores = np.unique(np.clip([-half, 1 - half, -5, -1, 0, 1, 2, 5, half - 1], -half, half - 1))
    search = Search(share_out(scores[:, None]), width)
    for threshold in {0, 1, half - 1}:
        expected = [s >= threshold for s in scores.tolist() if s - threshold >= -half]
        assert search.matches(np.ones(1, np.int64), threshold).tolist()[-len(expected) :] == expected


def test_galleries_of_one_stretch_and_of_several() -> None:
    random = np.random.default_rng(7)
    vectors = random.integers(-9, 10, (2 * STRETCH + 70, 6))
    probe = random.integers(-9, 10, 6)
    expected = vectors @ probe >= 20
    assert 0 < expected.sum() < len(expected)
    for count in (1, 63, 64, 65, STRETCH, STRETCH + 1, 2 * STRETCH + 70):
        search = Search(share_out(vectors[:count]), 16)
        assert np.array_equal(search.matches(probe, 20), expected[:count])


def test_any_two_servers_hold_the_gallery_and_the_parts_of_one_change_with_every_sharing() -> None:
    vectors = np.random.default_rng(3).integers(-38, 39, (50, 12))
    for shares, others in zip(share_out(vectors), share_out(vectors), strict=True):
        assert (shares[0] != others[0]).mean() > 0.99
    first, second, third = (parts[0] for parts in share_out(vectors))
    for one, two in ((first, second), (second, third), (third, first)):
        assert np.array_equal(one[12:], two[:12])
        total = one[:12] + one[12:] + two[12:]
        assert np.array_equal(total.view(np.int16).T, vectors)


class Liar(Server):
    """Adds to the scores what it likes."""

    def products(self, own: Numbers, after: Numbers) -> Numbers:
        return super().products(own, after) + np.uint16(10)


def test_a_server_that_lies_changes_an_answer_and_no_one_notices() -> None:
    vectors = np.array([[3, 1], [1, -2], [2, 2]])
    for liar in range(3):
        search = Search(share_out(vectors), 8)
        assert search.matches(np.array([2, 1]), 4).tolist() == [True, False, True]
        honest = search._servers[liar]
        search._servers[liar] = Liar(liar, honest.gallery, honest.own, honest.after, 8)
        assert search.matches(np.array([2, 1]), 4).tolist() == [True, True, True]


def test_traffic_of_a_known_size() -> None:
    """The messages of the conversion take 2 bytes an identity each; 39 bits an identity pass each gate."""
    search = Search(share_out(np.ones((64, 10), np.int64)), 16)
    search.matches(np.ones(10, np.int64), 5)
    gates = 15 + (7 + 6) + (4 + 3) + (2 + 1) + 1
    assert search.traffic == Traffic(device=4 * (16 + 10), servers=3 * 128 + 3 * 8 * gates, rounds=7, answer=16)


def test_planes_and_back() -> None:
    numbers = np.array([0, 1, 2, 3, 65535, 4] * 20, np.uint16)
    found = planes(numbers, 16)
    assert found.shape == (16, 2)
    for bit, plane in enumerate(found):
        assert booleans(plane, 120).tolist() == [bool(x >> bit & 1) for x in numbers.tolist()]


class Columns:
    """A stream that gives every identity bits of its own: over all identities, every value once."""

    def __init__(self, bits: NDArray[np.bool_]) -> None:
        self._bits, self._used = bits, 0

    def _next(self, count: int) -> NDArray[np.bool_]:
        self._used += count
        assert self._used <= len(self._bits)
        return self._bits[self._used - count : self._used]

    def numbers(self, *shape: int) -> Numbers:
        return np.asarray((self._next(3) << np.arange(3)[:, None]).sum(axis=0), np.uint16)

    def words(self, *shape: int) -> Words:
        return np.packbits(self._next(shape[0]), axis=1).view(np.uint64)


#: Numbers mod 8: each stream gives three bits to the conversion and three to gates.
BITS_OF_STREAM = 6
ALL = (np.arange(1 << 3 * BITS_OF_STREAM) >> np.arange(3 * BITS_OF_STREAM)[:, None] & 1).astype(np.bool_)


def views(summands: Sequence[int], silent: tuple[int, slice] | None = None) -> list[NDArray[np.int64]]:
    """What each server has seen after comparing one number, by all randomness there is: how often each view occurs.

    A view is the bits of its two streams and every bit that it was sent. silent: a stream, and which of its bits are
    zero throughout.
    """
    streams = [ALL[i * BITS_OF_STREAM : (i + 1) * BITS_OF_STREAM].copy() for i in range(3)]
    if silent is not None:
        streams[silent[0]][silent[1]] = False
    seen: list[list[NDArray[np.int64]]] = [[*streams[i], *streams[(i + 1) % 3]] for i in range(3)]

    def watched(index: int, program: Program[Bits]) -> Program[Bits]:
        sent = next(program)
        while True:
            got = yield sent
            for message in got.values():
                seen[index].extend(bits_of(message))
            try:
                sent = program.send(got)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]

    programs = [
        watched(
            i,
            Server(i, [], Columns(streams[i]), Columns(streams[(i + 1) % 3]), 3).signs(
                np.full(ALL.shape[1], summands[i], np.uint16), 1
            ),
        )
        for i in range(3)
    ]
    bits = run(programs, Traffic())
    below = booleans((bits[0].own ^ bits[0].after ^ bits[1].after)[0], ALL.shape[1])
    assert (below == ((sum(summands) - 1) % 8 >= 4)).all()
    if silent is None:  # of the two parts of an answer one is uniform, so the device learns the bit alone
        assert booleans(bits[1].after[0], ALL.shape[1]).mean() == 0.5
    packed = [(np.array(each, np.int64) << np.arange(len(each))[:, None]).sum(axis=0) for each in seen]
    return [np.sort(each) for each in packed]


def bits_of(message: Message) -> list[NDArray[np.int64]]:
    """The bits of each identity in a message, of numbers those that count."""
    if message.dtype == np.uint16:
        return [(message >> i & 1).astype(np.int64) for i in range(3)]
    return [booleans(plane, ALL.shape[1]).astype(np.int64) for plane in message]


@pytest.mark.parametrize("index", range(3))
def test_what_a_server_sees_is_the_same_whatever_the_others_hold(index: int) -> None:
    expected = None
    for others in ((0, 0), (7, 1), (3, 6), (5, 5)):
        summands = [*others[:index], 2, *others[index:]]
        seen = views(summands)[index]
        assert expected is None or np.array_equal(seen, expected)
        expected = seen


@pytest.mark.parametrize("part", [slice(0, 3), slice(3, 6)], ids=["conversion", "gates"])
@pytest.mark.parametrize("stream", range(3))
def test_without_any_one_mask_a_server_sees_more(stream: int, part: slice) -> None:
    """The server without the stream."""
    index = (stream + 1) % 3
    held = [views([*others[:index], 2, *others[index:]], (stream, part))[index] for others in ((0, 0), (3, 6), (5, 5))]
    assert not all(np.array_equal(each, held[0]) for each in held)


def test_rows_are_measured_and_say_what_was_sent() -> None:
    rows = list(measuring.rows(128, Sizes((10, 70, 1_000), 70, 60.0)))
    assert [(row.identities, row.extrapolated is None) for row in rows] == [(10, True), (70, True), (1_000, False)]
    for row in rows:
        assert (row.template_bytes, row.device_bytes, row.rounds) == (1536, 4 * (16 + 128), 7)
        assert row.cpu_s > 0
    assert rows[2].server_bytes == pytest.approx((rows[1].server_bytes or 0) * 1_000 / 70)
