"""Moduli and operands at which a multiplication by limbs goes wrong first, and the way into limbs and back.

The conversions here share no code with the ones under test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import numpy as np

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings import choice
from veilmatch.crypto.rings.native.limbs import Limbs, empty
from veilmatch.crypto.rings.native.ring import NativeRing

#: The backends of the kernel that this processor runs.
BACKENDS = tuple(name for name in choice.available() if name != choice.REFERENCE)
SIZES = (512, 1024, 2048, 3072)

#: A number mod N^2 as the kernel holds it: x0 + x1*N, not reduced.
Pair = tuple[int, int]


def _random_modulus(bits: int, low_word: int | None = None) -> int:
    N = random.Random(bits).getrandbits(bits) | 1 << (bits - 1) | 1
    return N if low_word is None else N >> 52 << 52 | low_word


#: What is special about a modulus, and one of so many bits.
MODULI: dict[str, Callable[[int], int]] = {
    "random": _random_modulus,
    "just above a power of two": lambda bits: (1 << (bits - 1)) + 1,
    "just below a power of two": lambda bits: (1 << bits) - 3,
    "all ones": lambda bits: (1 << bits) - 1,
    "low word -1": lambda bits: _random_modulus(bits, (1 << 52) - 1),
    "low word 1": lambda bits: _random_modulus(bits, 1),
    "zeros in the middle": lambda bits: (1 << bits) - (1 << (bits * 3 // 4)) + (1 << (bits // 4)) - 1,
}


@cache
def ring_of(backend: str, N: int) -> NativeRing:
    return NativeRing(Integer(N), backend)


def tightest_modulus(backend: str, bits: int) -> int:
    """The largest modulus of as many limbs as one of `bits` bits: R is just above 64*N."""
    ring = ring_of(backend, (1 << bits) - 1)
    return (1 << (ring._limbs * ring._limb_bits - 6)) - 1


def edge_parts(ring: NativeRing) -> list[int]:
    """Numbers of [0, 4N): edges of the range, of limbs and of Karatsuba's halves."""
    N, bits, half = int(ring.modulus), ring._limb_bits, ring._limb_bits * ring._limbs // 2
    top = max(1, (4 * N >> half) - 1)
    high = random.Random(N).randrange(top)
    bound = 1 << N.bit_length()
    parts = [0, 1, 2, N - 2, N - 1, N, N + 1, 2 * N - 2, 2 * N - 1, 2 * N, 3 * N, 4 * N - 2, 4 * N - 1]
    parts += [bound - 1, bound >> 1, bound - (1 << bits), (1 << bits) - 1, 1 << bits]  # all ones, one limb
    parts += [(1 << half) - 1, (top << half), (1 << half) + 1, (top << half) + (1 << half) - 1]  # one half full
    parts += [high << half | low for low in (high, high + 1, max(high - 1, 0))]  # difference 0, 1, -1
    return sorted({part for part in parts if 0 <= part < 4 * N})


def random_parts(ring: NativeRing, count: int) -> list[int]:
    chance, N = random.Random(int(ring.modulus) + 1), int(ring.modulus)
    return [chance.randrange(4 * N) for _ in range(count)]


def edge_pairs(ring: NativeRing) -> list[Pair]:
    """Pairs of edges, some with a random partner, and the values N^2-1, N^2-N and multiples of N among them."""
    N, edges = int(ring.modulus), edge_parts(ring)
    others = random_parts(ring, len(edges))
    pairs = [(0, 0), (1, 0), (0, 1), (N - 1, N - 1), (0, N - 1), (4 * N - 1, 4 * N - 1), (N, 2 * N - 1), (N, N - 1)]
    for edge, opposite, other in zip(edges, reversed(edges), others, strict=True):
        pairs += [(edge, edge), (edge, opposite), (edge, other), (other, edge)]
    return sorted(set(pairs))


def carrying_parts(ring: NativeRing) -> dict[int, int]:
    """x0 by the r0 that x0 * 1 gives: powers of two and one less, so that the last carry runs through all limbs."""
    N, bits, R = int(ring.modulus), ring._limb_bits, radix(ring)
    results = [(1 << bits * limb) - less for limb in range(ring._limbs) for less in (0, 1)]
    return {result: result * R % N for result in results if result < N}


def radix(ring: NativeRing) -> int:
    """R of the Montgomery form."""
    return 1 << ring._limbs * ring._limb_bits


def value(pair: Pair, N: int) -> int:
    """The number mod N^2 that a pair stands for."""
    return (pair[0] + pair[1] * N) % N**2


def limbs_of(x: int, count: int, bits: int) -> list[int]:
    assert 0 <= x < 1 << count * bits
    return [x >> bits * i & (1 << bits) - 1 for i in range(count)]


def to_groups(ring: NativeRing, pairs: Sequence[Pair]) -> Limbs:
    """Groups of the pairs as they are; lanes that are left over hold all ones, which must not matter."""
    n, bits, lanes = ring._limbs, ring._limb_bits, ring.lanes
    groups = empty(ring.group_shape(-(-len(pairs) // lanes)))
    groups[...] = (1 << bits) - 1
    for i, pair in enumerate(pairs):
        groups[i // lanes, :, :, i % lanes] = [limbs_of(part, n, bits) for part in pair]
    return groups


def to_pairs(ring: NativeRing, groups: Limbs, count: int) -> list[Pair]:
    """The first `count` pairs of groups. Every limb must be a digit."""
    bits, lanes = ring._limb_bits, ring.lanes
    rows = np.moveaxis(groups, 3, 1).reshape(-1, 2, ring._limbs)[:count].tolist()
    assert len(groups) == -(-count // lanes)
    return [(_joined(low, bits), _joined(high, bits)) for low, high in rows]


def _joined(limbs: Iterable[int], bits: int) -> int:
    x = 0
    for position, limb in enumerate(limbs):
        assert limb < 1 << bits
        x |= limb << bits * position
    return x
