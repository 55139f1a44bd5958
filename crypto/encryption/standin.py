"""A stand-in scheme that hides nothing: every protocol test runs on it first.

A ciphertext is m + N*rho in Z_(N^2) with addition as the group operation. rho plays the part of a
randomiser outside the subgroup: it is 0 for everything made here, and a ciphertext with rho != 0
gives the two holders different fingerprints, as a malformed Paillier ciphertext does.
"""

from __future__ import annotations

from collections.abc import Sequence

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import CiphertextError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings.grid import Grid


class StandIn:
    """The stand-in over any odd modulus of the right size. Never secure: for tests."""

    def __init__(self, parameters: ParameterSet, modulus: Integer) -> None:
        self.parameters = parameters
        self.modulus = modulus
        self._square = modulus**2

    def encrypt(self, m: Integer) -> Integer:
        """Return m mod N."""
        return self.encode(m)

    def encrypt_many(self, ms: Sequence[Integer]) -> list[Integer]:
        """Return every m mod N."""
        return [self.encode(m) for m in ms]

    def encrypt_zeros(self, count: int) -> list[Integer]:
        """Return zeros."""
        return [Integer(0)] * count

    def encode(self, m: Integer) -> Integer:
        """Return m mod N."""
        return m % self.modulus

    def multiply(self, c: Integer, d: Integer) -> Integer:
        """Return c + d, its parts mod N."""
        return self._join(c % self.modulus + d % self.modulus, c // self.modulus + d // self.modulus)

    def divide(self, c: Integer, d: Integer) -> Integer:
        """Return c - d, its parts mod N."""
        return self._join(c % self.modulus - d % self.modulus, c // self.modulus - d // self.modulus)

    def product_of_powers(self, pack: Sequence[Integer], exponents: Sequence[int], exponent_bits: int) -> Integer:
        """Return sum exponents[i] * pack[i], its parts mod N."""
        N = self.modulus
        terms = list(zip(pack, exponents, strict=True))
        return self._join(Integer(sum((c % N) * e for c, e in terms)), Integer(sum((c // N) * e for c, e in terms)))

    def combine(self, ciphertexts: Sequence[Integer], exponents: Grid) -> Integer:
        """Return sum exponents[i] * ciphertexts[i], its parts mod N."""
        return self.product_of_powers(ciphertexts, exponents, 0)

    def local_shares(self, ciphertexts: Sequence[Integer], exponent: Integer) -> list[LocalShare]:
        """Return z = exponent * m mod N and the fingerprint exponent * rho mod N."""
        N = self.modulus
        return [LocalShare(exponent * (c % N) % N, exponent * (c // N) % N) for c in ciphertexts]

    def parse(self, data: bytes) -> Integer:
        """Return c of exactly ciphertext_bytes bytes, 0 <= c < N^2. Raises CiphertextError."""
        c = from_bytes(data)
        if len(data) != self.parameters.ciphertext_bytes or c >= self._square:
            raise CiphertextError("not a stand-in ciphertext", expected="0 <= c < N^2")
        return c

    def parse_many(self, data: Sequence[bytes]) -> list[Integer]:
        """Return what `parse` returns for each."""
        return [self.parse(d) for d in data]

    def serialise(self, c: Integer) -> bytes:
        """Return c in exactly ciphertext_bytes bytes."""
        return to_bytes(c, self.parameters.ciphertext_bytes)

    def _join(self, m: Integer, rho: Integer) -> Integer:
        return m % self.modulus + rho % self.modulus * self.modulus
