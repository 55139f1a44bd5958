"""What is refused at the entrance is about the request all the same: its id is in the log line and in the error."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from veilmatch.crypto.errors import OverloadedError
from veilmatch.crypto.requests import request_digest
from veilmatch.protos.v1 import request_pb2 as pb
from veilmatch.server.config import AdmissionLimits
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.ground.request_id import add_request, current_request
from veilmatch.server.matcher.agreement.meeting import Meetings
from veilmatch.server.matcher.entrance import Entrance
from veilmatch.server.matcher.service import MatcherService
from veilmatch.server.transport.status import _typed

CONTEXT = cast(Any, SimpleNamespace(auth_context=lambda: {"x509_common_name": [b"door"]}))


async def test_a_refusal_of_one_too_many_has_the_id_of_its_request() -> None:
    meetings = Meetings("a", {"b": None}, 5.0)  # type: ignore[dict-item]
    entrance = Entrance(AdmissionLimits(in_progress=1, waiting=1), None, meetings, "matcher-a", 1)  # type: ignore[arg-type]
    body = pb.RequestBody(pair="ab").SerializeToString()
    request = pb.SignedRequest(body=body)

    async def call() -> None:
        async with entrance.meeting(request, CONTEXT, "verify"):
            raise AssertionError("there was room")

    async with entrance._turns.turn("door"):
        with capture_logs(processors=[add_request]) as logged, pytest.raises(OverloadedError) as caught:
            await _typed(call(), MatcherService.Match, CONTEXT, Self("matcher-a"))
    expected = request_digest(body)[:8].hex()
    assert caught.value.request_id == current_request() == expected
    assert [(entry["request"], entry["device"]) for entry in logged] == [(expected, "door")]
