"""Threshold Paillier with a short secret exponent: the public key and the scheme of it.

Encryption is c = (1 + mN) * hs^r mod N^2 with r uniform of |o| + 128 bits (Ma et al., ACSAC 2021);
a key holder's part of a decryption-free share conversion is g = c^(o_*) and its logarithm
(Orlandi, Scholl, Yakoubov, EUROCRYPT 2021, section 4). docs/protocol.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from veilmatch.crypto.arithmetic import (
    Integer,
    from_bytes,
    gcd,
    invert,
    invert_many,
    invert_many_secret,
    is_prime,
    is_square,
    power,
    primorial,
    product_mod,
    to_bytes,
)
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import CiphertextError, KeyFileError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings.choice import make_ring
from veilmatch.crypto.rings.fixed_base import ROUNDING_BITS, KnownPower
from veilmatch.crypto.rings.grid import Grid
from veilmatch.crypto.rings.ring import FixedBase, PackGroup, Ring

#: Statistical distance 2^-128 of a short randomiser from a uniform element of the subgroup.
STATISTICAL_BITS = 128
#: Size of the challenges of a proof of knowledge: who does not know a plaintext is believed with 2^-128.
CHALLENGE_BITS = 128
_SMALL_FACTOR_BOUND = 1 << 20
#: So many quotients are as fast on gmpy2 as in groups on the kernel, which invert a product for each lane.
_WORTH_GROUPS = 16


@dataclass(frozen=True)
class PublicKey:
    """N and hs of a key ceremony. modulus N: exactly parameters.modulus_bits bits; hs: element of Z*_(N^2).

    `validate` is called on every key that comes from a file or a peer.
    """

    parameters: ParameterSet
    modulus: Integer
    hs: Integer

    @cached_property
    def key_id(self) -> bytes:
        """16 bytes that name this key: SHA-256 over parameter set, N and hs, cut."""
        size = self.parameters.ciphertext_bytes
        parts = (self.parameters.name.encode(), to_bytes(self.modulus, size), to_bytes(self.hs, size))
        return hashlib.sha256(b"veilmatch public key v1\0" + b"\0".join(parts)).digest()[:16]

    @property
    def subgroup_order_bits(self) -> int:
        """|o|, the size of the order 2pq of hs."""
        return self.parameters.subgroup_bits + 1

    @property
    def randomiser_bits(self) -> int:
        """Size of r: |o| + 128."""
        return self.subgroup_order_bits + STATISTICAL_BITS

    @property
    def commitment_bits(self) -> int:
        """Size of u in a proof of knowledge: 128 bits more than the sum of challenges * randomisers that it hides."""
        count = self.parameters.lane_ciphertexts
        return self.randomiser_bits + ROUNDING_BITS + CHALLENGE_BITS + (count - 1).bit_length() + STATISTICAL_BITS

    def validate(self) -> PublicKey:
        """Return self if N and hs can be a public key. Raises KeyFileError saying what is wrong.

        N: the right size, odd, not prime, not a square, no factor under 2^20; hs: a unit mod N^2, and neither
        1 nor -1 mod N or a factor of it. With hs = 1 or -1 mod N a ciphertext would show its plaintext.
        """
        N, hs, bits = self.modulus, self.hs, self.parameters.modulus_bits
        # Sizes first: everything after them takes long for a long number.
        _require(N > 0 and N.bit_length() == bits, "modulus", f"exactly {bits} bits")
        _require(1 < hs < N * N, "base", "1 < hs < N^2, a unit")
        _require(N % 2 == 1, "modulus", "odd")
        _require(gcd(N, primorial(_SMALL_FACTOR_BOUND)) == 1, "modulus", "no factor under 2^20")
        _require(not is_square(N), "modulus", "not a square")
        _require(not is_prime(N, 30), "modulus", "a composite number")
        _require(gcd(hs, N) == 1, "base", "1 < hs < N^2, a unit")
        _require(gcd(hs * hs - 1, N) == 1, "base", "gcd(hs^2 - 1, N) = 1")
        return self


def _require(holds: bool, what: str, expected: str) -> None:
    if not holds:
        raise KeyFileError(f"the {what} of the public key is unsound", expected=expected)


class Paillier:
    """The scheme of one public key. Builds its fixed-base table (at most 0.3 s at 3072 bits) on first encryption.

    Threads may share an instance. Raises ConfigurationError if VEILMATCH_BACKEND names a backend that does not run.
    """

    def __init__(self, public_key: PublicKey) -> None:
        self.public_key = public_key
        self.parameters = public_key.parameters
        self.modulus = public_key.modulus
        self.ring: Ring = make_ring(public_key.modulus)
        self._square = public_key.modulus**2
        self._square_bytes = to_bytes(self._square, self.parameters.ciphertext_bytes)

    @cached_property
    def _table(self) -> FixedBase:
        return self.ring.fixed_base(self.public_key.hs, self.public_key.randomiser_bits)

    @cached_property
    def _upper_table(self) -> FixedBase:
        """Goes on where `_table` ends: of hs^(2^exponent_bits), for what exponents of commitments are longer."""
        covered = self._table.exponent_bits
        base = power(self.public_key.hs, Integer(1) << covered, self._square)
        return self.ring.fixed_base(base, self.public_key.commitment_bits - covered)

    def encrypt(self, m: Integer) -> Integer:
        """Return (1 + mN) * hs^r mod N^2 with fresh r; m is taken mod N."""
        return self.encrypt_many([m])[0]

    def encrypt_many(self, ms: Sequence[Integer]) -> list[Integer]:
        """Return what `encrypt` returns for each."""
        return [self.encode(m) * zero % self._square for m, zero in zip(ms, self.encrypt_zeros(len(ms)), strict=True)]

    def encrypt_zeros(self, count: int) -> list[Integer]:
        """Return hs^r mod N^2 for `count` fresh r."""
        return self._table.random_powers(count)

    def known_zeros(self, count: int) -> list[KnownPower]:
        """Return what `encrypt_zeros` returns, each with its r, which is below 2^(randomiser_bits + 8)."""
        return self._table.known_powers(count)

    def commit(self, low: KnownPower | None = None) -> KnownPower:
        """Return hs^u mod N^2 and u, fresh and uniform in an interval of at least 2^commitment_bits.

        u is below 2^(commitment_bits + 8). low: one of `known_zeros` that was used for nothing and will not be, for the
        lower digits of u; made together with others it costs next to nothing. The first call builds a table (at most
        0.1 s at 3072 bits).
        """
        if low is None:
            (low,) = self.known_zeros(1)
        (high,) = self._upper_table.known_powers(1)
        exponent = low.exponent + (high.exponent << self._table.exponent_bits)
        return KnownPower(self.multiply(low.value, high.value), exponent)

    def encode(self, m: Integer) -> Integer:
        """Return 1 + mN mod N^2."""
        return 1 + m % self.modulus * self.modulus

    def multiply(self, c: Integer, d: Integer) -> Integer:
        """Return c*d mod N^2."""
        return c * d % self._square

    def divide(self, c: Integer, d: Integer) -> Integer:
        """Return c * d^-1 mod N^2."""
        return c * invert(d, self._square) % self._square

    def divide_many(self, cs: Sequence[Integer], ds: Sequence[Integer]) -> list[Integer]:
        """Return c * d^-1 mod N^2 for each c and d, by one inversion for all."""
        inverses = invert_many(ds, self._square)
        return [c * inverse % self._square for c, inverse in zip(cs, inverses, strict=True)]

    def quotients(self, cs: Sequence[bytes], ds: Sequence[bytes], factor: Integer) -> list[bytes]:
        """Return factor * c * d^-1 for each c and d, all serialised; factor: in [0, N^2).

        Raises CiphertextError for any c or d that `parse` refuses.
        """
        if len(cs) != len(ds):
            raise CiphertextError("ciphertexts to be divided by others", got=len(ds), expected=len(cs))
        if len(cs) <= _WORTH_GROUPS:
            return [self.serialise(self.multiply(c, factor)) for c in self.divide_many(*map(self.parse_many, (cs, ds)))]
        for data in (*cs, *ds):
            self._require_in_range(data)
        try:
            joined = self.ring.quotients(b"".join(cs), b"".join(ds), factor)
        except ZeroDivisionError:
            raise _no_unit() from None
        size = self.parameters.ciphertext_bytes
        return [joined[at : at + size] for at in range(0, len(joined), size)]

    def product_of_powers(self, pack: Sequence[Integer], exponents: Sequence[int], exponent_bits: int) -> Integer:
        """Return prod pack[i]^exponents[i] mod N^2. For many packs and queries use `pack_group`."""
        group = self.ring.pack_group(len(pack))
        group.put(0, pack)
        return group.products(self.ring.compile(exponents, exponent_bits), [0])[0]

    def pack_group(self) -> PackGroup:
        """Return room for `ring.lanes` packs."""
        return self.ring.pack_group(self.parameters.dimension)

    def randomised_products(self, asked: Sequence[tuple[PackGroup, Sequence[int]]], compiled: bytes) -> bytes:
        """Return the products of these lanes of groups, each times a fresh encryption of 0: serialised, joined.

        compiled: the exponents, by `ring.compile`.
        """
        return self.ring.randomised_products(asked, compiled, self._table)

    def products_times(self, asked: Sequence[tuple[PackGroup, Sequence[int]]], compiled: bytes, zeros: bytes) -> bytes:
        """Return what `randomised_products` returns with these encryptions of 0, serialised and joined, one for each.

        They have to be fresh: of `encrypt_zeros`, each used this once.
        """
        return self.ring.products_times(asked, compiled, zeros)

    def combine(self, ciphertexts: Sequence[Integer], exponents: Grid) -> Integer:
        """Return prod ciphertexts[i]^exponents[i] mod N^2 for public exponents. Not constant time."""
        return self.ring.grid_product(ciphertexts, exponents)

    def combine_many(self, asked: Sequence[tuple[Sequence[Integer], Grid]]) -> list[Integer]:
        """Return `combine` of each. Those of a single row fill groups of lanes together."""
        bases, weights = list[Integer](), list[Integer]()
        for ciphertexts, grid in asked:
            if self._fills_lanes(grid):
                bases += ciphertexts
                weights += map(Integer, grid)
        powers = iter(self.ring.powers_secret_each(bases, weights))
        return [
            product_mod(islice(powers, len(grid)), self._square)
            if self._fills_lanes(grid)
            else self.combine(ciphertexts, grid)
            for ciphertexts, grid in asked
        ]

    def _fills_lanes(self, grid: Grid) -> bool:
        return self.ring.lanes > 1 and grid.rows == (1,) and 0 not in grid.columns

    def local_shares(self, ciphertexts: Sequence[Integer], exponent: Integer) -> list[LocalShare]:
        """Return z = floor(g/N) * (g mod N)^-1 mod N and g mod N, for g = c^exponent mod N^2, of every c.

        exponent: secret, of a fixed length (PairShare.exponent). For the two holders of a pair,
        z_plus - z_minus = o*m mod N; the map from c to one z alone is not a homomorphism.
        """
        return self._shares_of(self.ring.powers_secret(ciphertexts, exponent))

    def local_shares_each(self, ciphertexts: Sequence[Integer], exponents: Sequence[Integer]) -> list[LocalShare]:
        """Return what `local_shares` returns for each c under an exponent of its own; all are of one fixed length."""
        return self._shares_of(self.ring.powers_secret_each(ciphertexts, exponents))

    def _shares_of(self, powers: Sequence[Integer]) -> list[LocalShare]:
        N = self.modulus
        parts = [divmod(g, N) for g in powers]
        inverses = invert_many_secret([remainder for _, remainder in parts], N)
        return [LocalShare(q * inverse % N, r) for (q, r), inverse in zip(parts, inverses, strict=True)]

    def parse(self, data: bytes) -> Integer:
        """Return c of exactly ciphertext_bytes bytes with 0 < c < N^2, gcd(c, N) = 1. Raises CiphertextError."""
        return self.parse_many([data])[0]

    def parse_many(self, data: Sequence[bytes]) -> list[Integer]:
        """Return what `parse` returns for each. One gcd of their product serves for all."""
        for d in data:
            self._require_in_range(d)
        ciphertexts = list(map(from_bytes, data))
        if gcd(product_mod(ciphertexts, self.modulus), self.modulus) != 1:
            raise _no_unit()
        return ciphertexts

    def serialise(self, c: Integer) -> bytes:
        """Return c, big-endian, in exactly ciphertext_bytes bytes."""
        return to_bytes(c, self.parameters.ciphertext_bytes)

    def _require_in_range(self, data: bytes) -> None:
        if len(data) != self.parameters.ciphertext_bytes:
            raise CiphertextError(
                "ciphertext of the wrong length",
                got=f"{len(data)} bytes",
                expected=f"{self.parameters.ciphertext_bytes} bytes",
            )
        # Big-endian, of one length: the order of bytes is that of numbers.
        if data == bytes(len(data)):
            raise CiphertextError("ciphertext is zero", expected="0 < c < N^2")
        if data >= self._square_bytes:
            raise CiphertextError("ciphertext is not reduced", expected="0 < c < N^2")


def _no_unit() -> CiphertextError:
    return CiphertextError("a ciphertext shares a factor with N", expected="gcd(c, N) = 1")
