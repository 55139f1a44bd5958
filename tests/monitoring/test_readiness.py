"""A daemon is ready when it can serve a pair: not without stock, and not while its gallery is loaded."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.e2e.world import ENVIRONMENT, EVERYBODY, World, hold_ceremony, supervised
from tests.hooks import starting_with
from tests.monitoring.conftest import TOY, page, scraped, value
from tests.monitoring.slow_gallery import LOADED_VARIABLE
from veilmatch.crypto.health import READY
from veilmatch.server.monitoring.monitor import Monitor
from veilmatch.server.monitoring.neighbours import Neighbours


@pytest.fixture
def beginning(tmp_path: Path) -> Iterator[World]:
    """A new installation of which nothing runs; the gallery of matcher a is loaded once the file `loaded` is there."""
    hold_ceremony(tmp_path / "installation", TOY)
    environment = ENVIRONMENT | starting_with("tests.monitoring.slow_gallery")
    with supervised(tmp_path / "installation", environment | {LOADED_VARIABLE: str(tmp_path / "loaded")}) as parties:
        yield World(tmp_path / "installation", TOY, parties)


def until(holds: Callable[[], bool], what: str, timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(OSError, KeyError):  # it does not listen yet, or has not found anything
            if holds():
                return
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def is_ready(world: World, party: str) -> bool:
    """Whether it says so to a probe; it is alive in any case."""
    assert page(world, party, "/livez") == "ok\n"
    try:
        page(world, party, "/readyz")
    except urllib.error.HTTPError as refused:
        assert refused.code == 503
        return False
    return True


def hears(world: World, party: str, peer: str) -> bool:
    return value(scraped(world, party), "veilmatch_peer_up", peer=peer) == 1


def test_nobody_is_ready_without_stock_nor_while_a_gallery_is_loaded(beginning: World, tmp_path: Path) -> None:
    beginning.parties.start("keyholder-a", "keyholder-b", "matcher-a", "matcher-b")
    for one, other in ("ab", "ba"):
        party = f"keyholder-{one}"
        until(lambda p=party, o=other: hears(beginning, p, f"keyholder-{o}"), "they do not hear each other")  # type: ignore[misc]
        # The two of a pair, and no stock: its dealer is not there.
        assert not is_ready(beginning, party)
        found = scraped(beginning, party)
        assert value(found, "veilmatch_ready") == 0
        units = {labels: count for (name, labels), count in found.items() if name == "veilmatch_stock_units"}
        assert units and not any(units.values())
    until(lambda: hears(beginning, "matcher-b", "keyholder-b"), "matcher b does not hear its key holder")
    assert not is_ready(beginning, "matcher-b")

    beginning.parties.start("keyholder-c", "matcher-c")
    others = [party for party in EVERYBODY if party != "matcher-a"]
    for party in others:
        until(lambda p=party: is_ready(beginning, p), f"{party} is not ready")  # type: ignore[misc]
    # Whatever it needs of others is there, and its gallery is not.
    assert not is_ready(beginning, "matcher-a") and "gallery loaded" not in beginning.log("matcher-a")
    (tmp_path / "loaded").touch()
    until(lambda: is_ready(beginning, "matcher-a"), "matcher a is not ready")
    assert "gallery loaded" in beginning.log("matcher-a")


async def test_a_daemon_is_ready_only_while_it_serves(tmp_path: Path) -> None:
    monitor = Monitor(SimpleNamespace(data_dir=tmp_path, metrics=None, party_name="matcher-a"))  # type: ignore[arg-type]
    view = SimpleNamespace(party="a", served=("ab",), conditions=lambda: {"pair-ab"}, neighbours=Neighbours({}))
    monitor.view = view  # type: ignore[assignment]
    assert not monitor.conditions()
    async with monitor.running():
        assert READY in monitor.conditions()
    assert not monitor.conditions()
