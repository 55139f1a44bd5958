"""A matcher asks its key holder for the device that calls, and says in words what went wrong there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from veilmatch.crypto.errors import UnavailableError, VersionError
from veilmatch.protos.v1 import keyholder_pb2
from veilmatch.protos.v1.request_pb2 import BudgetLeft
from veilmatch.server.matcher.query.budgets import budgets


class Stub:
    """A key holder that answers, or ends every call with a status."""

    def __init__(self, status: grpc.StatusCode | None = None) -> None:
        self.status = status
        self.asked: list[str] = []

    async def DeviceBudgets(self, question: Any, timeout: float) -> keyholder_pb2.DeviceBudgetsReply:
        self.asked.append(question.device)
        if self.status is not None:
            raise grpc.aio.AioRpcError(self.status, grpc.aio.Metadata(), grpc.aio.Metadata())
        return keyholder_pb2.DeviceBudgetsReply(budgets=[BudgetLeft(measure="bits", window="day", limit=9, used=2)])


def surroundings(stub: Stub) -> Any:
    return cast(Any, SimpleNamespace(party="b", key_holder=stub, timeout_s=1.0))


async def test_what_the_key_holder_says_is_passed_on() -> None:
    stub = Stub()
    (one,) = (await budgets("door-1", surroundings(stub))).budgets
    assert (one.measure, one.window, one.limit, one.used) == ("bits", "day", 9, 2) and stub.asked == ["door-1"]


async def test_a_key_holder_of_before_is_named() -> None:
    with pytest.raises(VersionError, match="keyholder-b has to be updated") as caught:
        await budgets("door-1", surroundings(Stub(grpc.StatusCode.UNIMPLEMENTED)))
    assert (caught.value.party, caught.value.alternatives) == ("keyholder-b", ("ac",))


async def test_a_key_holder_that_does_not_answer_is_missing() -> None:
    with pytest.raises(UnavailableError) as caught:
        await budgets("door-1", surroundings(Stub(grpc.StatusCode.UNAVAILABLE)))
    assert caught.value.party == "keyholder-b"
