"""Metrics of real daemons, over HTTP: what is listed is there, and moves where it should."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.e2e.world import EVERYBODY, KEY_HOLDERS, MATCHERS, World, running
from tests.monitoring.conftest import TOY, Sample, everywhere, number, page, scraped, value
from veilmatch.client.wire import exchange
from veilmatch.crypto.errors import UnknownSubjectError
from veilmatch.server.monitoring.readings import GAUGES, PREFIX
from veilmatch.server.supervisor import load_daemon

#: What only one kind of daemon has, or only an installation to which more has happened.
OF_MATCHERS = {name for name in GAUGES if name.startswith("gallery_")}
OF_KEY_HOLDERS = {
    "epoch", "refresh_unsettled", "stock_units", "stock_target_units", "audit_last_entry_timestamp_seconds",
    "audit_entries",
}  # fmt: skip
COUNTED = {
    "veilmatch_requests_total", "veilmatch_calls_total", "veilmatch_request_seconds_count",
    "veilmatch_stage_seconds_count", "veilmatch_calls_in_progress", "veilmatch_budget_used_total",
    "veilmatch_sync_seconds_count", "veilmatch_synced_entries_total", "veilmatch_worker_busy_seconds_total",
    "process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes",
}  # fmt: skip
#: Of each matcher of the pair, once, with its outcome.
ASKED = (("enrol", "ok"), ("verify", "ok"), ("candidates", "ok"), ("verify", "unknown_subject"))
rng = np.random.default_rng(5)
FACES = [one / np.linalg.norm(one) for one in rng.standard_normal((3, TOY.dimension))]


def eventually(read: Callable[[], Any], holds: Callable[[Any], bool], timeout_s: float = 30.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not holds(found := read()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One of which everything that was asked is known."""
    with running(tmp_path_factory.mktemp("scraped") / "installation", TOY) as made:
        yield made


@pytest.fixture(scope="module")
def used(world: World) -> dict[str, dict[Sample, float]]:
    """What is scraped after a subject was enrolled and verified, a search, and a refusal."""
    with world.client() as client:
        client.enrol_embedding("someone", FACES[0], model="toy")
        assert client.verify_embedding("someone", FACES[0], model="toy").decision
        client.candidates_embedding(FACES[0], model="toy")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(UnknownSubjectError):
            # After the first refusal it would leave the other matcher, which might have refused it too by then or not.
            patch.setattr(exchange, "GRACE_S", (60.0,) * len(exchange.GRACE_S))
            client.verify_embedding("no-one", FACES[0], model="toy")

    def followed(found: dict[str, dict[Sample, float]]) -> bool:
        at_c = found["matcher-c"]
        return value(at_c, "veilmatch_gallery_sequence", gallery="main") == 1 and all(
            value(of, "veilmatch_pairs_available") == 3 for of in found.values()
        )

    def counted(found: dict[str, dict[Sample, float]]) -> bool:
        """A party counts a request when it is over there, which may be after the device has its answer."""
        requests = "veilmatch_requests_total"
        return all(
            number(found[party], requests, operation=operation, code=code) >= 1
            for party in ("matcher-a", "matcher-b") for operation, code in ASKED
        ) and all(
            number(found[party], requests, operation="verify", code="ok") >= 1
            and number(found[party], "veilmatch_stage_seconds_count", stage="session") >= 3
            for party in ("keyholder-a", "keyholder-b")
        )  # fmt: skip

    return eventually(  # type: ignore[no-any-return]
        lambda: everywhere(world), lambda found: followed(found) and counted(found)
    )


def test_everything_that_is_listed_is_there(used: dict[str, dict[Sample, float]]) -> None:
    for party in EVERYBODY:
        names = {name for name, _ in used[party]}
        other = OF_KEY_HOLDERS if party in MATCHERS else OF_MATCHERS
        assert {PREFIX + name for name in set(GAUGES) - other} <= names, party
        assert not {PREFIX + name for name in other} & names
    for party in ("matcher-a", "keyholder-a"):
        assert {name for name, _ in used[party]} >= COUNTED, party


def test_requests_are_counted_by_operation_and_code(used: dict[str, dict[Sample, float]]) -> None:
    for party in ("matcher-a", "matcher-b"):
        for operation, code in ASKED:
            assert value(used[party], "veilmatch_requests_total", operation=operation, code=code) == 1
        assert value(used[party], "veilmatch_request_seconds_count", operation="verify") == 1
        for stage in ("meet", "turn", "decide"):
            assert value(used[party], "veilmatch_stage_seconds_count", stage=stage) >= 2
    for party in ("keyholder-a", "keyholder-b"):
        assert value(used[party], "veilmatch_requests_total", operation="verify", code="ok") == 1
        for stage in ("check", "note", "meet", "session"):
            assert value(used[party], "veilmatch_stage_seconds_count", stage=stage) == 3
    assert not any(name == "veilmatch_requests_total" for name, _ in used["keyholder-c"])


def test_budgets_are_counted_as_totals(used: dict[str, dict[Sample, float]], world: World) -> None:
    # Without a limit there is no budget to charge; what was asked is known all the same.
    for party in ("keyholder-a", "keyholder-b"):
        assert value(used[party], "veilmatch_budget_used_total", scope="device", measure="requests") == 3
        assert value(used[party], "veilmatch_budget_used_total", scope="gallery", measure="bits") >= 2
    assert value(used["matcher-a"], "veilmatch_budget_used_total", scope="subject", measure="requests") == 1


def test_stock_audit_and_epoch_are_those_of_the_key_holder(used: dict[str, dict[Sample, float]], world: World) -> None:
    for party in KEY_HOLDERS:
        found = used[party]
        assert value(found, "veilmatch_epoch") == 1
        for pair in ("ab", "ac", "bc"):
            if party[-1] in pair:
                assert value(found, "veilmatch_stock_units", pair=pair, kind="products") > 0
                assert value(found, "veilmatch_stock_blocks_checked_total", pair=pair, kind="products") > 0
        assert value(found, "veilmatch_stock_target_units", kind="triples") >= 1024
        log = [
            json.loads(line)
            for file in sorted((world.folder(party) / "data" / "audit").iterdir())
            for line in file.read_text().splitlines()
        ]
        assert value(found, "veilmatch_audit_entries") == len(log)
        assert abs(value(found, "veilmatch_audit_last_entry_timestamp_seconds") - time.time()) < 600


def test_galleries_are_level(used: dict[str, dict[Sample, float]]) -> None:
    for party in MATCHERS:
        found = used[party]
        assert value(found, "veilmatch_gallery_sequence", gallery="main") == 1
        assert value(found, "veilmatch_gallery_templates", gallery="main") == 1
        assert value(found, "veilmatch_gallery_behind_changes", gallery="main") == 0
        assert value(found, "veilmatch_turns_limit", lane="query", state="in_progress") >= 1


def test_neighbours_clocks_and_certificates(used: dict[str, dict[Sample, float]]) -> None:
    for party in EVERYBODY:
        found = used[party]
        peers = {dict(labels)["peer"] for name, labels in found if name == "veilmatch_peer_up"}
        expected = {f"{party[:-1]}{letter}" for letter in "abc" if letter != party[-1]}
        assert peers == expected | ({f"keyholder-{party[-1]}"} if party in MATCHERS else set())
        for peer in peers:
            assert value(found, "veilmatch_peer_up", peer=peer) == 1
            # All have the clock of this machine; what is measured is half of what the way takes at most.
            assert abs(value(found, "veilmatch_peer_clock_difference_seconds", peer=peer)) < 2.5
        for role in ("this party", "authority", "devices", "revocation list"):
            assert value(found, "veilmatch_certificate_expiry_timestamp_seconds", role=role) > time.time()
        assert value(found, "veilmatch_loop_responds") == value(found, "veilmatch_ready") == 1
        assert value(found, "veilmatch_pairs_available") == value(found, "veilmatch_pairs_expected") == 3


def test_probes_answer(world: World, used: dict[str, dict[Sample, float]]) -> None:
    for party in EVERYBODY:
        assert page(world, party, "/livez") == page(world, party, "/readyz") == "ok\n"


def test_whoever_floods_the_listeners_keeps_nobody_from_being_served(
    world: World, used: dict[str, dict[Sample, float]]
) -> None:
    addresses = []
    for party in EVERYBODY:
        settings = load_daemon(world.parties.config(party)).metrics
        assert settings is not None
        addresses.append((settings.host, settings.port))
    over, asked = threading.Event(), Counter[bool]()

    def flood(address: tuple[str, int]) -> None:
        held = []
        while not over.is_set():
            try:
                one = socket.create_connection(address, timeout=1)
                one.sendall(b"GET /metrics HTTP/1.0\r\n\r\n" if len(held) % 2 else b"GET /metr")
                asked[True] += 1
                held = [*held[-50:], one]
            except OSError:
                asked[False] += 1

    threads = [threading.Thread(target=flood, args=(address,)) for address in addresses]
    for thread in threads:
        thread.start()
    try:
        with world.client(timeout_s=60.0) as client:
            for _ in range(5):
                assert client.verify_embedding("someone", FACES[0], model="toy").decision
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert asked[True] > 100
    for party in EVERYBODY:
        eventually(lambda party=party: answers(world, party), bool)  # type: ignore[misc]


def answers(world: World, party: str) -> bool:
    try:
        return value(scraped(world, party), "veilmatch_loop_responds") == 1
    except OSError:
        return False


def test_a_missing_organisation_is_seen_by_the_others(world: World, used: dict[str, dict[Sample, float]]) -> None:
    """Last: it ends daemons."""
    world.parties.kill("keyholder-c")
    try:
        for party in ("keyholder-a", "matcher-a"):
            found = eventually(
                lambda party=party: scraped(world, party),  # type: ignore[misc]
                # A matcher is told by its key holder.
                lambda found: (
                    (value(found, "veilmatch_pairs_available"), value(found, "veilmatch_pairs_refilled")) == (1, 0)
                ),
            )
            assert value(found, "veilmatch_pair_available", pair="ab") == 1
            assert value(found, "veilmatch_ready") == 1
    finally:
        world.restart()
