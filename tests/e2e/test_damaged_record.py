"""One flipped bit in the record of a template: found at the start, said to whoever erases, mended by a copy."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import World, running, unit
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.parameters import ParameterSet

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


def alerts(world: World, party: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in world.log(party).splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "alert"]


def errors_of(world: World, party: str) -> list[str]:
    return [line for line in world.log(party).splitlines() if '"level": "error"' in line]


@pytest.mark.parametrize(("damaged", "other"), [("matcher-a", "matcher-b"), ("matcher-b", "matcher-a")])
def test_everything_but_erasing_the_subject_is_served_and_after_a_copy_that_too(
    world: World, damaged: str, other: str
) -> None:
    with world.client() as client:
        for subject, face in zip(("ann", "ben", "cy"), FACES, strict=True):
            client.enrol_embedding(subject, face, model="toy")
    data = world.directory / damaged / "data"
    world.parties.stop(damaged)
    damage_record(data / "gallery.db", "ben")
    world.restart()
    (alert,) = alerts(world, damaged)
    assert alert["level"] == "error" and (alert["gallery"], alert["pack"]) == ("main", 0)
    assert "ben" not in json.dumps(alert)

    with world.client() as client:
        assert client.verify_embedding("ben", FACES[1], model="toy")
        started = time.monotonic()
        before, elsewhere = (len(errors_of(world, party)) for party in (damaged, other))
        with pytest.raises(IntegrityError, match="record of a template is damaged") as caught:
            client.erase("ben")
        assert caught.value.party == damaged
        assert "gallery.db of the other matcher" in str(caught.value.expected)
        assert [len(errors_of(world, party)) for party in (damaged, other)] == [before + 1, elsewhere], "one alert"
        # Nothing was begun: the next change does not wait for anybody's patience to end.
        client.erase("cy")
        assert client.verify_embedding("ann", FACES[0], model="toy")
        assert time.monotonic() - started < 4.0

    # What docs/operations.md says: the other matcher's database in place of this one's.
    world.parties.stop(damaged)
    copy = world.directory / "copy.db"
    right = world.directory / other / "data" / "gallery.db"
    with closing(sqlite3.connect(right)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    shutil.rmtree(data)
    data.mkdir(mode=0o700)
    copy.rename(data / "gallery.db")
    world.restart()
    with world.client() as client:
        client.erase("ben")
        assert [found.subject for found in client.subjects()] == ["ann"]
        client.erase("ann")
