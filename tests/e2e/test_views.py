"""Several views of a face in one request, over real processes: any of them is enough, and it is one answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import World, integers, near, unit, veilmatch
from veilmatch.client.capture.image import load_image
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.client import Client
from veilmatch.crypto.errors import InvalidInputError


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """The first device; the gallery is empty before and after."""
    with world.client() as client:
        assert client.subjects() == []
        yield client
        for entry in client.subjects():
            client.erase(entry.subject)


def test_answers_equal_the_plaintext_ones_about_the_best_view_in_every_pair(world: World, client: Client) -> None:
    rng = np.random.default_rng(91)
    faces = unit(rng, world.parameters.slots + 5, world.parameters.dimension)
    subjects = [f"p{i:03}" for i in range(len(faces))]
    client.enrol_many_embeddings(list(zip(subjects, faces, strict=True)), model="toy")
    client.enrol_embedding("p000", faces[1], model="toy")  # which the matchers made
    templates, square = integers(np.vstack([faces, faces[1]]), world.parameters), world.parameters.scale**2
    subjects.append("p000")
    said = []
    for count, pair in ((2, "ab"), (3, "ac"), (4, "bc")):
        probes = [near(rng, faces[i], 0.4) for i in (7, 1, 38, 39)[:count]]
        best = (templates @ integers(np.array(probes), world.parameters).T).max(axis=1)
        of_p000 = int(best[[i for i, subject in enumerate(subjects) if subject == "p000"]].max())
        first, *views = probes
        with world.client(pairs=[pair]) as other:
            for t in (int(best.max()), int(best.max()) + 1, of_p000):
                how = {"model": "toy", "views": views, "threshold": (t - 0.5) / square}
                matching = {subject for subject, score in zip(subjects, best, strict=True) if score >= t}
                candidates = other.candidates_embedding(first, **how)
                assert set(candidates) == matching and candidates.compared == len(subjects)
                # Two templates are the same, in whichever slots are free: which comes first is tested elsewhere.
                best_ones = {s for s, score in zip(subjects, best, strict=True) if score == best.max() >= t} or {None}
                assert other.identify_embedding(first, **how).subject in best_ones
                known = other.known_embedding(first, **how)
                assert known.decision == bool(matching) and [len(share) for share in known.shares] == [1, 1]
                verified = other.verify_embedding("p000", first, **how)
                assert verified.decision == (of_p000 >= t)
                said += [bool(known), bool(verified)]
    assert set(said) == {True, False}
    assured = client.identify_embedding(faces[9], model="toy", views=[faces[3]], assured=True)
    both = integers(faces[[9, 3]], world.parameters)
    assert assured.assured and assured.subject == subjects[int((templates @ both.T).max(axis=1).argmax())]


def test_another_number_of_views_is_refused_on_the_device(world: World, client: Client) -> None:
    face = unit(np.random.default_rng(92), 1, world.parameters.dimension)[0]
    for views in ([face] * 4, face, "no list"):
        with pytest.raises(InvalidInputError):
            client.known_embedding(face, model="toy", views=views)


def test_a_mirrored_photo_is_found_by_its_mirror_image(
    world: World, client: Client, orl: Callable[[int, int], Path]
) -> None:
    """At a threshold that only the mirror image reaches, as the same comparison in clear says."""
    photo, config = orl(1, 1), ["--config", str(world.device_config)]
    pixels = load_image(photo)
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    capture = CapturePipeline.default(world.settings().capture)
    one, other = integers(np.array([capture.embed_photo(p) for p in (pixels, mirrored)]), world.parameters)
    assert one @ other < other @ other
    client.enrol("ada", mirrored)
    # Between what the photo scores and what its mirror image does.
    threshold = (int(one @ other) + 0.5) / world.parameters.scale**2
    assert not client.known(photo, threshold=threshold)
    assert client.known(photo, mirror=True, threshold=threshold)
    assert client.known(orl(3, 9), views=[photo], mirror=True, threshold=threshold)
    assert client.verify("ada", photo, mirror=True, threshold=threshold)
    assert client.identify(photo, mirror=True, threshold=threshold).subject == "ada"
    assert client.candidates(orl(3, 9), views=[mirrored], threshold=threshold).subjects == ("ada",)
    found = veilmatch("verify", "ada", str(orl(3, 9)), *config, "--view", str(orl(1, 9)), "--mirror", "--json")
    document = json.loads(found.stdout)
    assert found.returncode == 0 and document["match"] is True, found.stderr
    too_many = veilmatch("known", str(orl(3, 9)), *config, *["--view", str(orl(1, 9))] * 2, "--mirror")
    assert too_many.returncode == 3, too_many.stderr
