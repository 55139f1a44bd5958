"""Powers mod N, of first parts alone: those of plain integers, for every edge and whatever the second parts are."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.kernel.numbers import (
    BACKENDS,
    MODULI,
    SIZES,
    Pair,
    edge_pairs,
    radix,
    ring_of,
    tightest_modulus,
    to_groups,
    to_pairs,
)
from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.native.groups import WITH_POWERS_MOD_N
from veilmatch.crypto.rings.native.limbs import empty, empty_bytes
from veilmatch.crypto.rings.native.ring import NativeRing

ABLE = tuple(name for name in BACKENDS if name in WITH_POWERS_MOD_N)
EXPONENTS = (1, 2, 3, 0, 31, 32, 0x7FF, 0x8421, 0xFFFF)


def assert_powers(ring: NativeRing, pairs: list[Pair], *, each: bool) -> None:
    N, R = int(ring.modulus), radix(ring)
    groups = to_groups(ring, pairs)
    exponents = [EXPONENTS[at % len(EXPONENTS)] if each else 0x8421 for at in range(len(groups) * ring.lanes)]
    data = b"".join(e.to_bytes(2, "little") for e in (exponents if each else exponents[:1]))
    _kernel.power_mod_n(ring.backend, ring._ring, groups, groups, each, data)
    for (low, high), pair, e in zip(to_pairs(ring, groups, len(pairs)), pairs, exponents, strict=False):
        assert low < 2 * N and high == 0, f"{pair} to the {e} is not below 2N"
        assert low % N == pow(pair[0], e, N) * pow(R, 1 - e, N) % N


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize("bits", SIZES)
@pytest.mark.parametrize("kind", [*MODULI, "tightest"])
def test_powers_of_edges_are_right_and_below_2N(name: str, bits: int, kind: str) -> None:
    """Unreduced ones up to 4N - 1, by exponents whose windows are products, squares and both."""
    ring = ring_of(name, tightest_modulus(name, bits) if kind == "tightest" else MODULI[kind](bits))
    assert_powers(ring, random.Random(bits).sample(edge_pairs(ring), len(edge_pairs(ring))), each=True)
    assert_powers(ring, edge_pairs(ring)[: 2 * ring.lanes], each=False)


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize("limbs", [10, 20, 120])
def test_rings_of_few_and_of_the_most_limbs(name: str, limbs: int) -> None:
    ring = ring_of(name, (1 << limbs * ring_of(name, 3)._limb_bits - 6) - 1)
    assert ring._limbs == limbs
    assert_powers(ring, edge_pairs(ring)[-2 * ring.lanes :], each=True)


@pytest.mark.parametrize("name", ABLE)
def test_arguments_that_do_not_fit_are_refused(name: str) -> None:
    ring = ring_of(name, MODULI["random"](512))
    one, two = ring.enter([Integer(2)] * ring.lanes), ring.enter([Integer(2)] * (2 * ring.lanes))
    moved = empty_bytes(one.nbytes + 64)[8 : 8 + one.nbytes].view(np.uint64).reshape(one.shape)
    sound = (name, ring._ring, one, one, True, bytes(ring.lanes))
    _kernel.power_mod_n(*sound)
    for at, wrong in [
        (0, "ifma5"),
        *((2, array) for array in (two, moved, empty((0,)), one[0, 0])),
        *((3, array) for array in (two, moved, empty((0,)), one[0, 0])),
        *((5, data) for data in (b"\1", bytes(ring.lanes + 1))),
        *((1, words) for words in (ring._ring[:-1], ring._ring[:0])),
    ]:
        with pytest.raises(ValueError):
            _kernel.power_mod_n(*sound[:at], wrong, *sound[at + 1 :])


@pytest.mark.parametrize("name", [name for name in BACKENDS if name not in ABLE])
def test_a_backend_without_them_says_so(name: str) -> None:
    ring = ring_of(name, MODULI["random"](512))
    one = ring.enter([Integer(2)] * ring.lanes)
    with pytest.raises(ValueError, match="not available for powers mod N"):
        _kernel.power_mod_n(name, ring._ring, one, one, False, b"\1")
