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
from veilmatch.server.matcher.entrance import Entrance
from veilmatch.server.matcher.service import MatcherService
from veilmatch.server.transport.own_failures import Self
from veilmatch.server.transport.request_id import add_request, current_request
from veilmatch.server.transport.status import _typed

CONTEXT = cast(Any, SimpleNamespace(auth_context=lambda: {"x509_common_name": [b"door"]}))


@pytest.mark.parametrize("name", ["meeting", "alone"])
async def test_a_refusal_of_one_too_many_has_the_id_of_its_request(name: str) -> None:
    entrance = Entrance(AdmissionLimits(in_progress=1, waiting=1), None, SimpleNamespace(leads=True), "matcher-a", 1)  # type: ignore[arg-type]
    request = pb.SignedRequest(body=b"a body")

    async def call() -> None:
        async with getattr(entrance, name)(request, CONTEXT, "verify"):
            raise AssertionError("there was room")

    async with entrance._turns.turn("door"):
        with capture_logs(processors=[add_request]) as logged, pytest.raises(OverloadedError) as caught:
            await _typed(call(), MatcherService.Match, CONTEXT, Self("matcher-a"))
    expected = request_digest(b"a body")[:8].hex()
    assert caught.value.request_id == current_request() == expected
    assert [(entry["request"], entry["device"]) for entry in logged] == [(expected, "door")]
