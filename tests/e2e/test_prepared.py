"""Matchers that prepare searches at rest: the same answers, also after one was killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from tests.e2e.world import ENVIRONMENT, World, hold_ceremony, settle, supervised, unit
from veilmatch.crypto.parameters import ParameterSet

PARAMETERS = ParameterSet(modulus_bits=1024)
COUNT = 2 * PARAMETERS.slots + 5
FACES = unit(np.random.default_rng(61), COUNT, PARAMETERS.dimension)
PREPARING = {"VEILMATCH_PREPARED_SEARCHES": "2", "VEILMATCH_LOG_LEVEL": "debug"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("prepared") / "installation"
    hold_ceremony(directory, PARAMETERS)
    with supervised(directory, ENVIRONMENT | PREPARING) as parties:
        parties.start()
        parties.wait_ready()
        made = World(directory, PARAMETERS, parties)
        settle(made)
        yield made


def prepared(world: World, party: str) -> int:
    """Return how often all was prepared."""
    return world.log(party).count("searches prepared")


def test_answers_are_right_however_much_is_prepared(world: World) -> None:
    names = [f"p{i}" for i in range(COUNT)]

    def search() -> None:
        for i in (3, PARAMETERS.slots + 1, COUNT - 1):  # more than was prepared
            found = client.candidates_embedding(FACES[i], model="toy", threshold=0.9)
            assert (found.subjects, found.compared) == ((names[i],), COUNT)
            assert client.identify_embedding(FACES[i], model="toy", threshold=0.9).subject == names[i]

    with world.client(timeout_s=60.0) as client:
        client.enrol_many_embeddings(list(zip(names, FACES, strict=True)), model="toy")
        for _ in range(2):
            before = {party: prepared(world, party) for party in ("matcher-a", "matcher-b")}
            search()
            deadline = time.monotonic() + 90
            while any(prepared(world, party) == count for party, count in before.items()):
                assert time.monotonic() < deadline, "nothing was prepared at rest"
                time.sleep(0.1)
        os.killpg(world.parties.pid("matcher-a"), signal.SIGKILL)
        time.sleep(0.5)
        world.restart()
        search()
