"""The key-safety check: no holder of a pair can convert with altered values unnoticed.

A holder that adds an error to what it opens in a conversion gets a share of m * (1 + error * o): with a device
that reads answers it would recover o, the key (tests/attacks/test_key_extraction.py). So each holder proves to the
other, once a session and for all conversions together, that it opened d = z - a and e = kappa - b of its true z,
a, kappa and b. In the direction in which v verifies q:

- the ceremony gives v a Gamma of 128 bits, and shares t with t_plus - t_minus = Gamma * o (keys.SafetyShare);
- the dealer gives q tags of its a and b, tag = key + Gamma * x mod N, and v their keys (dealing/tags.py); the
  ceremony does so for q's kappa;
- after everything was opened, both draw weights: sigma of 64 bits for every conversion, and rho of the conversion in
  row r and column l of a grid of eight columns, a_r * b_l, with a_0 = 1 and the other a and b of 64 bits.

With L the logarithm of `Scheme.local_shares` and c* = prod c^rho, both L(c*^t_plus) - L(c*^t_minus) and
Gamma * sum rho (z_plus - z_minus) are Gamma * o * sum rho m, for either v. Written for v and q, with z_q = d_q + a_q
and kappa_q = e_q + b_q, that is the equation between what q has on the left and what v has on the right (mod N):

    L(c*^t_q) - sum (rho tag(a) + sigma tag(b)) + sum sigma tag(kappa)
        = L(c*^t_v) - sum (rho key(a) + sigma key(b)) + sum sigma key(kappa) + Gamma * sum (rho (d_q - z_v) + sigma e_q)

q sends the left side. L alone is not multiplicative: everything is written in differences of the two holders.

Errors D and E of d and e need a left side that is off by Gamma * sum (rho D + sigma E). The sum is 0 with probability
2^-63 at most, as the errors were fixed before the weights; otherwise q would have to guess Gamma, 2^-128. If q is
honest, v could have computed what it gets. q learns whether it was accepted and nothing else.

*The 2^-63.* Seen as a polynomial in the a, b and sigma that are drawn, the sum has a monomial of its own for every D
(b_l in the first row, a_r * b_l below it) and for every E (sigma). If an error is not 0 mod N, it is not 0 modulo one
of the two prime factors, say P, and this is not the zero polynomial mod P. It has degree 2, and its variables are
independent and uniform in 2^64 values that differ mod P: it vanishes mod P with probability 2 / 2^64 at most (Schwartz,
Zippel), and only then can it vanish mod N. In a single row the degree is 1: 2^-64. What rows and columns are for is the
price of c* (rings/grid.py).

Small exponents test: Bellare, Garay, Rabin, EUROCRYPT '98. Tags: Bendlin, Damgard, Orlandi, Zakarias, EUROCRYPT
2011. docs/security-argument.md.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer, random_below, to_bytes
from veilmatch.crypto.digests import digest
from veilmatch.crypto.keys.shares import DealerGammas, SafetyShare
from veilmatch.crypto.pair.conversion import Opening, Triple
from veilmatch.crypto.rings.grid import WEIGHT_BYTES, WIDTH, Grid, rows_of
from veilmatch.crypto.secret_access import SECRET_ACCESS, SecretHolder


@dataclass(frozen=True, slots=True, repr=False)
class TaggedTriple(Triple):
    """A triple whose a and b are authenticated: this holder's tags of its own, and its keys of the other's, mod N."""

    tag_a: Integer
    tag_b: Integer
    key_a: Integer
    key_b: Integer


def tagged(plus: Triple, minus: Triple, gammas: DealerGammas, modulus: Integer) -> tuple[TaggedTriple, TaggedTriple]:
    """Return one triple of both holders with tags and fresh random keys, for keys that are being tested."""
    keys = [[random_below(modulus) for _ in range(2)] for _ in range(2)]  # by verifier, like tags
    tags = []
    for of_verifier, prover, is_plus in zip(keys, (minus, plus), (True, False), strict=True):
        gamma = gammas.of_verifier(is_plus=is_plus, access=SECRET_ACCESS)
        tags.append([(key + gamma * x) % modulus for key, x in zip(of_verifier, (prover.a, prover.b), strict=True)])
    return (
        TaggedTriple(plus.a, plus.b, plus.ab, *tags[1], *keys[0]),
        TaggedTriple(minus.a, minus.b, minus.ab, *tags[0], *keys[1]),
    )


@dataclass(frozen=True, slots=True, repr=False)
class Conversion(SecretHolder):
    """What one holder knows of one conversion of one ciphertext: its z and triple, and what the other opened."""

    c: Integer
    z: Integer
    triple: TaggedTriple
    theirs: Opening


@dataclass(frozen=True, slots=True)
class Weights:
    """rho and sigma of every conversion, in order; known to both holders once they are drawn.

    rho: in [0, 2^128), a grid; sigma: in [0, 2^64).
    """

    rho: Grid
    sigma: tuple[int, ...]


def session_nonce(coins: bytes) -> bytes:
    """Return the commitment to 32 secret random bytes that a holder sends as its nonce, long before it shows them."""
    return digest("session nonce", coins)


def draw_weights(session_id: bytes, plus_coins: bytes, minus_coins: bytes, count: int) -> Weights:
    """Return the weights of `count` conversions, at least one, from the coins of both holders.

    Uniform for whoever was bound to its own coins and to its openings before it saw the other's coins.
    """
    seed = digest("key safety weights", session_id, plus_coins, minus_coins)
    rows = rows_of(count)
    data = hashlib.shake_256(seed).digest(WEIGHT_BYTES * (WIDTH + rows - 1 + count))
    drawn = [int.from_bytes(data[i : i + WEIGHT_BYTES], "big") for i in range(0, len(data), WEIGHT_BYTES)]
    columns, others, sigma = drawn[:WIDTH], drawn[WIDTH : WIDTH + rows - 1], drawn[WIDTH + rows - 1 :]
    return Weights(Grid((1, *others), tuple(columns), count), tuple(sigma))


def combination(conversions: Sequence[Conversion], weights: Weights) -> tuple[list[Integer], Grid]:
    """Return bases and exponents of c* = prod c^rho."""
    return [conversion.c for conversion in conversions], weights.rho


def proof(
    conversions: Sequence[Conversion], weights: Weights, z: Integer, share: SafetyShare, modulus: Integer
) -> bytes:
    """Return the left side of the equation, of modulus length. z: L(c*^t) for this holder's t as prover."""
    tags = Integer(0)
    for x, rho, sigma in zip(conversions, weights.rho, weights.sigma, strict=True):
        tags += rho * x.triple.tag_a + sigma * x.triple.tag_b
    return _residue(z - tags + sum(weights.sigma) * share.kappa_tag(SECRET_ACCESS), modulus)


def expected_proof(
    conversions: Sequence[Conversion], weights: Weights, z: Integer, share: SafetyShare, modulus: Integer
) -> bytes:
    """Return the right side of the equation, of modulus length. z: L(c*^t) for this holder's t as verifier."""
    opened = keys = Integer(0)
    for x, rho, sigma in zip(conversions, weights.rho, weights.sigma, strict=True):
        opened += rho * (x.theirs.d - x.z) + sigma * x.theirs.e
        keys += rho * x.triple.key_a + sigma * x.triple.key_b
    right = z - keys + sum(weights.sigma) * share.kappa_key(SECRET_ACCESS)
    return _residue(right + share.gamma(SECRET_ACCESS) * (opened % modulus), modulus)


def proofs_agree(received: bytes, expected: bytes) -> bool:
    """Return whether two proofs are equal, in time that does not depend on where they differ."""
    return hmac.compare_digest(received, expected)


def _residue(x: Integer, modulus: Integer) -> bytes:
    return to_bytes(x % modulus, (modulus.bit_length() + 7) // 8)
