"""A dealer that deals one wrong triple: its pair serves nothing with it, and takes nothing more before a restart."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from tests.keyholder.trio import TOY, Trio, signed
from veilmatch.crypto.dealing import Block
from veilmatch.crypto.errors import DealtStockError
from veilmatch.crypto.keys.shares import SEATS, Seat
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.keyholder import service

TEMPLATE = np.random.default_rng(1).integers(-TOY.clip, TOY.clip + 1, TOY.dimension)


async def enrol(trio: Trio) -> list[Any]:
    request = signed(TEMPLATE, "ab", operation=request_pb2.OPERATION_ENROL)

    async def one(seat: Seat) -> Any:
        async with trio.call(request, seat, "ab") as call:
            return await call.template_shares(1, told=1)

    return await asyncio.gather(*(one(seat) for seat in SEATS), return_exceptions=True)


async def test_nothing_is_served_with_the_stock_of_a_deviating_dealer(
    trio: Trio, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = service.deal_tagged

    def wrong(*arguments: Any, **roles: Any) -> Block:
        block = honest(*arguments, **roles)
        if not roles["for_plus"]:
            return block
        return Block(block.seed, bytes([block.corrections[0] ^ 1]) + block.corrections[1:])

    monkeypatch.setattr(service, "deal_tagged", wrong)
    assert any(isinstance(outcome, DealtStockError) for outcome in await enrol(trio))
    assert "dealt block refused" in capsys.readouterr().out
    monkeypatch.undo()
    outcomes = await enrol(trio)
    assert any(isinstance(outcome, DealtStockError) and "keyholder-c" in outcome.message for outcome in outcomes)
    assert all(not any(trio[party].stocks.by_pair["ab"].remaining.values()) for party in ("a", "b"))  # type: ignore[index]
    await trio.stop("a", "b")
    await trio.start("a", "b")
    for _ in range(3):
        outcomes = await enrol(trio)
        if not any(isinstance(outcome, BaseException) for outcome in outcomes):
            return
        await asyncio.sleep(0.3)
    raise AssertionError(outcomes)
