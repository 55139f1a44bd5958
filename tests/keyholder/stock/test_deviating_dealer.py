"""Three real key holders, one of which deviates in the check of a block: nothing of it is used, the pair goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.keyholder.trio import TOY, Trio, holders, signed
from veilmatch.crypto.dealing import Block
from veilmatch.crypto.errors import DealtOpeningError, DealtStockError, KeySafetyError, UnavailableError
from veilmatch.crypto.keys.parties import Party
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.keyholder import service
from veilmatch.server.keyholder.stock import checking, standing

TEMPLATE = np.random.default_rng(1).integers(-TOY.clip, TOY.clip + 1, TOY.dimension)
WAIT_S = standing.FIRST_WAIT_S


@pytest.fixture(autouse=True)
def now(unstocked: Trio) -> list[float]:
    """The clock that the pair waits by after a check that failed."""
    clock = [1000.0]
    for party in holders("ab"):
        unstocked[party].stocks._standings["ab"]._now = lambda: clock[0]
    return clock


async def enrol(trio: Trio) -> list[Any]:
    request = signed(TEMPLATE, "ab", operation=request_pb2.OPERATION_ENROL)

    async def one(party: Party) -> Any:
        async with trio.call(request, party, "ab") as call:
            return await call.template_shares(1, told=1)

    return await asyncio.gather(*map(one, holders("ab")), return_exceptions=True)


async def served_again(trio: Trio, now: list[float]) -> None:
    """It is, with nothing restarted. A holder that notes the failure after the other one waits once more."""
    for _ in range(2):
        now[0] += WAIT_S
        outcomes = await enrol(trio)
        if not any(isinstance(outcome, BaseException) for outcome in outcomes):
            break
    assert not any(isinstance(outcome, BaseException) for outcome in outcomes), outcomes


def stock(trio: Trio) -> list[int]:
    return [units for party in ("a", "b") for units in trio[party].stocks.by_pair["ab"].remaining.values()]  # type: ignore[index]


async def test_a_dealer_that_deals_one_wrong_triple_is_named_to_the_device(
    unstocked: Trio, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = service.deal_tagged

    def wrong(*arguments: Any, **roles: Any) -> Block:
        block = honest(*arguments, **roles)
        if not roles["for_plus"]:
            return block
        return Block(block.seed, bytes([block.corrections[0] ^ 1]) + block.corrections[1:])

    monkeypatch.setattr(service, "deal_tagged", wrong)
    with capture_logs() as logged:
        first = await enrol(unstocked)
    monkeypatch.undo()
    alerts = [entry for entry in logged if entry["event"] == "dealt block refused"]
    assert {(alert["named"], alert["log_level"]) for alert in alerts} == {("keyholder-c", "error")}
    for outcomes in (first, await enrol(unstocked)):
        error = next(x for x in outcomes if isinstance(x, DealtStockError))
        assert error.party == "keyholder-c" and error.retry_after_s is not None and error.retry_after_s <= WAIT_S
    assert not any(stock(unstocked))
    await served_again(unstocked, now)


@pytest.mark.parametrize("for_plus", [True, False])
async def test_a_dealer_that_deals_one_wrong_tag_is_named_before_a_session_uses_it(
    for_plus: bool, unstocked: Trio, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = service.deal_tagged

    def wrong(seed: bytes, name: Any, *arguments: Any, **roles: Any) -> Block:
        block = honest(seed, name, *arguments, **roles)
        if name.kind != "triples" or roles["for_plus"] is not for_plus:
            return block
        return Block(
            block.seed, block.corrections[:-500] + bytes([block.corrections[-500] ^ 1]) + block.corrections[-499:]
        )

    monkeypatch.setattr(service, "deal_tagged", wrong)
    outcomes = await enrol(unstocked)
    monkeypatch.undo()
    assert not any(isinstance(outcome, KeySafetyError) for outcome in outcomes), "it would name an honest holder"
    error = next(x for x in outcomes if isinstance(x, DealtStockError))
    assert error.party == "keyholder-c"
    await served_again(unstocked, now)


async def test_a_plus_holder_that_alters_its_opening_is_named_and_the_honest_dealer_is_not(
    unstocked: Trio, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = checking.BlockCheck

    class Altered(honest):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, is_plus: bool) -> None:
            super().__init__(*arguments, is_plus=is_plus)
            if is_plus:
                self.opening = self.opening[:-1] + bytes([self.opening[-1] ^ 1])

    monkeypatch.setattr(checking, "BlockCheck", Altered)
    with capture_logs() as logged:
        outcomes = await enrol(unstocked)
    alerts = [entry for entry in logged if entry["event"] == "dealt block refused"]
    assert {alert["named"] for alert in alerts} == {"keyholder-a", "keyholder-b"}, "each names the other"
    assert any(isinstance(outcome, DealtOpeningError) for outcome in outcomes)
    monkeypatch.setattr(checking, "BlockCheck", honest)
    await served_again(unstocked, now)


async def test_a_dealer_that_cannot_be_reached_once_there_is_a_coin_costs_a_wait_and_no_restart(
    unstocked: Trio, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = asyncio.Event()

    def gone(*_arguments: Any, **_roles: Any) -> bytes:
        silent.set()
        raise OSError("the disk is gone, say")

    with monkeypatch.context() as patch:
        patch.setattr(service, "commit_opening", gone)
        outcomes = await enrol(unstocked)
    assert silent.is_set()
    errors = [outcome for outcome in outcomes if isinstance(outcome, UnavailableError)]
    assert any(error.party == "keyholder-c" and error.retry_after_s is not None for error in errors), outcomes
    await served_again(unstocked, now)


async def test_the_dealer_is_asked_by_the_holders_of_its_pair_for_the_opening_of_the_other(
    unstocked: Trio, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    committing = service.commit_opening

    def noting(seed: bytes, name: Any, coin: bytes, modulus: Any, *, of_plus: bool) -> bytes:
        asked.append((name.pair, "plus" if of_plus else "minus"))
        return committing(seed, name, coin, modulus, of_plus=of_plus)

    monkeypatch.setattr(service, "commit_opening", noting)
    await (await unstocked["a"].stocks.of("ab")).refill()
    assert sorted(asked) == [("ab", "minus")] * 3 + [("ab", "plus")] * 3
    assert all(unstocked["a"].stocks.by_pair["ab"].remaining.values())
