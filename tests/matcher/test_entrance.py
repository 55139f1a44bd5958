"""What is refused at the entrance, with the id of its request in log and error; and what a leader may begin here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from veilmatch.crypto.errors import OverloadedError
from veilmatch.crypto.requests import request_digest
from veilmatch.protos.v1 import request_pb2 as pb
from veilmatch.server.admission.requests import operation_said
from veilmatch.server.bounds import AdmissionLimits
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.ground.request_id import add_request, current_request
from veilmatch.server.matcher.agreement.meetings import Meetings
from veilmatch.server.matcher.entrance import Entrance
from veilmatch.server.matcher.service import MatcherService
from veilmatch.server.transport.status import _typed

CONTEXT = cast(Any, SimpleNamespace(auth_context=lambda: {"x509_common_name": [b"door"]}))


async def test_a_refusal_of_one_too_many_has_the_id_of_its_request() -> None:
    meetings = Meetings("a", {"b": None}, 5.0)  # type: ignore[dict-item]
    entrance = Entrance(AdmissionLimits(in_progress=1, waiting=1), None, meetings, "matcher-a", 1)  # type: ignore[arg-type]
    body = pb.RequestBody(pair="ab", operation=pb.OPERATION_CANDIDATES).SerializeToString()
    request = pb.SignedRequest(body=body)

    async def call() -> None:
        async with entrance.meeting(request, CONTEXT, "candidates"):
            raise AssertionError("there was room")

    async with entrance._turns.turn("door"):
        with capture_logs(processors=[add_request]) as logged, pytest.raises(OverloadedError) as caught:
            await _typed(call(), MatcherService.Match, CONTEXT, Self("matcher-a"))
    expected = request_digest(body)[:8].hex()
    assert caught.value.request_id == current_request() == expected
    assert [(entry["request"], entry["device"]) for entry in logged] == [(expected, "door")]


class Led:
    """An entrance of matcher-a, which leads; the other matcher has been brought every request."""

    def __init__(self, limits: AdmissionLimits) -> None:
        meetings = Meetings("a", {"b": None}, 5.0)  # type: ignore[dict-item]
        meetings.met = self.met  # type: ignore[assignment]
        self.entrance = Entrance(limits, self, meetings, "matcher-a", 1)  # type: ignore[arg-type]

    def look(self, request: pb.SignedRequest, *_: object) -> Any:
        body = pb.RequestBody.FromString(request.body)
        return SimpleNamespace(digest=b"", pair=body.pair, operation=operation_said(body))

    @asynccontextmanager
    async def met(self, _digest: bytes, _pair: str, *, on_link: bool) -> AsyncIterator[Any]:
        async def begin(_patience_s: float) -> None:
            """It takes part."""

        yield SimpleNamespace(leads=True, peer="matcher-b", begin=begin)

    async def enter(self, stack: AsyncExitStack, operation: Any, *, changes: bool = False) -> None:
        request = pb.SignedRequest(body=pb.RequestBody(pair="ab", operation=operation).SerializeToString())
        await stack.enter_async_context(self.entrance.meeting(request, CONTEXT, changes=changes))


async def test_verifications_wait_for_no_turn_of_searches_and_changes_nor_these_for_theirs() -> None:
    led = Led(AdmissionLimits(in_progress=2, verifying=3, waiting=1, wait_s=0.05))
    async with AsyncExitStack() as stack:
        await led.enter(stack, pb.OPERATION_CANDIDATES)
        await led.enter(stack, pb.OPERATION_ENROL, changes=True)
        for _ in range(2):
            await led.enter(stack, pb.OPERATION_VERIFY)
        counts = {lane: turns.counts[0] for lane, turns in led.entrance.turns.items()}
        assert counts == {"verify": 2, "query": 2, "change": 1}
        # A device has half of the places of a kind.
        for operation in (pb.OPERATION_IDENTIFY, pb.OPERATION_VERIFY):
            with pytest.raises(OverloadedError, match="at most 2"):
                await led.enter(stack, operation)
    assert not any(turns.counts[0] for turns in led.entrance.turns.values())


class Followed:
    """An entrance of matcher-c, which follows two others; whoever leads has begun at once."""

    def __init__(self, followed: int) -> None:
        meetings = Meetings("c", {"a": None, "b": None}, 5.0)  # type: ignore[dict-item]
        meetings.met = self.met  # type: ignore[assignment]
        self.limits = AdmissionLimits(in_progress=1, waiting=1, followed=followed)
        self.entrance = Entrance(self.limits, self, meetings, "matcher-c", 1)  # type: ignore[arg-type]

    def look(self, request: pb.SignedRequest, *_: object) -> Any:
        return SimpleNamespace(digest=b"", pair=pb.RequestBody.FromString(request.body).pair, operation="verify")

    @asynccontextmanager
    async def met(self, _digest: bytes, pair: str, *, on_link: bool) -> AsyncIterator[Any]:
        async def begin(_patience_s: float) -> None:
            """The leader has said so."""

        async def receive(_kind: str) -> None:
            """It says no more."""

        yield SimpleNamespace(leads=False, peer=f"matcher-{pair[0]}", begin=begin, receive=receive)

    async def enter(self, stack: AsyncExitStack, pair: str, device: str) -> None:
        context = cast(Any, SimpleNamespace(auth_context=lambda: {"x509_common_name": [device.encode()]}))
        request = pb.SignedRequest(body=pb.RequestBody(pair=pair).SerializeToString())
        await stack.enter_async_context(self.entrance.meeting(request, context, "verify"))


async def test_a_leader_that_begins_more_than_there_may_be_is_told_so_at_once_and_takes_no_place_of_another() -> None:
    """A matcher with a larger machine, or a lying one: the one that follows does not take whatever it is sent."""
    followed = Followed(followed=4)
    async with AsyncExitStack() as stack:
        for device in ("door", "door", "gate", "hall"):
            await followed.enter(stack, "ac", device)
        with pytest.raises(OverloadedError) as caught:
            await followed.enter(stack, "ac", "yard")
        assert (caught.value.party, caught.value.expected) == ("matcher-c", "at most 4")
        assert caught.value.retry_after_s
        for device in ("yard", "yard"):
            await followed.enter(stack, "bc", device)
        with pytest.raises(OverloadedError, match="at most 2"):
            await followed.enter(stack, "bc", "yard")
        counts = {name: one.count for name, one in followed.entrance.followed.items() if one.count}
        assert counts == {"matcher-a verify": 4, "matcher-b verify": 2}
    assert {one.count for one in followed.entrance.followed.values()} == {0}
