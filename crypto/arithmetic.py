"""Big integers: the only module that calls gmpy2.

Everything above works on `Integer` with these functions and Python's operators. The batches of
operations mod N^2 that dominate the time of a query go through `rings`, which has a faster backend.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import gmpy2
from gmpy2 import mpz

#: An arbitrary-precision integer of the backend. It behaves as an int does, and is typed as one.
if TYPE_CHECKING:
    Integer = int
else:
    Integer = mpz


#: What gmpy2 has before the bytes of a positive mpz, which are little-endian: a third of the time of a way by int.
_POSITIVE = b"\x01\x01"


def from_bytes(data: bytes) -> Integer:
    """Return the non-negative integer that `data` holds, big-endian."""
    return mpz(int.from_bytes(data, "big"))


def to_bytes(x: Integer, length: int) -> bytes:
    """Return x in exactly `length` bytes, big-endian. Raises OverflowError if 0 <= x < 256^length does not hold."""
    return x.to_bytes(length, "big")


def from_little_endian(data: bytes) -> Integer:
    """Return the non-negative integer that `data` holds, little-endian."""
    return gmpy2.from_binary(_POSITIVE + data)


def to_little_endian(x: Integer, length: int) -> bytes:
    """Return x in exactly `length` bytes, little-endian. Raises OverflowError if 0 <= x < 256^length does not hold."""
    return x.to_bytes(length, "little")


def random_bits(bits: int) -> Integer:
    """Return a uniform integer of [0, 2^bits) from the operating system's generator."""
    return mpz(secrets.randbits(bits))


def random_below(bound: Integer) -> Integer:
    """Return a uniform integer of [0, bound) from the operating system's generator."""
    return mpz(secrets.randbelow(int(bound)))


def invert(x: Integer, modulus: Integer) -> Integer:
    """Return x^-1 mod modulus. Raises ZeroDivisionError if gcd(x, modulus) != 1. Not constant time."""
    return gmpy2.invert(x, modulus)


def invert_secret(x: Integer, modulus: Integer) -> Integer:
    """Return x^-1 mod modulus of a secret x: the inversion sees only u*x for a fresh uniform u."""
    blind = 1 + random_below(modulus - 1)
    return blind * gmpy2.invert(blind * x % modulus, modulus) % modulus


def invert_many(xs: Sequence[Integer], modulus: Integer) -> list[Integer]:
    """Return x^-1 mod modulus of every x, by one inversion of their product (Montgomery, 1987). Raises as `invert`."""
    return _invert_all(xs, modulus, invert)


def invert_many_secret(xs: Sequence[Integer], modulus: Integer) -> list[Integer]:
    """Return what `invert_many` returns for secret x; the inversion is that of `invert_secret`."""
    return _invert_all(xs, modulus, invert_secret)


def _invert_all(
    xs: Sequence[Integer], modulus: Integer, invert_one: Callable[[Integer, Integer], Integer]
) -> list[Integer]:
    products = [Integer(1)]
    for x in xs:
        products.append(products[-1] * x % modulus)
    inverse, inverses = invert_one(products[-1], modulus), []
    for x, product in zip(reversed(xs), reversed(products[:-1]), strict=True):
        inverses.append(inverse * product % modulus)
        inverse = inverse * x % modulus
    return inverses[::-1]


def gcd(x: Integer, y: Integer) -> Integer:
    """Return the greatest common divisor."""
    return gmpy2.gcd(x, y)


def jacobi(x: Integer, n: Integer) -> int:
    """Return the Jacobi symbol (x/n) for odd n > 0."""
    return gmpy2.jacobi(x, n)


def is_prime(x: Integer, rounds: int = 64) -> bool:
    """Return whether x is prime, by `rounds` Miller-Rabin rounds (error at most 4^-rounds)."""
    return gmpy2.is_prime(x, rounds)


def is_power(x: Integer) -> bool:
    """Return whether x is y^k for whole y and k > 1."""
    return bool(gmpy2.is_power(x))


def is_square(x: Integer) -> bool:
    """Return whether x is a perfect square."""
    return gmpy2.is_square(x)


def power(base: Integer, exponent: Integer, modulus: Integer) -> Integer:
    """Return base^exponent mod modulus for a public exponent. Not constant time."""
    return gmpy2.powmod(base, exponent, modulus)


def power_secret(bases: Sequence[Integer], exponent: Integer, modulus: Integer) -> list[Integer]:
    """Return base^exponent mod modulus for every base, in constant time for exponents of one length.

    exponent: positive and secret; callers pass exponents of a fixed bit length, because the time of
    GMP's mpz_powm_sec depends on the number of limbs and on nothing else. modulus: odd.
    """
    return [gmpy2.powmod_sec(base, exponent, modulus) for base in bases]


def product_mod(factors: Iterable[Integer], modulus: Integer) -> Integer:
    """Return the product of the factors mod modulus (1 for none)."""
    product = mpz(1)
    for factor in factors:
        product = product * factor % modulus
    return product


def primes_below(bound: int) -> list[int]:
    """Return the odd primes below `bound`, by the sieve of Eratosthenes."""
    sieve = bytearray([1]) * (bound // 2)
    for i in range(3, int(bound**0.5) + 1, 2):
        if sieve[i // 2]:
            sieve[i * i // 2 :: i] = bytes(len(sieve[i * i // 2 :: i]))
    return [2 * i + 1 for i in range(1, bound // 2) if sieve[i]]


@cache
def primorial(bound: int) -> Integer:
    """Return the product of all primes up to `bound`. It is kept, for each key asks for that of 2^20."""
    return gmpy2.primorial(bound)
