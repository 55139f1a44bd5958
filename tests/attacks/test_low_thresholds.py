"""A device asks below its lowest threshold, with both matchers deviating: each key holder refuses alone.

The matchers of these tests bring whatever they like. A bound stands in one key holder's folder only, so it is that key
holder which refuses, and nobody who refuses for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.keyholder.audit.test_service import noted
from tests.keyholder.test_service_refusals import nothing_was_computed, nothing_was_used, serve
from tests.keyholder.test_service_sessions import gallery_of, vectors
from tests.keyholder.trio import TOY, Trio, holders, signed, started, stocked
from veilmatch.crypto.errors import LowThresholdError
from veilmatch.crypto.keys.parties import PAIRS, Pair
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.installation.lowest import Lowest

PROBE = vectors(72, 1)[0]
LOWEST = Lowest({"identify": 0.6}, others=0.4)
OPERATIONS = {
    request_pb2.OPERATION_VERIFY: ("verify", 0.4),
    request_pb2.OPERATION_CANDIDATES: ("candidates", 0.4),
    request_pb2.OPERATION_IDENTIFY: ("identify", 0.6),
}


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    async with started(await stocked(tmp_path / "trio")) as made:
        yield made


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("pair", PAIRS)
async def test_a_key_holder_refuses_though_its_peer_and_both_matchers_would_serve(
    trio: Trio, pair: Pair, at: int
) -> None:
    holder = holders(pair)[at]
    trio.certify(holder, "device-1", lowest=LOWEST)
    for number, (operation, cosine) in OPERATIONS.items():
        asked, lowest = TOY.threshold(cosine) - 1, TOY.threshold(cosine)
        error = await serve(trio, f"matcher-{holder}", holder, signed(PROBE, pair, asked, number))
        assert type(error) is LowThresholdError and operation in error.message
        assert str(error.got).startswith(f"{asked} ") and str(error.expected).startswith(f"at least {lowest} ")
    assert nothing_was_computed(trio) and nothing_was_used(trio)
    assert [entry.fields["code"] for entry in noted(trio, holder, "refused")] == ["low_threshold"] * len(OPERATIONS)


async def test_at_the_lowest_threshold_it_is_served(trio: Trio) -> None:
    gallery = gallery_of(np.array([PROBE, -PROBE]))
    for party in "ab":
        trio.certify(party, "device-1", lowest=LOWEST)  # type: ignore[arg-type]
    assert await trio.decide(signed(PROBE, "ab", TOY.threshold(0.4)), "ab", gallery, [0, 1]) == [1, 0]


async def test_without_the_bound_it_is_served_below_it(trio: Trio) -> None:
    gallery = gallery_of(np.array([PROBE, -PROBE]))
    assert await trio.decide(signed(PROBE, "ab", TOY.threshold(0.4) - 1), "ab", gallery, [0, 1]) == [1, 0]
