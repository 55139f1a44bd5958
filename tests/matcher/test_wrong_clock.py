"""A matcher whose clock is wrong finds out from the other one; a request that both refuse says nothing of a clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from structlog.testing import capture_logs

from tests.transport.parties import tls_of
from tests.transport.signed import DEVICE, NOW_MS, NOW_S, body, checker, signed
from veilmatch.crypto.errors import RequestExpiredError, UnavailableError, VeilmatchError, WrongClockError
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2 as pb
from veilmatch.server.bounds import AdmissionLimits
from veilmatch.server.ground.own_failures import Self, own_failures
from veilmatch.server.matcher.admission import Admission
from veilmatch.server.matcher.agreement.meetings import Meetings
from veilmatch.server.matcher.entrance import Entrance
from veilmatch.server.matcher.query.matching import Surroundings
from veilmatch.server.matcher.service import MatcherPeerService
from veilmatch.server.transport.channels import channel_to, server_credentials, server_options

CONTEXT = cast(Any, SimpleNamespace(auth_context=lambda: {"x509_common_name": [DEVICE.encode()]}))
A, B = "matcher-a", "matcher-b"
TIMEOUT_S = 2.0


@asynccontextmanager
async def matchers(folder: Path, **off_s: float) -> AsyncIterator[dict[str, Entrance]]:
    """Both entrances, connected by mutual TLS. off_s: how far the clock of "a" or "b" is ahead."""
    server = grpc.aio.server(options=server_options(serves_devices=True))
    port = server.add_secure_port("127.0.0.1:0", server_credentials(tls_of(folder, B)))
    async with channel_to(f"127.0.0.1:{port}", B, tls_of(folder, A)) as channel:
        found = {}
        for party, other in (("a", "b"), ("b", "a")):
            meetings = Meetings(party, {other: rpc.MatcherPeerStub(channel)}, TIMEOUT_S)  # type: ignore[arg-type, dict-item]
            now_s = NOW_S + off_s.get(party, 0.0)
            right = checker(server=f"matcher-{party}", now=lambda now_s=now_s: now_s)
            admission = Admission(right, None, {}, meetings.pairs)  # type: ignore[arg-type]
            found[f"matcher-{party}"] = Entrance(AdmissionLimits(), admission, meetings, f"matcher-{party}", 1)
        on = Surroundings("b", None, None, meetings, None, None, TIMEOUT_S, None, None)  # type: ignore[arg-type]
        rpc.add_MatcherPeerServicer_to_server(MatcherPeerService(on, {}), server)
        await server.start()
        try:
            yield found
        finally:
            await server.stop(None)


async def bring(entrances: dict[str, Entrance], request: pb.SignedRequest, *to: str) -> dict[str, VeilmatchError]:
    """Bring a request to these matchers; return what each refuses it with."""

    async def one(name: str) -> None:
        with own_failures(Self(name)):
            async with entrances[name].meeting(request, CONTEXT, "erase"):
                await asyncio.sleep(0)

    ends = await asyncio.gather(*map(one, to), return_exceptions=True)
    return {name: end for name, end in zip(to, ends, strict=True) if isinstance(end, VeilmatchError)}


@pytest.mark.parametrize("off_s", [600.0, -600.0])
@pytest.mark.parametrize("wrong", ["a", "b"])
async def test_the_matcher_with_the_wrong_clock_has_the_one_alert_and_is_named_by_both(
    wrong: str, off_s: float, tmp_path: Path
) -> None:
    async with matchers(tmp_path, **{wrong: off_s}) as entrances:
        with capture_logs() as logged:
            ends = await bring(entrances, signed(body("erase"), ciphertexts=()), A, B)
            await asyncio.sleep(0.2)
    name = f"matcher-{wrong}"
    assert {(type(end), end.party) for end in ends.values()} == {(WrongClockError, name)} and len(ends) == 2
    assert f"clock of {name}" in ends[name].message
    alerts = [entry for entry in logged if entry["log_level"] == "error"]
    assert [(entry["event"], entry["code"], entry["failed"]) for entry in alerts] == [("alert", "wrong_clock", name)]


@pytest.mark.parametrize("off_ms", [600_000, -600_000])
async def test_a_device_with_a_wrong_clock_is_refused_by_both_and_nobodys_clock_is_wrong(
    off_ms: int, tmp_path: Path
) -> None:
    dated = body("erase", issued_at_ms=NOW_MS + off_ms, expires_at_ms=NOW_MS + off_ms + 60_000)
    async with matchers(tmp_path) as entrances:
        with capture_logs() as logged:
            for to in ((A, B), (A,), (B,)):
                ends = await bring(entrances, signed(dated, ciphertexts=()), *to)
                assert {name: type(end) for name, end in ends.items()} == dict.fromkeys(to, RequestExpiredError)
    assert [entry for entry in logged if entry["log_level"] == "error"] == []


async def test_what_a_device_can_show_by_bringing_a_request_late_says_nothing_of_a_clock(tmp_path: Path) -> None:
    """It is taken at matcher-a, and brought to matcher-b as late as the call of matcher-a still waits there."""
    late_s = 60.0 + 30.0 + 6 * TIMEOUT_S
    async with matchers(tmp_path, b=late_s) as entrances:
        ends = await bring(entrances, signed(body("erase"), ciphertexts=()), A, B)
    assert type(ends[B]) is RequestExpiredError and type(ends[A]) is UnavailableError
