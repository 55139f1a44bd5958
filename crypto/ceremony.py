"""The key ceremony: a trusted dealer makes N, splits its secret between three pairs and forgets it.

DESIGN.md section 2. The factors live in local variables of `run_ceremony` and are never returned,
stored or logged; whoever runs the ceremony sees the key once and is trusted not to keep it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import (
    Integer,
    gcd,
    invert,
    jacobi,
    power,
    random_below,
    random_bits,
)
from veilmatch.crypto.conversion import Triple, open_masked, output_share
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys import PAIRS, PARTIES, SEED_BYTES, KeyHolderKey, Pair, PairShare, pairs_of
from veilmatch.crypto.paillier import STATISTICAL_BITS, Paillier, PublicKey
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.primes import SpecialPrime, special_prime
from veilmatch.crypto.secret_access import SECRET_ACCESS, SecretHolder


@dataclass(frozen=True, repr=False)
class Ceremony(SecretHolder):
    """What a ceremony leaves: the public key, and one key per key holder in the order a, b, c."""

    public_key: PublicKey
    keys: tuple[KeyHolderKey, KeyHolderKey, KeyHolderKey]


def run_ceremony(parameters: ParameterSet, progress: Callable[[str], None] = lambda step: None) -> Ceremony:
    """Make a fresh key for `parameters` and its shares; every check of DESIGN.md section 2 is done.

    progress: told the name of each step. Takes 5 to 20 s at 3072 bits on one core. Raises IntegrityError
    if a check fails, which only a fault of the machine can cause.
    """
    progress("first prime")
    P = special_prime(parameters.modulus_bits // 2, parameters.subgroup_bits // 2)
    progress("second prime")
    Q = special_prime(parameters.modulus_bits // 2, parameters.subgroup_bits // 2)
    while not _independent(P, Q, parameters.modulus_bits):
        Q = special_prime(parameters.modulus_bits // 2, parameters.subgroup_bits // 2)
    progress("subgroup")
    N = P.prime * Q.prime
    o = 2 * P.factor * Q.factor
    h = _generator(N, P, Q)
    public_key = PublicKey(parameters, N, power(h, N, N * N))
    _check_key(public_key, h, o)
    progress("shares")
    shares = {pair: _split(pair, o, invert(o, N), public_key) for pair in PAIRS}
    keys = []
    for party in PARTIES:
        first, second = (next(s for s in shares[pair] if s.party == party) for pair in pairs_of(party))
        seeds = secrets.token_bytes(SEED_BYTES), secrets.token_bytes(SEED_BYTES)
        keys.append(KeyHolderKey(party, public_key.key_id, 1, (first, second), *seeds))
    progress("test conversions")
    for pair in PAIRS:
        _check_conversions(public_key, *shares[pair])
    return Ceremony(public_key, (keys[0], keys[1], keys[2]))


def _independent(P: SpecialPrime, Q: SpecialPrime, modulus_bits: int) -> bool:
    """P and Q share no factor of P-1 and Q-1 but 2, and are not close to each other."""
    distinct = len({P.factor, Q.factor, P.cofactor, Q.cofactor, P.prime, Q.prime}) == 6
    far = abs(P.prime - Q.prime).bit_length() > modulus_bits // 2 - 100
    return distinct and far and gcd(P.prime - 1, Q.prime - 1) == 2


def _generator(N: Integer, P: SpecialPrime, Q: SpecialPrime) -> Integer:
    """h = -y^(2P'Q') mod N of order 2pq; y is drawn again in the 2^-|p| case of a smaller order."""
    while True:
        y = 2 + random_below(N - 3)
        h = -power(y, 2 * P.cofactor * Q.cofactor, N) % N
        if gcd(h * h - 1, N) == 1:
            return h


def _check_key(public_key: PublicKey, h: Integer, o: Integer) -> None:
    N = public_key.modulus
    public_key.validate()
    checks = {
        "gcd(N, o) = 1": gcd(N, o) == 1,
        "h^alpha = -1 mod N": power(h, o // 2, N) == N - 1,
        "gcd(h^2 - 1, N) = 1": gcd(h * h - 1, N) == 1,
        "hs^o = 1 mod N^2": power(public_key.hs, o, N * N) == 1,
        "(h/N) = 1": jacobi(h, N) == 1,
        "|o| = |p| + |q| + 1": o.bit_length() == public_key.subgroup_order_bits,
    }
    for name, holds in checks.items():
        if not holds:
            raise IntegrityError("the new key fails a check", expected=name)


def _split(pair: Pair, o: Integer, kappa: Integer, public_key: PublicKey) -> tuple[PairShare, PairShare]:
    """Shares of o over the integers and of kappa mod N, drawn for this pair alone."""
    o_minus = random_bits(public_key.subgroup_order_bits + STATISTICAL_BITS)
    kappa_minus = random_below(public_key.modulus)
    plus, minus = (next(p for p in PARTIES if p == letter) for letter in pair)
    return (
        PairShare(pair, plus, o + o_minus, (kappa + kappa_minus) % public_key.modulus),
        PairShare(pair, minus, o_minus, kappa_minus),
    )


def _check_conversions(public_key: PublicKey, plus: PairShare, minus: PairShare) -> None:
    """The pair converts 0, N-1 and a random plaintext."""
    N, scheme = public_key.modulus, Paillier(public_key)
    hs_randomiser = random_bits(public_key.randomiser_bits)
    for m in (Integer(0), N - 1, random_below(N)):
        c = scheme.multiply(scheme.encode(m), power(public_key.hs, hs_randomiser, N * N))
        local = [scheme.local_shares([c], s.exponent(public_key, SECRET_ACCESS))[0] for s in (plus, minus)]
        triples = _test_triples(N)
        openings = [
            open_masked(x.z, s.kappa(SECRET_ACCESS), t, N)
            for x, s, t in zip(local, (plus, minus), triples, strict=True)
        ]
        w_plus = output_share(triples[0], openings[0], openings[1], N, is_plus=True)
        w_minus = output_share(triples[1], openings[1], openings[0], N, is_plus=False)
        if local[0].fingerprint != local[1].fingerprint or (w_plus - w_minus) % N != m:
            raise IntegrityError("a pair of key shares does not convert", got=plus.pair)


def _test_triples(N: Integer) -> tuple[Triple, Triple]:
    minus = Triple(*(random_below(N) for _ in range(3)))
    a, b = random_below(N), random_below(N)
    return Triple((a + minus.a) % N, (b + minus.b) % N, (a * b + minus.ab) % N), minus
