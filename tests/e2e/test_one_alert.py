"""An error that an operator must look at is one alert where it happened; all other lines about it are information."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from tests.e2e.world import EVERYBODY, World, running, unit
from veilmatch.client.client import Client
from veilmatch.crypto.errors import AuditLogError, IntegrityError, VeilmatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.installation.plan import folder_of

TOY = ParameterSet(modulus_bits=1024)
FACES = unit(np.random.default_rng(17), 2, TOY.dimension)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("alerts") / "installation", TOY) as made:
        with made.client() as client:
            client.enrol_embedding("ann", FACES[0], model="toy")
        yield made


class Errors:
    """The lines at level error that every party writes from here on."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._before = {party: len(world.log(party)) for party in EVERYBODY}

    def of(self, party: str) -> list[str]:
        """Return event and code of each."""
        lines = map(json.loads, self._world.log(party)[self._before[party] :].splitlines())
        return [f"{line['event']} {line.get('code', '')}".strip() for line in lines if line["level"] == "error"]

    def all(self) -> dict[str, list[str]]:
        time.sleep(0.3)
        return {party: found for party in EVERYBODY if (found := self.of(party))}


def test_a_missing_audit_file(world: World) -> None:
    errors = Errors(world)
    (log,) = (world.directory / folder_of("keyholder-b") / "data" / "audit").iterdir()
    away = log.rename(world.directory / "away")
    with world.client(pairs=["ab"]) as client:
        for _ in range(2):
            with pytest.raises(AuditLogError):
                client.verify_embedding("ann", FACES[0], model="toy")
    away.rename(log)
    assert errors.all() == {"keyholder-b": ["alert"]}


@pytest.mark.parametrize("matcher", ["matcher-a", "matcher-b"])
def test_a_gallery_that_another_process_locks(world: World, matcher: str) -> None:
    """What was prepared and is not settled is the locked database's fault; it ends with the lock."""
    seen: list[VeilmatchError] = []
    stop = threading.Event()

    def ask(client: Client) -> None:
        while not stop.is_set():
            try:
                client.verify_embedding("ann", FACES[0], model="toy")
            except VeilmatchError as error:
                seen.append(error)
            time.sleep(0.05)

    def change(client: Client, number: int) -> None:
        try:
            client.enrol_embedding(f"one {number}", FACES[1], model="toy")
        except VeilmatchError as error:
            seen.append(error)

    errors = Errors(world)
    with world.client(timeout_s=30.0, pairs=["ab"]) as client:
        asking = [threading.Thread(target=ask, args=(client,)) for _ in range(2)]
        changing = [threading.Thread(target=change, args=(client, number)) for number in range(2)]
        with closing(sqlite3.connect(world.directory / folder_of(matcher) / "data" / "gallery.db")) as gallery:
            gallery.execute("BEGIN EXCLUSIVE")
            for thread in (*asking, *changing):
                thread.start()
            time.sleep(20)
            gallery.rollback()
        for thread in changing:
            thread.join()
        stop.set()
        for thread in asking:
            thread.join()
        assert client.verify_embedding("ann", FACES[0], model="toy")
        client.enrol_embedding("after", FACES[1], model="toy")
        client.erase("after")
    assert seen and {(error.code, error.party) for error in seen} <= {("storage", matcher), ("unavailable", matcher)}
    assert errors.all() == {matcher: ["alert storage"]}


def test_an_altered_stock(world: World) -> None:
    world.parties.stop("keyholder-b")
    with closing(sqlite3.connect(world.directory / folder_of("keyholder-b") / "data" / "stock.db")) as stock:
        for kind, number, sealed in stock.execute("SELECT kind, number, sealed FROM checked_blocks").fetchall():
            changed = bytes([sealed[0] ^ 1]) + sealed[1:]
            stock.execute("UPDATE checked_blocks SET sealed = ? WHERE (kind, number) = (?, ?)", (changed, kind, number))
        stock.commit()
    world.restart()
    errors = Errors(world)
    with world.client(pairs=["ab"]) as client, pytest.raises(IntegrityError):
        client.verify_embedding("ann", FACES[0], model="toy")
    assert errors.all() == {"keyholder-b": ["alert integrity"]}
