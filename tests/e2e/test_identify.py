"""identify over real processes: the one subject whose best template is the best of all, or nobody."""

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


def test_answers_equal_the_plaintext_ones(world: World, client: Client) -> None:
    """More than two packs, several templates of some subjects, probes from near to far, thresholds around the best."""
    rng = np.random.default_rng(41)
    faces = unit(rng, 90, world.parameters.dimension)
    names = [f"p{i % 60}" for i in range(90)]
    client.enrol_many_embeddings(list(zip(names, faces, strict=True)), model="toy")
    templates, square = integers(faces, world.parameters), world.parameters.scale**2
    found = []
    for i in range(12):
        probe = near(rng, faces[7 * i], [0.3, 2.1, 6.0][i % 3])
        scores = templates @ integers(probe, world.parameters)[0]
        top = int(scores.max())
        for t in (top, top + 1, max(1, top // 2)):
            result = client.identify_embedding(probe, model="toy", threshold=(t - 0.5) / square)
            assert result.subject == (names[int(np.argmax(scores))] if top >= t else None)
            assert result.compared == 90 and [len(share) for share in result.shares] == [1, 1]
            found.append(result.subject)
    assert None in found and len(set(found)) > 4


def test_templates_of_a_subject_count_as_one(client: Client, world: World) -> None:
    faces = unit(np.random.default_rng(42), 4, world.parameters.dimension)
    client.enrol_embedding("ada", faces[0], faces[1], faces[2], model="toy")
    client.enrol_embedding("bob", faces[3], model="toy")
    for face, subject in zip(faces, ("ada", "ada", "ada", "bob"), strict=True):
        assert client.identify_embedding(face, model="toy").subject == subject


def test_subject_that_was_erased_is_nobody_and_its_slot_is_used_again(client: Client, world: World) -> None:
    faces = unit(np.random.default_rng(43), 3, world.parameters.dimension)
    assert client.identify_embedding(faces[0], model="toy").compared == 0
    for name, face in zip(("ada", "bob"), faces, strict=False):
        client.enrol_embedding(name, face, model="toy")
    client.erase("ada")
    result = client.identify_embedding(faces[0], model="toy")
    assert (result.subject, bool(result), result.compared) == (None, False, 1)
    assert client.identify_embedding(faces[1], model="toy").subject == "bob"
    client.enrol_embedding("cyd", faces[2], model="toy")
    assert [client.identify_embedding(face, model="toy").subject for face in faces] == [None, "bob", "cyd"]
    # The same template twice: cyd has the slot that ada had, the lower one.
    client.enrol_embedding("bob", faces[2], model="toy")
    assert client.identify_embedding(faces[2], model="toy").subject == "cyd"
    client.erase("bob")
    client.erase("cyd")
    result = client.identify_embedding(faces[1], model="toy")
    assert (result.subject, result.compared, result.shares) == (None, 0, (b"", b""))


@pytest.mark.parametrize("pair", ["ab", "ac", "bc"])
def test_every_pair_identifies(world: World, client: Client, pair: str) -> None:
    faces = unit(np.random.default_rng(44), 5, world.parameters.dimension)
    client.enrol_many_embeddings([(f"p{i}", face) for i, face in enumerate(faces[:4])], model="model-1")
    with world.client(pairs=[pair]) as other:
        result = other.identify_embedding(faces[2], model="model-1")
        assert (result.subject, result.pair) == ("p2", pair)
        assert not other.identify_embedding(faces[4], model="model-1")
        with pytest.raises(ModelMismatchError):
            other.identify_embedding(faces[2], model="toy")


def test_the_command_line_names_one_subject(world: World, client: Client, orl: Callable[[int, int], Path]) -> None:
    config = ["--config", str(world.device_config)]
    for person, name in ((1, "ada"), (2, "bob")):
        client.enrol(name, orl(person, 1), orl(person, 2))
    found = veilmatch("identify", *config, str(orl(2, 9)))
    assert (found.returncode, found.stdout) == (0, "bob\n"), found.stderr
    assert "4 templates" in found.stderr
    nobody = veilmatch("identify", *config, str(orl(3, 9)), "--json")
    document = json.loads(nobody.stdout)
    assert (nobody.returncode, document["match"], document["subject"]) == (1, False, None)
