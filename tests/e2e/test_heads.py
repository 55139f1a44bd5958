"""Classes, fused vectors and means of views over real processes: every answer is that of the integers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import World, near, unit, veilmatch
from veilmatch import Head, fuse, mean_view
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.client import Client
from veilmatch.client.vectors.captures import ClassCapture
from veilmatch.client.vectors.classes import ClassMap
from veilmatch.client.vectors.head import head_model
from veilmatch.crypto.errors import ImageError, KeyMismatchError, ModelMismatchError
from veilmatch.crypto.parameters import ParameterSet

THRESHOLD = 0.4


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """The first device; the gallery is empty before and after."""
    with world.client() as client:
        assert client.subjects() == []
        yield client
        for entry in client.subjects():
            client.erase(entry.subject)


def head_of(parameters: ParameterSet, classes: int = 5) -> Head:
    rng = np.random.default_rng(61)
    weights, biases = rng.standard_normal((classes, parameters.dimension - 2)), rng.standard_normal(classes)
    return Head("age", "toy", parameters, THRESHOLD, tuple(f"class {k}" for k in range(classes)), weights, biases)


def test_the_class_is_that_of_the_integers(world: World, client: Client) -> None:
    head, rng = head_of(world.parameters), np.random.default_rng(62)
    head.enrol(client)
    found = []
    for _ in range(25):
        embedding = rng.standard_normal(128)
        probe = head.map.probe(embedding)
        result = client.identify_embedding(probe, model=head.model, threshold=THRESHOLD)
        assert result.subject == head.classify(embedding) and result.compared == 5
        found.append(result.subject)
    assert len(set(found)) >= 4 and None not in found
    # The head again, with other weights under the same names: they take the place of the first.
    other = Head("age", "toy", head.parameters, THRESHOLD, head.classes, -head.weights, -head.biases)
    other.enrol(client)
    embedding = rng.standard_normal(128)
    result = client.identify_embedding(head.map.probe(embedding), model=head.model, threshold=THRESHOLD)
    assert (result.subject, result.compared) == (other.classify(embedding), 5)


def test_faces_and_other_heads_are_not_compared_with_classes(world: World, client: Client) -> None:
    head = head_of(world.parameters, 2)
    head.enrol(client)
    face = np.random.default_rng(63).standard_normal(128)
    probe = ClassMap(world.parameters, THRESHOLD).probe(face)
    for model in ("toy", head_model("toy", "mask", THRESHOLD), head_model("toy", "age", 0.5)):
        with pytest.raises(ModelMismatchError):
            client.identify_embedding(probe, model=model, threshold=THRESHOLD)
    with pytest.raises(KeyMismatchError, match="another parameter set"):
        head_of(ParameterSet(128, 60, 23, 1024)).enrol(client)


def test_fused_vectors_and_means_decide_as_the_integers(world: World, client: Client) -> None:
    rng, parameters = np.random.default_rng(64), world.parameters
    faces, voices = unit(rng, 6, 128), unit(rng, 6, 64)
    weights = [0.7, 0.3]

    def fused(face: np.ndarray, voice: np.ndarray) -> np.ndarray:
        return fuse([face, voice], weights=weights, dimension=parameters.dimension)

    templates = []
    for i in range(6):
        views = [fused(near(rng, faces[i], 0.5), near(rng, voices[i], 0.5)) for _ in range(3)]
        templates.append(mean_view(views))
        client.enrol_embedding(f"p{i}", templates[-1], model="fused")
    integers = np.array([quantise(template, parameters) for template in templates])
    seen = set()
    for i in range(12):
        probe = fused(near(rng, faces[i % 6], 1.5), near(rng, voices[(i + i // 6) % 6], 1.5))
        scores = integers @ quantise(probe, parameters)
        t, best = int(scores.max()), int(np.argmax(scores))
        for threshold, expected in ((t, f"p{best}"), (t + 1, None)):
            asked = (threshold - 0.5) / parameters.scale**2
            assert client.identify_embedding(probe, model="fused", threshold=asked).subject == expected
            matched = client.verify_embedding(f"p{best}", probe, model="fused", threshold=asked)
            assert matched.decision == (expected is not None)
        seen.add(best)
    assert len(seen) >= 4


def test_from_photos_to_a_class_by_commands(
    world: World, client: Client, orl: Callable[[int, int], Path], tmp_path: Path
) -> None:
    """Two people stand for two classes: photos they were not trained on get the right one, and a gallery of faces is
    none of classes."""
    for person, name in ((1, "dark hair"), (2, "glasses")):
        for photo in (1, 2, 3, 4, 5, 6):
            there = tmp_path / "photos" / name / f"somebody-{photo % 3}"
            there.mkdir(parents=True, exist_ok=True)
            shutil.copy(orl(person, photo), there / f"{photo}.pgm")
    config, written = ["--config", str(world.device_config)], tmp_path / "look.head"
    made = veilmatch(
        "heads", "train", str(tmp_path / "photos"), "--name", "look", "--output", str(written), "--folds", "3",
        "--parameters", world.parameters.name, "--replicates", "100", "--json",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    figures = json.loads(made.stdout)
    assert (figures["photos"], figures["people"], figures["different"]) == (12, 3, 0)
    assert written.stat().st_mode & 0o777 == 0o600
    enrolled = veilmatch("heads", "enrol", str(written), *config)
    assert enrolled.returncode == 0, enrolled.stderr
    for person, name in ((1, "dark hair"), (2, "glasses")):
        said = veilmatch("heads", "classify", str(orl(person, 9)), "--name", "look", *config)
        assert (said.returncode, said.stdout) == (0, f"{name}\n"), said.stderr
    other = veilmatch("heads", "classify", str(orl(1, 9)), "--name", "other", *config)
    assert other.returncode == 5
    document = json.loads(veilmatch("heads", "classify", str(orl(1, 9)), "--name", "look", *config, "--json").stdout)
    assert (document["class"], document["compared"]) == ("dark hair", 2)
    # Several photos are one question, about their mean.
    photos = [orl(2, number) for number in (8, 9, 10)]
    several = veilmatch("heads", "classify", *map(str, photos), "--name", "look", *config)
    assert (several.returncode, several.stdout) == (0, "glasses\n"), several.stderr
    head, pipeline = Head.load(written), CapturePipeline.default()
    mean = mean_view([pipeline.embed_photo(photo) for photo in photos])
    capture = ClassCapture(pipeline, "look", world.parameters, THRESHOLD)
    assert np.array_equal(capture.embed_photos(photos), head.map.probe(mean)) and head.classify(mean) == "glasses"
    with pytest.raises(ImageError, match="photo 2 of 2"):
        capture.embed_photos([photos[0], b"no photo"])


def test_one_template_of_several_photos(world: World, client: Client, orl: Callable[[int, int], Path]) -> None:
    pipeline = CapturePipeline.default()
    photos = [orl(1, number) for number in (1, 3, 5)]
    added = client.enrol("ada", *photos, mean=True, once=True)
    again = client.enrol("ada", *photos[::-1], mean=True, once=True)
    assert (added.templates, added.repeated, again.repeated) == (1, 0, 1)
    assert [entry.templates for entry in client.subjects()] == [1]
    template = quantise(mean_view([pipeline.embed_photo(photo) for photo in photos]), world.parameters)
    probe = quantise(pipeline.embed_photo(orl(1, 9)), world.parameters)
    score = int(template @ probe)
    for t, expected in ((score, True), (score + 1, False)):
        asked = (t - 0.5) / world.parameters.scale**2
        assert client.verify("ada", orl(1, 9), threshold=asked).decision == expected
    config = ["--config", str(world.device_config)]
    done = veilmatch("enrol", "bob", str(orl(2, 1)), str(orl(2, 2)), "--mean", *config)
    assert done.returncode == 0 and {e.subject: e.templates for e in client.subjects()} == {"ada": 1, "bob": 1}
    assert veilmatch("enrol", "--folder", str(orl(2, 1).parent), "--mean", *config).returncode == 2
