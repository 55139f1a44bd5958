"""Share conversion is exact for every plaintext, and the fingerprints bind what they must."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.toys import SCHEMES, TOY, keys_of, plaintexts
from tests.simulator import Keys, keys_from, paillier_keys
from veilmatch.crypto.arithmetic import Integer, random_below
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.keys.ceremony import run_ceremony
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, dealer_of
from veilmatch.crypto.pair.conversion import Triple, fingerprint_hashes, hashes_agree, open_masked, output_share
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.secret_access import SECRET_ACCESS


def dealt(N: Integer) -> tuple[Triple, Triple]:
    """Both parts of a fresh right triple."""
    minus = Triple(*(random_below(N) for _ in range(3)))
    a, b = random_below(N), random_below(N)
    return Triple((a + minus.a) % N, (b + minus.b) % N, (a * b + minus.ab) % N), minus


def convert(keys: Keys, c: Integer, triple: tuple[Triple, Triple] | None = None) -> tuple[Integer, Integer]:
    """(w_plus, w_minus) of one ciphertext."""
    N = keys.scheme.modulus
    triples = triple or dealt(N)
    local = [keys.scheme.local_shares([c], e)[0] for e in keys.exponents]
    opened = [
        open_masked(x.z, share.kappa(SECRET_ACCESS), t, N)
        for x, share, t in zip(local, (keys.plus, keys.minus), triples, strict=True)
    ]
    assert all(0 <= part < N for o in opened for part in (o.d, o.e))
    w_plus = output_share(triples[0], opened[0], opened[1], N, is_plus=True)
    w_minus = output_share(triples[1], opened[1], opened[0], N, is_plus=False)
    assert 0 <= w_plus < N and 0 <= w_minus < N
    return w_plus, w_minus


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_conversion_is_exact_for_every_plaintext(scheme: str, data: st.DataObject) -> None:
    keys = keys_of(scheme)
    m = data.draw(plaintexts(keys.scheme.modulus))
    w_plus, w_minus = convert(keys, keys.scheme.encrypt(m))
    assert (w_plus - w_minus) % keys.scheme.modulus == m


@pytest.mark.parametrize("m", [0, 1, -1, "N/2", "random"])
def test_conversion_is_exact_at_the_edges(keys: Keys, m: int | str) -> None:
    N = keys.scheme.modulus
    value = {"N/2": N // 2, "random": random_below(N)}[m] if isinstance(m, str) else Integer(m)
    w_plus, w_minus = convert(keys, keys.scheme.encrypt(value))
    assert (w_plus - w_minus) % N == value % N


def test_conversion_is_exact_with_triples_of_extremes(keys: Keys) -> None:
    N = keys.scheme.modulus
    for a in (Integer(0), Integer(1), N - 1):
        minus = Triple(N - 1, Integer(0), N - 1)
        plus = Triple((a - 1) % N, a, (a * a - 1) % N)
        w_plus, w_minus = convert(keys, keys.scheme.encrypt(Integer(77)), (plus, minus))
        assert (w_plus - w_minus) % N == 77


def test_wrong_triple_gives_a_wrong_result(keys: Keys) -> None:
    N = keys.scheme.modulus
    plus, minus = dealt(N)
    wrong = Triple(plus.a, plus.b, (plus.ab + 1) % N)
    w_plus, w_minus = convert(keys, keys.scheme.encrypt(Integer(77)), (wrong, minus))
    assert (w_plus - w_minus) % N == 78


@pytest.mark.parametrize("parameters", [TOY, ParameterSet(12, 8, 3, 768), ParameterSet(12, 8, 3, 1024)])
def test_every_pair_of_a_ceremony_converts(parameters: ParameterSet) -> None:
    ceremony = run_ceremony(parameters)
    key, scheme = ceremony.public_key, Paillier(ceremony.public_key)
    for pair in PAIRS:
        holders = [ceremony.keys[PARTIES.index(p)] for p in pair]  # type: ignore[arg-type]
        plus, minus = (holder.share(pair) for holder in holders)
        assert plus.is_plus and not minus.is_plus
        safety = (holders[0].safety(pair), holders[1].safety(pair))
        gammas = ceremony.keys[PARTIES.index(dealer_of(pair))].dealer_gammas(SECRET_ACCESS)
        keys = keys_from(scheme, (plus, minus), safety, gammas)
        for m in (Integer(0), key.modulus - 1, key.modulus // 2, random_below(key.modulus)):
            w_plus, w_minus = convert(keys, scheme.encrypt(m))
            assert (w_plus - w_minus) % key.modulus == m


def test_shares_of_a_conversion_are_fresh_each_time(keys: Keys) -> None:
    c = keys.scheme.encrypt(Integer(5))
    assert len({convert(keys, c)[1] for _ in range(20)}) == 20


def test_simulator_s_ceremony_keys_convert() -> None:
    keys = paillier_keys(TOY)
    w_plus, w_minus = convert(keys, keys.scheme.encrypt(Integer(9)))
    assert (w_plus - w_minus) % keys.scheme.modulus == 9


# -- fingerprints --------------------------------------------------------------------------------------------

N = Integer(keys_of("stand-in").scheme.modulus)
SHARES = [LocalShare(Integer(i), Integer(100 + i)) for i in range(3)]


def test_fingerprint_hashes_are_32_bytes_each_and_deterministic() -> None:
    hashed = fingerprint_hashes(SHARES, b"s" * 32, "plus", N)
    assert len(hashed) == 96 and hashed == fingerprint_hashes(SHARES, b"s" * 32, "plus", N)
    assert len({hashed[i : i + 32] for i in range(0, 96, 32)}) == 3


def test_fingerprint_hashes_bind_role_session_index_and_value_but_not_z() -> None:
    hashed = fingerprint_hashes(SHARES, b"s" * 32, "plus", N)
    other_z = [LocalShare(share.z + 1, share.fingerprint) for share in SHARES]
    assert fingerprint_hashes(other_z, b"s" * 32, "plus", N) == hashed
    altered = [
        fingerprint_hashes(SHARES, b"s" * 32, "minus", N),
        fingerprint_hashes(SHARES, b"t" * 32, "plus", N),
        fingerprint_hashes(SHARES[::-1], b"s" * 32, "plus", N),
        fingerprint_hashes([SHARES[0], SHARES[0], SHARES[2]], b"s" * 32, "plus", N),
    ]
    assert len({hashed, *altered}) == 5
    assert not any(hashes_agree(hashed, other) for other in altered)
    same = [LocalShare(Integer(1), Integer(1))] * 2
    both = fingerprint_hashes(same, b"s" * 32, "plus", N)
    assert both[:32] != both[32:], "the index is bound"


@pytest.mark.parametrize("received", [b"", b"x" * 31, b"x" * 33, b"y" * 32])
def test_hashes_of_another_length_or_value_do_not_agree(received: bytes) -> None:
    assert not hashes_agree(received, b"x" * 32) and hashes_agree(b"x" * 32, b"x" * 32)
