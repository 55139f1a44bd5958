"""The baseline of two servers decides as plain integers do, or its times would mean nothing."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.twin_server import NOBODY, FirstServer, Packing, Search, SecondServer, TwinShares, split
from tests.crypto.toys import TOY, coordinates
from veilmatch.crypto.arithmetic import Integer, random_below
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys.ceremony import Ceremony, run_ceremony
from veilmatch.crypto.packing.fields import Array

PACKINGS = (2, None)


@cache
def key() -> tuple[Ceremony, Paillier, TwinShares]:
    ceremony = run_ceremony(TOY)
    return ceremony, Paillier(ceremony.public_key), split(ceremony)


def encrypted(vector: Array) -> list[Integer]:
    return key()[1].encrypt_many([Integer(int(x)) for x in vector])


def decrypted(c: Integer) -> int:
    """With both shares in one hand."""
    _, scheme, shares = key()
    N = int(scheme.modulus)
    m = (pow(int(c), int(shares.first - shares.second), N * N) - 1) // N
    return m if m <= N // 2 else m - N


@pytest.mark.parametrize("values", PACKINGS)
@settings(max_examples=15, deadline=None)
@given(st.lists(coordinates(TOY), min_size=2, max_size=4), st.data())
def test_distances_are_those_of_plain_integers(values: int | None, vectors: list[Array], data: st.DataObject) -> None:
    _, scheme, shares = key()
    packing = Packing.of(scheme, values)
    first = FirstServer(scheme, shares.first, packing, SecondServer(scheme, shares.second, packing))
    *templates, probe = vectors
    distances = first.distances([encrypted(t) for t in templates], encrypted(probe))
    assert [decrypted(d) for d in distances] == [int(((t - probe) ** 2).sum()) for t in templates]


@settings(max_examples=25, deadline=None)
@given(st.lists(coordinates(TOY), min_size=2, max_size=7), st.integers(0, 60))
def test_answer_is_the_nearest_template_within_the_limit(vectors: list[Array], limit: int) -> None:
    _, scheme, shares = key()
    *templates, probe = vectors
    plain = [int(((t - probe) ** 2).sum()) for t in templates]
    labels = encrypted(np.arange(1, len(templates) + 1))
    search = Search(scheme, shares, Packing.of(scheme))
    label = search.nearest([encrypted(t) for t in templates], labels, encrypted(probe), limit)
    if min(plain) > limit:
        assert label == NOBODY
    else:
        assert plain[label - 1] == min(plain)


def test_a_distance_at_the_limit_matches_and_one_beyond_does_not() -> None:
    _, scheme, shares = key()
    template, probe = np.ones(TOY.dimension, np.int64), np.zeros(TOY.dimension, np.int64)
    search = Search(scheme, shares, Packing.of(scheme))
    for limit, label in ((TOY.dimension, 1), (TOY.dimension - 1, NOBODY)):
        assert search.nearest([encrypted(template)], encrypted(np.ones(1)), encrypted(probe), limit) == label


def test_neither_share_of_the_split_decrypts_alone() -> None:
    """The published split falls to sk1 = (1 - sk2) mod N; see tests/attacks/test_short_share_split.py."""
    _, scheme, shares = key()
    N = int(scheme.modulus)
    m = int(random_below(scheme.modulus))
    c = int(scheme.encrypt(Integer(m)))
    for share in (shares.first, shares.second):
        guess = (1 - int(share)) % N
        for exponent in (int(share), int(share) + guess, int(share) - guess):
            x = pow(c, exponent, N * N)
            assert x % N != 1 or (x - 1) // N != m


def test_a_ciphertext_outside_the_subgroup_is_refused() -> None:
    _, scheme, shares = key()
    second = SecondServer(scheme, shares.second, Packing.of(scheme))
    c = pow(Integer(2), scheme.modulus, scheme.modulus**2)
    partial = scheme.ring.powers_secret([c], shares.first)
    with pytest.raises(IntegrityError):
        second.open_masked(c, partial[0])
