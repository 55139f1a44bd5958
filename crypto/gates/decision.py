"""The decision gate: is score - threshold >= 0, for every slot at once, on shared bits.

The plus holder knows u, the minus holder v, and u + v = 2(s - t) + carry mod 2^k with carry in
{0, 1}; the sign of that is the sign of s - t. The carry into the top bit is computed by a
parallel-prefix tree: k-1 generate ANDs, then pairs of (generate, propagate) joined level by level.
docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from veilmatch.crypto.gates.boolean import Circuit, Evaluator, Wire
from veilmatch.crypto.packing.fields import Array

#: (generate, propagate) of a group of neighbouring bits.
Group = tuple[Wire, Wire]


def decision_input(slots: Array, threshold: int, ring_bits: int, *, is_plus: bool) -> Array:
    """Return u (plus holder) or v (minus holder), int64[n] in [0, 2^k), from this holder's slots mod 2^k."""
    value = slots - 2 * threshold if is_plus else -slots
    return value & ((1 << ring_bits) - 1)


def decide(inputs: Array, ring_bits: int, evaluator: Evaluator) -> Circuit:
    """Circuit: return shares of "s >= t" per slot, packed eight to a byte, little-endian bit order."""
    rows = [np.packbits((inputs >> i & 1).astype(np.uint8), bitorder="little") for i in range(ring_bits)]
    nothing = np.zeros_like(rows[0])
    mine, other = rows[:-1], [nothing] * (ring_bits - 1)
    xs, ys = (mine, other) if evaluator.is_plus else (other, mine)
    generate = yield from evaluator.all_of(xs, ys)
    level = list(zip(generate, mine, strict=True))
    while len(level) > 1:
        level = yield from _join_level(level, evaluator)
    negative = rows[-1] ^ level[0][0]
    return evaluator.negate(negative)


def _join_level(level: list[Group], evaluator: Evaluator) -> Generator[bytes, bytes, list[Group]]:
    """Join neighbours (low, high): generate = g_high ^ p_high*g_low, propagate = p_high*p_low.

    The propagate of the lowest group is never used, so its AND is left out.
    """
    pairs = list(zip(level[0::2], level[1::2], strict=False))
    lows = [low[0] for low, _ in pairs] + [low[1] for low, _ in pairs[1:]]
    highs = [high[1] for _, high in pairs] + [high[1] for _, high in pairs[1:]]
    products = yield from evaluator.all_of(lows, highs)
    carried, propagated = products[: len(pairs)], [pairs[0][1][1], *products[len(pairs) :]]
    joined = [(high[0] ^ g, p) for (_, high), g, p in zip(pairs, carried, propagated, strict=True)]
    return joined + level[2 * len(pairs) :]


def only_if(valid: Wire, bits: Wire, evaluator: Evaluator) -> Circuit:
    """Circuit: return shares of every bit AND the lowest bit of `valid`, one byte. One layer."""
    (answered,) = yield from evaluator.all_of([bits], [np.repeat(np.uint8(0) - (valid & np.uint8(1)), len(bits))])
    return answered


def decide_cost(slots: int, ring_bits: int) -> int:
    """Return how many triple bytes `decide` uses for `slots` slots."""
    groups, ands = ring_bits - 1, ring_bits - 1
    while groups > 1:
        pairs = groups // 2
        ands += 2 * pairs - 1
        groups -= pairs
    return ands * -(-slots // 8)


def only_if_cost(count: int) -> int:
    """Return how many triple bytes `only_if` uses for `count` bits."""
    return -(-count // 8)
