"""The native kernel against gmpy2 and against the processor's multiplier, on one core, in one run.

    python benchmarks/kernel.py                     the backend that is chosen here (about a minute)
    python benchmarks/kernel.py --backend avx2
    python benchmarks/kernel.py --json PATH         writes the figures as well

Each time is CPU time, the median over repeats, for one number: a group of as many as there are lanes, divided by
them. gmpy2 does the same work one number at a time. The bound is what the multiply instructions of the
algorithm take if nothing else is done: their count, times the time of one in a loop that does nothing else,
measured in the same run.

A pack is what a program of products makes of it, without its compilation, which is once a query and has a table of
its own: there beside the program over one group. The last table has groups of four numbers on ifma4 beside groups of
eight on ifma, measured in turn: where a ratio is below 1, up to four numbers go to ifma4 (crypto/rings/choice.py).
Two numbers are held otherwise there than four (crypto/kernel/narrow.h).
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from machine import cpu, only_one_core
from rich.console import Console
from rich.table import Table

from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer, power, random_below, random_bits
from veilmatch.crypto.parameters import SUBGROUP_BITS
from veilmatch.crypto.rings.choice import NATIVE, choose
from veilmatch.crypto.rings.native.constants import ConstantsFixedBase
from veilmatch.crypto.rings.native.ring import NativeRing
from veilmatch.crypto.rings.programs import compile_program, usual_length
from veilmatch.crypto.rings.reference import ReferenceRing

MODULI = (2048, 3072)
EXPONENT_BITS = 16
#: Groups of numbers in one call that multiplies or squares.
GROUPS = 4
#: A key holder's exponent is longer than |o| by this (crypto/keys/shares.py).
SLACK_BITS = 145
WINDOW_BITS = 5
DIGIT_BITS = 6
#: How many are encrypted at once: what a verification needs, and a template.
BATCHES = (1, 2, 3, 4, 8, 128)


@dataclass(frozen=True)
class Row:
    """One operation mod N^2. modulus_bits: of N^2; times for one number, in microseconds."""

    operation: str
    modulus_bits: int
    gmpy2_us: float
    native_us: float
    bound_us: float


@dataclass(frozen=True)
class Compilation:
    """A query of D exponents. modulus_bits: of N^2; times in microseconds, of all lanes of a group together."""

    dimension: int
    modulus_bits: int
    compile_us: float
    program_us: float


@dataclass(frozen=True)
class FourBesideEight:
    """One operation on a group of each. modulus_bits: of N^2; times in microseconds."""

    operation: str
    modulus_bits: int
    eight_us: float
    four_us: float


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=NATIVE, help="default: the one that VEILMATCH_BACKEND or cpuid chooses")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    backend = options.backend or choose().backend
    if backend not in [name for name, _, _ in _kernel.backends()]:
        raise SystemExit(f"{backend} is no native backend that runs here")
    only_one_core()
    rows = [row for bits in MODULI for row in measure(backend, bits)]
    compilations = [row for bits in MODULI for row in compiled(backend, bits)]
    has_both = {"ifma", "ifma4"} <= {name for name, _, _ in _kernel.backends()}
    fours = [row for bits in MODULI for row in four_beside_eight(bits)] if has_both else []
    show(backend, rows, compilations, fours)
    if options.json:
        document = {
            "cpu": cpu(),
            "backend": backend,
            "rows": [asdict(row) for row in rows],
            "compilations": [asdict(row) for row in compilations],
            "four_beside_eight": [asdict(row) for row in fours],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")


def measure(backend: str, bits: int) -> Iterator[Row]:
    """Yield the rows of one size of N."""
    N = random_bits(bits) | 1 | Integer(1) << (bits - 1)
    native, reference, square = NativeRing(N, backend), ReferenceRing(N), N**2
    lanes, limbs = native.lanes, native.group_shape(1)[2]
    costs = Costs(limbs, halves=backend in ("ifma", "ifma4"), instruction_us=instruction_us(backend), lanes=lanes)
    x, y = power(Integer(2), random_below(square), square), random_below(square)  # x is a unit
    numbers = [random_below(square) for _ in range(lanes)]
    batch = [random_below(square) for _ in range(lanes * GROUPS)]
    a, b, out = native.enter(batch), native.enter(batch[::-1]), native.enter(batch)

    def row(operation: str, theirs: float, ours: float, bound_us: float) -> Row:
        return Row(operation, 2 * bits, 1e6 * theirs, 1e6 * ours / lanes, bound_us)

    theirs, ours = median(lambda: x * y % square, 1000), median(lambda: native.multiply(out, a, b), 50) / GROUPS
    yield row("multiply", theirs, ours, costs.multiply)
    theirs, ours = median(lambda: x * x % square, 1000), median(lambda: native.square(out, a), 50) / GROUPS
    yield row("square", theirs, ours, costs.square)
    for dimension in (128, 512):
        yield row(
            f"pack, D={dimension}, {EXPONENT_BITS}-bit exponents",
            median(reference_pack(reference, dimension, square), 1),
            median(program(native, dimension, square), 1),
            usual_length(dimension, EXPONENT_BITS) * costs.multiply,
        )

    exponent_bits = SUBGROUP_BITS[bits] + 1 + SLACK_BITS
    exponent = random_bits(exponent_bits) | Integer(1) << (exponent_bits - 1)
    windows = -(-8 * -(-exponent_bits // 8) // WINDOW_BITS)
    table = 1 << WINDOW_BITS
    yield row(
        f"conversion, {exponent_bits}-bit exponent",
        median(lambda: reference.powers_secret(numbers[:1], exponent), 1),
        median(lambda: native.powers_secret(numbers, exponent), 1),
        (windows + table // 2 - 1) * costs.multiply + ((windows - 1) * WINDOW_BITS + table // 2 - 1) * costs.square,
    )

    randomiser_bits = SUBGROUP_BITS[bits] + 1 + 128
    ours_base, their_base = native.fixed_base(x, randomiser_bits), reference.fixed_base(x, randomiser_bits)
    rows = ours_base.exponent_bits // DIGIT_BITS
    per_row = costs.constant if isinstance(ours_base, ConstantsFixedBase) else costs.multiply
    for batch in BATCHES:
        groups = batch / lanes if isinstance(ours_base, ConstantsFixedBase) else -(-batch // lanes)
        yield Row(
            f"encryption, batch of {batch}",
            2 * bits,
            1e6 * median(lambda: their_base.random_powers(8), 1) / 8,
            1e6 * median(lambda count=batch: ours_base.random_powers(count), 1) / batch,
            (rows - 1) * per_row * groups * lanes / batch,
        )


def compiled(backend: str, bits: int) -> Iterator[Compilation]:
    """Yield what a query costs once, beside what it costs a group."""
    native = NativeRing(random_bits(bits) | 1 | Integer(1) << (bits - 1), backend)
    for dimension in (128, 512):
        run, exponents = program(native, dimension, native.modulus**2), random_exponents(dimension)
        compile_s, program_s = in_turn(lambda given=exponents: compile_program(given, EXPONENT_BITS), run)
        yield Compilation(dimension, 2 * bits, 1e6 * compile_s, 1e6 * program_s)


def four_beside_eight(bits: int) -> Iterator[FourBesideEight]:
    """Yield groups of four on ifma4 beside groups of eight on ifma."""
    N = random_bits(bits) | 1 | Integer(1) << (bits - 1)
    rings = NativeRing(N, "ifma"), NativeRing(N, "ifma4")
    numbers = [random_below(N**2) for _ in range(8)]
    groups = [ring.enter(numbers[: ring.lanes]) for ring in rings]
    exponent = random_bits(SUBGROUP_BITS[bits] + 1 + SLACK_BITS)
    tables = [ring.fixed_base(numbers[0], SUBGROUP_BITS[bits] + 1 + 128) for ring in rings]

    def beside(operation: str, works: Sequence[Callable[[], object]]) -> FourBesideEight:
        eight_s, four_s = in_turn(*works)
        return FourBesideEight(operation, 2 * bits, 1e6 * eight_s, 1e6 * four_s)

    both = list(zip(rings, groups, strict=True))
    yield beside("50 products", [lambda r=r, x=x: repeated(50, lambda: r.multiply(x, x, x)) for r, x in both])
    yield beside("50 squares", [lambda r=r, x=x: repeated(50, lambda: r.square(x, x)) for r, x in both])
    yield beside("program, D=128", [program(ring, 128, N**2) for ring in rings])
    yield beside("conversion", [lambda r=r: r.powers_secret(numbers[: r.lanes], exponent) for r in rings])
    two = NativeRing(N, "ifma4", two="ifma4")
    yield beside("conversion of two", [lambda r=r: r.powers_secret(numbers[:2], exponent) for r in (rings[0], two)])
    both_tables = zip(rings, tables, strict=True)
    yield beside("encryption", [lambda r=r, table=table: table.random_powers(r.lanes) for r, table in both_tables])


def repeated(count: int, work: Callable[[], object]) -> None:
    """Do it so often."""
    for _ in range(count):
        work()


def random_exponents(count: int) -> list[int]:
    """Return exponents of a query."""
    return [secrets.randbits(EXPONENT_BITS) for _ in range(count)]


def program(ring: NativeRing, dimension: int, square: Integer) -> Callable[[], object]:
    """Return what runs a compiled query over one group of packs."""
    rows = ring.compress(ring.enter([random_below(square) for _ in range(dimension * ring.lanes)]))
    query = compile_program(random_exponents(dimension), EXPONENT_BITS)
    return lambda: ring.run(rows, ring.lanes, 0, query)


def reference_pack(ring: ReferenceRing, dimension: int, square: Integer) -> Callable[[], object]:
    """Return what does the same to one pack on gmpy2."""
    group, exponents = ring.pack_group(dimension), random_exponents(dimension)
    group.put(0, [random_below(square) for _ in range(dimension)])
    return lambda: group.products_of_powers(exponents, EXPONENT_BITS)


class Costs:
    """Multiply instructions in pair form, with one level of Karatsuba where there are lanes, as time for one number.

    constant: of a product by a constant of a table (constants.h).
    """

    def __init__(self, limbs: int, *, halves: bool, instruction_us: float, lanes: int) -> None:
        half, per_product = limbs // 2, 2 if halves else 1
        reductions = 2 * (limbs * limbs * per_product + (0 if halves else limbs))
        if lanes > 1:
            products = 9 * half * half * per_product
            squares = (3 * half * (half + 1) // 2 + 3 * half * half) * per_product
        else:
            products, squares = 3 * limbs * limbs, limbs * (limbs + 1) // 2 + limbs * limbs
        self.multiply = (products + reductions) * instruction_us / lanes
        self.square = (squares + reductions) * instruction_us / lanes
        self.constant = (3 * limbs * limbs + 5 * limbs) * instruction_us / lanes


def instruction_us(backend: str) -> float:
    """Return the time of one multiply instruction of this backend when it is all that the core does."""
    count = _kernel.saturate(backend, 1)
    return 1e6 * min(median(lambda: _kernel.saturate(backend, 100_000), 1) for _ in range(3)) / (100_000 * count)


def median(work: Callable[[], object], calls: int) -> float:
    """Return the median CPU time of one call in seconds, over repeats that take about two seconds or 30 runs."""
    work()
    times: list[float] = []
    while len(times) < 5 or (sum(times) < 2 and len(times) < 31):
        started = time.process_time()
        for _ in range(calls):
            work()
        times.append(time.process_time() - started)
    return sorted(times)[len(times) // 2] / calls


def in_turn(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Return the median CPU times of both in seconds, measured one after the other: what disturbs meets both."""
    works = (first, second)
    times: tuple[list[float], list[float]] = ([], [])
    repeated(2, lambda: [work() for work in works])
    while len(times[0]) < 5 or (sum(map(sum, times)) < 2 and len(times[0]) < 31):
        for work, taken in zip(works, times, strict=True):
            started = time.process_time()
            work()
            taken.append(time.process_time() - started)
    return sorted(times[0])[len(times[0]) // 2], sorted(times[1])[len(times[1]) // 2]


def show(backend: str, rows: list[Row], compilations: list[Compilation], fours: list[FourBesideEight]) -> None:
    """Print the tables."""
    table = Table(title=f"{backend} on one core of {cpu()}, microseconds for one number")
    for column in ("operation", "bits of N^2", "gmpy2", "native", "bound", "faster than gmpy2", "of the bound"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for row in rows:
        table.add_row(
            row.operation,
            str(row.modulus_bits),
            f"{row.gmpy2_us:,.2f}",
            f"{row.native_us:,.3f}",
            f"{row.bound_us:,.3f}",
            f"{row.gmpy2_us / row.native_us:.2f}",
            f"{row.native_us / row.bound_us:.2f}",
        )
    console = Console(width=120)
    console.print(table)
    once = Table(title="A query: compiled once, run over every group, microseconds")
    for column in ("D", "bits of N^2", "compilation", "program, a group", "compilation / program"):
        once.add_column(column, justify="right")
    for compilation in compilations:
        once.add_row(
            str(compilation.dimension),
            str(compilation.modulus_bits),
            f"{compilation.compile_us:,.0f}",
            f"{compilation.program_us:,.0f}",
            f"{compilation.compile_us / compilation.program_us:.2f}",
        )
    console.print(once)
    if fours:
        beside = Table(title="Four numbers on ifma4 beside eight on ifma, microseconds for all of them")
        for column in ("operation", "bits of N^2", "eight", "four", "four / eight"):
            beside.add_column(column, justify="left" if column == "operation" else "right")
        for four in fours:
            ratio = f"{four.four_us / four.eight_us:.2f}"
            of_eight, of_four = f"{four.eight_us:,.0f}", f"{four.four_us:,.0f}"
            beside.add_row(four.operation, str(four.modulus_bits), of_eight, of_four, ratio)
        console.print(beside)


if __name__ == "__main__":
    main()
