"""Two queries that differ in nothing but the outcome look the same to every party but the device.

For every daemon: which messages it received and answered, how many, in which order, and the length of every part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.recorder import Traffic, recorded, recording
from tests.e2e.world import ENVIRONMENT, World, hold_ceremony, settle, supervised, unit
from veilmatch.client.client import Client
from veilmatch.crypto.parameters import ParameterSet

PARAMETERS = ParameterSet(modulus_bits=1024)
#: Two packs. The last subject has several templates.
COUNT = PARAMETERS.slots + 12
NAMES = [*(f"p{i:02}" for i in range(COUNT - 3)), "many", "many", "many"]
FACES = unit(np.random.default_rng(51), COUNT, PARAMETERS.dimension)
#: Far from everybody.
STRANGER = unit(np.random.default_rng(52), 1, PARAMETERS.dimension)[0]

Query = Callable[[Client, np.ndarray], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traffic") / "recorded"


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    """A device of an installation whose daemons record, with everybody enrolled and the labels known."""
    directory = folder.parent / "installation"
    hold_ceremony(directory, PARAMETERS)
    with supervised(directory, ENVIRONMENT | recording(folder)) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory, PARAMETERS, parties)
        settle(world)
        with world.client(timeout_s=60.0) as client:
            client.enrol_many_embeddings(list(zip(NAMES, FACES, strict=True)), model="toy")
            client.candidates_embedding(STRANGER, model="toy")
            yield client


def traffic(folder: Path, client: Client, query: Query, probe: np.ndarray) -> tuple[Any, Traffic]:
    """The answer of one query, and what the daemons noted of it."""
    time.sleep(0.3)  # what came before has to have ended everywhere
    recorded(folder)
    answer = query(client, probe)
    time.sleep(0.3)
    return answer, recorded(folder)


def _enrol_unless_known(client: Client, probe: np.ndarray) -> bool:
    """What was stored is kept where it is empty, and erased by name in either case, so that the next one finds the
    same gallery."""
    known = client.enrol_embedding("new", probe, model="toy", unless_known=True, keep_empty=True).known
    client.erase("new")
    return known


QUERIES: dict[str, tuple[Query, list[tuple[np.ndarray, Any]]]] = {
    "verify": (
        lambda client, probe: client.verify_embedding("p00", probe, model="toy").decision,
        [(STRANGER, False), (FACES[0], True), (FACES[1], False)],
    ),
    "verify, several templates": (
        lambda client, probe: client.verify_embedding("many", probe, model="toy").decision,
        [(STRANGER, False), (FACES[-3], True), (FACES[-1], True)],
    ),
    "candidates": (
        lambda client, probe: client.candidates_embedding(probe, model="toy").subjects,
        [(STRANGER, ()), (FACES[0], ("p00",)), (FACES[-1], ("many",))],
    ),
    "identify": (
        lambda client, probe: client.identify_embedding(probe, model="toy").subject,
        [(STRANGER, None), (FACES[0], "p00"), (FACES[-1], "many")],
    ),
    "known": (
        lambda client, probe: client.known_embedding(probe, model="toy").decision,
        [(STRANGER, False), (FACES[0], True), (FACES[-1], True)],
    ),
    "known, three views": (
        lambda client, probe: client.known_embedding(STRANGER, model="toy", views=[probe, -STRANGER]).decision,
        [(STRANGER, False), (FACES[0], True), (FACES[-1], True)],
    ),
    "identify, two views": (
        lambda client, probe: client.identify_embedding(-STRANGER, model="toy", views=[probe]).subject,
        [(STRANGER, None), (FACES[0], "p00"), (FACES[-1], "many")],
    ),
    "verify, four views": (
        lambda client, probe: client.verify_embedding("p00", probe, model="toy", views=[-STRANGER] * 3).decision,
        [(STRANGER, False), (FACES[0], True), (FACES[1], False)],
    ),
    "enrol unless known": (_enrol_unless_known, [(STRANGER, False), (FACES[0], True), (FACES[-1], True)]),
}


@pytest.mark.parametrize("name", QUERIES)
def test_every_party_sees_the_same_whatever_comes_out(folder: Path, client: Client, name: str) -> None:
    query, cases = QUERIES[name]
    seen = []
    for probe, expected in cases:
        answer, noted = traffic(folder, client, query, probe)
        assert answer == expected
        seen.append(noted)
    nobody, *others = seen
    assert {party for party, _ in nobody} == {"matcher-a", "matcher-b", "keyholder-a", "keyholder-b"}
    assert len(nobody["keyholder-b", "receives PairMessage"]) >= (5 if name.startswith("verify") else 8)
    change = name.startswith("enrol")
    assert len(nobody["matcher-a", f"answers {'Mutate' if change else 'Match'}Reply"]) == 1 + change
    for other in others:
        assert other == nobody


def test_the_recorder_tells_other_queries_apart(folder: Path, client: Client) -> None:
    def probed(claim: str) -> Traffic:
        return traffic(folder, client, lambda c, probe: c.verify_embedding(claim, probe, model="toy"), STRANGER)[1]

    one, several = probed("p00"), probed("many")
    assert one != several and one.keys() == several.keys()
