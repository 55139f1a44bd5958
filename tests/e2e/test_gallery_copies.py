"""Three real matchers: the third follows, and `veilmatch gallery status`, `verify` and `fetch` say what is so."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from tests.e2e.world import World, running, unit, veilmatch
from veilmatch.crypto.parameters import ParameterSet

PARTIES = ("a", "b", "c")
TOY = ParameterSet(modulus_bits=1024)
FACES = unit(np.random.default_rng(11), 4, TOY.dimension)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation of its own: its matchers are stopped and altered."""
    with running(tmp_path_factory.mktemp("copies") / "installation", TOY) as made:
        yield made


def gallery(world: World, command: str, party: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    config = world.folder(f"matcher-{party}") / "matcher.toml"
    done = veilmatch("gallery", command, "--config", str(config), "--json", *arguments)
    return done.returncode, json.loads(done.stdout)


def sequences(world: World, asking: str = "a") -> tuple[int, dict[str, int | None]]:
    status, document = gallery(world, "status", asking)
    (one,) = document["galleries"]
    return status, {party: one["matchers"][party].get("sequence") for party in PARTIES}


def until_level(world: World, asking: str = "a") -> dict[str, int | None]:
    deadline = time.monotonic() + 30
    while True:
        status, found = sequences(world, asking)
        if status == 0:
            return found
        assert time.monotonic() < deadline, found


def database(world: World, party: str) -> Any:
    return world.folder(f"matcher-{party}") / "data" / "gallery.db"


def test_the_third_follows_and_everything_is_signed(three: World) -> None:
    with three.client() as client:
        for number in range(3):
            client.enrol_embedding(f"subject {number}", FACES[number], model="toy")
    found = until_level(three)
    assert len(set(found.values())) == 1
    for party in PARTIES:
        status, document = gallery(three, "verify", party)
        assert (status, document["galleries"][0]["broken"]) == (0, None), document
        assert document["galleries"][0]["sequence"] == found["a"]


def test_one_that_is_down_is_named_and_catches_up(three: World) -> None:
    three.parties.stop("matcher-c")
    with three.client() as client:
        client.enrol_embedding("while c was away", FACES[3], model="toy")
    status, document = gallery(three, "status", "a")
    assert status == 6
    assert document["galleries"][0]["matchers"]["c"]["error"]["party"] == "matcher-c"
    # Asked at c itself, whose daemon is down: its database says where it is.
    status, document = gallery(three, "status", "c")
    assert (status, document["galleries"][0]["matchers"]["c"]["behind"]) == (6, 1)
    three.restart()
    until_level(three)


def test_a_lost_database_is_fetched_and_takes_part_again(three: World) -> None:
    three.parties.stop("matcher-c")
    before = sequences(three)[1]["a"]
    for file in database(three, "c").parent.glob("gallery.db*"):
        file.unlink()
    status, document = gallery(three, "fetch", "c")
    (fetched,) = document["galleries"]
    assert (status, fetched["before"], fetched["sequence"], fetched["restored"]) == (0, 0, before, True)
    status, document = gallery(three, "verify", "c")
    assert (status, document["galleries"][0]["sequence"]) == (0, before)
    three.restart()
    # By itself: no device asks for anything.
    deadline = time.monotonic() + 15
    until_level(three)
    assert time.monotonic() < deadline
    assert gallery(three, "status", "c")[1]["galleries"][0]["matchers"]["c"]["restored"] is False
    with three.client() as client:
        client.enrol_embedding("after c was lost", FACES[0], model="toy")
    until_level(three)
    assert gallery(three, "fetch", "c")[0] == 3  # its daemon runs


def test_an_altered_database_is_found(three: World) -> None:
    three.parties.stop("matcher-c")
    path = database(three, "c")
    kept = path.with_name("kept.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, kept)
    for statement, why in (
        ("UPDATE templates SET subject = 'eve' WHERE id = (SELECT min(id) FROM templates)", "is not what"),
        ("UPDATE certificates SET certificate = zeroblob(178) WHERE sequence = 2", ""),
        ("UPDATE log SET body = CAST(replace(CAST(body AS TEXT), 'device-1', 'device-2') AS BLOB)", ""),
        ("DELETE FROM packs", "is not there"),
    ):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)
        status, document = gallery(three, "verify", "c")
        broken = document["galleries"][0]["broken"]
        assert status == 7
        assert broken["change"] >= 1
        assert why in broken["why"], broken
        shutil.copy(kept, path)
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
    assert gallery(three, "verify", "c")[0] == 0
    three.restart()
