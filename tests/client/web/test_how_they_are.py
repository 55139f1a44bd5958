"""What the page is told of servers and budgets: who is down, what that leaves, and how much may still be asked."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc

from tests.client.fakes import FakeMatchers
from tests.client.test_budgets import told
from tests.transport.parties import tls_of
from veilmatch import AsyncClient, DeviceSettings
from veilmatch.client.web.actions import Actions
from veilmatch.crypto.errors import UnavailableError
from veilmatch.crypto.keys.parties import PARTIES, Party, pairs_of
from veilmatch.server.monitoring.health import HealthService
from veilmatch.server.transport.channels import server_credentials


async def told_to_the_page(
    call: Literal["parties", "budgets"], settings: DeviceSettings, fakes: FakeMatchers
) -> dict[str, Any]:
    """What a browser reads."""
    async with AsyncClient(settings, matchers=fakes.all) as client:
        actions = Actions(settings, client, cast(Any, None), lambda photo: {}, asyncio.Event())
        found = await {"parties": actions._parties, "budgets": actions._budgets}[call](cast(Any, None))
    return cast(dict[str, Any], json.loads(json.dumps(found)))


@asynccontextmanager
async def matcher(party: Party, folder: Path, lacks: str = "") -> AsyncIterator[str]:
    """A server that says of itself that all is well, but for one condition; yields its address."""
    holds = {"ready", "gallery", "keyholder"}
    holds |= {f"{of}-{pair}" for of in ("pair", "stock", "refill") for pair in pairs_of(party)}
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(HealthService(lambda: holds - {lacks}), server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(tls_of(folder, f"matcher-{party}")))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def parties_shown(settings: DeviceSettings, folder: Path, down: str = "", **lacks: str) -> dict[str, Any]:
    """What is shown if these do not run, and others lack a condition."""
    async with AsyncExitStack() as running:
        nobody = running.enter_context(socket.socket())
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        addresses = {
            party: f"127.0.0.1:{nobody.getsockname()[1]}"
            if party in down
            else await running.enter_async_context(matcher(party, folder, lacks.get(party, "")))
            for party in PARTIES
        }
        tls = tls_of(folder, settings.device, is_server=False)
        there = settings.model_copy(update={"matchers": addresses, "tls": tls})
        return await told_to_the_page("parties", there, FakeMatchers())


@pytest.mark.parametrize(
    ("down", "level", "pairs"),
    [
        ("", "all", {"ab": True, "ac": True, "bc": True}),
        ("c", "critical", {"ab": True, "ac": False, "bc": False}),
        ("ac", "none", {"ab": False, "ac": False, "bc": False}),
    ],
)
async def test_a_party_that_is_down_is_shown_with_what_is_left(
    settings: DeviceSettings, tmp_path: Path, down: str, level: str, pairs: dict[str, bool]
) -> None:
    found = await parties_shown(settings, tmp_path, down)
    assert (found["level"], found["pairs"]) == (level, pairs)
    assert found["servers"] == {party: party not in down for party in PARTIES}
    said = [(one["party"], one["what"]) for one in found["troubles"]]
    assert [party for party, what in said if what == "does not answer"] == [f"matcher-{party}" for party in down]
    assert all(one["remedy"] for one in found["troubles"])


async def test_one_that_answers_and_lacks_its_key_holder_is_up_and_named(
    settings: DeviceSettings, tmp_path: Path
) -> None:
    found = await parties_shown(settings, tmp_path, b="keyholder")
    assert all(found["servers"].values())
    assert [(one["party"], one["what"]) for one in found["troubles"]] == [("matcher-b", "does not reach keyholder-b")]


async def test_of_each_measure_the_tightest_budget_is_shown_as_it_is_left(settings: DeviceSettings) -> None:
    fakes = FakeMatchers()
    fakes.a.told = [told(limit=10, used=3), told("requests", "month", 100, 20), told("bits", "month", 100, 1)]
    fakes.b.told = [told(limit=10, used=6, eases_s=30), told("searches", "hour", 5, 5)]
    fakes.c.told = [told(limit=10, used=10)]
    found = await told_to_the_page("budgets", settings, fakes)
    assert found["pair"] == "ab", "of the pair that is asked first, and nobody else's"
    assert [tuple(one.values()) for one in found["budgets"]] == [
        ("requests", "day", 10, 4, 30.0), ("searches", "hour", 5, 0, 0.0), ("bits", "month", 100, 99, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize(("down", "pair"), [("b", "ac"), ("bc", None)])
async def test_budgets_are_those_of_a_pair_of_which_both_say(
    settings: DeviceSettings, down: str, pair: str | None
) -> None:
    fakes = FakeMatchers()
    for one in (fakes.a, fakes.b, fakes.c):
        party = one.party[-1]
        one.told = UnavailableError(f"matcher-{party} is down", party=one.party) if party in down else [told(used=2)]
    found = await told_to_the_page("budgets", settings, fakes)
    assert found["pair"] == pair
    assert [one["left"] for one in found["budgets"]] == ([8] if pair else [])
