"""Primes and the key ceremony: structure of the key, and that each check of it can fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import gmpy2
import numpy as np
import pytest

from tests.crypto.toys import TOY, split_toy_key, toy_key, toy_primes, toy_public_key
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys import ceremony as module
from veilmatch.crypto.keys.ceremony import Ceremony, run_ceremony
from veilmatch.crypto.keys.parties import PAIRS, PARTIES
from veilmatch.crypto.keys.shares import PairShare
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings.primes import SpecialPrime, _survivors, random_prime, special_prime
from veilmatch.crypto.secret_access import SECRET_ACCESS

TOYS = [TOY, ParameterSet(12, 8, 3, 768), ParameterSet(12, 8, 3, 1024)]


@pytest.mark.parametrize(("bits", "factor_bits"), [(256, 64), (384, 96), (512, 160)])
def test_special_prime_has_its_structure(bits: int, factor_bits: int) -> None:
    for _ in range(3):
        made = special_prime(bits, factor_bits)
        P, p, cofactor = made.prime, made.factor, made.cofactor
        assert 2 * p * cofactor + 1 == P and P % 4 == 3 and p != cofactor
        assert all(gmpy2.is_strong_bpsw_prp(x) for x in (P, p, cofactor))
        assert P >> (bits - 2) == 3 and p >> (factor_bits - 2) == 3, "the two top bits are set, and none above"
        assert format(P, "x") not in repr(made) and str(p) not in repr(made)


def test_products_of_two_special_primes_have_exactly_twice_the_bits() -> None:
    smallest = Integer(3) << 254
    assert (smallest * smallest).bit_length() == 512
    primes = [special_prime(256, 64).prime for _ in range(4)]
    assert {(x * y).bit_length() for x, y in combinations(primes, 2)} == {512}


@pytest.mark.parametrize("bits", [8, 64, 160])
def test_random_prime_has_exactly_its_bits(bits: int) -> None:
    for _ in range(5):
        p = random_prime(bits)
        assert gmpy2.is_prime(p) and p >> (bits - 2) == 3


def test_sieve_strikes_out_multiples_of_small_primes_and_nothing_else() -> None:
    p = random_prime(64)
    start = (Integer(3) << 189) + 1
    alive = _survivors(start, p)
    dead = np.setdiff1d(np.arange(20_000), alive)
    primorial = gmpy2.primorial(1 << 17) // 2

    def has_small_factor(i: int) -> bool:
        x = start + 2 * int(i)
        return gmpy2.gcd(x * (2 * p * x + 1), primorial) != 1

    assert len(alive) and not any(has_small_factor(i) for i in alive[:300])
    assert all(has_small_factor(i) for i in dead[:: len(dead) // 300])


# -- what a ceremony leaves -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=TOYS, ids=lambda p: p.name)
def made(request: pytest.FixtureRequest) -> Ceremony:
    return run_ceremony(request.param)


def order_of(made: Ceremony, pair: str) -> Integer:
    """o, which no party of an installation can compute."""
    plus, minus = (made.keys[PARTIES.index(p)].share(pair) for p in pair)  # type: ignore[arg-type]
    return plus.exponent(made.public_key, SECRET_ACCESS) - minus.exponent(made.public_key, SECRET_ACCESS)


def test_all_pairs_share_one_order_of_the_right_size(made: Ceremony) -> None:
    key = made.public_key
    o = {int(order_of(made, pair)) for pair in PAIRS}.pop()
    assert all(order_of(made, pair) == o for pair in PAIRS)
    assert o.bit_length() == key.parameters.subgroup_bits + 1
    assert key.modulus.bit_length() == key.parameters.modulus_bits
    assert gmpy2.powmod(key.hs, o, key.modulus**2) == 1 != gmpy2.powmod(key.hs, o // 2, key.modulus**2)
    for pair in PAIRS:
        kappas = [made.keys[PARTIES.index(p)].share(pair).kappa(SECRET_ACCESS) for p in pair]
        assert (kappas[0] - kappas[1]) * o % key.modulus == 1


def test_order_is_twice_a_product_of_two_primes_that_divide_the_order_mod_n(made: Ceremony) -> None:
    N, o = made.public_key.modulus, order_of(made, "ab")
    assert o % 2 == 0 and o % 4 == 2 and gmpy2.gcd(N, o) == 1
    # hs generates a group whose square part has order alpha: no small factor besides 2.
    assert gmpy2.gcd(o // 2, gmpy2.primorial(1 << 20)) == 1


def test_shares_of_different_pairs_and_seeds_are_drawn_independently(made: Ceremony) -> None:
    exponents = [
        int(key.share(pair).exponent(made.public_key, SECRET_ACCESS)) for key in made.keys for pair in PAIRS
        if key.party in pair
    ]  # fmt: skip
    seeds = [seed for key in made.keys for seed in (key.dealing_seed(SECRET_ACCESS), key.storage_seed(SECRET_ACCESS))]
    assert len(set(exponents)) == 6 and len(set(seeds)) == 6 and {len(seed) for seed in seeds} == {32}
    masks = [e - (1 << made.public_key.randomiser_bits + 16) for e in exponents]
    assert max(m.bit_length() for m in masks) <= made.public_key.randomiser_bits + 1
    assert min(m.bit_length() for m in masks) > made.public_key.randomiser_bits - 40, "uniform, not short"


def test_keys_come_in_the_order_of_the_parties_and_name_their_key(made: Ceremony) -> None:
    assert [key.party for key in made.keys] == list(PARTIES)
    assert {key.key_id for key in made.keys} == {made.public_key.key_id} and {key.epoch for key in made.keys} == {1}


def test_progress_names_every_step_in_order() -> None:
    steps: list[str] = []
    run_ceremony(TOY, steps.append)
    assert steps == ["first prime", "second prime", "subgroup", "shares", "test conversions"]


# -- each check can fail ----------------------------------------------------------------------------------


def test_second_prime_is_drawn_again_if_it_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    P, Q = toy_primes()
    drawn: Iterator[SpecialPrime] = iter([P, P, P, Q])
    monkeypatch.setattr(module, "special_prime", lambda bits, factor_bits: next(drawn))
    assert run_ceremony(TOY).public_key.modulus == P.prime * Q.prime
    assert next(drawn, None) is None


def test_primes_that_depend_on_each_other_are_not_taken() -> None:
    P, Q = toy_primes()
    assert module._independent(P, Q, 512)
    assert not module._independent(P, replace(Q, factor=P.factor), 512)
    assert not module._independent(P, replace(Q, factor=P.cofactor), 512)
    assert not module._independent(P, replace(Q, prime=P.prime + (Q.prime - P.prime) % P.factor), 512)
    assert not module._independent(P, replace(Q, prime=P.prime + 4), 512), "too close"
    shared = Integer(2 * 3 * 5)
    assert not module._independent(
        replace(P, prime=shared * Q.prime + 1), replace(Q, prime=shared * P.prime + 1), 512
    ), "P-1 and Q-1 share more than 2"


def test_generator_that_would_factor_the_modulus_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    P, Q = toy_primes()
    N = P.prime * Q.prime
    bad = P.prime + 1  # 1 mod P, so h = -1 mod P, and gcd(h^2 - 1, N) = P
    drawn = iter([bad - 2, Integer(toy_key(512).y) - 2])
    monkeypatch.setattr(module, "random_below", lambda bound: next(drawn))
    h = module._generator(N, P, Q)
    assert next(drawn, None) is None and h == toy_key(512).h


def broken_keys() -> list[tuple[str, PublicKey, Integer, Integer]]:
    key, public_key = toy_key(512), toy_public_key(TOY)
    N, h, o = Integer(key.N), Integer(key.h), Integer(key.o)

    def with_base(g: Integer) -> PublicKey:
        return replace(public_key, hs=gmpy2.powmod(g, N, N * N))

    return [
        ("gcd(N, o) = 1", public_key, h, Integer(2 * key.P)),
        ("h^alpha = -1 mod N", with_base(h * h % N), h * h % N, o),
        ("h^alpha = -1 mod N", public_key, h, o + 2),
        ("h^alpha = -1 mod N", with_base(N - h), N - h, o),
        ("gcd(h^2 - 1, N) = 1", public_key, N - 1, o),
        ("gcd(hs^2 - 1, N) = 1", with_base(N - 1), N - 1, o),
        ("hs^o = 1 mod N^2", replace(public_key, hs=public_key.hs + N), h, o),
        ("hs^o = 1 mod N^2", replace(public_key, hs=public_key.hs * (1 + N) % (N * N)), h, o),
        ("|o| = |p| + |q| + 1", public_key, h, 3 * o),
        ("exactly 512 bits", replace(public_key, modulus=N >> 1 | 1), h, o),
    ]


@pytest.mark.parametrize(("expected", "public_key", "h", "o"), broken_keys())
def test_key_with_one_broken_property_fails_its_check(
    expected: str, public_key: PublicKey, h: Integer, o: Integer
) -> None:
    with pytest.raises(IntegrityError) as raised:
        module._check_key(public_key, h, o)
    assert raised.value.expected == expected


def test_sound_key_passes_every_check() -> None:
    module._check_key(toy_public_key(TOY), Integer(toy_key(512).h), Integer(toy_key(512).o))


@pytest.mark.parametrize("change", ["exponent", "kappa", "another pair"])
def test_pair_that_does_not_convert_is_noticed(change: str) -> None:
    public_key = toy_public_key(TOY)
    plus, minus = split_toy_key(public_key)
    safety, gammas = module.split_safety((plus, minus), Integer(toy_key(512).o), public_key.modulus)
    module._check_conversions(public_key, (plus, minus), safety, gammas)
    exponent, kappa = minus._exponent, minus._kappa
    broken = {
        "exponent": PairShare("ab", "b", exponent + 1, kappa),
        "kappa": PairShare("ab", "b", exponent, (kappa + 1) % public_key.modulus),
        "another pair": split_toy_key(public_key)[1],
    }[change]
    with pytest.raises(IntegrityError):
        module._check_conversions(public_key, (plus, broken), safety, gammas)


@pytest.mark.parametrize("holder", [0, 1])
@pytest.mark.parametrize("part", ["_gamma", "_verifying", "_kappa_key", "_proving", "_kappa_tag"])
def test_pair_that_cannot_prove_to_each_other_is_noticed(holder: int, part: str) -> None:
    public_key = toy_public_key(TOY)
    shares = split_toy_key(public_key)
    safety, gammas = module.split_safety(shares, Integer(toy_key(512).o), public_key.modulus)
    broken = list(safety)
    broken[holder] = replace(safety[holder], **{part: getattr(safety[holder], part) + 1})
    with pytest.raises(IntegrityError) as raised:
        module._check_conversions(public_key, shares, (broken[0], broken[1]), gammas)
    assert "key-safety" in raised.value.message
