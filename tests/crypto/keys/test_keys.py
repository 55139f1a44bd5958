"""Key shares: what they are, what they never show, and which encodings are one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.crypto.toys import TOY, toy_key, toy_public_key
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import KeyFileError, KeyMismatchError, ParameterError, VeilmatchError
from veilmatch.crypto.keys.parties import (
    PAIRS,
    PARTIES,
    Pair,
    Party,
    dealer_of,
    other_party,
    pairs_among,
    pairs_of,
    pairs_without,
)
from veilmatch.crypto.keys.shares import DealerGammas, KeyHolderKey, PairShare, SafetyShare, exponent_bits, share_bytes
from veilmatch.crypto.parameters import D512, DEFAULT, ParameterSet
from veilmatch.crypto.secret_access import SECRET_ACCESS

PUBLIC_KEY = toy_public_key(TOY)
TOP = exponent_bits(PUBLIC_KEY) - 1


def key_of(party: Party, exponent: int = 5, kappa: int = 7, epoch: int = 1) -> KeyHolderKey:
    shares = [
        PairShare(pair, party, Integer(exponent + i), Integer(kappa + i)) for i, pair in enumerate(pairs_of(party))
    ]
    safety = [
        SafetyShare(pair, party, *(Integer(10 * i + j) for j in range(5))) for i, pair in enumerate(pairs_of(party))
    ]
    gammas = DealerGammas(Integer(101), Integer(102))
    pairs = (shares[0], shares[1]), (safety[0], safety[1])
    return KeyHolderKey(party, PUBLIC_KEY.key_id, epoch, *pairs, gammas, b"d" * 32, b"s" * 32)


def encoded(key: KeyHolderKey) -> bytes:
    return key.to_secret_bytes(PUBLIC_KEY, SECRET_ACCESS)


EXPONENTS = st.one_of(st.sampled_from((0, 1, 2 ** (TOP - 16), 2**TOP - 2)), st.integers(0, 2**TOP - 2))
KAPPAS = st.one_of(st.sampled_from((0, 1, toy_key(512).N - 2)), st.integers(0, toy_key(512).N - 2))


@given(EXPONENTS)
def test_exponent_has_one_length_whatever_the_share_is(exponent: int) -> None:
    share = PairShare("ab", "a", Integer(exponent), Integer(1))
    assert share.exponent(PUBLIC_KEY, SECRET_ACCESS).bit_length() == exponent_bits(PUBLIC_KEY)


@pytest.mark.parametrize("parameters", [TOY, DEFAULT, D512, ParameterSet(128, 60, 23, 2048)], ids=lambda p: p.name)
def test_exponent_is_146_bits_longer_than_the_product_of_the_factors(parameters: ParameterSet) -> None:
    # |o| = |p| + |q| + 1; masked by 128 bits, 16 bits of refreshes, one constant bit above.
    public_key = PublicKey(parameters, Integer(1), Integer(1))
    assert exponent_bits(public_key) == parameters.subgroup_bits + 1 + 128 + 16 + 1


def test_constant_bit_of_the_exponents_cancels() -> None:
    plus, minus = PairShare("ab", "a", Integer(1000), Integer(0)), PairShare("ab", "b", Integer(1), Integer(0))
    assert plus.exponent(PUBLIC_KEY, SECRET_ACCESS) - minus.exponent(PUBLIC_KEY, SECRET_ACCESS) == 999


@given(st.sampled_from(PARTIES), EXPONENTS, KAPPAS, st.sampled_from((1, 2, 65536, 2**32 - 1)))
def test_encoding_comes_back_as_the_same_key(party: Party, exponent: int, kappa: int, epoch: int) -> None:
    key = key_of(party, exponent, kappa, epoch)
    data = encoded(key)
    assert len(data) == len(encoded(key_of("a")))
    found = KeyHolderKey.from_secret_bytes(data, PUBLIC_KEY)
    assert found == key and encoded(found) == data


@given(st.integers(0, 400), st.binary(max_size=400))
def test_no_other_length_is_an_encoding(length: int, tail: bytes) -> None:
    data = encoded(key_of("b"))
    for altered in (data[:length], data + tail):
        if len(altered) != len(data):
            with pytest.raises(KeyFileError):
                KeyHolderKey.from_secret_bytes(altered, PUBLIC_KEY)


@given(st.data())
def test_altered_encoding_is_refused_or_another_key(data: st.DataObject) -> None:
    original = encoded(key_of("c", 2**TOP - 2, toy_key(512).N - 2))
    at, flipped = data.draw(st.integers(0, len(original) - 1)), data.draw(st.integers(1, 255))
    altered = original[:at] + bytes([original[at] ^ flipped]) + original[at + 1 :]
    try:
        found = KeyHolderKey.from_secret_bytes(altered, PUBLIC_KEY)
    except VeilmatchError:
        return
    assert encoded(found) == altered != original


@pytest.mark.parametrize("field", ["exponent", "kappa"])
def test_every_share_out_of_range_is_refused(field: str) -> None:
    exponent_size, kappa_size = share_bytes(PUBLIC_KEY)
    data, header = bytearray(encoded(key_of("a"))), 29
    for start in (header, header + exponent_size + kappa_size):
        altered = bytearray(data)
        at, size = (start, exponent_size) if field == "exponent" else (start + exponent_size, kappa_size)
        altered[at : at + size] = b"\xff" * size
        with pytest.raises(KeyFileError):
            KeyHolderKey.from_secret_bytes(bytes(altered), PUBLIC_KEY)


def test_key_of_another_public_key_is_refused() -> None:
    other = toy_public_key(ParameterSet(4, 8, 3, 512))
    assert other.key_id != PUBLIC_KEY.key_id
    with pytest.raises(KeyMismatchError):
        KeyHolderKey.from_secret_bytes(encoded(key_of("a")), other)


@pytest.mark.parametrize("party", PARTIES)
def test_holder_has_shares_of_its_own_pairs_only(party: Party) -> None:
    key = key_of(party)
    for pair in PAIRS:
        if party in pair:
            share = key.share(pair)
            assert (share.pair, share.party, share.is_plus) == (pair, party, pair[0] == party)
        else:
            with pytest.raises(KeyMismatchError):
                key.share(pair)


# -- organisations and pairs --------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS)
def test_every_pair_has_two_holders_and_a_dealer(pair: Pair) -> None:
    plus, minus = (party for party in PARTIES if party in pair)
    assert pair == plus + minus and {plus, minus, dealer_of(pair)} == set(PARTIES)
    assert other_party(pair, plus) == minus and other_party(pair, minus) == plus


def test_pairs_need_a_matcher_of_both_organisations() -> None:
    assert pairs_among(PARTIES) == PAIRS and pairs_among("ab") == ("ab",)  # type: ignore[arg-type]
    for party in PARTIES:
        assert pairs_among([one for one in PARTIES if one != party]) == pairs_without(party)


@pytest.mark.parametrize("party", PARTIES)
def test_a_party_that_is_down_leaves_the_pair_that_it_deals_for(party: Party) -> None:
    (pair,) = pairs_without(party)
    assert dealer_of(pair) == party and set(pairs_of(party)) == set(PAIRS) - {pair}
    with pytest.raises(ParameterError):
        other_party(pair, party)
