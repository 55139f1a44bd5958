"""Shares refreshed over real processes: the gallery matches as before, and kill -9 at any moment is survived."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.world import KEY_HOLDERS, World, device, integers, near, running, unit, veilmatch
from veilmatch.client.card import Card
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.errors import KeyMismatchError, UnavailableError
from veilmatch.crypto.keys.parties import PAIRS, Pair
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation.plan import folder_of
from veilmatch.server.keyholder.audit.check import entries_of
from veilmatch.server.keyholder.refresh.command import ask_daemon

TOY = ParameterSet(modulus_bits=1024)
PEOPLE = unit(np.random.default_rng(31), 5, TOY.dimension)
PROBES = np.array([near(np.random.default_rng(32 + i), PEOPLE[i % 5], 0.7) for i in range(2)])


#: Issued before any refresh, of person 0.
CARDS: list[Card] = []


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation with five subjects, enrolled before any refresh."""
    with running(tmp_path_factory.mktemp("refresh") / "installation", TOY) as world:
        with world.client() as client:
            for i, person in enumerate(PEOPLE):
                client.enrol_embedding(f"person-{i}", person, model="toy")
        desk = device(world, "desk", "--right=issue", "--right=present", "--lowest=0")
        with Client(DeviceSettings.load(desk).model_copy(update={"pairs": ["bc"]})) as client:
            CARDS.append(client.issue_embedding("carried", PEOPLE[0], model="toy", days=1))
        yield world


def refresh(world: World, party: str) -> tuple[int, dict[str, Any]]:
    done = veilmatch("keyholder", "refresh", "--config", str(world.parties.config(party)), "--json")
    return done.returncode, json.loads(done.stdout)


def epoch_of(world: World, party: str) -> int:
    """What --status says, without starting a command."""
    settings = KeyHolderSettings.load(world.parties.config(party))
    return asyncio.run(ask_daemon(settings, refresh=False)).epoch


def files(world: World, party: str) -> set[str]:
    return {path.name for path in world.folder(party).iterdir() if path.name.startswith("share.key")}


def settled(world: World, timeout_s: float = 30.0) -> set[int]:
    """Wait until every key holder has finished; return the epochs."""
    deadline = time.monotonic() + timeout_s
    while any(files(world, party) != {"share.key"} for party in KEY_HOLDERS):
        assert time.monotonic() < deadline, "a refresh stays unfinished"
        time.sleep(0.05)
    return {epoch_of(world, party) for party in KEY_HOLDERS}


def asked(client: Client, probe: np.ndarray) -> list[str]:
    """The candidates of a probe; asked again while shares change or a party is being found again."""
    deadline = time.monotonic() + 30.0
    while True:
        try:
            return sorted(client.candidates_embedding(probe, model="toy"))
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def matches_exactly(world: World, *pairs: Pair) -> bool:
    """Whether the answers are those of plain integers, by these pairs (default: each)."""
    templates, probes = integers(PEOPLE, TOY), integers(PROBES, TOY)
    bound = TOY.threshold(world.settings().threshold)
    for pair in pairs or PAIRS:
        with world.client(pairs=[pair]) as client:
            for probe, vector in zip(PROBES, probes, strict=True):
                expected = [f"person-{i}" for i in range(5) if templates[i] @ vector >= bound]
                if asked(client, probe) != expected:
                    return False
    return True


def test_an_enrolled_gallery_matches_exactly_after_three_refreshes(fresh: World) -> None:
    assert matches_exactly(fresh)
    for epoch, leader in enumerate(KEY_HOLDERS, start=2):
        status, result = refresh(fresh, leader)
        assert (status, result["epoch"], result["party"]) == (0, epoch, leader), result
        assert settled(fresh) == {epoch}
    assert matches_exactly(fresh)
    # The key is the same, so a card that was issued under the shares of before is as good.
    for pair in PAIRS:
        settings = DeviceSettings.load(fresh.directory / "desk" / "device.toml")
        with Client(settings.model_copy(update={"pairs": [pair]})) as client:
            for i, same in ((0, True), (1, False)):
                assert bool(client.verify_embedding(CARDS[0], PEOPLE[i], model="toy", threshold=0.9)) == same
    for party in KEY_HOLDERS:
        entries = entries_of(fresh.folder(party) / "data")
        assert [e.fields["epoch"] for e in entries if e.fields.get("step") == "used"] == [2, 3, 4]
    a, b = (str(fresh.folder(f"keyholder-{party}") / "data") for party in "ab")
    assert veilmatch("audit", "verify", a, "--against", b).returncode == 0


@pytest.mark.parametrize(
    ("party", "suffix"), [("keyholder-a", ".next"), ("keyholder-b", ".next"), ("keyholder-a", ".old")]
)
def test_killed_while_its_files_change_it_comes_back_to_an_epoch_that_serves(
    fresh: World, party: str, suffix: str
) -> None:
    """SIGKILL as soon as the next key, or the old one, is seen beside the key file; keyholder-a leads.

    Every step of every key holder, in one process: tests/keyholder/refresh/test_refresh.py.
    """
    (before,) = settled(fresh)
    watched, statuses = fresh.folder(party) / f"share.key{suffix}", []
    leading = threading.Thread(target=lambda: statuses.append(refresh(fresh, "keyholder-a")[0]))
    leading.start()
    while not watched.exists() and leading.is_alive():
        pass
    fresh.parties.kill(party)
    leading.join(60.0)
    assert statuses in ([0], [6])
    fresh.restart()
    epochs = settled(fresh)
    assert len(epochs) == 1 and epochs <= {before, before + 1}
    # Also the pair whose dealer died, perhaps in the middle of a check: with a stock that was begun a moment ago.
    assert matches_exactly(fresh)


def test_a_missing_key_holder_is_named_and_nothing_changes(fresh: World) -> None:
    (before,) = settled(fresh)
    fresh.parties.stop("keyholder-c")
    for asked_at in ("keyholder-b", "keyholder-c"):
        status, result = refresh(fresh, asked_at)
        assert status == 6 and "keyholder-c" in result["error"]["message"]
    fresh.restart()
    assert settled(fresh) == {before}


def test_a_restored_backup_is_refused_and_names_both_epochs(fresh: World, tmp_path: Path) -> None:
    share = fresh.directory / folder_of("keyholder-b") / "share.key"
    shutil.copy(share, tmp_path / "backup")
    assert refresh(fresh, "keyholder-c")[0] == 0
    (epoch,) = settled(fresh)
    newest = share.read_bytes()
    fresh.parties.stop("keyholder-b")
    shutil.copy(tmp_path / "backup", share)
    fresh.parties.start()
    fresh.parties.wait_ready()
    time.sleep(0.5)
    with fresh.client(pairs=["ab"]) as client, pytest.raises(KeyMismatchError, match="different epochs") as caught:
        client.candidates_embedding(PROBES[0], model="toy")
    assert f"epoch {epoch}" in str(caught.value) and f"epoch {epoch - 1}" in str(caught.value)
    status, result = refresh(fresh, "keyholder-a")
    assert status == 5 and "different epochs" in result["error"]["message"]
    fresh.parties.stop("keyholder-b")
    share.write_bytes(newest)
    fresh.restart()
    assert settled(fresh) == {epoch}


# -- going back ------------------------------------------------------------------------------------------


def recover(world: World, party: str, *options: str) -> tuple[int, dict[str, Any]]:
    config = str(world.parties.config(party))
    done = veilmatch("keyholder", "refresh", "--config", config, "--recover", "--json", *options)
    return done.returncode, json.loads(done.stdout)


def test_a_key_holder_that_came_back_from_a_backup_is_met_in_the_old_epoch(fresh: World, tmp_path: Path) -> None:
    """keyholder-c lost its machine before the other two had deleted their old shares, and has its backup only."""
    folders = {party: fresh.folder(party) for party in KEY_HOLDERS}
    (before,) = settled(fresh)
    for party, folder in folders.items():
        shutil.copy(folder / "share.key", tmp_path / party)
    assert refresh(fresh, "keyholder-a")[0] == 0
    assert settled(fresh) == {before + 1}
    for party in KEY_HOLDERS:
        fresh.parties.stop(party)
    for party, folder in folders.items():
        shutil.copy(tmp_path / party, folder / ("share.key" if party == "keyholder-c" else "share.key.old"))
    fresh.parties.start()
    fresh.parties.wait_ready()

    # Nothing is done unasked, and at the one that is in the old epoch there is nothing to do.
    status, looked = recover(fresh, "keyholder-a")
    assert (status, looked["epoch"], looked["going_back"], looked["refused"]) == (0, before + 1, False, "")
    status, result = recover(fresh, "keyholder-c", "--yes")
    assert status == 5 and "the command at keyholder-a and keyholder-b" in str(result["error"])

    status, result = recover(fresh, "keyholder-a", "--yes")
    assert (status, result["epoch"], result["going_back"]) == (0, before + 1, True)
    assert result["found"]["keyholder-c"] == {"found": f"epoch {before}, nothing unfinished", "counts": True}
    assert f"goes back from epoch {before + 1} to epoch {before}" in result["will"]
    assert recover(fresh, "keyholder-b", "--yes")[0] == 0
    assert settled(fresh) == {before}
    assert matches_exactly(fresh)
    assert refresh(fresh, "keyholder-c")[0] == 0
    assert settled(fresh) == {before + 1} and matches_exactly(fresh, "bc")


def test_options_that_do_not_go_together_are_refused(fresh: World) -> None:
    config = str(fresh.parties.config("keyholder-a"))
    for options in (("--status", "--recover"), ("--without", "keyholder-b"), ("--yes",)):
        assert veilmatch("keyholder", "refresh", "--config", config, *options).returncode == 2
    done = veilmatch("keyholder", "refresh", "--config", config, "--recover", "--without", "matcher-a", "--yes")
    assert done.returncode == 3 and "not a peer of this key holder" in done.stderr


def test_a_person_is_shown_what_was_found_before_anything_is_done(fresh: World) -> None:
    config = str(fresh.parties.config("keyholder-a"))
    done = veilmatch("keyholder", "refresh", "--config", config, "--recover")
    (epoch,) = settled(fresh)
    assert done.returncode == 5
    assert (
        f"keyholder-b: epoch {epoch}, nothing unfinished" in done.stderr and "refused: keyholder-a has" in done.stderr
    )
