"""The key-safety check: no holder of a pair can convert with altered values unnoticed.

A holder that adds an error to what it opens in a conversion gets a share of m * (1 + error * o): with a device
that reads answers it would recover o, the key (tests/attacks/test_key_extraction.py). So each holder proves to the
other, once a session and for all conversions together, that it opened d = z - a and e = kappa - b of its true z,
a, kappa and b. In the direction in which v verifies q:

- the ceremony gives v a Gamma of 128 bits, and shares t with t_plus - t_minus = Gamma * o (keys.SafetyShare);
- the dealer gives q tags of its a and b, tag = key + Gamma * x mod N, and v their keys (dealing/tags.py); the
  ceremony does so for q's kappa;
- after everything was opened, both draw weights rho and sigma of 64 bits for every conversion.

With L the logarithm of `Scheme.local_shares` and c* = prod c^rho, both L(c*^t_plus) - L(c*^t_minus) and
Gamma * sum rho (z_plus - z_minus) are Gamma * o * sum rho m, for either v. Written for v and q, with z_q = d_q + a_q
and kappa_q = e_q + b_q, that is the equation between what q has on the left and what v has on the right (mod N):

    L(c*^t_q) - sum (rho tag(a) + sigma tag(b)) + sum sigma tag(kappa)
        = L(c*^t_v) - sum (rho key(a) + sigma key(b)) + sum sigma key(kappa) + Gamma * sum (rho (d_q - z_v) + sigma e_q)

q sends the left side. L alone is not multiplicative: everything is written in differences of the two holders.

Errors D and E of d and e need a left side that is off by Gamma * sum (rho D + sigma E). The sum is 0 with probability
2^-64, as the errors were fixed before the weights; otherwise q would have to guess Gamma, 2^-128. If q is honest, v
could have computed what it gets. q learns whether it was accepted and nothing else.

Small exponents test: Bellare, Garay, Rabin, EUROCRYPT '98. Tags: Bendlin, Damgard, Orlandi, Zakarias, EUROCRYPT
2011. DESIGN.md section 9.
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
from veilmatch.crypto.secret_access import SECRET_ACCESS, SecretHolder

WEIGHT_BYTES = 8


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
    """rho and sigma of one conversion, in [0, 2^64); known to both holders once they are drawn."""

    rho: int
    sigma: int


def session_nonce(coins: bytes) -> bytes:
    """Return the commitment to 32 secret random bytes that a holder sends as its nonce, long before it shows them."""
    return digest("session nonce", coins)


def draw_weights(session_id: bytes, plus_coins: bytes, minus_coins: bytes, count: int) -> list[Weights]:
    """Return the weights of `count` conversions from the coins of both holders.

    Uniform for whoever was bound to its own coins and to its openings before it saw the other's coins.
    """
    seed = digest("key safety weights", session_id, plus_coins, minus_coins)
    data = hashlib.shake_256(seed).digest(2 * WEIGHT_BYTES * count)
    numbers = [int.from_bytes(data[i : i + WEIGHT_BYTES], "big") for i in range(0, len(data), WEIGHT_BYTES)]
    return [Weights(rho, sigma) for rho, sigma in zip(numbers[0::2], numbers[1::2], strict=True)]


def combination(conversions: Sequence[Conversion], weights: Sequence[Weights]) -> tuple[list[Integer], list[int]]:
    """Return bases and exponents of c* = prod c^rho: a ciphertext that was converted twice appears once."""
    exponents: dict[Integer, int] = {}
    for conversion, weight in zip(conversions, weights, strict=True):
        exponents[conversion.c] = exponents.get(conversion.c, 0) + weight.rho
    return list(exponents), list(exponents.values())


def proof(
    conversions: Sequence[Conversion], weights: Sequence[Weights], z: Integer, share: SafetyShare, modulus: Integer
) -> bytes:
    """Return the left side of the equation, of modulus length. z: L(c*^t) for this holder's t as prover."""
    tags = sum(w.rho * x.triple.tag_a + w.sigma * x.triple.tag_b for x, w in zip(conversions, weights, strict=True))
    left = z - tags + sum(w.sigma for w in weights) * share.kappa_tag(SECRET_ACCESS)
    return _residue(left, modulus)


def expected_proof(
    conversions: Sequence[Conversion], weights: Sequence[Weights], z: Integer, share: SafetyShare, modulus: Integer
) -> bytes:
    """Return the right side of the equation, of modulus length. z: L(c*^t) for this holder's t as verifier."""
    opened = keys = Integer(0)
    for x, w in zip(conversions, weights, strict=True):
        opened += w.rho * (x.theirs.d - x.z) + w.sigma * x.theirs.e
        keys += w.rho * x.triple.key_a + w.sigma * x.triple.key_b
    right = z - keys + sum(w.sigma for w in weights) * share.kappa_key(SECRET_ACCESS)
    return _residue(right + share.gamma(SECRET_ACCESS) * (opened % modulus), modulus)


def proofs_agree(received: bytes, expected: bytes) -> bool:
    """Return whether two proofs are equal, in time that does not depend on where they differ."""
    return hmac.compare_digest(received, expected)


def _residue(x: Integer, modulus: Integer) -> bytes:
    return to_bytes(x % modulus, (modulus.bit_length() + 7) // 8)
