"""The portable backend on other processors: built for 64-bit Arm, run by qemu, and held against Python's integers.

`make portable` installs what this needs on Debian and Ubuntu. Where it is missing only the build for this processor is
tested, except in CI, where everything has to be there.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.kernel.numbers import MODULI, Pair, edge_pairs, limbs_of, ring_of, value
from veilmatch.crypto.rings.native.ring import NativeRing

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "tests" / "kernel" / "portable_driver.c", ROOT / "crypto" / "kernel" / "portable.c"]
ARM = ("aarch64-linux-gnu-gcc", "qemu-aarch64-static")
CONSTANTS_OF_ROW = 64
MULTIPLY, SQUARE, POWER, SELECT, OF_CONSTANTS, ENTER, LEAVE, REST, RUN = range(9)
#: Limbs of 64 bits: a single one, as many as moduli of 512 and of 3072 bits have, and the most.
LIMBS = (1, 2, 9, 49, 120)


def built_by(compiler: str, folder: Path) -> Path:
    """The driver, with no warning."""
    program = folder / compiler
    command = [compiler, "-std=c11", "-O3", "-Wall", "-Wextra", "-static", "-o", program, *SOURCES]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    return program


def missing_for_arm() -> list[str]:
    return [tool for tool in ARM if shutil.which(tool) is None]


@pytest.fixture(scope="module", params=["this processor", "aarch64"])
def command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What runs the driver."""
    folder = tmp_path_factory.mktemp("driver")
    if request.param == "this processor":
        return [str(built_by("gcc", folder))]
    if missing := missing_for_arm():
        assert not os.environ.get("CI"), f"CI has to have {' and '.join(missing)}: make portable"
        pytest.skip(f"{' and '.join(missing)} missing: make portable")
    return [ARM[1], str(built_by(ARM[0], folder))]


def ring_words(ring: NativeRing) -> list[int]:
    return [int(word) for word in ring._ring]


def words_of(ring: NativeRing, pairs: Sequence[Pair]) -> list[int]:
    return [limb for pair in pairs for part in pair for limb in limbs_of(part, ring._limbs, 64)]


def call(ring: NativeRing, operation: int, groups: int, a: list[int], b: list[int], *more: int) -> bytes:
    head = [operation, ring._limbs, groups, *more, *[0] * (4 - len(more))]
    words = [*head, *ring_words(ring), len(a), *a, len(b), *b]
    return b"".join(word.to_bytes(8, "little") for word in words)


def answers(command: list[str], calls: bytes) -> list[int]:
    """The words that the driver writes."""
    result = subprocess.run(command, input=calls, capture_output=True, timeout=240)
    assert (result.returncode, result.stderr) == (0, b"")
    return [int.from_bytes(result.stdout[at : at + 8], "little") for at in range(0, len(result.stdout), 8)]


def numbers_in(words: Sequence[int], limbs: int) -> list[int]:
    parts = [words[at : at + limbs] for at in range(0, len(words), limbs)]
    return [sum(word << 64 * i for i, word in enumerate(part)) for part in parts]


def pairs_in(words: Sequence[int], limbs: int) -> list[Pair]:
    parts = numbers_in(words, limbs)
    return list(zip(parts[::2], parts[1::2], strict=True))


def moduli(limbs: int) -> Iterator[int]:
    """Odd ones for so many limbs: the largest and the smallest, and those of numbers.py."""
    room = 64 * limbs - 6
    yield (1 << room) - 1
    yield 1 << room - 1 | 1
    if limbs in (9, 49):
        for kind in MODULI.values():
            yield kind(room - 2 if limbs == 9 else 3072)


def rings(limbs: int) -> list[NativeRing]:
    found = [ring_of("portable", N) for N in moduli(limbs)]
    assert {ring._limbs for ring in found} == {limbs}
    return found


def operands(ring: NativeRing) -> list[Pair]:
    """Edges: 0, 1, N - 1, N^2 - 1, limbs of ones, unreduced up to 4N - 1; and a random pair."""
    edges, N = edge_pairs(ring), int(ring.modulus)
    chance = random.Random(N)
    sure = [(0, 0), (1, 0), (N - 1, 0), (N - 1, N - 1), (0, 1), (4 * N - 1, 4 * N - 1)]
    return [*sure, *chance.sample(edges, min(6, len(edges))), (chance.randrange(N), chance.randrange(N))]


@pytest.mark.parametrize("limbs", LIMBS)
def test_products_squares_and_powers(command: list[str], limbs: int) -> None:
    calls, expected, chance = b"", [], random.Random(limbs)
    for ring in rings(limbs):
        N, R = int(ring.modulus), 1 << 64 * limbs
        a = operands(ring)
        b = chance.sample(a, len(a))
        x, y = [value(pair, N) for pair in a], [value(pair, N) for pair in b]
        inverse = pow(R, -1, N**2)
        calls += call(ring, MULTIPLY, len(a), words_of(ring, a), words_of(ring, b), 1)
        expected += [(N, u * v * inverse % N**2) for u, v in zip(x, y, strict=True)]
        calls += call(ring, MULTIPLY, len(a), words_of(ring, a), words_of(ring, b[:1]), 0)
        expected += [(N, u * y[0] * inverse % N**2) for u in x]
        calls += call(ring, SQUARE, len(a), words_of(ring, a), [])
        expected += [(N, u * u * inverse % N**2) for u in x]
        exponents = [(0, 1, 31, 32, 0x7C1F, 0xFFFF)[i % 6] for i in range(len(a))]
        data = b"".join(e.to_bytes(2, "little") for e in exponents)
        data = data.ljust(-(-len(data) // 8) * 8, b"\0")
        e = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
        calls += call(ring, POWER, len(a), words_of(ring, a), e, 2, 2)
        expected += [(N, pow(u, i, N**2) * pow(R, 1 - i, N**2) % N**2) for u, i in zip(x, exponents, strict=True)]
        calls += call(ring, POWER, len(a), words_of(ring, a), [0xB5A3], 2, 0)
        expected += [(N, pow(u, 0xB5A3, N**2) * pow(R, 1 - 0xB5A3, N**2) % N**2) for u in x]
    found = pairs_in(answers(command, calls), limbs)
    assert [value(pair, N) for pair, (N, _) in zip(found, expected, strict=True)] == [x for _, x in expected]
    assert all(max(pair) < 2 * N for pair, (N, x) in zip(found, expected, strict=True))


@pytest.mark.parametrize("limbs", LIMBS)
def test_numbers_enter_leave_and_rest(command: list[str], limbs: int) -> None:
    for ring in rings(limbs):
        N, R = int(ring.modulus), 1 << 64 * limbs
        plain = [(x % R, x // R) for x in (0, 1, N - 1, N**2 - 1, N**2 - N, R * R - 1, R - 1, R, N**2 // 3)]
        factors = [divmod(R**e % N**2, N)[::-1] for e in (2, 3)]
        entering = call(ring, ENTER, len(plain), words_of(ring, plain), words_of(ring, factors))
        entered = pairs_in(answers(command, entering), limbs)
        assert max(map(max, entered)) < 4 * N
        assert [value(pair, N) for pair in entered] == [(low + high * R) * R % N**2 for low, high in plain]
        a = [*entered, *operands(ring)]
        leaving = call(ring, LEAVE, len(a), words_of(ring, a), [])
        left = [low + high * R for low, high in pairs_in(answers(command, leaving), limbs)]
        assert left == [value(pair, N) * pow(R, -1, N**2) % N**2 for pair in a]
        assert pairs_in(answers(command, call(ring, REST, len(a), words_of(ring, a), [])), limbs) == a


@pytest.mark.parametrize("limbs", LIMBS)
def test_products_of_table_entries(command: list[str], limbs: int) -> None:
    rows, entries, columns = 3, 8, 3
    for ring in rings(limbs):
        N, R = int(ring.modulus), 1 << 64 * limbs
        chance = random.Random(N)
        digits = [[chance.randrange(entries) for _ in range(columns)] for _ in range(rows)]
        digits[0][0], digits[-1][0] = 0, entries - 1
        pairs = [[(chance.randrange(4 * N), chance.randrange(4 * N)) for _ in range(entries)] for _ in range(rows)]
        pairs[0][0] = (4 * N - 1, 4 * N - 1)
        given = call(ring, SELECT, columns, table(ring, pairs), flat(digits), rows, entries)
        found = pairs_in(answers(command, given), limbs)
        for column, pair in enumerate(found):
            product = pow(R, 1 - rows, N**2)
            for row, chosen in zip(pairs, digits, strict=True):
                product = product * value(row[chosen[column]], N) % N**2
            assert value(pair, N) == product

        constants = [[(chance.randrange(N), chance.randrange(N)) for _ in range(CONSTANTS_OF_ROW)] for _ in range(rows)]
        digits = [[8 * digit + 7 for digit in row] for row in digits]
        constants[0][0], constants[-1][-1] = (N - 1, N - 1), (N - 1, N - 1)
        whole = [[(y, y * R // N, log) for y, log in row] for row in constants]
        given = call(ring, OF_CONSTANTS, columns, table(ring, whole), flat(digits), rows)
        parts = numbers_in(answers(command, given), limbs)
        for column in range(columns):
            x, e, low, high = parts[4 * column : 4 * column + 4]
            product = 1
            for row, chosen in zip(constants, digits, strict=True):
                y, log = row[chosen[column]]
                product = product * y * (1 + log * N) % N**2
            assert x < 3 * N and e < 6 * N
            assert (x + e * N) * (1 + (low + high * R) * N) % N**2 == product


def flat(rows: Iterable[Sequence[int]]) -> list[int]:
    return [word for row in rows for word in row]


def table(ring: NativeRing, rows: Sequence[Sequence[Sequence[int]]]) -> list[int]:
    """[rows][limbs of all parts][entries]"""
    words: list[int] = []
    for row in rows:
        numbers = [[limb for part in entry for limb in limbs_of(part, ring._limbs, 64)] for entry in row]
        words += [number[i] for i in range(len(numbers[0])) for number in numbers]
    return words


@pytest.mark.parametrize("limbs", (1, 9, 49))
def test_programs_of_products(command: list[str], limbs: int) -> None:
    ring = rings(limbs)[0]
    N, R = int(ring.modulus), 1 << 64 * limbs
    bases = operands(ring)[3:6]
    steps = [(3, 0, 1), (4, 3, 3), (3, 4, 2), (5, 3, 4)]
    given = call(ring, RUN, len(bases), words_of(ring, bases), flat(steps), len(steps))
    made = [value(pair, N) for pair in bases] + [0] * 3
    for to, left, right in steps:
        made[to] = made[left] * made[right] * pow(R, -1, N**2) % N**2
    (found,) = pairs_in(answers(command, given), limbs)
    assert value(found, N) == made[5]


def test_calls_that_are_cut_off_are_refused(command: list[str]) -> None:
    ring = rings(9)[0]
    given = call(ring, SQUARE, 1, words_of(ring, [(1, 1)]), [])
    result = subprocess.run(command, input=given[:-9], capture_output=True, timeout=60)
    assert result.returncode == 1 and b"cut off" in result.stderr
