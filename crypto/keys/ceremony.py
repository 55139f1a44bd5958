"""The key ceremony: a trusted dealer makes N, splits its secret between three pairs and forgets it.

docs/protocol.md. The factors live in local variables of `run_ceremony` and are never returned,
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
from veilmatch.crypto.encryption.paillier import STATISTICAL_BITS, Paillier, PublicKey
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, dealer_of, pairs_of
from veilmatch.crypto.keys.shares import GAMMA_BITS, SEED_BYTES, DealerGammas, KeyHolderKey, PairShare, SafetyShare
from veilmatch.crypto.pair.conversion import Triple, open_masked, output_share
from veilmatch.crypto.pair.key_safety import (
    Conversion,
    TaggedTriple,
    combination,
    draw_weights,
    expected_proof,
    proof,
    tagged,
)
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings.primes import SpecialPrime, special_prime
from veilmatch.crypto.secret_access import SECRET_ACCESS, SecretHolder


@dataclass(frozen=True, repr=False)
class Ceremony(SecretHolder):
    """What a ceremony leaves: the public key, and one key per key holder in the order a, b, c."""

    public_key: PublicKey
    keys: tuple[KeyHolderKey, KeyHolderKey, KeyHolderKey]


def run_ceremony(parameters: ParameterSet, progress: Callable[[str], None] = lambda step: None) -> Ceremony:
    """Make a fresh key for `parameters` and its shares; every check that the scheme needs is done.

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
    safety = {pair: split_safety(shares[pair], o, N) for pair in PAIRS}
    keys = []
    for party in PARTIES:
        first, second = (next(s for s in shares[pair] if s.party == party) for pair in pairs_of(party))
        checks = [next(s for s in safety[pair][0] if s.party == party) for pair in pairs_of(party)]
        gammas = next(safety[pair][1] for pair in PAIRS if dealer_of(pair) == party)
        seeds = secrets.token_bytes(SEED_BYTES), secrets.token_bytes(SEED_BYTES)
        keys.append(KeyHolderKey(party, public_key.key_id, 1, (first, second), (checks[0], checks[1]), gammas, *seeds))
    progress("test conversions")
    for pair in PAIRS:
        _check_conversions(public_key, shares[pair], *safety[pair])
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


def split_safety(
    shares: tuple[PairShare, PairShare], o: Integer, modulus: Integer
) -> tuple[tuple[SafetyShare, SafetyShare], DealerGammas]:
    """Return both holders' parts of the key-safety check of one pair, and what its dealer has of it.

    shares: of the plus and the minus holder. Everything is drawn for this pair alone.
    """
    plus, minus = shares
    gammas = [random_bits(GAMMA_BITS) for _ in shares]  # by verifier, like all of these
    t_minus = [random_bits(o.bit_length() + GAMMA_BITS + STATISTICAL_BITS) for _ in shares]
    t_plus = [gamma * o + t for gamma, t in zip(gammas, t_minus, strict=True)]
    keys = [random_below(modulus) for _ in shares]
    tags = [
        (key + gamma * prover.kappa(SECRET_ACCESS)) % modulus
        for key, gamma, prover in zip(keys, gammas, (minus, plus), strict=True)
    ]
    return (
        SafetyShare(plus.pair, plus.party, gammas[0], t_plus[0], keys[0], t_plus[1], tags[1]),
        SafetyShare(minus.pair, minus.party, gammas[1], t_minus[1], keys[1], t_minus[0], tags[0]),
    ), DealerGammas(gammas[0], gammas[1])


def _check_conversions(
    public_key: PublicKey,
    shares: tuple[PairShare, PairShare],
    safety: tuple[SafetyShare, SafetyShare],
    gammas: DealerGammas,
) -> None:
    """The pair converts 0, N-1 and a random plaintext, and each holder proves to the other that it did it right."""
    N, scheme = public_key.modulus, Paillier(public_key)
    hs_randomiser = random_bits(public_key.randomiser_bits)
    plus, minus = shares
    converted: tuple[list[Conversion], list[Conversion]] = ([], [])
    for m in (Integer(0), N - 1, random_below(N)):
        c = scheme.multiply(scheme.encode(m), power(public_key.hs, hs_randomiser, N * N))
        local = [scheme.local_shares([c], s.exponent(public_key, SECRET_ACCESS))[0] for s in shares]
        triples = _test_triples(N, gammas)
        openings = [
            open_masked(x.z, s.kappa(SECRET_ACCESS), t, N) for x, s, t in zip(local, shares, triples, strict=True)
        ]
        w_plus = output_share(triples[0], openings[0], openings[1], N, is_plus=True)
        w_minus = output_share(triples[1], openings[1], openings[0], N, is_plus=False)
        if local[0].fingerprint != local[1].fingerprint or (w_plus - w_minus) % N != m:
            raise IntegrityError("a pair of key shares does not convert", got=plus.pair)
        for mine, x, triple, theirs in zip(converted, local, triples, reversed(openings), strict=True):
            mine.append(Conversion(c, x.z, triple, theirs))
    weights = draw_weights(b"ceremony", secrets.token_bytes(32), b"", len(converted[0]))
    c_star = [scheme.combine(*combination(converted[0], weights))]
    for verifier, prover in ((0, 1), (1, 0)):
        t_verifying, _ = safety[verifier].exponents(public_key, SECRET_ACCESS)
        _, t_proving = safety[prover].exponents(public_key, SECRET_ACCESS)
        (verifying,), (proving,) = (scheme.local_shares(c_star, t) for t in (t_verifying, t_proving))
        made = proof(converted[prover], weights, proving.z, safety[prover], N)
        if made != expected_proof(converted[verifier], weights, verifying.z, safety[verifier], N):
            raise IntegrityError("a pair of key shares fails the key-safety check", got=minus.pair)


def _test_triples(N: Integer, gammas: DealerGammas) -> tuple[TaggedTriple, TaggedTriple]:
    a, b = random_below(N), random_below(N)
    minus = Triple(*(random_below(N) for _ in range(3)))
    plus = Triple((a + minus.a) % N, (b + minus.b) % N, (a * b + minus.ab) % N)
    return tagged(plus, minus, gammas, N)
