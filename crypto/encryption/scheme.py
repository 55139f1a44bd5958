"""What the protocol needs of an additively homomorphic threshold scheme.

Two schemes fit: `paillier.Paillier`, the real one, and `standin.StandIn`, which hides nothing and
runs every protocol test first. A ciphertext is an `Integer` `c`: an element of Z*_(N^2) for
Paillier. Multiplying ciphertexts adds plaintexts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings.grid import Grid
from veilmatch.crypto.secret_access import SecretHolder


@dataclass(frozen=True, repr=False)
class LocalShare(SecretHolder):
    """One holder's part of a share conversion.

    z: additive share of o*m mod N, secret. fingerprint: g mod N, equal at both holders if and
    only if the ciphertext is well-formed and both shares are of one epoch; compared only as a hash.
    """

    z: Integer
    fingerprint: Integer


class Scheme(Protocol):
    """An additively homomorphic scheme whose secret key is split between pairs of key holders."""

    @property
    def parameters(self) -> ParameterSet:
        """The parameter set."""

    @property
    def modulus(self) -> Integer:
        """N: plaintexts are residues mod N."""

    def encrypt(self, m: Integer) -> Integer:
        """Return a fresh encryption of m mod N."""

    def encrypt_many(self, ms: Sequence[Integer]) -> list[Integer]:
        """Return what `encrypt` returns for each, faster."""

    def encrypt_zeros(self, count: int) -> list[Integer]:
        """Return fresh encryptions of 0, by which ciphertexts are multiplied to re-randomise them."""

    def encode(self, m: Integer) -> Integer:
        """Return the ciphertext of m without randomness: a public constant."""

    def multiply(self, c: Integer, d: Integer) -> Integer:
        """Return the ciphertext of the sum of the plaintexts of c and d."""

    def divide(self, c: Integer, d: Integer) -> Integer:
        """Return the ciphertext of the difference of the plaintexts of c and d."""

    def product_of_powers(self, pack: Sequence[Integer], exponents: Sequence[int], exponent_bits: int) -> Integer:
        """Return prod pack[i]^exponents[i], not re-randomised; 0 <= exponents[i] < 2^exponent_bits."""

    def combine(self, ciphertexts: Sequence[Integer], exponents: Grid) -> Integer:
        """Return prod ciphertexts[i]^exponents[i] for public exponents: not constant time, not re-randomised."""

    def local_shares(self, ciphertexts: Sequence[Integer], exponent: Integer) -> list[LocalShare]:
        """Return this holder's shares of every ciphertext; constant time in the secret exponent."""

    def parse(self, data: bytes) -> Integer:
        """Return the ciphertext that `data` holds. Raises CiphertextError for anything else."""

    def parse_many(self, data: Sequence[bytes]) -> list[Integer]:
        """Return what `parse` returns for each, faster."""

    def serialise(self, c: Integer) -> bytes:
        """Return c in exactly `parameters.ciphertext_bytes` bytes."""
