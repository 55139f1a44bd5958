"""Toy keys, shares and vectors that the tests of the protocol share. UNSAFE, all of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import strategies as st

from tests.simulator import Aim, Keys, keys_from, standin_keys
from tests.vectors.generate import Key
from veilmatch.crypto.arithmetic import Integer, invert, random_below, random_bits
from veilmatch.crypto.dealing import Products
from veilmatch.crypto.encryption.paillier import STATISTICAL_BITS, Paillier, PublicKey
from veilmatch.crypto.gates.boolean import Circuit, Evaluator, Wire
from veilmatch.crypto.keys.ceremony import split_safety
from veilmatch.crypto.keys.shares import PairShare
from veilmatch.crypto.packing.fields import Array, join
from veilmatch.crypto.pair import records
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings.primes import SpecialPrime

#: Two lane ciphertexts a vector and 26 slots a pack: small, and nothing in it is a special case.
TOY = ParameterSet(dimension=12, scale=8, clip=3, modulus_bits=512)
#: Keys that three organisations certify devices with, where nothing is certified.
ORGANISATIONS = tuple(bytes([number]) * 32 for number in (1, 2, 3))
SIGNERS = tuple(bytes([number]) * 32 for number in (4, 5, 6))
#: Every protocol test runs on the stand-in first.
SCHEMES = ("stand-in", "paillier")


@cache
def toy_key(modulus_bits: int) -> Key:
    """The key of tests/vectors/keys.json with its factors."""
    return Key(modulus_bits)


def toy_primes() -> tuple[SpecialPrime, SpecialPrime]:
    """The two special primes of the 512-bit toy key."""
    key = toy_key(512)
    return tuple(  # type: ignore[return-value]
        SpecialPrime(Integer(P), Integer(p), Integer((P - 1) // (2 * p))) for P, p in ((key.P, key.p), (key.Q, key.q))
    )


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
    o = Integer(toy_key(public_key.parameters.modulus_bits).o)
    return keys_from(Paillier(public_key), (plus, minus), *split_safety((plus, minus), o, public_key.modulus))


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


def valid_vectors(parameters: ParameterSet) -> st.SearchStrategy[Array]:
    """Vectors that the validity gate accepts, often at an edge of the norm window."""

    def into_window(vector: Array) -> Array:
        """Move one coordinate after another by one until the norm is within."""
        x, c, at = vector.copy(), parameters.clip, 0
        while not parameters.norm_min <= int(x @ x) <= parameters.norm_max:
            step = 1 if int(x @ x) < parameters.norm_min else -1
            x[at] = np.clip((1 if x[at] >= 0 else -1) * max(0, abs(int(x[at])) + step), -c, c)
            at = (at + 1) % len(x)
        return x

    return coordinates(parameters).map(into_window)


def repeated(value: int, parameters: ParameterSet) -> Array:
    """The vector of one value."""
    return np.full(parameters.dimension, value, dtype=np.int64)


def lane_shares(fields: Array, parameters: ParameterSet) -> list[Integer]:
    """The minus holder's w of one vector whose lanes are these."""
    size = parameters.lanes
    return [join(fields[i : i + size].tolist(), parameters.lane_bits) for i in range(0, parameters.dimension, size)]


def with_low_bits(ring: Array, parameters: ParameterSet) -> Array:
    """Lanes that are not at risk of a carry and whose ring share at the minus holder is this."""
    return ring + (1 << parameters.lane_bits - 2)


def take_validity_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions without the validity gate: whatever was encrypted counts as a valid vector."""

    def validate(
        lanes: Array, above: Wire, p: ParameterSet, session_id: bytes, products: Products, evaluator: Evaluator
    ) -> Circuit:
        yield from ()
        return np.packbits([evaluator.is_plus] * (len(lanes) // p.dimension), bitorder="little")

    monkeypatch.setattr(records, "validate", validate)


def aimed(*conversions: Sequence[Integer] | None) -> Aim:
    """What the minus holder gets under FIRST in the conversions of a session, one after the other; then by chance."""
    return lambda number, count: conversions[number] if number < len(conversions) else None
