"""A share where it does not belong, and ciphertexts that come twice: typed errors, or the right answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.installation.making import organisation_keys
from tests.keyholder.test_service_sessions import gallery_of, opened_lanes, vectors
from tests.keyholder.trio import (
    TOY,
    LocalPool,
    Trio,
    answers,
    ceremony,
    encrypted,
    known,
    public_file,
    results_of,
    signed,
)
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import CiphertextError, KeySafetyError, ServerDeviationError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Pair, Party, pairs_of
from veilmatch.crypto.keys.shares import KeyHolderKey, PairShare
from veilmatch.crypto.pair.messages import Results
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.keyholder.session.serving import KeyHolder
from veilmatch.server.keyholder.session.share_worker import ShareWorkers

PROBE = vectors(41, 1)[0]


async def second_daemon(trio: Trio, party: Party, folder: Path) -> KeyHolder:
    """Another key holder with the same key file, and a data directory of its own."""
    workers = ShareWorkers(LocalPool(), Paillier(ceremony().public_key))  # type: ignore[arg-type]
    key = ceremony().keys[PARTIES.index(party)]
    await workers.setup(key)
    settings = trio.settings(party).model_copy(update={"data_dir": folder})
    return KeyHolder(settings, public_file(), key, workers, organisation_keys()[key.party])


async def test_two_daemons_with_one_share_are_dealt_different_stocks(trio: Trio, tmp_path: Path) -> None:
    """A copy of a key holder on a second machine: no triple of one is ever one of the other."""
    twin = await second_daemon(trio, "a", tmp_path / "twin")
    try:
        for pair in pairs_of("a"):
            stocks = [holder.stocks.meet(pair, bytes(16)).name for holder in (trio["a"], twin)]
            assert stocks[0] != stocks[1]
        # The peer uses the stock of whoever met it last, and takes none of the other's.
        own, other = [trio["b"].stocks.meet("ab", holder.stocks.generation) for holder in (trio["a"], twin)]
        assert own.name != other.name and trio["b"].stocks.by_pair["ab"] is other
    finally:
        await twin.close()


@pytest.mark.parametrize(("party", "pair"), [("a", "ab"), ("c", "bc")])
async def test_a_holder_with_the_share_of_another_pair_gets_no_opening(trio: Trio, party: Party, pair: Pair) -> None:
    """Both of a party's shares exchanged, under the right names: nothing but the fingerprints can tell."""
    key = ceremony().keys[PARTIES.index(party)]
    first, second = (key.share(p) for p in pairs_of(party))
    swapped = [PairShare(x.pair, party, y._exponent, y._kappa) for x, y in ((first, second), (second, first))]
    await trio[party].switch(with_shares(key, swapped))
    with pytest.raises(CiphertextError, match="not well-formed under this key and epoch"):
        await trio.decide(signed(PROBE, pair), pair, gallery_of(vectors(42, 2)), [0, 1])


async def test_both_holders_with_one_and_the_same_share_get_no_answer(trio: Trio) -> None:
    """b was given a's file, and its name was changed: fingerprints of c^(o_a) and c^(o_a) agree, the answer does not.

    The sealed file says whose it is, so it does not open as b's; this is what would follow if it did.
    """
    key, a = ceremony().keys[1], ceremony().keys[0].share("ab")
    shares = [PairShare("ab", "b", a._exponent, a._kappa), key.share("bc")]
    await trio["b"].switch(with_shares(key, shares))
    with pytest.raises(VeilmatchError) as caught:
        await trio.decide(signed(PROBE, "ab"), "ab", gallery_of(vectors(42, 2)), [0, 1])
    assert isinstance(caught.value, ServerDeviationError | CiphertextError | KeySafetyError)


def with_shares(key: KeyHolderKey, shares: list[PairShare]) -> KeyHolderKey:
    return key.of_epoch(key.epoch, (shares[0], shares[1]), key._safety, key.dealing_seed(SECRET_ACCESS), SECRET_ACCESS)


# -- ciphertexts that come twice ------------------------------------------------------------------------


@pytest.mark.parametrize("pair", ["ab", "bc"])
async def test_one_ciphertext_in_every_place_of_a_probe_is_converted_each_time_and_refused(
    trio: Trio, pair: Pair
) -> None:
    """Each place takes triples of its own. It is no vector: only the device learns that."""
    one, count = known(PROBE), TOY.lane_ciphertexts
    repeated = KnownCiphertexts(one.ciphertexts[:1] * count, one._randomisers[:1] * count, one._scheme)
    with pytest.raises(ServerDeviationError):
        await trio.decide(signed(repeated, pair), pair, gallery_of(vectors(43, 3)), [0, 1, 2])


async def test_a_record_with_one_template_twice_is_converted_twice(trio: Trio) -> None:
    template = vectors(44, 1)[0]
    request = signed([], "ab", operation=request_pb2.OPERATION_ERASE)
    async with trio.both(request, "ab", record=encrypted(template) * 2) as calls:
        plus, minus = await asyncio.gather(*(call.template_shares(2, told=0) for call in calls.values()))
    assert opened_lanes(plus.values, minus.values) == [template.tolist()] * 2
    # With the same triples the shares would be the same as well, and their openings reveal the key.
    first, second = plus.values
    assert not np.array_equal(first, second)


async def test_one_result_twice_is_decided_twice(trio: Trio) -> None:
    templates = vectors(45, 3)
    gallery, threshold = gallery_of(templates), 5
    async with trio.both(signed(PROBE, "ab", threshold), "ab") as calls:
        results: Any = await results_of(calls, gallery, range(3), "ab")
        twice = Results([*results.ciphertexts] * 2, np.concatenate([results.wanted] * 2))
        bits = await answers(calls, twice)
    assert bits == (templates @ PROBE >= threshold).astype(int).tolist() * 2
