"""What servers see of a device does not depend on what it learns: neither on "the probe is valid", nor on the answer.

A key holder that deviates can make whether an honest probe is valid a predicate of one of its coordinates, and either
turn an answer by it. The device alone learns of that, and its next steps must not tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from veilmatch import AsyncClient, DeviceSettings
from veilmatch.client.wire import connection
from veilmatch.crypto.errors import DisagreementError, ServerDeviationError

from .conftest import face
from .fakes import FakeMatchers, body_of

Ask = Callable[[AsyncClient, bool], Any]
ASKING: dict[str, Ask] = {
    "verify": lambda client, assured: client.verify_embedding("zoe", face(1), model="toy", assured=assured),
    "candidates": lambda client, assured: client.candidates_embedding(face(1), model="toy", assured=assured),
    "identify": lambda client, assured: client.identify_embedding(face(1), model="toy", assured=assured),
    "known": lambda client, assured: client.known_embedding(face(1), model="toy", assured=assured),
}
#: Longer than what is waited for others once a call is to end with an error.
LATE_S = 1.3


def honest(reply: Any) -> Any:
    return reply


def invalid(reply: Any) -> Any:
    """What the one key holder says of the validity is turned."""
    reply.valid_share = not reply.valid_share
    return reply


def flipped(reply: Any) -> Any:
    share = bytearray(reply.share)
    share[0] ^= 1
    reply.share = bytes(share)
    return reply


async def seen(settings: DeviceSettings, ask: Ask, change: Callable[[Any], Any], *, assured: bool) -> list[Any]:
    """Return what the servers see of a query whose answer `change` alters, and of two more."""
    fakes = FakeMatchers()
    fakes.templates, fakes.looks_like, fakes.sequence = ["zoe", "bob", "eve"], {"zoe"}, 3
    if assured:
        # One pair is late, and one is behind, so that it is asked again.
        fakes.earlier = {"bc": ["zoe", "bob"]}
        fakes.c.before = lambda kind, request: asyncio.sleep(LATE_S) if body_of(request).pair == "ac" else None
    async with AsyncClient(settings, matchers=fakes.all) as client:
        fakes.b.change = change
        try:
            await ask(client, assured)
        except (ServerDeviationError, DisagreementError):
            assert change is not honest
        fakes.b.change, fakes.c.before = honest, lambda kind, request: None
        for _ in range(2):
            await ask(client, False)
    matchers = (fakes.a, fakes.b, fakes.c)
    return [
        [(m.party, sorted(body_of(request).pair for request in m.requests), sorted(m.known_chains)) for m in matchers],
        [m.cancelled for m in matchers],
    ]


@pytest.mark.parametrize("assured", [False, True])
@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("change", [invalid, flipped])
async def test_nothing_that_follows_tells_what_the_device_has_learned(
    settings: DeviceSettings, name: str, change: Callable[[Any], Any], assured: bool
) -> None:
    told = [await seen(settings, ASKING[name], how, assured=assured) for how in (honest, change)]
    assert told[0] == told[1]


async def test_a_slow_query_that_a_second_pair_answers_as_well(
    settings: DeviceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second pair is left alone by an answer, whatever it is, and by no other sign."""

    monkeypatch.setattr(connection.Latencies, "usual_s", lambda self, operation: 0.05)
    told = []
    for change in (honest, invalid):
        fakes = FakeMatchers()
        fakes.templates = ["zoe"]
        asked = asyncio.Event()

        def second(kind: str, request: Any, asked: asyncio.Event = asked) -> Any:
            asked.set()
            return asyncio.sleep(LATE_S)

        fakes.c.before = second
        fakes.b.before = lambda kind, request, asked=asked: asked.wait() if body_of(request).pair == "ab" else None
        fakes.b.change = change
        async with AsyncClient(settings.model_copy(update={"hedge": True}), matchers=fakes.all) as client:
            try:
                await client.verify_embedding("zoe", face(1), model="toy")
            except ServerDeviationError:
                assert change is invalid
        told.append([[body_of(r).pair for r in m.requests] + [m.cancelled] for m in (fakes.a, fakes.b, fakes.c)])
    assert told[0] == told[1] and told[0][2][-1] == 1
