"""The health service of real daemons, and `veilmatch status` at every kind of party."""

from __future__ import annotations

import asyncio
import datetime
import json
import time
import urllib.error
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.world import EVERYBODY, PASSPHRASE, World, stopped, veilmatch
from tests.monitoring.conftest import page
from veilmatch.common.speaking import our_hello
from veilmatch.crypto.health import FULL, KEY_HOLDER_FULL, Kind, Level, Said, outlook, read_said, troubles
from veilmatch.crypto.keys.parties import PAIRS
from veilmatch.crypto.versions import NEWEST, OLDEST, UNSAID, Hello
from veilmatch.server.installation.tls.renewing import renew
from veilmatch.server.monitoring.neighbours import Neighbours
from veilmatch.server.supervisor import load_daemon
from veilmatch.server.transport.channels import channel_to

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
ALL = frozenset(
    ("ready", "gallery", "keyholder", *(f"{of}-{pair}" for of in ("pair", "stock", "refill") for pair in PAIRS))
)


def check(world: World, party: str, service: str) -> object:
    settings = load_daemon(world.parties.config(party))

    async def ask() -> object:
        async with channel_to(settings.listen, party, settings.tls) as channel:
            try:
                request = health_pb2.HealthCheckRequest(service=service)
                answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
            except grpc.aio.AioRpcError as error:
                return error.code()
            return answer.status

    return asyncio.run(ask())


def status(folder: Path, name: str) -> tuple[int, dict[str, object]]:
    done = veilmatch("status", "--config", str(folder / name), "--json")
    return done.returncode, json.loads(done.stdout)


def places(world: World) -> list[tuple[Path, str]]:
    return [
        (world.directory / "device-1", "device.toml"),
        (world.folder("matcher-b"), "matcher.toml"),
        (world.folder("keyholder-b"), "keyholder.toml"),
    ]


def until(world: World, level: str, refilled: set[str], timeout_s: float = 60.0) -> list[dict[str, object]]:
    """Wait until all kinds of parties say the same. refilled: pairs that get more stock: matchers hear it last."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = [status(*place) for place in places(world)]
        pairs = [{pair for pair, one in document["pairs"].items() if one["refilled"]} for _, document in found]  # type: ignore[attr-defined]
        if all(document["level"] == level for _, document in found) and all(one == refilled for one in pairs):
            assert {code for code, _ in found} == {0 if level == "all" else 6}
            return [document for _, document in found]
        assert time.monotonic() < deadline, found


def test_all_serve_and_every_party_says_so(world: World) -> None:
    for document in until(world, "all", set(PAIRS)):
        assert document["pairs"] == {pair: {"available": True, "refilled": True} for pair in PAIRS}
        assert document["troubles"] == [] and all(one["ready"] for one in document["servers"].values())  # type: ignore
    for party in EVERYBODY:
        assert check(world, party, "") == check(world, party, "veilmatch.ready") == SERVING
        own, other = next(p for p in PAIRS if party[-1] in p), next(p for p in PAIRS if party[-1] not in p)
        assert check(world, party, f"veilmatch.pair-{own}") == SERVING
        assert check(world, party, f"veilmatch.pair-{other}") == NOT_SERVING
        assert check(world, party, "another.service") == grpc.StatusCode.NOT_FOUND
    said = veilmatch("status", "--config", str(world.device_config))
    assert said.returncode == 0 and said.stdout.startswith("all: every pair")


def test_every_party_says_which_versions_the_others_speak(world: World) -> None:
    for document in until(world, "all", set(PAIRS)):
        for one in document["servers"].values():  # type: ignore[attr-defined]
            assert one["release"] == our_hello().release
            assert (one["speaks"]["newest"], one["speaks"]["oldest"]) == (NEWEST, OLDEST)
        assert "the next upgrade may begin" in str(document["versions"])
    said = veilmatch("status", "--config", str(world.device_config)).stdout
    assert "matcher-c" in said and f"{OLDEST}, {NEWEST}" in said and "the next upgrade may begin" in said
    metrics = page(world, "matcher-a", "/metrics")
    assert f"veilmatch_protocol_version {NEWEST}.0" in metrics
    assert f"veilmatch_protocol_oldest_version {OLDEST}.0" in metrics
    for peer in ("matcher-b", "matcher-c", "keyholder-a"):
        assert f'veilmatch_peer_protocol_version{{peer="{peer}"}} {NEWEST}.0' in metrics
        assert f'veilmatch_peer_understood{{peer="{peer}"}} 1.0' in metrics


def test_one_key_holder_that_hangs_leaves_one_pair_and_is_named(world: World) -> None:
    with stopped(world, "keyholder-c"):
        device, matcher, holder = until(world, "critical", set())
        for document in (device, matcher, holder):
            assert document["pairs"]["ab"] == {"available": True, "refilled": False}  # type: ignore[index]
        assert any("keyholder-c" in str(trouble) for trouble in device["troubles"])  # type: ignore[attr-defined]
        assert next(t["party"] for t in holder["troubles"]) == "keyholder-c"  # type: ignore[attr-defined]
        # Alive, and ready for what is left.
        assert check(world, "matcher-a", "veilmatch.ready") == SERVING
        assert check(world, "matcher-c", "veilmatch.ready") == NOT_SERVING
        assert check(world, "matcher-c", "") == SERVING
        assert page(world, "matcher-c", "/livez") == "ok\n"
        with pytest.raises(urllib.error.HTTPError) as refused:
            page(world, "matcher-c", "/readyz")
        assert refused.value.code == 503
        with stopped(world, "keyholder-b"):
            deadline = time.monotonic() + 60
            while status(*places(world)[0])[1]["level"] != "none":
                assert time.monotonic() < deadline
    until(world, "all", set(PAIRS), 120.0)


def test_a_folder_without_a_configuration_says_what_is_missing(tmp_path: Path) -> None:
    done = veilmatch("status", "--config", str(tmp_path / "none.toml"), "--json")
    assert done.returncode == 3 and "none.toml" in json.loads(done.stdout)["error"]["got"]


def test_the_certificates_of_whoever_asks_are_named_before_their_end(world: World) -> None:
    renew(world.directory, ["device-1", "matcher-b"], PASSPHRASE, validity=datetime.timedelta(days=40))
    try:
        for place, count in zip(places(world)[:2], (2, 3), strict=True):
            code, document = status(*place)
            named = [trouble for trouble in document["troubles"] if trouble["party"] == "this party"]  # type: ignore
            assert code == 0 and len(document["certificates"]) == count, document  # type: ignore[arg-type]
            assert ["ends in 39 days" in trouble["what"] for trouble in named] == [True]
            assert "authority renew" in named[0]["remedy"]
    finally:
        renew(world.directory, ["device-1", "matcher-b"], PASSPHRASE)


# -- levels, by what is said ----------------------------------------------------------------------


def said(*without: str) -> Said:
    return Said(ALL - set(without), 0)


@pytest.mark.parametrize(
    ("a", "b", "c", "level"),
    [
        (said(), said(), said(), Level.ALL),
        (said("pair-ab"), said(), said(), Level.REDUCED),
        (said("refill-ab"), said(), said(), Level.REDUCED),
        (said(), said(), None, Level.CRITICAL),
        (said("pair-ab", "pair-ac"), said(), said(), Level.CRITICAL),
        (said("refill-ab", "refill-ac"), said("refill-bc"), said(), Level.CRITICAL),
        (said(), None, None, Level.NONE),
        (said("pair-ab"), said(), None, Level.NONE),
    ],
)
def test_levels(a: Said | None, b: Said | None, c: Said | None, level: Level) -> None:
    assert outlook({"a": a, "b": b, "c": c}, PAIRS).level is level
    assert bool(list(troubles("matcher", {"a": a, "b": b, "c": c}, PAIRS))) is (level is not Level.ALL)


@pytest.mark.parametrize(("kind", "condition"), [("keyholder", FULL), ("matcher", FULL), ("matcher", KEY_HOLDER_FULL)])
def test_a_full_disk_is_the_one_trouble_that_is_told(kind: Kind, condition: str) -> None:
    full = Said(said("ready", "pair-ab", "pair-bc").holds | {condition}, 0)
    there = {"a": said("pair-ab"), "b": full, "c": said("pair-bc")}
    (trouble,) = list(troubles(kind, there, PAIRS))[:1]
    assert trouble.party == ("keyholder-b" if condition == KEY_HOLDER_FULL else f"{kind}-b")
    assert "disk is full" in trouble.what and "make room" in trouble.remedy
    assert [one.party for one in troubles(kind, {"a": said(), "b": full, "c": said()}, PAIRS)] == [trouble.party]
    assert outlook(there, PAIRS).available == ("ac",)


def test_one_pair_that_is_all_there_is_is_all() -> None:
    assert outlook({"a": said(), "b": said()}, ("ab",)).level is Level.ALL
    assert outlook({"a": said("refill-ab"), "b": said()}, ("ab",)).level is Level.CRITICAL


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b'{"holds": [], "time_ms": -1}', b'{"holds": [], "time_ms": true}',
     b'{"holds": [], "time_ms": 1, "speaks": "2"}', b'{"holds": [], "time_ms": 1, "speaks": 2}',
     b'{"holds": {}, "time_ms": 1}', b'{"holds": [], "time_ms": 1' + b" " * 5000 + b"}", b"\xff", b"[" * 4000],
)  # fmt: skip
def test_what_is_no_word_of_a_server_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_said(data)


def test_unknown_conditions_are_left_out() -> None:
    assert read_said(b'{"holds": ["ready", "zqx", 7, "pair-ab"], "time_ms": 1}') == Said(
        frozenset(("ready", "pair-ab")), 1
    )


def test_what_a_server_speaks_is_read_and_version_1_of_one_that_does_not_say() -> None:
    assert read_said(b'{"holds": [], "time_ms": 1}').speaks == UNSAID
    hello = Hello(7, 6, "1.2.3", frozenset(("a-feature",)))
    assert read_said(json.dumps({"holds": [], "time_ms": 1, "speaks": hello.write()}).encode()).speaks == hello


def test_two_servers_without_a_common_version_are_a_trouble_of_the_one_that_is_behind() -> None:
    ahead = replace(said("pair-ab", "pair-bc"), speaks=Hello(4, 3, "0.3.0"))
    there = {"a": said("pair-ab"), "b": ahead, "c": said("pair-bc")}
    found = list(troubles("matcher", there, PAIRS))
    assert [(one.party, one.remedy.split()[0]) for one in found] == [("matcher-a", "update"), ("matcher-c", "update")]
    assert "version 1" in found[0].what and "versions 3 and 4" in found[0].what and "pair ab" in found[0].what
    assert outlook(there, PAIRS).available == ("ac",)


async def test_a_neighbour_that_is_not_understood_is_there_and_not_heard() -> None:
    neighbours = Neighbours({name: grpc.aio.insecure_channel("127.0.0.1:1") for name in ("matcher-b", "matcher-c")})
    neighbours.by_name["matcher-b"].said = Said(ALL, 1, Hello(NEWEST + 2, NEWEST + 1))
    neighbours.by_name["matcher-c"].said = Said(ALL, 1, Hello(NEWEST + 1, NEWEST))
    assert neighbours.said("matcher-b") is not None and neighbours.heard("matcher-b") is None
    assert neighbours.heard("matcher-c") is neighbours.said("matcher-c")
    assert neighbours.heard("matcher-d") is None
