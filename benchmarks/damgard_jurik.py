"""Whether plaintexts mod N^2 would win anything: Damgard-Jurik with s = 2 beside Paillier (s = 1), under one N.

    python benchmarks/damgard_jurik.py              (about a minute)
    python benchmarks/damgard_jurik.py --json PATH  writes the figures as well

A prototype of what a search and a verification compute with ciphertexts, on gmpy2, both in the form that the kernels
have: a number mod N^(s+1) is s + 1 digits to the base N. Twice the plaintext holds a little more than twice the lanes,
as no headroom is needed twice. Both have the same security: they stand on the same N and the same assumption (Damgard
and Jurik, PKC 2001, section 3), and the exponent that takes the randomiser away is as long. For each it checks that
products of packed ciphertexts decrypt to the scores, takes the CPU time of a product and of a square, and counts how
many of either an identity needs: a program of products at each matcher, and one power at each key holder. The kernel's
own form cannot be timed without writing it; what stands for it is the count of its products of digits.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import gmpy2
import numpy as np
from machine import cpu
from rich.console import Console
from rich.table import Table

from veilmatch.crypto.parameters import HEADROOM_BITS, ParameterSet
from veilmatch.crypto.rings.programs import usual_length

Digits = tuple[gmpy2.mpz, ...]

#: Of a power at a key holder: one product to so many squares, with windows of five bits.
WINDOW_BITS = 5
#: Length of its exponent beyond the order of the subgroup, see crypto/keys/shares.py.
MASKING_BITS = 144
TIMES, REPEATS = 400, 9


class Ring:
    """Integers mod N^(s+1) as s + 1 digits to the base N."""

    def __init__(self, n: gmpy2.mpz, s: int) -> None:
        self.n, self.s, self.modulus = n, s, n ** (s + 1)

    def split(self, x: gmpy2.mpz) -> Digits:
        """Return the digits of a number, the lowest first."""
        digits = []
        for _ in range(self.s + 1):
            x, digit = gmpy2.f_divmod(x, self.n)
            digits.append(digit)
        return tuple(digits)

    def join(self, x: Digits) -> gmpy2.mpz:
        """Return the number of some digits."""
        return sum((digit * self.n**i for i, digit in enumerate(x)), gmpy2.mpz(0))

    def _carried(self, columns: Sequence[gmpy2.mpz]) -> Digits:
        digits, carry = [], gmpy2.mpz(0)
        for column in columns[:-1]:
            carry, digit = gmpy2.f_divmod(column + carry, self.n)
            digits.append(digit)
        return (*digits, (columns[-1] + carry) % self.n)

    def multiply(self, x: Digits, y: Digits) -> Digits:
        """Return x*y: 3 products of digits and 2 divisions for s = 1, 6 and 3 for s = 2."""
        if self.s == 1:
            return self._carried((x[0] * y[0], x[0] * y[1] + x[1] * y[0]))
        return self._carried((x[0] * y[0], x[0] * y[1] + x[1] * y[0], x[0] * y[2] + x[1] * y[1] + x[2] * y[0]))

    def square(self, x: Digits) -> Digits:
        """Return x*x: 1 product and 1 square of digits for s = 1, 2 and 2 for s = 2."""
        if self.s == 1:
            return self._carried((gmpy2.square(x[0]), 2 * x[0] * x[1]))
        return self._carried((gmpy2.square(x[0]), 2 * x[0] * x[1], 2 * x[0] * x[2] + gmpy2.square(x[1])))


@dataclass(frozen=True)
class Cost:
    """Of one s. Times in microseconds; search and verification: CPU of all parties, an identity and a vector."""

    s: int
    slots_a_pack: int
    ciphertexts_a_vector: int
    product_us: float
    square_us: float
    search_us: float
    verification_us: float
    storage_bytes: float


def check(n: gmpy2.mpz, lam: gmpy2.mpz, s: int, parameters: ParameterSet) -> None:
    """Assert that a full pack of random small vectors, multiplied for a probe, decrypts to the inner products."""
    ring, bits, dimension = Ring(n, s), parameters.slot_bits, 4
    slots = slots_of(parameters, s)
    rng = np.random.default_rng(secrets.randbits(64))
    vectors, probe = rng.integers(0, 2**8, (slots, dimension)), rng.integers(1, 2**8, dimension)
    product = ring.split(gmpy2.mpz(1))
    for coordinate in range(dimension):
        plain = sum((gmpy2.mpz(int(v)) << (bits * slot) for slot, v in enumerate(vectors[:, coordinate])), gmpy2.mpz(0))
        noise = gmpy2.powmod(secrets.randbelow(int(n)), n**s, ring.modulus)
        ciphertext = ring.split(gmpy2.powmod(1 + n, plain, ring.modulus) * noise % ring.modulus)
        for _ in range(int(probe[coordinate])):
            product = ring.multiply(product, ciphertext)
    opened = decrypted(ring, product, lam)
    scores = [int(opened >> (bits * slot)) % (1 << bits) for slot in range(slots)]
    assert scores == (vectors @ probe).tolist(), "scores of the prototype are wrong"


def decrypted(ring: Ring, ciphertext: Digits, lam: gmpy2.mpz) -> gmpy2.mpz:
    """Return the plaintext mod N^s; lam: a multiple of the order of the randomisers, prime to N."""
    n, u = ring.n, gmpy2.powmod(ring.join(ciphertext), lam, ring.modulus)
    log = gmpy2.mpz(0)
    for j in range(1, ring.s + 1):  # Damgard and Jurik, section 3: the logarithm mod N, then mod N^2
        upper = (u % n ** (j + 1) - 1) // n % n**j
        log = (upper - (log * (log - 1) // 2 * n if j == 2 else 0)) % n**j
    return log * gmpy2.invert(lam, n**ring.s) % n**ring.s


def slots_of(parameters: ParameterSet, s: int) -> int:
    """Return how many scores a ciphertext holds."""
    return (s * parameters.modulus_bits - 1 - HEADROOM_BITS) // parameters.slot_bits


def cost(n: gmpy2.mpz, s: int, parameters: ParameterSet) -> Cost:
    """Return what one s costs, measured and counted."""
    ring = Ring(n, s)
    x, y = (ring.split(gmpy2.mpz(secrets.randbelow(int(ring.modulus)))) for _ in range(2))
    product_us = timed(lambda: ring.multiply(x, y))
    square_us = timed(lambda: ring.square(x))
    slots = slots_of(parameters, s)
    lanes = (s * parameters.modulus_bits - 1 - HEADROOM_BITS) // parameters.lane_bits
    vector = -(-parameters.dimension // lanes)
    exponent = parameters.subgroup_bits + 128 + MASKING_BITS
    power_us = exponent * square_us + exponent / WINDOW_BITS * product_us
    products = usual_length(parameters.dimension, parameters.ring_bits)
    return Cost(
        s=s,
        slots_a_pack=slots,
        ciphertexts_a_vector=vector,
        product_us=product_us,
        square_us=square_us,
        search_us=2 * (products * product_us + power_us) / slots,
        verification_us=2 * vector * power_us,
        storage_bytes=parameters.dimension * (s + 1) * parameters.modulus_bits / 8 / slots,
    )


def timed(do: Any) -> float:
    """Return microseconds of CPU time, the median over repeats."""
    found = []
    for _ in range(REPEATS):
        began = time.process_time()
        for _ in range(TIMES):
            do()
        found.append((time.process_time() - began) / TIMES * 1e6)
    return median(found)


def key(bits: int) -> tuple[gmpy2.mpz, gmpy2.mpz]:
    """Return a fresh N and the lambda of its factors."""
    p, q = (gmpy2.next_prime(gmpy2.mpz(secrets.randbits(bits // 2) | 3 << (bits // 2 - 2))) for _ in range(2))
    return p * q, gmpy2.lcm(p - 1, q - 1)


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="d128-s126-c38-l46-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    parameters = ParameterSet.from_name(options.parameters)
    n, lam = key(parameters.modulus_bits)
    for s in (1, 2):
        check(n, lam, s, parameters)
    costs = [cost(n, s, parameters) for s in (1, 2)]
    show(costs, options.parameters)
    if options.json:
        figures = {"cpu": cpu(), "parameter_set": options.parameters, "costs": [asdict(one) for one in costs]}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def show(costs: list[Cost], name: str) -> None:
    """Print both side by side."""
    one, two = costs
    table = Table("figure", "s = 1", "s = 2", "ratio", title=f"{name}, gmpy2, {cpu()}")
    for field, label in (
        ("slots_a_pack", "scores in a ciphertext"),
        ("ciphertexts_a_vector", "ciphertexts of a vector"),
        ("product_us", "a product, us"),
        ("square_us", "a square, us"),
        ("search_us", "arithmetic of a search, us an identity"),
        ("verification_us", "powers of a vector at both key holders, us"),
        ("storage_bytes", "packs, bytes an identity"),
    ):
        left, right = getattr(one, field), getattr(two, field)
        table.add_row(label, f"{left:.4g}", f"{right:.4g}", f"{right / left:.2f}")
    # Products of digits, a reduction counting as one and a square as half of one: pair_form.h, and the same for three.
    table.add_row(
        "the kernel's product, in products of digits",
        "5",
        "9",
        f"{9 / 5 * one.slots_a_pack / two.slots_a_pack:.2f} a score",
    )
    table.add_row("its square", "3.5", "6", f"{6 / 3.5 * one.slots_a_pack / two.slots_a_pack:.2f} a score")
    Console().print(table)


if __name__ == "__main__":
    main()
