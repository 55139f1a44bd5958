"""Whole sessions of three key holders over gRPC: the opened answers equal the plaintext ones."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.keyholder.trio import TOY, Trio, answers, ceremony, encrypted, results_of, signed
from tests.simulator import SimulatedGallery, unit_vectors
from veilmatch.crypto.dealing import Words
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, dealer_of
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.request import MAX_TEMPLATES
from veilmatch.protos.v1 import request_pb2


def vectors(seed: int, count: int) -> Array:
    return unit_vectors(np.random.default_rng(seed), count, TOY)


def gallery_of(templates: Array) -> SimulatedGallery:
    return SimulatedGallery.of(Paillier(ceremony().public_key), templates)


@pytest.mark.parametrize("pair", PAIRS)
async def test_each_pair_decides_as_plain_integers_do(trio: Trio, pair: Pair) -> None:
    templates = vectors(1, TOY.slots + 9)
    gallery = gallery_of(templates)
    for probe in (templates[3], vectors(2, 1)[0]):
        scores = templates @ probe
        for threshold in (1, int(np.clip(scores[3], 1, TOY.threshold_max))):
            bits = await trio.decide(signed(probe, pair, threshold), pair, gallery, range(len(templates)))
            assert bits == (scores >= threshold).astype(int).tolist()
    assert trio.running[dealer_of(pair)].pool.batches == 0


@pytest.mark.parametrize("pair", PAIRS)
async def test_only_the_slots_that_are_asked_for_are_answered(trio: Trio, pair: Pair) -> None:
    templates = vectors(3, 12)
    wanted, probe = [1, 4, 5, 11], vectors(3, 1)[0]
    bits = await trio.decide(signed(probe, pair), pair, gallery_of(templates), wanted)
    assert bits == [int(templates[i] @ probe >= 1) for i in wanted]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("by_device", [(), (True, True), (True, False)], ids=str)
async def test_verify_joins_the_templates_of_a_subject_into_one_bit(
    trio: Trio, pair: Pair, by_device: tuple[bool, ...]
) -> None:
    templates = vectors(4, 6)
    probe = templates[5]
    threshold = int(min(probe @ probe, TOY.threshold_max))
    for wanted in ([0, 5], [0, 1], [5, 5]):
        found = await trio.verify(probe, pair, threshold, templates[wanted], by_device)
        assert found == bool((templates[wanted] @ probe >= threshold).any())
    assert trio.running[dealer_of(pair)].pool.batches == 0


@pytest.mark.parametrize("valid", [(False, False), (True, False), (False, True)], ids=str)
async def test_a_record_of_a_device_that_is_no_vector_matches_nobody(trio: Trio, valid: tuple[bool, ...]) -> None:
    (probe,) = vectors(4, 1)
    templates = [probe if fits else 3 * probe for fits in valid]
    assert await trio.verify(probe, "ab", 1, templates, (True, True)) == any(valid)


@pytest.mark.parametrize("count", [0, MAX_TEMPLATES + 1])
async def test_another_number_of_templates_than_a_verification_compares_is_refused(trio: Trio, count: int) -> None:
    (probe,) = vectors(4, 1)
    with pytest.raises(ProtocolError, match="number of records") as raised:
        await trio.verify(probe, "ab", 1, [probe] * count)
    assert raised.value.got == str(count)


async def test_a_search_is_given_no_records(trio: Trio) -> None:
    record = encrypted(vectors(4, 1)[0])
    async with trio.call(signed(vectors(4, 1)[0]), "a", "ab", record=record) as call:
        with pytest.raises(ProtocolError, match="number of records"):
            await call.probe_share()


@pytest.mark.parametrize("pair", PAIRS)
async def test_identify_answers_with_the_number_of_the_best_slot(trio: Trio, pair: Pair) -> None:
    templates = vectors(8, 10)
    gallery, probe = gallery_of(templates), templates[7]
    best = int(probe @ probe)
    for wanted, threshold, number in (([0, 2, 7, 9], best, 3), ([0, 2, 7, 9], best + 1, 0), ([0, 2, 9], best, 0)):
        request = signed(probe, pair, min(threshold, TOY.threshold_max), request_pb2.OPERATION_IDENTIFY)
        async with trio.both(request, pair, output_bits=3) as calls:
            results = await results_of(calls, gallery, wanted, pair)
            bits = await answers(calls, results, len(wanted).bit_length())
        assert sum(bit << i for i, bit in enumerate(bits)) == number


@pytest.mark.parametrize("pair", PAIRS)
async def test_an_enrolment_ends_with_shares_of_the_template(trio: Trio, pair: Pair) -> None:
    template = vectors(5, 1)[0]
    async with trio.both(signed(template, pair, operation=request_pb2.OPERATION_ENROL), pair) as calls:
        shares = await asyncio.gather(*(call.template_shares(1, told=1) for call in calls.values()))
    plus, minus = (share.values for share in shares)
    assert opened_lanes(plus, minus) == [template.tolist()]
    assert first_bit(shares[0].valid) ^ first_bit(shares[1].valid)


@pytest.mark.parametrize("pair", PAIRS)
async def test_an_enrolment_of_no_valid_vector_ends_with_shares_of_zero(trio: Trio, pair: Pair) -> None:
    template = vectors(5, 1)[0] * 0
    async with trio.both(signed(template, pair, operation=request_pb2.OPERATION_ENROL), pair) as calls:
        shares = await asyncio.gather(*(call.template_shares(1, told=1) for call in calls.values()))
    plus, minus = (share.values for share in shares)
    assert opened_lanes(plus, minus) == [template.tolist()]
    assert not first_bit(shares[0].valid) ^ first_bit(shares[1].valid)


@pytest.mark.parametrize("by_device", [[True] * 3, [False] * 3, [True, False, True]])
async def test_an_erasure_converts_the_records_that_the_matchers_bring(trio: Trio, by_device: list[bool]) -> None:
    templates = vectors(6, 3)
    record = [c for template in templates for c in encrypted(template)]
    request = signed([], "ab", operation=request_pb2.OPERATION_ERASE)
    async with trio.both(request, "ab", record=record, by_device=by_device) as calls:
        plus, minus = await asyncio.gather(*(call.template_shares(3, told=0) for call in calls.values()))
    assert opened_lanes(plus.values, minus.values) == templates.tolist()
    assert plus.valid == minus.valid == b"", "nobody is told whether what is erased was valid"


async def test_key_holders_that_are_told_different_things_about_a_record_end_before_an_opening(trio: Trio) -> None:
    record = encrypted(vectors(6, 1)[0])
    request = signed([], "ab", operation=request_pb2.OPERATION_ERASE)
    async with (
        trio.call(request, "a", "ab", record=record, by_device=[True]) as a,
        trio.call(request, "b", "ab", record=record, by_device=[False]) as b,
    ):
        errors = await asyncio.gather(a.template_shares(1, 0), b.template_shares(1, 0), return_exceptions=True)
    assert any(isinstance(error, ProtocolError) for error in errors)


def opened_lanes(plus: Words, minus: Words) -> list[list[int]]:
    """What both parts add up to as integers, without the offset."""
    return [
        [int(p) - int(m) - TOY.offset for p, m in zip(*row, strict=True)]
        for row in zip(plus.tolist(), minus.tolist(), strict=True)
    ]


def first_bit(share: bytes) -> int:
    return share[0] & 1


async def test_many_sessions_of_all_pairs_at_once_stay_exact(trio: Trio) -> None:
    templates = vectors(7, 20)
    gallery = gallery_of(templates)

    async def one(i: int) -> bool:
        pair, probe = PAIRS[i % 3], vectors(100 + i, 1)[0]
        bits = await trio.decide(signed(probe, pair, 3), pair, gallery, range(20))
        return bits == (templates @ probe >= 3).astype(int).tolist()

    assert all(await asyncio.gather(*(one(i) for i in range(12))))
    assert all(not trio[party].links.rendezvous._links for party in PARTIES)
