"""Does the time of an operation depend on its secret? A t-test in the manner of dudect.

    python benchmarks/constant_time.py                  about two minutes
    python benchmarks/constant_time.py --json PATH      writes the figures as well

Reparaz, Balasch, Verbauwhede, "Dude, is my code constant time?", DATE 2017: an operation is timed with one fixed
secret and with random ones, in random order, and Welch's t compares the two. |t| > 4.5 says that the means
differ. Interrupted measurements are cut off: t is taken of all and of those below ten percentiles, the
largest |t| counts. gmpy2.powmod stands for code that is not constant time: it must be found out, or the
measurement sees nothing. A small |t| is no proof; tests/kernel/constant_time.c and docs/kernel.md go further.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gmpy2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.native.limbs import empty, empty_bytes
from veilmatch.crypto.rings.native.ring import WITH_CONSTANTS, NativeRing

BOUND = 4.5
LEAKY = "gmpy2.powmod"
ROWS, ENTRIES = 8, 64
_CROPS = 10
_WARM_UP = 50
_STOCK = 64

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """prepare(is_fixed) puts a secret where `run` finds it: always at the same address, as nothing else may differ."""

    code: str
    secret: str
    prepare: Callable[[bool], None]
    run: Callable[[], object]


def main() -> int:
    """Measure, print a table, write JSON if asked. Exit status 1 if the control is not found out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measurements", type=int, default=20_000, help="of each case (default: %(default)s)")
    parser.add_argument("--modulus-bits", type=int, default=1024)
    parser.add_argument("--exponent-bits", type=int, default=256)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    N = secrets.randbits(options.modulus_bits) | 1 << (options.modulus_bits - 1) | 1
    figures = []
    for case in [*kernel_cases(N, options.exponent_bits), *gmpy2_cases(N, options.exponent_bits)]:
        Console(stderr=True).print(f"{case.code}, secret: {case.secret}")
        figures.append(figures_of(case, *measure(case, options.measurements)))
    show(figures)
    if options.json:
        head = {name: getattr(options, name) for name in ("measurements", "modulus_bits", "exponent_bits")}
        options.json.write_text(json.dumps({**head, "bound": BOUND, "cases": figures}, indent=1) + "\n")
    is_seeing = any(f["code"] == LEAKY and f["t"] > BOUND for f in figures)
    return 0 if is_seeing else 1


# -- what is measured ---------------------------------------------------------------------------------


def kernel_cases(N: int, exponent_bits: int) -> Iterator[Case]:
    """The operations of the kernel that take secrets, on every backend that runs here; no conversions."""
    for backend, _, _ in _kernel.backends():
        ring = NativeRing(Integer(N), backend)
        for operation in ("power", "power_of_two") if backend == "ifma4" else ("power",):
            yield _power_case(ring, operation, exponent_bits, of_exponent=True)
            yield _power_case(ring, operation, exponent_bits, of_exponent=False)
        yield _select_case(ring)
        if backend in WITH_CONSTANTS:
            yield _constants_case(ring)


def _power_case(ring: NativeRing, operation: str, exponent_bits: int, *, of_exponent: bool) -> Case:
    raise_to = getattr(_kernel, operation)
    square = int(ring._square)
    bases, out = empty(ring.group_shape(1)), empty(ring.group_shape(1))
    bases[...] = ring.enter([Integer(secrets.randbelow(square)) for _ in range(ring.lanes)])
    exponent = bytearray(_random_exponent(exponent_bits).to_bytes(exponent_bits // 8, "little"))
    fixed_exponent = (1 << (exponent_bits - 1)).to_bytes(exponent_bits // 8, "little")
    fixed = ring.enter([Integer(square - int(ring.modulus))] * ring.lanes)
    stock = [ring.enter([Integer(secrets.randbelow(square)) for _ in range(ring.lanes)]) for _ in range(_STOCK)]

    def prepare_exponent(is_fixed: bool) -> None:
        drawn = _random_exponent(exponent_bits).to_bytes(exponent_bits // 8, "little")
        exponent[:] = fixed_exponent if is_fixed else drawn

    def prepare_bases(is_fixed: bool) -> None:
        # Both are read and mixed, so that the caches see no difference either.
        drawn = random.choice(stock)
        bases[...] = drawn ^ ((drawn ^ fixed) & np.uint64(2**64 - 1 if is_fixed else 0))

    return Case(
        f"{ring.backend} {operation}",
        "exponent" if of_exponent else "bases",
        prepare_exponent if of_exponent else prepare_bases,
        lambda: raise_to(ring.backend, ring._ring, out, bases, False, exponent),
    )


def _select_case(ring: NativeRing) -> Case:
    table = empty((ROWS, 2, ring._limbs, ENTRIES))
    for entry in range(ENTRIES):
        group = ring.enter([Integer(secrets.randbelow(int(ring._square)))])
        table[..., entry] = group[0, :, :, 0]
    digits, out = empty((ROWS, 1, ring.lanes)), empty(ring.group_shape(1))
    fixed = np.zeros(digits.shape, dtype=np.uint8)

    def prepare(is_fixed: bool) -> None:
        drawn = np.frombuffer(secrets.token_bytes(digits.size), dtype=np.uint8).reshape(digits.shape) % ENTRIES
        digits[...] = fixed if is_fixed else drawn

    return Case(
        f"{ring.backend} select_and_multiply", "digits", prepare, lambda: ring.select_and_multiply(out, table, digits)
    )


def _constants_case(ring: NativeRing) -> Case:
    random_parts = [Integer(secrets.randbelow(int(ring.modulus))) for _ in range(3 * ROWS * ENTRIES)]
    words = ring.constants(random_parts).reshape(ROWS, ENTRIES, -1).transpose(0, 2, 1)
    table = empty_bytes(words.nbytes).view(words.dtype).reshape(words.shape)
    table[...] = words
    digits = empty((ROWS, 1, ring.lanes))
    data = bytearray(4 * ring.lanes * ring._limbs * ring._limb_bits // 8)
    fixed = np.zeros(digits.shape, dtype=np.uint8)

    def prepare(is_fixed: bool) -> None:
        drawn = np.frombuffer(secrets.token_bytes(digits.size), dtype=np.uint8).reshape(digits.shape) % ENTRIES
        digits[...] = fixed if is_fixed else drawn

    given = (ring.backend, ring._ring, data, table, ROWS, 1, digits)
    return Case(f"{ring.backend} multiply_constants", "digits", prepare, lambda: _kernel.multiply_constants(*given))


def gmpy2_cases(N: int, exponent_bits: int) -> Iterator[Case]:
    """GMP's constant-time power, which runs without the kernel, and the other one, which must be found out."""
    square = gmpy2.mpz(N) ** 2
    for code, function in (("gmpy2.powmod_sec", gmpy2.powmod_sec), (LEAKY, gmpy2.powmod)):
        for secret in ("exponent", "bases"):
            yield _gmpy2_case(code, function, secret, square, N, exponent_bits)


def _gmpy2_case(
    code: str, function: Callable[..., object], secret: str, square: Any, N: int, exponent_bits: int
) -> Case:
    base = secrets.randbelow(int(square))
    exponent = _random_exponent(exponent_bits)
    operands = [gmpy2.mpz(base), gmpy2.mpz(exponent)]

    def prepare(is_fixed: bool) -> None:
        drawn = secrets.randbelow(int(square)) if secret == "bases" else _random_exponent(exponent_bits)
        fixed = int(square) - N if secret == "bases" else 1 << (exponent_bits - 1)
        operands[secret == "exponent"] = gmpy2.mpz(fixed if is_fixed else drawn)

    return Case(code, secret, prepare, lambda: function(operands[0], operands[1], square))


def _random_exponent(bits: int) -> int:
    """Of exactly so many bits, as the scheme's exponents are."""
    return secrets.randbits(bits) | 1 << (bits - 1)


# -- how it is measured -------------------------------------------------------------------------------


def measure(case: Case, count: int) -> tuple[Times, Times]:
    """Nanoseconds with the fixed secret and with random ones, in random order."""
    times: tuple[list[int], list[int]] = ([], [])
    prepare, run, clock = case.prepare, case.run, time.perf_counter_ns
    for number in range(_WARM_UP + count):
        is_random = random.getrandbits(1)
        prepare(not is_random)
        start = clock()
        run()
        duration = clock() - start
        if number >= _WARM_UP:
            times[is_random].append(duration)
    return np.array(times[0], dtype=np.float64), np.array(times[1], dtype=np.float64)


def figures_of(case: Case, fixed: Times, drawn: Times) -> dict[str, Any]:
    return {
        "code": case.code,
        "secret": case.secret,
        "fixed_us": float(np.median(fixed)) / 1e3,
        "random_us": float(np.median(drawn)) / 1e3,
        "t": largest_t(fixed, drawn),
    }


def largest_t(a: Times, b: Times) -> float:
    """The largest |t| of all measurements and of those below 1 - 2^-i of them, i = 1 .. 10."""
    pooled = np.concatenate((a, b))
    limits = [float(np.quantile(pooled, 1 - 0.5**i)) for i in range(1, _CROPS + 1)]
    cropped = [(a[a <= limit], b[b <= limit]) for limit in limits]
    return max(abs(welch_t(x, y)) for x, y in [*cropped, (a, b)] if min(len(x), len(y)) > 1)


def welch_t(a: Times, b: Times) -> float:
    """Welch's t of two samples."""
    spread = float(np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)))
    return float(a.mean() - b.mean()) / spread if spread else 0.0


def show(figures: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table("code", "secret", "fixed", "random", "|t|", "", title=f"{os.cpu_count()} cores, {sys.platform}")
    for f in figures:
        verdict = "depends on it" if f["t"] > BOUND else "no difference"
        note = ", as it must" if f["code"] == LEAKY else ""
        table.add_row(
            f["code"],
            f["secret"],
            f"{f['fixed_us']:.1f} us",
            f"{f['random_us']:.1f} us",
            f"{f['t']:.1f}",
            verdict + note,
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
