"""Two real matchers on a PostgreSQL server, beside one with a file: enrolled, killed, cut off, looked at."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.world import ENVIRONMENT, World, hold_ceremony, settle, supervised, unit, veilmatch
from tests.storage.postgres import PostgresServer
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.ground.revisions import Revisions
from veilmatch.server.installation.plan import config_of

TOY = ParameterSet(modulus_bits=1024)
FACES = unit(np.random.default_rng(12), 5, TOY.dimension)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("postgres") / "installation"
    hold_ceremony(directory, TOY)
    for party in ("matcher-a", "matcher-b"):
        storage, config = postgres.new_database(), config_of(directory, party)
        lines = "[storage]", f'url = "{storage.url}"', f'password_file = "{storage.password_file}"', ""
        config.write_text("\n".join([config.read_text(), *lines]))
    with supervised(directory, ENVIRONMENT) as parties:
        parties.start()
        parties.wait_ready()
        made = World(directory, TOY, parties)
        settle(made)
        yield made


def said(world: World, *command: str, party: str) -> tuple[int, Any]:
    done = veilmatch(*command, str(world.folder(party) / "matcher.toml"), "--json")
    return done.returncode, json.loads(done.stdout)


def test_what_was_enrolled_outlives_daemon_and_server(world: World, postgres: PostgresServer) -> None:
    assert not (world.folder("matcher-a") / "data" / "gallery.db").exists()
    with world.client() as client:
        client.enrol_embedding("ada", FACES[0], model="toy")
        assert client.verify_embedding("ada", FACES[0], model="toy").decision
        client.enrol_embedding("bela", FACES[1], model="toy")
    world.parties.kill("matcher-a")
    world.parties.kill("matcher-b")
    postgres.kill()
    postgres.start()
    world.restart()
    with world.client() as client:
        for name, face in (("ada", FACES[0]), ("bela", FACES[1])):
            assert client.verify_embedding(name, face, model="toy").decision
        client.erase("bela")
        assert list(client.candidates_embedding(FACES[0], model="toy").subjects) == ["ada"]


def test_a_server_that_is_away_is_a_failure_of_its_matchers_and_is_got_over(
    world: World, postgres: PostgresServer
) -> None:
    postgres.kill()
    try:
        status, document = said(world, "storage", "status", party="matcher-a")
        assert (status, document["databases"][0]["state"]) == (7, "refused")
    finally:
        postgres.start()
    with world.client() as client:
        client.enrol_embedding("cid", FACES[2], model="toy")
        assert client.verify_embedding("cid", FACES[2], model="toy").decision
    assert postgres.password not in world.log("matcher-a") + world.log("matcher-b")


def test_commands_look_at_it_beside_the_daemon(world: World) -> None:
    status, document = said(world, "storage", "status", party="matcher-a")
    head = Revisions.of("gallery").head
    galleries = document["databases"][0]
    assert (status, galleries["state"], galleries["revision"], galleries["known"]) == (0, "current", head, head)
    assert galleries["place"].startswith("postgresql://veilmatch@/")
    status, document = said(world, "check", party="matcher-b")
    assert (status, document["findings"]) == (0, [])
    assert any(place["file"].startswith("postgresql://") for place in document["looked_at"])
    config = str(Path(world.folder("matcher-a")) / "matcher.toml")
    done = veilmatch("gallery", "verify", "--config", config, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["galleries"][0]["broken"] is None


def test_who_was_erased_is_gone_from_the_tables_once_they_are_written_anew(
    world: World, postgres: PostgresServer
) -> None:
    name = "Dorothea of the erased"
    with world.client() as client:
        client.enrol_embedding(name, FACES[3], model="toy")
        client.enrol_embedding("emil", FACES[4], model="toy")
        client.erase(name)
    settle(world)
    assert postgres.holds("emil") and postgres.holds(name), "that is why docs/storage.md says what to do"
    for party in ("matcher-a", "matcher-b"):
        world.parties.kill(party)
        config = tomllib.loads(config_of(world.directory, party).read_text())
        postgres.execute("VACUUM FULL", config["storage"]["url"].split("/")[3].partition("?")[0])
    assert postgres.holds("emil") and not postgres.holds(name)
    world.restart()
    with world.client() as client:
        assert client.verify_embedding("emil", FACES[4], model="toy").decision
