"""Few numbers on four lanes: the same numbers as on eight, whoever works on which."""

from __future__ import annotations

import random
import secrets

import pytest

from tests.kernel.numbers import BACKENDS, MODULI
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.native import tables
from veilmatch.crypto.rings.native.groups import Groups
from veilmatch.crypto.rings.native.ring import NativeRing
from veilmatch.crypto.rings.reference import ReferenceRing

pytestmark = pytest.mark.skipif("ifma4" not in BACKENDS, reason="this processor has no AVX-512 IFMA")

SIZES = (512, 3072)
#: How many numbers there are, and how many of them lie in lanes of ifma and of ifma4.
SHARED = {0: (0, 0), 1: (0, 1), 3: (0, 3), 4: (0, 4), 5: (5, 0), 8: (8, 0), 9: (8, 1), 12: (8, 4), 13: (13, 0)}


@pytest.fixture(params=SIZES)
def N(request: pytest.FixtureRequest) -> int:
    return MODULI["random"](request.param)


@pytest.fixture
def ring(N: int) -> NativeRing:
    return NativeRing(Integer(N), "ifma", "ifma4")


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Who gave back how many numbers."""
    calls: list[tuple[str, int]] = []
    leave = Groups.leave

    def counted(groups: Groups, limbs: object, count: int) -> list[Integer]:
        calls.append((groups.backend, count))
        return leave(groups, limbs, count)  # type: ignore[arg-type]

    monkeypatch.setattr(Groups, "leave", counted)
    return calls


def shared(used: list[tuple[str, int]]) -> tuple[int, int]:
    return tuple(sum(count for name, count in used if name == backend) for backend in ("ifma", "ifma4"))  # type: ignore[return-value]


def numbers(N: int, count: int) -> list[Integer]:
    edges = [0, 1, N, N**2 - 1]
    return [Integer(x) for x in (edges + [random.Random(N).randrange(N**2) for _ in range(count)])[:count]]


@pytest.mark.parametrize("count", SHARED)
def test_powers_by_one_exponent(ring: NativeRing, N: int, count: int, used: list[tuple[str, int]]) -> None:
    bases, exponent = numbers(N, count), secrets.randbits(64)
    assert ring.powers_secret(bases, Integer(exponent)) == [pow(int(x), exponent, N**2) for x in bases]
    assert shared(used) == SHARED[count]


@pytest.mark.parametrize("count", SHARED)
def test_powers_by_one_exponent_each(ring: NativeRing, N: int, count: int, used: list[tuple[str, int]]) -> None:
    bases, exponents = numbers(N, count), [secrets.randbits(8 * i + 1) for i in range(count)]
    expected = [pow(int(x), e, N**2) for x, e in zip(bases, exponents, strict=True)]
    assert ring.powers_secret_each(bases, [Integer(e) for e in exponents]) == expected
    assert shared(used) == SHARED[count]


@pytest.mark.parametrize("count", SHARED)
def test_random_powers_are_those_of_their_exponents(
    ring: NativeRing, N: int, count: int, used: list[tuple[str, int]]
) -> None:
    table = ring.fixed_base(Integer(N**2 - 5), 61)
    used.clear()
    known = table.known_powers(count)
    assert [x.value for x in known] == [pow(N**2 - 5, int(x.exponent), N**2) for x in known]
    assert len({x.exponent for x in known}) == count and shared(used) == SHARED[count]
    assert len(set(table.random_powers(count))) == count


def test_every_part_of_a_draw_is_of_fresh_bytes(ring: NativeRing, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    draw = tables.secrets.token_bytes
    monkeypatch.setattr(tables.secrets, "token_bytes", lambda size: sizes.append(size) or draw(size))
    table = ring.fixed_base(Integer(3), 60)
    table.random_powers(9)
    table.known_powers(2)
    assert sizes == [10 * 8, 10 * 4, 10 * 4]


@pytest.mark.parametrize("kind", ["random", "one", "zeros", "all ones"])
@pytest.mark.parametrize(
    ("lanes", "backend"),
    [([0], "ifma4"), ([3, 0], "ifma4"), ([4], "ifma4"), ([7, 5, 6], "ifma4"), ([3, 4], "ifma"), (range(8), "ifma")],
)
def test_packs_of_one_half_are_multiplied_there(
    ring: NativeRing, N: int, lanes: list[int], backend: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    D, bits = 5, 17
    exponents = {
        "random": [secrets.randbits(bits) for _ in range(D)],
        "one": [0, 0, 1, 0, 0],
        "zeros": [0] * D,
        "all ones": [(1 << bits) - 1] * D,
    }[kind]
    packs = [[Integer(x) for x in (N**2 - 1 - lane, lane + 2, N + lane, lane, 3**lane)] for lane in range(8)]
    group, expected = ring.pack_group(D), []
    for lane, pack in enumerate(packs):
        group.put(lane, pack)
        reference = ReferenceRing(Integer(N)).pack_group(D)
        reference.put(0, pack)
        expected += reference.products_of_powers(exponents, bits)
    compiled, run, used = ring.compile(exponents, bits), Groups.run, []
    monkeypatch.setattr(Groups, "run", lambda on, *given: used.append(on.backend) or run(on, *given))
    assert group.products(compiled, lanes) == [expected[lane] for lane in lanes]
    assert used == [] if kind in ("one", "zeros") else used == [backend]
    assert group.products_of_powers(exponents, bits) == expected
