"""known over real processes: whether the probe is anybody's, one bit, and nothing of whom or of how many."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import World, integers, near, unit, veilmatch
from veilmatch.client.client import Client
from veilmatch.crypto.errors import ModelMismatchError


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """The first device; the gallery is empty before and after."""
    with world.client() as client:
        assert client.subjects() == []
        yield client
        for entry in client.subjects():
            client.erase(entry.subject)


def test_answers_equal_the_plaintext_ones_in_every_pair_and_assured(world: World, client: Client) -> None:
    rng = np.random.default_rng(71)
    faces = unit(rng, 60, world.parameters.dimension)
    client.enrol_many_embeddings([(f"p{i}", face) for i, face in enumerate(faces)], model="toy")
    templates, square = integers(faces, world.parameters), world.parameters.scale**2
    said = []
    for i, pair in enumerate(("ab", "ac", "bc", "ab")):
        probe = near(rng, faces[9 * i], (0.3, 2.1, 6.0, 0.3)[i])
        top = int((templates @ integers(probe, world.parameters)[0]).max())
        with world.client(pairs=[pair]) as other:
            for t in (top, top + 1):
                result = other.known_embedding(probe, model="toy", threshold=(t - 0.5) / square)
                assert bool(result) == result.decision == (top >= t) and result.pair == pair
                assert [len(share) for share in result.shares] == [1, 1] and not result.assured
                said.append(result.decision)
    assert set(said) == {True, False}
    assured = client.known_embedding(faces[3], model="toy", assured=True)
    assert assured and assured.assured and len(assured.request_ids) == 3
    with pytest.raises(ModelMismatchError):
        client.known_embedding(faces[3], model="another")


def test_nobody_is_known_in_an_empty_gallery_nor_after_an_erasure(world: World, client: Client) -> None:
    faces = unit(np.random.default_rng(72), 2, world.parameters.dimension)
    assert client.known_embedding(faces[0], model="toy").decision is False
    client.enrol_embedding("ada", faces[0], model="toy")
    client.enrol_embedding("bob", faces[1], model="toy")
    assert client.known_embedding(faces[0], model="toy")
    client.erase("ada")
    assert not client.known_embedding(faces[0], model="toy") and client.known_embedding(faces[1], model="toy")


def test_the_command_line_says_known_or_not(world: World, client: Client, orl: Callable[[int, int], Path]) -> None:
    config = ["--config", str(world.device_config)]
    client.enrol("ada", orl(1, 1))
    found = veilmatch("known", *config, str(orl(1, 9)))
    assert (found.returncode, found.stdout.split(" (")[0]) == (0, "known"), found.stderr
    assert "ada" not in found.stdout + found.stderr
    nobody = veilmatch("known", *config, str(orl(3, 9)), "--json")
    document = json.loads(nobody.stdout)
    assert (nobody.returncode, document["known"], len(document["shares"])) == (1, False, 2)
