"""One flipped bit in the record of a template: found at the start, said to whoever needs it, mended by another's."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import World, running, unit, veilmatch
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.installation.plan import config_of, folder_of

TOY = ParameterSet(modulus_bits=1024)
FACES = unit(np.random.default_rng(11), 3, TOY.dimension)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("damaged") / "installation", TOY) as made:
        yield made


def damage_record(database: Path, subject: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        where = "id = (SELECT content_id FROM templates WHERE subject = ?)"
        ((body,),) = connection.execute(f"SELECT body FROM contents WHERE {where}", (subject,)).fetchall()
        changed = bytearray(body)
        changed[200] ^= 1
        connection.execute(f"UPDATE contents SET body = ? WHERE {where}", (bytes(changed), subject))
        connection.commit()


def execute(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(statement).rowcount == 1
        connection.commit()


def alerts(world: World, party: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in world.log(party).splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "alert" and "restored" not in str(line.get("reason"))]


def errors_of(world: World, party: str) -> list[str]:
    return [line for line in world.log(party).splitlines() if '"level": "error"' in line]


@pytest.mark.parametrize(("damaged", "other"), [("matcher-a", "matcher-b"), ("matcher-b", "matcher-a")])
def test_everything_that_needs_no_such_record_is_served_and_once_it_is_mended_that_too(
    world: World, damaged: str, other: str
) -> None:
    with world.client() as client:
        for subject, face in zip(("ann", "ben", "cy"), FACES, strict=True):
            client.enrol_embedding(subject, face, model="toy")
    data = world.directory / folder_of(damaged) / "data"
    world.parties.stop(damaged)
    damage_record(data / "gallery.db", "ben")
    world.restart()
    (alert,) = alerts(world, damaged)
    assert alert["level"] == "error" and (alert["gallery"], alert["pack"]) == ("main", 0)
    assert "ben" not in json.dumps(alert)

    with world.client() as client:
        before, elsewhere = (len(errors_of(world, party)) for party in (damaged, other))
        assert client.verify_embedding("ben", FACES[1], model="toy").pair != "ab", "the others verify it"
        assert client.candidates_embedding(FACES[1], model="toy").subjects == ("ben",)
        started = time.monotonic()
    with world.client(pairs=["ab"]) as client:
        with pytest.raises(IntegrityError, match="record of a template is damaged") as caught:
            client.verify_embedding("ben", FACES[1], model="toy")
        assert caught.value.party == damaged
        with pytest.raises(IntegrityError, match="record of a template is damaged") as caught:
            client.erase("ben")
        assert caught.value.party == damaged
        assert "veilmatch gallery mend" in str(caught.value.expected)
        assert [len(errors_of(world, party)) for party in (damaged, other)] == [before + 1, elsewhere], "one alert"
        # Nothing was begun: the next change does not wait for anybody's patience to end.
        client.erase("cy")
        assert client.verify_embedding("ann", FACES[0], model="toy")
        assert time.monotonic() - started < 4.0

    # What docs/operations.md says, of a record, of a pack and of a name alike.
    config = str(config_of(world.directory, damaged))
    assert veilmatch("gallery", "mend", "--config", config).returncode == 3, "its daemon runs"
    world.parties.stop(damaged)
    # As somebody does who means it: with a checksum that fits.
    size, checksum = TOY.dimension * TOY.ciphertext_bytes, hashlib.sha256(bytes(TOY.dimension * TOY.ciphertext_bytes))
    execute(data / "gallery.db", f"UPDATE contents SET body = zeroblob({size}), checksum = x'{checksum.hexdigest()}' "
            "WHERE id = (SELECT content_id FROM packs WHERE pack = 0)")  # fmt: skip
    execute(data / "gallery.db", "UPDATE templates SET subject = 'eve' WHERE subject = 'ann'")
    done = veilmatch("gallery", "mend", "--json", "--config", config)
    assert done.returncode == 0, (done.stdout, done.stderr)
    (mended,) = json.loads(done.stdout)["galleries"]
    assert (mended["packs"], mended["templates"], mended["left"], mended["broken"]) == (1, 2, 0, None)
    assert veilmatch("gallery", "verify", "--config", config).returncode == 0
    world.restart()
    with world.client(pairs=["ab"]) as client:
        client.erase("ben")
        assert [found.subject for found in client.subjects()] == ["ann"]
        client.erase("ann")


def test_a_pair_without_the_damaged_copy_erases_it(world: World) -> None:
    with world.client() as client:
        client.enrol_embedding("ben", FACES[1], model="toy")
    world.parties.stop("matcher-a")
    damage_record(world.directory / folder_of("matcher-a") / "data" / "gallery.db", "ben")
    world.restart()
    with world.client() as client:
        assert client.erase("ben").templates == 1
        assert client.subjects() == []
