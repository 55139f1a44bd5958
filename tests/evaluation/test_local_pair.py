"""The encrypted scorer decides as the integers do, at every threshold, over more than one pack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from veilmatch.client.evaluation.data.faces import FaceSet
from veilmatch.client.evaluation.data.pairs import all_pairs
from veilmatch.client.evaluation.local_pair import LocalPair
from veilmatch.client.evaluation.scorers import encrypted_decisions, float_scores, integer_scores
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import CiphertextError

from .conftest import TOY


@pytest.fixture(scope="module")
def pair() -> LocalPair:
    return LocalPair(TOY)


def test_encrypted_decisions_are_those_of_the_integers(crowd: FaceSet, pair: LocalPair) -> None:
    pairs = all_pairs(crowd.labels)
    scores = integer_scores(crowd, pairs)
    # At scores that occur, and one above and below them: where an error of one point would show.
    seen = [int(np.quantile(scores, q, method="nearest")) for q in (0.5, 0.8, 0.95)]
    thresholds = sorted({score + near for score in seen for near in (-1, 0, 1)})
    positive = [t for t in thresholds if t >= 1] + [TOY.threshold_max]
    assert len(crowd.subjects) > TOY.slots and len(positive) >= 5
    decisions = encrypted_decisions(crowd, pairs, positive, pair)
    assert np.array_equal(decisions, scores >= np.array(positive)[:, None])
    assert decisions.any() and not decisions.all()


def test_any_pairs_may_be_asked_for(crowd: FaceSet, pair: LocalPair) -> None:
    pairs = all_pairs(crowd.labels)
    few = replace(pairs, first=pairs.first[::7], second=pairs.second[::7])
    decisions = encrypted_decisions(crowd, few, [900], pair)
    assert np.array_equal(decisions[0], integer_scores(crowd, few) >= 900)


def test_both_plain_scorers_give_the_cosine(crowd: FaceSet) -> None:
    pairs = all_pairs(crowd.labels)
    difference = float_scores(crowd, pairs) - integer_scores(crowd, pairs) / TOY.scale**2
    assert np.abs(difference).max() < 0.08


def test_no_randomness_is_handed_out_twice(pair: LocalPair) -> None:
    stock = pair._stock
    first, second = stock.triples(300), stock.triples(300)
    seen = [int(triple.a) for triples in (*first, *second) for triple in triples]
    assert len(set(seen)) == len(seen) == 1200
    plus, minus = stock.bits(70_000)
    assert len(plus.a) == len(np.unique(plus.a.view("<u8"))) * 8 == 70_000
    assert np.array_equal((plus.a ^ minus.a) & (plus.b ^ minus.b), plus.c ^ minus.c)


def test_a_ciphertext_of_another_key_is_noticed(pair: LocalPair) -> None:
    with pytest.raises(CiphertextError, match="not well-formed"):
        pair._local_shares([pair.scheme.modulus + 2])


def test_packs_are_encrypted(crowd: FaceSet, pair: LocalPair) -> None:
    gallery = pair.gallery(crowd.integers)
    assert gallery.packs == -(-len(crowd.subjects) // TOY.slots)
    again = pair.gallery(crowd.integers)
    assert isinstance(pair.scheme, Paillier)
    assert not set(gallery.groups[0].get(0)) & set(again.groups[0].get(0)), "fresh randomness every time"
