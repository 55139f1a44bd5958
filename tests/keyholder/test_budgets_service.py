"""Budgets at key holders: refused by both, before anything is used, and bounded over all pairs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.keyholder.test_service_sessions import gallery_of, vectors
from tests.keyholder.trio import TOY, Trio, answers, device_key, results_of, signed, started, stocked
from tests.transport.ledgers import admit
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import (
    BudgetExceededError,
    KnowledgeProofError,
    ProtocolError,
    RequestReplayedError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PAIRS, Pair, Party
from veilmatch.crypto.pair.unless_known import TOLD_BITS
from veilmatch.crypto.requests import signed_bytes
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.config import KeyHolderBudgets
from veilmatch.server.keyholder.audit.check import entries_of
from veilmatch.server.keyholder.session import serving
from veilmatch.server.matcher.query.keyholder_call import KeyHolderCall, TemplateShares

PROBE = np.arange(TOY.dimension) % 7 - 3
GALLERY = gallery_of(vectors(1, 3))
LIMIT = 4


@pytest.fixture
async def trio_with(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Make three key holders with these budgets."""
    running = []

    async def make(**limits: Any) -> Trio:
        folder, free = await stocked(tmp_path / "trio"), {name: {} for name in KeyHolderBudgets.model_fields}
        manager = started(folder, budgets=free | limits)
        running.append(manager)
        return await manager.__aenter__()

    yield make
    for manager in running:
        await manager.__aexit__(None, None, None)


async def served(trio: Trio, pair: Pair = "ab") -> bool:
    try:
        await trio.decide(signed(PROBE, pair), pair, GALLERY, range(3))
    except BudgetExceededError:
        return False
    return True


async def outcomes(trio: Trio, pair: Pair = "ab", **changes: Any) -> list[Any]:
    """What each matcher hears of one request."""
    async with trio.both(signed(PROBE, pair), pair, **changes) as calls:
        return await asyncio.gather(*(call.probe_share() for call in calls.values()), return_exceptions=True)


def batches(trio: Trio) -> list[int]:
    return [trio.running[party].pool.batches for party in trio.running]


def stock_used(trio: Trio) -> list[tuple[int, ...]]:
    return [tuple(stock.floors) for party in trio.running for stock in trio[party].stocks.by_pair.values()]


async def test_both_holders_refuse_alike_and_nothing_is_computed_or_used(trio_with: Any) -> None:
    trio = await trio_with(device_searches={"day": LIMIT})
    assert [await served(trio) for _ in range(LIMIT)] == [True] * LIMIT
    before = batches(trio), stock_used(trio)
    for error in await outcomes(trio):
        assert isinstance(error, BudgetExceededError)
        assert (error.budget, error.limit) == ("searches of a device in a day", LIMIT)
        assert error.retry_after_s is not None and 86000 < error.retry_after_s <= 86400 * 61 / 60
    assert (batches(trio), stock_used(trio)) == before
    assert entries_of(trio.data_dir("a"))[-1].fields["code"] == "budget_exceeded"


async def test_a_device_whose_budget_is_used_up_costs_no_proof_and_no_nonce(
    trio_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trio = await trio_with(device_requests={"day": 1})
    assert await served(trio)
    done: list[str] = []
    checking, parsing = serving.check_knowledge, Paillier.parse_many

    def check(*arguments: Any) -> None:
        done.append("proof")
        checking(*arguments)

    def parse(scheme: Paillier, data: Any) -> Any:
        done.append("ciphertexts")
        return parsing(scheme, data)

    monkeypatch.setattr(serving, "check_knowledge", check)
    monkeypatch.setattr(Paillier, "parse_many", parse)
    request, before = signed(PROBE), [nonces(trio, party) for party in ("a", "b")]
    for _ in range(2):
        async with trio.both(request, "ab") as calls:
            found = await asyncio.gather(*(call.probe_share() for call in calls.values()), return_exceptions=True)
        assert [type(error) for error in found] == [BudgetExceededError] * 2
    assert not done and [nonces(trio, party) for party in ("a", "b")] == before
    assert entries_of(trio.data_dir("a"))[-1].fields["code"] == "budget_exceeded"


def nonces(trio: Trio, party: Party) -> int:
    with closing(sqlite3.connect(trio.data_dir(party) / "ledger.db")) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM nonces").fetchone()[0])


@pytest.mark.parametrize("party", ["a", "b"])
async def test_a_refusal_by_one_holder_ends_the_request_at_the_other_at_once(trio_with: Any, party: Party) -> None:
    trio = await trio_with(device_requests={"day": LIMIT})
    for _ in range(LIMIT):
        admit(trio[party]._ledger, {"device": "device-1"}, {"requests": 1})
    await trio["a"].stocks.of("ab")
    before = stock_used(trio)
    started_at = asyncio.get_running_loop().time()
    found = dict(zip("ab", await outcomes(trio), strict=True))
    # The waiting time of a key holder here is 20 s.
    assert asyncio.get_running_loop().time() - started_at < 15.0
    assert isinstance(found[party], BudgetExceededError)
    assert all(isinstance(error, VeilmatchError) for error in found.values())
    assert stock_used(trio) == before
    # The other one converts while it waits: its own budget has counted the request.
    assert sum(batches(trio)) <= 1 and not batches(trio)["abc".index(party)]
    assert not trio["a"].links.rendezvous._links and not trio["b"].links.rendezvous._links


async def test_an_unproven_request_uses_up_neither_budget_nor_nonce(trio_with: Any) -> None:
    trio = await trio_with(device_requests={"day": 1})
    request = signed(PROBE)
    body = request_pb2.RequestBody.FromString(request.body)
    body.knowledge = body.knowledge[::-1]
    data = body.SerializeToString(deterministic=True)
    spoilt = request_pb2.SignedRequest(
        body=data, signature=device_key("device-1").sign(signed_bytes(data)), ciphertexts=request.ciphertexts
    )
    for _ in range(2):
        async with trio.both(spoilt, "ab") as calls:
            found = await asyncio.gather(*(call.probe_share() for call in calls.values()), return_exceptions=True)
        assert [type(error) for error in found] == [KnowledgeProofError] * 2
    assert batches(trio) == [0, 0, 0]
    assert entries_of(trio.data_dir("a"))[-1].fields["code"] == "knowledge_proof"
    await trio.decide(request, "ab", GALLERY, range(3))


async def test_over_all_pairs_at_most_one_and_a_half_times_the_limit_is_served(trio_with: Any) -> None:
    trio = await trio_with(device_requests={"day": LIMIT})
    count = 0
    for i in range(4 * LIMIT):
        count += await served(trio, PAIRS[i % 3])
    assert LIMIT <= count <= LIMIT * 3 // 2


async def test_requests_at_once_are_served_exactly_as_often_as_the_limit_says(trio_with: Any) -> None:
    trio = await trio_with(device_requests={"day": LIMIT})
    results = await asyncio.gather(*(served(trio) for _ in range(3 * LIMIT)), return_exceptions=True)
    # A request that only one holder still admitted is refused by the other, and counts where it was admitted.
    assert sum(result is True for result in results) <= LIMIT
    charged = [LIMIT - _room(trio, party) for party in ("a", "b")]
    assert charged == [LIMIT, LIMIT]


def _room(trio: Trio, party: Any) -> int:
    room = 0
    while room < LIMIT:
        try:
            admit(trio[party]._ledger, {"device": "device-1"}, {"requests": 1})
        except BudgetExceededError:
            break
        room += 1
    return room


async def test_a_replay_is_refused_as_one_and_not_counted_again(trio_with: Any) -> None:
    trio = await trio_with(device_requests={"day": 2})
    request = signed(PROBE, operation=request_pb2.OPERATION_ENROL)
    for _ in range(4):
        try:
            async with trio.both(request, "ab") as calls:
                await asyncio.gather(*(call.template_shares(1, told=1) for call in calls.values()))
        except RequestReplayedError:
            pass
    assert await served(trio) and not await served(trio)


async def test_a_session_that_fails_has_been_counted(trio_with: Any) -> None:
    trio = await trio_with(device_requests={"day": 2})
    async with trio.call(signed(PROBE), "a", "ab") as call:
        with pytest.raises(VeilmatchError):
            await call.probe_share()
    assert await served(trio)
    # The other holder, which has counted less, may say first that its peer is gone.
    assert any(isinstance(outcome, BudgetExceededError) for outcome in await outcomes(trio))


async def test_bits_are_counted_as_announced_and_more_are_not_answered(trio_with: Any) -> None:
    trio = await trio_with(device_bits={"day": 10}, gallery_bits={"day": 100})
    with pytest.raises(ProtocolError, match="more answers"):
        async with trio.both(signed(PROBE), "ab", output_bits=2) as calls:
            await answers(calls, await results_of(calls, GALLERY, range(3), "ab"))
    assert all(isinstance(e, BudgetExceededError) and e.retry_after_s is None for e in await outcomes(trio))
    (error, _) = await outcomes(trio, output_bits=9)
    assert isinstance(error, BudgetExceededError) and error.retry_after_s is not None
    assert not any(isinstance(e, Exception) for e in await outcomes(trio, output_bits=8))


async def test_identify_is_a_search_and_costs_the_bits_of_a_slot_number(trio_with: Any) -> None:
    trio = await trio_with(device_bits={"day": 4}, device_searches={"day": 3})

    async def identified(output_bits: int) -> None:
        request = signed(PROBE, operation=request_pb2.OPERATION_IDENTIFY)
        async with trio.both(request, "ab", output_bits=output_bits) as calls:
            await answers(calls, await results_of(calls, GALLERY, range(3), "ab"), 2)

    with pytest.raises(ProtocolError, match="more answers"):
        await identified(1)
    await identified(2)
    with pytest.raises(BudgetExceededError, match="used up") as caught:
        await identified(2)
    assert caught.value.budget == "bits of a device in a day"
    with pytest.raises(ProtocolError, match="more answers"):
        await identified(1)
    with pytest.raises(BudgetExceededError) as caught:
        await identified(0)
    assert caught.value.budget == "searches of a device in a day"


async def searched(trio: Trio, operation: request_pb2.Operation.ValueType, output_bits: int, views: int = 1) -> int:
    """How many answer bits came of a search over the three templates, as a matcher announces it."""
    request = signed(np.array([PROBE] * views), operation=operation, views=views)
    count = 3 if operation == request_pb2.OPERATION_CANDIDATES else 1
    async with trio.both(request, "ab", output_bits=output_bits) as calls:
        return len(await answers(calls, await results_of(calls, GALLERY, range(3), "ab", views), count))


@pytest.mark.parametrize("whose", ["device", "gallery"])
@pytest.mark.parametrize(
    ("operation", "views", "bits"),
    [
        (request_pb2.OPERATION_KNOWN, 1, 1),
        (request_pb2.OPERATION_KNOWN, 3, 1),
        (request_pb2.OPERATION_CANDIDATES, 1, 3),
        (request_pb2.OPERATION_CANDIDATES, 2, 3),
    ],
    ids=["known", "known, 3 views", "candidates", "candidates, 2 views"],
)
async def test_a_search_costs_the_bits_of_its_answer_whatever_its_views(
    trio_with: Any, whose: str, operation: request_pb2.Operation.ValueType, views: int, bits: int
) -> None:
    trio = await trio_with(**{f"{whose}_bits": {"day": 2 * bits}})
    for _ in range(2):
        assert await searched(trio, operation, bits, views) == bits
    with pytest.raises(BudgetExceededError, match="used up") as caught:
        await searched(trio, operation, bits, views)
    assert (caught.value.budget, caught.value.limit) == (f"bits of a {whose} in a day", 2 * bits)


async def test_known_that_is_announced_as_a_bit_a_template_is_counted_so_and_with_none_not_answered(
    trio_with: Any,
) -> None:
    trio = await trio_with(device_bits={"day": 2})
    with pytest.raises(BudgetExceededError):
        await searched(trio, request_pb2.OPERATION_KNOWN, 3)
    with pytest.raises(ProtocolError, match="more answers"):
        await searched(trio, request_pb2.OPERATION_KNOWN, 0)
    assert await searched(trio, request_pb2.OPERATION_KNOWN, 1) == 1


@pytest.mark.parametrize("views", [1, 2])
async def test_an_enrolment_unless_known_is_a_search_of_one_bit(trio_with: Any, views: int) -> None:
    trio = await trio_with(device_bits={"day": 2}, gallery_bits={"day": 3}, device_searches={"day": 2})

    async def enrolled(output_bits: int) -> None:
        request = signed(
            np.array([PROBE] * views), operation=request_pb2.OPERATION_ENROL, unless_known=True, views=views
        )
        async with trio.both(request, "ab", output_bits=output_bits) as calls:
            results = await results_of(calls, GALLERY, range(3), "ab", views)
            data = [GALLERY.scheme.serialise(c) for c in results.ciphertexts]

            async def stored(call: KeyHolderCall) -> TemplateShares:
                await call.send_results(data, results.wanted)
                return await call.template_shares(1, told=TOLD_BITS, conversions=len(data))

            await asyncio.gather(*map(stored, calls.values()))

    with pytest.raises(BudgetExceededError):
        await enrolled(3)
    for _ in range(2):
        await enrolled(1)
    with pytest.raises(BudgetExceededError) as caught:
        await enrolled(1)
    assert caught.value.budget in ("bits of a device in a day", "searches of a device in a day")
    # A plain enrolment compares nothing: it takes a request, and none of these.
    async with trio.both(signed(PROBE, operation=request_pb2.OPERATION_ENROL), "ab") as calls:
        await asyncio.gather(*(call.template_shares(1, told=1) for call in calls.values()))


async def test_a_budget_holds_over_a_restart(trio_with: Any) -> None:
    trio = await trio_with(gallery_requests={"month": 2})
    assert await served(trio)
    await trio.stop("a", "b")
    await trio.start("a", "b")
    assert await served(trio) and not await served(trio)
