"""The scheme: python-paillier decrypts what we encrypt, and no unsound key or ciphertext is accepted."""

from __future__ import annotations

from dataclasses import replace

import gmpy2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phe import paillier as phe

from tests.crypto.toys import TOY, keys_of, plaintexts, split_toy_key, toy_key, toy_public_key
from tests.simulator import Keys
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption import paillier as module
from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.errors import CiphertextError, KeyFileError
from veilmatch.crypto.keys.shares import exponent_bits
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings.primes import special_prime
from veilmatch.crypto.secret_access import SECRET_ACCESS

KEY, PUBLIC_KEY = toy_key(512), toy_public_key(TOY)
N, SQUARE = PUBLIC_KEY.modulus, PUBLIC_KEY.modulus**2
SCHEME = Paillier(PUBLIC_KEY)
PLAINTEXTS = plaintexts(N)


def phe_key(P: int, Q: int) -> phe.PaillierPrivateKey:
    """python-paillier's private key of the same modulus, for g = 1 + N."""
    return phe.PaillierPrivateKey(phe.PaillierPublicKey(P * Q), P, Q)


PHE = phe_key(KEY.P, KEY.Q)


# -- an independent oracle --------------------------------------------------------------------------------


@given(PLAINTEXTS)
@settings(deadline=None)
def test_python_paillier_decrypts_our_ciphertexts(m: Integer) -> None:
    assert PHE.raw_decrypt(int(SCHEME.encrypt(m))) == m
    assert PHE.raw_decrypt(int(SCHEME.encode(m))) == m
    assert PHE.raw_decrypt(int(SCHEME.encrypt(-m))) == -m % N


def test_python_paillier_decrypts_under_a_fresh_key_of_our_primes() -> None:
    P, Q = special_prime(512, 160), special_prime(512, 160)
    modulus = P.prime * Q.prime
    y = 2 + gmpy2.mpz(12345)
    h = -gmpy2.powmod(y, 2 * P.cofactor * Q.cofactor, modulus) % modulus
    parameters = ParameterSet(12, 8, 3, 1024)
    public_key = PublicKey(parameters, modulus, gmpy2.powmod(h, modulus, modulus**2)).validate()
    private, scheme = phe_key(int(P.prime), int(Q.prime)), Paillier(public_key)
    for m in (Integer(0), Integer(1), modulus - 1, modulus // 2):
        assert private.raw_decrypt(int(scheme.encrypt(m))) == m


@given(st.lists(st.tuples(PLAINTEXTS, st.integers(0, 2**15 - 1)), min_size=1, max_size=8), PLAINTEXTS)
@settings(max_examples=30, deadline=None)
def test_operations_on_ciphertexts_are_those_on_plaintexts(terms: list[tuple[Integer, int]], m: Integer) -> None:
    ciphertexts, exponents = [SCHEME.encrypt(x) for x, _ in terms], [e for _, e in terms]
    total = sum(x * e for x, e in terms)
    product = SCHEME.product_of_powers(ciphertexts, exponents, 15)
    for c, expected in (
        (product, total),
        (SCHEME.multiply(product, SCHEME.encrypt(m)), total + m),
        (SCHEME.divide(product, SCHEME.encrypt(m)), total - m),
        (SCHEME.multiply(product, SCHEME.encode(m)), total + m),
        (SCHEME.multiply(product, SCHEME.encrypt_zeros(1)[0]), total),
    ):
        assert 0 < c < SQUARE and PHE.raw_decrypt(int(c)) == expected % N


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**14)), min_size=1, max_size=6))
@settings(max_examples=30)
def test_stand_in_computes_the_same_plaintexts(terms: list[tuple[int, int]]) -> None:
    scheme = keys_of("stand-in").scheme
    pack = [scheme.encrypt(Integer(x)) for x, _ in terms]
    product = scheme.product_of_powers(pack, [e for _, e in terms], 15)
    assert product == sum(x * e for x, e in terms)
    assert scheme.divide(product, product) == scheme.encrypt_zeros(1)[0] == 0


# -- what a ciphertext is ---------------------------------------------------------------------------------


@given(PLAINTEXTS)
@settings(max_examples=30, deadline=None)
def test_randomiser_of_every_ciphertext_lies_in_the_subgroup(m: Integer) -> None:
    c = SCHEME.encrypt(m)
    randomiser = c * gmpy2.invert(SCHEME.encode(m), SQUARE) % SQUARE
    assert randomiser != 1 and gmpy2.powmod(randomiser, KEY.o, SQUARE) == 1
    assert SCHEME.encrypt(m) != c, "fresh randomness"


@given(PLAINTEXTS)
@settings(max_examples=30, deadline=None)
def test_serialised_ciphertext_is_parsed_back(m: Integer) -> None:
    for scheme in (SCHEME, keys_of("stand-in").scheme):
        c = scheme.encrypt(m % scheme.modulus)
        data = scheme.serialise(c)
        assert len(data) == TOY.ciphertext_bytes and scheme.parse(data) == c
        assert scheme.parse_many([data, data]) == [c, c] and scheme.parse_many([]) == []


@given(st.binary(max_size=TOY.ciphertext_bytes + 4))
def test_bytes_of_another_length_are_no_ciphertext(data: bytes) -> None:
    for scheme in (SCHEME, keys_of("stand-in").scheme):
        if len(data) != TOY.ciphertext_bytes:
            with pytest.raises(CiphertextError):
                scheme.parse(data)
            with pytest.raises(CiphertextError):
                scheme.parse_many([data])


@pytest.mark.parametrize("scheme", [SCHEME, keys_of("stand-in").scheme], ids=["paillier", "stand-in"])
def test_number_above_the_group_is_no_ciphertext(scheme: Paillier) -> None:
    square = scheme.modulus**2
    for c in (square, square + 1, (Integer(1) << 8 * TOY.ciphertext_bytes) - 1):
        with pytest.raises(CiphertextError):
            scheme.parse(int(c).to_bytes(TOY.ciphertext_bytes, "big"))


@pytest.mark.parametrize("at", [0, 1, 4])
def test_one_bad_ciphertext_among_many_is_noticed(at: int) -> None:
    data = [SCHEME.serialise(SCHEME.encrypt(Integer(i))) for i in range(5)]
    data[at] = SCHEME.serialise(Integer(KEY.P) * 7)
    with pytest.raises(CiphertextError):
        SCHEME.parse_many(data)


# -- local shares -----------------------------------------------------------------------------------------


#: Below and above where the kernel divides whole groups.
FEW_AND_MANY = (1, 16, 17, 20)


@pytest.mark.parametrize("count", FEW_AND_MANY)
def test_quotients_are_those_of_single_ciphertexts(count: int) -> None:
    cs, ds = ([SCHEME.encrypt(Integer(i)) for i in range(count)] for _ in "cd")
    factor = SCHEME.encode(Integer(99))
    expected = [SCHEME.serialise(SCHEME.multiply(SCHEME.divide(c, d), factor)) for c, d in zip(cs, ds, strict=True)]
    assert SCHEME.quotients(*(list(map(SCHEME.serialise, x)) for x in (cs, ds)), factor) == expected


@pytest.mark.parametrize("count", FEW_AND_MANY)
@pytest.mark.parametrize("side", [0, 1])
def test_what_is_no_ciphertext_is_not_divided(side: int, count: int) -> None:
    N, size = PUBLIC_KEY.modulus, TOY.ciphertext_bytes
    both = [[SCHEME.serialise(c) for c in SCHEME.encrypt_zeros(count)] for _ in range(2)]
    p = int(toy_key(TOY.modulus_bits).P)
    square = int(N) ** 2
    wrong = [bytes(size), bytes([255]) * size, b"", both[0][0][:-1], both[0][0] + b"\0"]
    wrong += [x.to_bytes(size, "big") for x in (square, square + 1, int(N), p, square - p)]
    for data in wrong:
        changed = [list(x) for x in both]
        changed[side][-1] = data
        with pytest.raises(CiphertextError):
            SCHEME.quotients(*changed, Integer(1))
    with pytest.raises(CiphertextError):
        SCHEME.quotients(both[0], both[1][:-1], Integer(1))


@given(PLAINTEXTS)
@settings(max_examples=30, deadline=None)
def test_local_shares_differ_by_o_times_the_plaintext(m: Integer) -> None:
    shares = split_toy_key(PUBLIC_KEY)
    c = [SCHEME.encrypt(m), SCHEME.encode(m), SQUARE - SCHEME.encrypt(m)]
    plus, minus = (SCHEME.local_shares(c, s.exponent(PUBLIC_KEY, SECRET_ACCESS)) for s in shares)
    for x, y in zip(plus, minus, strict=True):
        assert (x.z - y.z) % N == KEY.o * m % N
        assert x.fingerprint == y.fingerprint
    exponents = [s.exponent(PUBLIC_KEY, SECRET_ACCESS) for s in shares]
    assert SCHEME.local_shares_each([c[0]] * 2, exponents) == [plus[0], minus[0]]


def test_ciphertexts_of_python_paillier_are_outside_the_subgroup_and_told_by_their_fingerprint() -> None:
    shares = split_toy_key(PUBLIC_KEY)
    foreign = [Integer(PHE.public_key.raw_encrypt(m)) for m in (0, 1, 2, 1000)]
    assert [PHE.raw_decrypt(int(c)) for c in foreign] == [0, 1, 2, 1000]
    plus, minus = (SCHEME.local_shares(foreign, s.exponent(PUBLIC_KEY, SECRET_ACCESS)) for s in shares)
    assert all(x.fingerprint != y.fingerprint for x, y in zip(plus, minus, strict=True))


def test_local_shares_use_the_exponent_in_constant_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    share, seen = split_toy_key(PUBLIC_KEY)[0], []
    exponent = share.exponent(PUBLIC_KEY, SECRET_ACCESS)
    scheme = Paillier(PUBLIC_KEY)
    ciphertexts = [scheme.encrypt(Integer(5))] * 3
    original = scheme.ring.powers_secret
    monkeypatch.setattr(scheme.ring, "powers_secret", lambda c, e: seen.append(e) or original(c, e))
    inverted: list[Integer] = []
    real_invert = gmpy2.invert
    monkeypatch.setattr(gmpy2, "invert", lambda x, n: inverted.append(x) or real_invert(x, n))
    monkeypatch.delattr(gmpy2, "powmod")
    first, second = (scheme.local_shares(ciphertexts, exponent) for _ in range(2))
    assert [(s.z, s.fingerprint) for s in first] == [(s.z, s.fingerprint) for s in second]
    assert seen == [exponent] * 2 and exponent.bit_length() == exponent_bits(PUBLIC_KEY)
    assert len(inverted) == len(set(inverted)) == 2, "the same secret is never inverted as it is"


# -- public keys --------------------------------------------------------------------------------------------

_PRIME = gmpy2.next_prime(gmpy2.mpz(1) << 511 | 1 << 400)
_HALF = gmpy2.next_prime(gmpy2.mpz(3) << 254)


@pytest.mark.parametrize(
    ("modulus", "expected"),
    [
        (Integer(0), "exactly 512 bits"),
        (Integer(KEY.P), "exactly 512 bits"),
        (N << 1 | 1, "exactly 512 bits"),
        (N >> 1 | 1, "exactly 512 bits"),
        (N + 1, "odd"),
        (_PRIME, "a composite number"),
        (_HALF * _HALF, "not a square"),
        (6 * (N // 6) + 3, "no factor under 2^20"),
        (1048573 * gmpy2.next_prime(N // 1048573), "no factor under 2^20"),
    ],
    ids=["zero", "half", "a bit more", "a bit less", "even", "prime", "square", "3", "largest prime under 2^20"],
)
def test_unsound_modulus_is_refused_by_name(modulus: Integer, expected: str) -> None:
    with pytest.raises(KeyFileError) as raised:
        replace(PUBLIC_KEY, modulus=modulus, hs=Integer(2)).validate()
    assert raised.value.expected == expected


def test_negative_modulus_is_refused() -> None:
    with pytest.raises(KeyFileError):
        replace(PUBLIC_KEY, modulus=-N).validate()


@pytest.mark.parametrize(
    "hs",
    [Integer(-1), Integer(0), Integer(1), N, Integer(KEY.P), SQUARE - N, SQUARE, SQUARE + 2],
    ids=["-1", "0", "1", "N", "P", "multiple of N", "N^2", "not reduced"],
)
def test_unsound_base_is_refused(hs: Integer) -> None:
    with pytest.raises(KeyFileError) as raised:
        replace(PUBLIC_KEY, hs=hs).validate()
    assert raised.value.expected == "1 < hs < N^2, a unit"


@pytest.mark.parametrize("hs", [1 + N, 1 + 5 * N, N - 1, SQUARE - 1, SQUARE - 1 - 5 * N, Integer(KEY.P) + 1])
def test_base_that_hides_nothing_is_refused(hs: Integer) -> None:
    with pytest.raises(KeyFileError) as raised:
        replace(PUBLIC_KEY, hs=hs).validate()
    assert (raised.value.message, raised.value.expected) == (
        "the base of the public key is unsound",
        "gcd(hs^2 - 1, N) = 1",
    )


@pytest.mark.parametrize(
    ("modulus", "hs"),
    [(Integer(1) << 100_000 | 1, Integer(2)), (Integer(0), Integer(2)), (-N, Integer(2)), (N, Integer(1) << 100_000)],
    ids=["long modulus", "no modulus", "negative modulus", "long base"],
)
def test_sizes_are_checked_before_anything_that_takes_long(
    monkeypatch: pytest.MonkeyPatch, modulus: Integer, hs: Integer
) -> None:
    def never(*_: object) -> bool:
        raise AssertionError("expensive arithmetic on a number of the wrong size")

    for name in ("is_prime", "is_square", "gcd", "primorial"):
        monkeypatch.setattr(module, name, never)
    with pytest.raises(KeyFileError):
        replace(PUBLIC_KEY, modulus=modulus, hs=hs).validate()


def test_key_id_names_parameters_modulus_and_base() -> None:
    others = [
        PUBLIC_KEY,
        replace(PUBLIC_KEY, hs=PUBLIC_KEY.hs**2 % SQUARE),
        replace(PUBLIC_KEY, modulus=N + 2),
        toy_public_key(ParameterSet(12, 8, 2, 512)),
    ]
    assert len({key.key_id for key in others}) == 4 and {len(key.key_id) for key in others} == {16}
    assert toy_public_key(TOY).key_id == PUBLIC_KEY.key_id


@pytest.mark.parametrize("bits", [512, 1024, 3072])
def test_randomiser_is_128_bits_longer_than_the_order(bits: int) -> None:
    assert toy_public_key(ParameterSet(12, 8, 3, bits)).randomiser_bits == toy_key(bits).o.bit_length() + 128


def test_keys_of_the_tests_are_sound(keys: Keys) -> None:
    c = keys.scheme.encrypt(Integer(5))
    plus, minus = (keys.scheme.local_shares([c], e)[0] for e in keys.exponents)
    assert plus.fingerprint == minus.fingerprint
