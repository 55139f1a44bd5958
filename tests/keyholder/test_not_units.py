"""A matcher that gives its key holder what is no ciphertext: it is named, nothing is computed, and others are served.

A number that shares a factor with N has no logarithm, and in a group with others no inverse for any of them. Who knows
one that is below N has factored N; multiples of N are there for everybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.keyholder.trio import TOY, Trio, ceremony, encrypted, results_of, scheme, signed, started, stocked
from tests.simulator import SimulatedGallery
from veilmatch.crypto.errors import CiphertextError, UnavailableError, VeilmatchError
from veilmatch.protos.v1 import request_pb2

TEMPLATES = np.random.default_rng(1).integers(-TOY.clip, TOY.clip + 1, (3, TOY.dimension))
PROBE = TEMPLATES[0]
VERIFY = request_pb2.OPERATION_VERIFY


def number(x: int) -> bytes:
    return scheme().serialise(x)


#: What takes the place of a ciphertext.
NOT_UNITS: dict[str, Callable[[], bytes]] = {
    "0": lambda: bytes(TOY.ciphertext_bytes),
    "N": lambda: number(ceremony().public_key.modulus),
    "3 N": lambda: number(3 * ceremony().public_key.modulus),
    "N^2": lambda: number(ceremony().public_key.modulus ** 2),
}
EVERY = pytest.mark.parametrize("what", NOT_UNITS)


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Trio]:
    """Three key holders that wait for each other, but not for long."""
    async with started(await stocked(tmp_path / "hasty"), peer_timeout_s=6.0) as made:
        yield made


async def verified(trio: Trio, **given: Any) -> list[Any]:
    """What the matchers of a pair hear of a verification, given the records of each by its letter."""

    async def one(party: Any, request: request_pb2.SignedRequest) -> Any:
        async with trio.call(request, party, "ab", record=given[party], by_device=[False]) as call:
            return await call.decision_share(1, TOY.lane_ciphertexts)

    request = signed(PROBE, "ab", 1, VERIFY)
    return await asyncio.gather(*(one(party, request) for party in ("a", "b")), return_exceptions=True)


@EVERY
async def test_a_record_that_is_no_ciphertext_names_the_matcher_and_harms_nobody_beside(what: str, hasty: Trio) -> None:
    record = encrypted(TEMPLATES[1])
    bad = [NOT_UNITS[what](), *record[1:]]
    await hasty.verify(PROBE, "ab", 1, TEMPLATES[1:])  # so that there is stock
    (of_a, of_b), beside = await asyncio.gather(
        verified(hasty, a=bad, b=record),
        hasty.verify(PROBE, "ab", 1, TEMPLATES[1:]),  # with the same key holders, at the same time
    )
    assert type(of_a) is CiphertextError and of_a.party is not None and "bc" in of_a.alternatives
    assert of_a.said_by or of_a.party == "matcher-a"
    assert isinstance(of_b, UnavailableError) and of_b.party == "keyholder-a"
    assert beside == bool((TEMPLATES[1:] @ PROBE >= 1).any())


async def test_records_that_are_ciphertexts_of_strange_numbers_harm_nobody_either(hasty: Trio) -> None:
    """1 and N + 1 are ciphertexts, of 0 and of 1, with no randomness at all. Of an honest peer the session ends."""
    N, record = ceremony().public_key.modulus, encrypted(TEMPLATES[1])
    for strange in (1, N + 1, N * N - 1, 2):
        outcomes = await verified(hasty, a=[number(strange), *record[1:]], b=record)
        assert all(isinstance(error, VeilmatchError) for error in outcomes), outcomes
    assert await hasty.verify(PROBE, "ab", 1, TEMPLATES[1:]) == bool((TEMPLATES[1:] @ PROBE >= 1).any())


@EVERY
async def test_results_that_are_no_ciphertexts_name_the_matcher(what: str, hasty: Trio) -> None:
    gallery = SimulatedGallery.of(scheme(), TEMPLATES)
    async with hasty.both(signed(PROBE, "ab", 5), "ab") as calls:
        results = await results_of(calls, gallery, range(3), "ab")
        data = [scheme().serialise(c) for c in results.ciphertexts]

        async def one(party: Any, given: list[bytes]) -> Any:
            await calls[party].send_results(given, results.wanted)
            return await calls[party].decision_share(3, len(given))

        bad = [NOT_UNITS[what](), *data[1:]]
        of_a, of_b = await asyncio.gather(one("a", bad), one("b", data), return_exceptions=True)
    assert type(of_a) is CiphertextError and "bc" in of_a.alternatives
    assert isinstance(of_b, VeilmatchError)
    assert await hasty.decide(signed(PROBE, "ab", 5), "ab", gallery, range(3)) == (TEMPLATES @ PROBE >= 5).tolist()


@EVERY
async def test_a_probe_that_is_no_ciphertext_is_the_fault_of_no_server(what: str, trio: Trio) -> None:
    probe = encrypted(PROBE)
    request = signed([NOT_UNITS[what](), *probe[1:]], "ab", 1, VERIFY)
    async with trio.call(request, "a", "ab", record=encrypted(TEMPLATES[1]), by_device=[False]) as call:
        with pytest.raises(CiphertextError) as caught:
            await call.decision_share(1, TOY.lane_ciphertexts)
    assert caught.value.party is None and not caught.value.alternatives
