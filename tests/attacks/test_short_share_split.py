"""A split with a short share and sk1 + sk2 = 1 mod N, as published: the holder of sk2 decrypts alone."""

from __future__ import annotations

import gmpy2
import pytest

from tests.attacks.tools import decrypt_with, secrets_of
from tests.crypto.toys import TOY
from tests.simulator import Keys
from veilmatch.crypto.arithmetic import Integer, random_below, random_bits
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.keys.ceremony import run_ceremony
from veilmatch.crypto.keys.parties import PAIRS, PARTIES
from veilmatch.crypto.keys.shares import exponent_bits
from veilmatch.crypto.secret_access import SECRET_ACCESS


def published_split(keys: Keys) -> tuple[Integer, Integer]:
    """sk1 short, sk1 + sk2 = 0 mod o and 1 mod N: the bad split."""
    o, kappa = secrets_of(keys)
    sk1 = random_bits(TOY.subgroup_bits + 129)
    return sk1, o * kappa - sk1


def decrypts_alone(sk2: Integer, c: Integer, N: Integer) -> Integer | None:
    """The attack of the holder of sk2: sk1 = (1 - sk2) mod N."""
    sk1 = (1 - sk2) % N
    x = gmpy2.powmod(c, sk1, N * N) * gmpy2.powmod(c, sk2, N * N) % (N * N)
    return (x - 1) // N if x % N == 1 else None


def test_holder_of_the_long_share_of_the_published_split_decrypts_alone(paillier: Keys) -> None:
    N = paillier.scheme.modulus
    _, sk2 = published_split(paillier)
    for m in (Integer(0), Integer(1), N - 1, random_below(N)):
        assert decrypts_alone(sk2, paillier.scheme.encrypt(m), N) == m


def test_no_holder_of_our_shares_decrypts_alone() -> None:
    ceremony = run_ceremony(TOY)
    key, scheme = ceremony.public_key, Paillier(ceremony.public_key)
    N, m = key.modulus, Integer(123456789)
    c = scheme.encrypt(m)
    for party, holder in zip(PARTIES, ceremony.keys, strict=True):
        for pair in (p for p in PAIRS if party in p):
            share = holder.share(pair)
            exponent, kappa = share.exponent(key, SECRET_ACCESS), share.kappa(SECRET_ACCESS)
            bare = exponent - (Integer(1) << (exponent_bits(key) - 1))
            for known in (
                exponent,
                bare,
                kappa,
                exponent * kappa,
                bare * kappa,
                1 - exponent * kappa,
                1 - bare * kappa,
            ):
                assert decrypts_alone(known, c, N) is None
                assert decrypt_with(known, c, N) is None


@pytest.mark.parametrize("pair", PAIRS)
def test_shares_of_our_split_satisfy_no_public_relation(pair: str) -> None:
    ceremony = run_ceremony(TOY)
    N = ceremony.public_key.modulus
    shares = [ceremony.keys[PARTIES.index(p)].share(pair) for p in pair]  # type: ignore[arg-type]
    exponents = [share.exponent(ceremony.public_key, SECRET_ACCESS) for share in shares]
    kappas = [share.kappa(SECRET_ACCESS) for share in shares]
    for values in (exponents, kappas):
        x, y = values
        assert not {(x + y) % N, (x - y) % N, x * y % N} & {Integer(0), Integer(1), N - 1}
    assert all(e.bit_length() == exponent_bits(ceremony.public_key) for e in exponents), "neither share is short"
