"""Toy keys, shares and vectors that the tests of the protocol share. UNSAFE, all of it."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import strategies as st

from tests.simulator import Keys, standin_keys
from tests.vectors.generate import Key
from veilmatch.crypto.arithmetic import Integer, invert, random_below, random_bits
from veilmatch.crypto.fields import Array
from veilmatch.crypto.keys import PairShare
from veilmatch.crypto.paillier import STATISTICAL_BITS, Paillier, PublicKey
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.secret_access import SECRET_ACCESS

#: Two lane ciphertexts a vector and 26 slots a pack: small, and nothing in it is a special case.
TOY = ParameterSet(dimension=12, scale=8, clip=3, modulus_bits=512)
#: Every protocol test runs on the stand-in first.
SCHEMES = ("stand-in", "paillier")


@cache
def toy_key(modulus_bits: int) -> Key:
    """The key of tests/vectors/keys.json with its factors."""
    return Key(modulus_bits)


def toy_public_key(parameters: ParameterSet) -> PublicKey:
    """Its public part under a parameter set."""
    key = toy_key(parameters.modulus_bits)
    return PublicKey(parameters, Integer(key.N), Integer(key.hs)).validate()


def split_toy_key(public_key: PublicKey) -> tuple[PairShare, PairShare]:
    """Fresh shares of the toy key for the pair ab."""
    key, N = toy_key(public_key.parameters.modulus_bits), public_key.modulus
    o, o_minus = Integer(key.o), random_bits(public_key.subgroup_order_bits + STATISTICAL_BITS)
    kappa_minus = random_below(N)
    plus = PairShare("ab", "a", o + o_minus, (invert(o, N) + kappa_minus) % N)
    return plus, PairShare("ab", "b", o_minus, kappa_minus)


def toy_paillier_keys(parameters: ParameterSet) -> Keys:
    """The scheme of the toy key with fresh shares."""
    public_key = toy_public_key(parameters)
    plus, minus = split_toy_key(public_key)
    exponents = plus.exponent(public_key, SECRET_ACCESS), minus.exponent(public_key, SECRET_ACCESS)
    return Keys(Paillier(public_key), plus, minus, exponents, public_key)


@cache
def keys_of(scheme: str, parameters: ParameterSet = TOY) -> Keys:
    """Keys of a scheme of `SCHEMES`, made once."""
    return standin_keys(parameters) if scheme == "stand-in" else toy_paillier_keys(parameters)


def plaintexts(modulus: Integer) -> st.SearchStrategy[Integer]:
    """Residues mod N, often at an edge."""
    N = int(modulus)
    edges = (0, 1, 2, N - 1, N - 2, N // 2, N // 2 + 1, 1 << (N.bit_length() - 64), (1 << (N.bit_length() - 64)) - 1)
    return st.one_of(st.sampled_from(edges), st.integers(0, N - 1)).map(Integer)


def coordinates(parameters: ParameterSet) -> st.SearchStrategy[Array]:
    """Vectors of [-c, c], often at an edge."""
    c = parameters.clip
    coordinate = st.one_of(st.sampled_from((-c, -1, 0, 1, c)), st.integers(-c, c))
    size = parameters.dimension
    return st.lists(coordinate, min_size=size, max_size=size).map(lambda v: np.array(v, dtype=np.int64))


def repeated(value: int, parameters: ParameterSet) -> Array:
    """The vector of one value."""
    return np.full(parameters.dimension, value, dtype=np.int64)
