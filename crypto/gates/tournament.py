"""The tournament: which slot has the highest score, if that reaches the threshold, on shared bits.

The plus holder knows u, the minus holder v, and u + v = 2(s - t) + carry mod 2^k with carry in {0, 1}
(`decision.decision_input`). An adder gives x = s - t in k-1 bits, two's complement; the lowest bit of the sum
is dropped first, or a carry would decide between equal scores. Then slots compete in groups of
neighbours: each is compared with each, the one that beats all others goes on with its score and
its number, chosen without anybody learning which. Ties go to the lower slot. Nobody competes as well, as number 0, with
a score just below t. Nothing but the outcome leaves the circuit: the number of the best slot plus one, or zero.
docs/protocol.md; comparisons by parallel prefix as in `decision.py`, or of few pairs as in `lookup.py`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.gates.boolean import Circuit, Evaluator
from veilmatch.crypto.gates.lookup import JOINED, every, every_cost, layers_of, top_carry, top_carry_cost
from veilmatch.crypto.packing.fields import Array

#: Shares of bits, one a byte: uint8[rows, slots].
Bits = NDArray[np.uint8]
_Bits = Generator[bytes, bytes, Bits]

#: What one more message each way is worth in AND gates, for choosing sizes of groups: at a round of 1 ms on a
#: network and the 2 ns that a gate takes here it is 2^19. From 2^17 to 2^24 the plans for 10,000 slots or fewer are
#: the same; benchmarks/identify.py compares it with others, under delays as well.
ROUND_AS_GATES = 1 << 19
_LOG_SIZES = (1, 2, 3, 4)
#: Up to so many pairs are compared in three layers, with four times the AND gates; more in five.
FEW_PAIRS = 4096
#: Comparisons of a member that are joined in one layer.
_BEATS_AT_ONCE = 4


def best_of(inputs: Array, ring_bits: int, evaluator: Evaluator, views: int = 1) -> Circuit:
    """Circuit: return shares of the number of the best slot plus one, or 0 for none, packed, little-endian.

    inputs: int64[views * n] from `decision_input`, n >= 1: of one view of the probe after the other. A slot has the
    best score of all views, and nobody learns of which. The result has `label_bits(n)` bits.
    """
    scores = yield from _add(_rows(inputs, ring_bits), evaluator)
    scores = scores[1:]
    if evaluator.is_plus:
        scores[-1] ^= 1  # with the sign flipped, two's complement compares as unsigned
    if views > 1:
        scores = yield from _best_views(scores, views, evaluator)
    # Nobody competes as number 0, with x = -1: whoever reaches the threshold wins against it, and no one else does.
    nobody = np.full((ring_bits - 1, 1), evaluator.is_plus, dtype=np.uint8)
    nobody[-1] = 0
    scores = np.concatenate([nobody, scores], axis=1)
    numbers = np.zeros((0, scores.shape[1]), dtype=np.uint8)
    for log_size in group_sizes(scores.shape[1], ring_bits):
        scores, numbers = yield from _round(scores, numbers, log_size, evaluator)
    return np.packbits(numbers[: label_bits(len(inputs) // views), 0], bitorder="little")


def label_bits(slots: int) -> int:
    """Return the size of the outcome: numbers 1 .. slots, and 0."""
    return slots.bit_length()


def best_cost(slots: int, ring_bits: int, views: int = 1) -> int:
    """Return how many triple bytes `best_of` uses for so many slots."""
    return _tally(slots, ring_bits, views)[1]


def best_layers(slots: int, ring_bits: int, views: int = 1) -> int:
    """Return how many messages each way `best_of` takes."""
    return _tally(slots, ring_bits, views)[0]


@cache
def group_sizes(slots: int, ring_bits: int) -> tuple[int, ...]:
    """Return log2 of the group size of every round among so many: the cheapest sequence, see ROUND_AS_GATES."""
    if slots == 1:
        return ()
    choices = []
    for log_size in _LOG_SIZES:
        groups = -(-slots >> log_size)
        layers, used = _round_tally(slots, ring_bits - 1, 0, log_size)
        rest = group_sizes(groups, ring_bits)
        choices.append((layers * ROUND_AS_GATES + 8 * used + _weight(groups, ring_bits), log_size, rest))
    _, log_size, rest = min(choices)
    return (log_size, *rest)


# -- one round -------------------------------------------------------------------------------------------


def _round(
    scores: Bits, numbers: Bits, log_size: int, evaluator: Evaluator
) -> Generator[bytes, bytes, tuple[Bits, Bits]]:
    """Return the scores and numbers of the winners of groups of 2^log_size neighbours."""
    size = 1 << log_size
    rows = np.concatenate([scores, numbers])
    groups = -(-rows.shape[1] // size)
    padded = np.zeros((len(rows), groups * size), dtype=np.uint8)
    padded[:, : rows.shape[1]] = rows  # nobody is below the lowest score, nor wins a tie at the end
    members = padded.reshape(len(rows), groups, size)
    wins = yield from _winners(members[: len(scores)], evaluator)
    # The first member, unless another one won: one AND a bit of every other.
    others: Bits = np.bitwise_xor(members[:, :, 1:], members[:, :, :1])
    chosen = yield from _and(np.broadcast_to(wins[None, :, 1:], others.shape), others, evaluator)
    best = members[:, :, 0] ^ np.bitwise_xor.reduce(chosen, axis=2)
    places = np.arange(size)
    digits = [np.bitwise_xor.reduce(wins[:, places >> bit & 1 == 1], axis=1) for bit in range(log_size)]
    return best[: len(scores)], np.concatenate([best[len(scores) :], np.array(digits)])


def _best_views(scores: Bits, views: int, evaluator: Evaluator) -> _Bits:
    """Return the best score of each slot, uint8[width, n] of uint8[width, views * n]: a round among its views."""
    width, log_size = len(scores), (views - 1).bit_length()
    members = np.zeros((width, scores.shape[1] // views, 1 << log_size), dtype=np.uint8)  # nobody is below the lowest
    members[:, :, :views] = scores.reshape(width, views, -1).swapaxes(1, 2)
    nothing = np.zeros((0, members[0].size), dtype=np.uint8)
    best, _ = yield from _round(members.reshape(width, -1), nothing, log_size, evaluator)
    return best


def _winners(scores: Bits, evaluator: Evaluator) -> _Bits:
    """Return uint8[groups, size] of uint8[width, groups, size]: who is above all before it, and below none after."""
    _, groups, size = scores.shape
    pairs = list(combinations(range(size), 2))
    first, second = (scores[:, :, [pair[i] for pair in pairs]] for i in (0, 1))
    keeps = yield from _not_below(first, second, evaluator)
    beats = np.zeros((size - 1, groups, size), dtype=np.uint8)
    for at, (i, j) in enumerate(pairs):
        beats[j - 1, :, i] = keeps[:, at]
        beats[i, :, j] = _negated(keeps[:, at], evaluator)
    best = yield from every(beats.reshape(size - 1, -1), evaluator, _BEATS_AT_ONCE)
    return np.asarray(best.reshape(groups, size))


def _not_below(a: Bits, b: Bits, evaluator: Evaluator) -> _Bits:
    """Return shares of a >= b for unsigned numbers, bits in rows, lowest first: there is no borrow in a - b."""
    borrow = yield from _and(_negated(a, evaluator), b, evaluator)
    passes = _negated(a ^ b, evaluator)
    if a[0].size <= FEW_PAIRS:
        digits = [np.stack([bit.ravel(), passed.ravel()]) for bit, passed in zip(borrow, passes, strict=True)]
        last = yield from top_carry(digits, evaluator)
        return _negated(last.reshape(a.shape[1:]), evaluator)
    while len(borrow) > 1:
        pairs = len(borrow) // 2
        low, high = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        # The lowest pass is never used.
        left = np.concatenate([borrow[low], passes[low][1:]])
        right = np.concatenate([passes[high], passes[high][1:]])
        products = yield from _and(left, right, evaluator)
        borrow = np.concatenate([borrow[high] ^ products[:pairs], borrow[2 * pairs :]])
        passes = np.concatenate([passes[high][:1], products[pairs:], passes[2 * pairs :]])
    return _negated(borrow[0], evaluator)


# -- arithmetic ---------------------------------------------------------------------------------------------


def _add(mine: Bits, evaluator: Evaluator) -> _Bits:
    """Return shares of the bits of u + v, lowest first, by the prefix adder of Kogge and Stone (IEEE ToC, 1973)."""
    nothing = np.zeros_like(mine)
    xs, ys = (mine, nothing) if evaluator.is_plus else (nothing, mine)
    carry, passes = (yield from _and(xs[:-1], ys[:-1], evaluator)), mine[:-1].copy()
    step = 1
    while step < len(carry):
        # Rows step.. take in the group that ends `step` rows below; those under 2*step are then complete.
        left = np.concatenate([carry[:-step], passes[:-step][step:]])
        right = np.concatenate([passes[step:], passes[step:][step:]])
        products = yield from _and(left, right, evaluator)
        count = len(carry) - step
        carry[step:] ^= products[:count]
        passes[2 * step :] = products[count:]
        step *= 2
    total = mine.copy()
    total[1:] ^= carry
    return total


def _and(x: Bits, y: Bits, evaluator: Evaluator) -> _Bits:
    """One layer: shares of x AND y for arrays of equal shape."""
    packed = (np.packbits(np.ascontiguousarray(part), bitorder="little") for part in (x, y))
    (products,) = yield from evaluator.all_of([next(packed)], [next(packed)])
    return np.unpackbits(products, count=x.size, bitorder="little").reshape(x.shape)


def _negated(x: Bits, evaluator: Evaluator) -> Bits:
    return np.bitwise_xor(x, np.uint8(evaluator.is_plus))


def _rows(values: Array, width: int) -> Bits:
    return (values >> np.arange(width)[:, None] & 1).astype(np.uint8)


# -- what it costs ----------------------------------------------------------------------------------------------


def _tally(slots: int, ring_bits: int, views: int) -> tuple[int, int]:
    """Return (layers, triple bytes) of `best_of`."""
    parts = [_adder_tally(views * slots, ring_bits)]
    if views > 1:
        log_size = (views - 1).bit_length()
        parts.append(_round_tally(slots << log_size, ring_bits - 1, 0, log_size))
    left, known = slots + 1, 0
    for log_size in group_sizes(slots + 1, ring_bits):
        parts.append(_round_tally(left, ring_bits - 1, known, log_size))
        left, known = -(-left >> log_size), known + log_size
    return sum(layers for layers, _ in parts), sum(used for _, used in parts)


def _round_tally(members: int, score_bits: int, number_bits: int, log_size: int) -> tuple[int, int]:
    size, groups = 1 << log_size, -(-members >> log_size)
    pairs = groups * size * (size - 1) // 2
    if pairs <= FEW_PAIRS:
        layers = 1 + layers_of(score_bits, JOINED)
        used = _bytes(score_bits * pairs) + top_carry_cost(score_bits, pairs)
    else:
        rows = _prefix_rows(score_bits)
        layers, used = len(rows), sum(_bytes(row * pairs) for row in rows)
    layers += layers_of(size - 1, _BEATS_AT_ONCE) + 1
    used += every_cost(size - 1, groups * size, _BEATS_AT_ONCE)
    return layers, used + _bytes((score_bits + number_bits) * groups * (size - 1))


def _prefix_rows(width: int) -> Sequence[int]:
    """Rows of AND gates in each layer of `_not_below`."""
    rows = [width]
    while width > 1:
        rows.append(2 * (width // 2) - 1)
        width -= width // 2
    return rows


def _adder_tally(slots: int, ring_bits: int) -> tuple[int, int]:
    rows, step = [ring_bits - 1], 1
    while step < ring_bits - 1:
        rows.append(ring_bits - 1 - step + max(0, ring_bits - 1 - 2 * step))
        step *= 2
    return len(rows), sum(_bytes(count * slots) for count in rows)


def _weight(slots: int, ring_bits: int) -> int:
    """Cost of the rounds from `slots` on, without numbers, which weigh little."""
    weight = 0
    for log_size in group_sizes(slots, ring_bits):
        layers, used = _round_tally(slots, ring_bits - 1, 0, log_size)
        weight += layers * ROUND_AS_GATES + 8 * used
        slots = -(-slots >> log_size)
    return weight


def _bytes(bits: int) -> int:
    return -(-bits // 8)
