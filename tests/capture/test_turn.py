"""Photos the wrong way up: turned right or refused, and never an embedding of something that is no face."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veilmatch.client.capture.detector import Face, YuNetDetector
from veilmatch.client.capture.image import RgbArray, load_image
from veilmatch.client.capture.pipeline import MIN_FACE_PIXELS, CapturePipeline
from veilmatch.client.capture.turn import turned, upright
from veilmatch.client.evaluation.data.degrade import DEGRADATIONS, Place
from veilmatch.client.models import fixture_photos, orl_photo
from veilmatch.common.hints import hint
from veilmatch.crypto.errors import NoFaceError, SeveralFacesError, UnusableFaceError

THRESHOLD = 0.4
QUARTERS = pytest.mark.parametrize("degrees", [90, 180, 270])


@pytest.fixture(scope="module")
def people(installed: None) -> list[RgbArray]:
    """One photo each of 20 people."""
    return [load_image(orl_photo(subject, 1)) for subject in range(1, 41, 2)]


def shrunk(photo: RgbArray, face: Face, pixels: float) -> RgbArray:
    """The photo with a face so many pixels wide."""
    factor = pixels / (face.box[2] - face.box[0])
    size = round(photo.shape[1] * factor), round(photo.shape[0] * factor)
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))


def same_or_refused(pipeline: CapturePipeline, photo: RgbArray, expected: np.ndarray, least: float) -> bool:
    """Whether the photo is used; fails if its embedding is not that of the person."""
    try:
        cosine = float(pipeline.embed_photo(photo) @ expected)
    except (NoFaceError, UnusableFaceError):
        return False
    assert cosine >= least, f"a wrong embedding: cosine {cosine:.2f}"
    return True


@QUARTERS
def test_a_colour_photo_turned_by_quarters_has_the_embedding_of_the_upright_one(
    pipeline: CapturePipeline, portraits: dict[str, Path], degrees: int
) -> None:
    for name in ("person_a_1.jpg", "person_b_1.jpg", "biden.jpg", "obama_partial_face.jpg"):
        photo = load_image(portraits[name])
        np.testing.assert_array_equal(pipeline.embed_photo(turned(photo, degrees)), pipeline.embed_photo(photo))


@QUARTERS
def test_a_small_grey_photo_turned_by_quarters_has_the_embedding_of_the_upright_one(
    pipeline: CapturePipeline, people: list[RgbArray], degrees: int
) -> None:
    for photo in people[:8]:
        np.testing.assert_array_equal(pipeline.embed_photo(turned(photo, degrees)), pipeline.embed_photo(photo))


def test_an_upright_photo_is_left_as_it_is(detector: YuNetDetector, people: list[RgbArray]) -> None:
    photos = [load_image(photo.path) for photo in fixture_photos()] + people
    for photo in photos:
        view, face = upright(photo, detector)
        assert view is photo
        np.testing.assert_array_equal(face.landmarks, detector.detect(photo)[0].landmarks)


@pytest.mark.parametrize("name", ["person_a_1.jpg", "person_b_2.jpg", "s5", "s12", "s30"])
def test_a_tilted_photo_is_turned_right_or_refused(
    pipeline: CapturePipeline, portraits: dict[str, Path], name: str
) -> None:
    photo = Image.fromarray(load_image(portraits.get(name) or orl_photo(int(name[1:]), 4)))
    photo.thumbnail((480, 480))
    expected = pipeline.embed_photo(photo)
    angles = range(15, 360, 15)
    used = [same_or_refused(pipeline, turned(np.asarray(photo), angle), expected, 0.75) for angle in angles]
    assert sum(used) >= 0.8 * len(used)


@pytest.mark.parametrize("degrees", [45, 90, 180, 225, 270])
def test_different_people_turned_alike_match_no_more_than_upright_ones(
    pipeline: CapturePipeline, people: list[RgbArray], degrees: int
) -> None:
    embeddings = []
    for photo in people:
        try:
            embeddings.append(pipeline.embed_photo(turned(photo, degrees)))
        except UnusableFaceError:
            continue
    assert len(embeddings) >= 0.8 * len(people)
    matches = sum(float(a @ b) >= THRESHOLD for a, b in itertools.combinations(embeddings, 2))
    assert matches <= 1


@pytest.mark.parametrize(("name", "strength"), [("blur", 3), ("low resolution", 16), ("darker", -3), ("JPEG", 10)])
def test_a_bad_photo_is_turned_right_or_refused(
    pipeline: CapturePipeline, detector: YuNetDetector, people: list[RgbArray], name: str, strength: float
) -> None:
    (worse,) = [d for d in DEGRADATIONS if d.name == name]
    used = []
    for number, photo in enumerate(people[::4]):
        bad = worse(photo, Place.of(detector.detect(photo)[0]), strength, (1, number))
        expected = pipeline.embed_photo(bad)
        used += [same_or_refused(pipeline, turned(bad, degrees), expected, 0.999) for degrees in (90, 180, 270)]
        same_or_refused(pipeline, turned(bad, 45), expected, 0.6)
    assert sum(used) >= 0.8 * len(used)


@pytest.mark.parametrize(("name", "strength"), [("occlusion", 20), ("brighter", 1)])
def test_a_photo_that_shows_too_little_for_a_glance_is_seldom_refused_and_never_turned_wrongly(
    pipeline: CapturePipeline, detector: YuNetDetector, name: str, strength: float
) -> None:
    (worse,) = [d for d in DEGRADATIONS if d.name == name]
    used = []
    for number in range(40):
        photo = load_image(orl_photo(1 + number, 1 + number % 10))
        bad = worse(photo, Place.of(detector.detect(photo)[0]), strength, (1, number))
        found = detector.detect(bad)
        if not found:
            continue
        for degrees in (0, 90):
            try:
                view, face = upright(turned(bad, degrees), detector)
            except UnusableFaceError:
                used.append(False)
                continue
            np.testing.assert_array_equal(view, bad)
            np.testing.assert_array_equal(face.landmarks, found[0].landmarks)
            used.append(True)
    assert sum(used) >= 0.95 * len(used)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_two_people_are_refused_whichever_way_up(
    detector: YuNetDetector, portraits: dict[str, Path], degrees: int
) -> None:
    both = [load_image(portraits[name])[:600, :600] for name in ("person_a_2.jpg", "person_b_2.jpg")]
    with pytest.raises(SeveralFacesError) as caught:
        upright(turned(np.concatenate(both, axis=1), degrees), detector)
    assert caught.value.got == "2"


@pytest.mark.parametrize("degrees", [0, 90])
def test_a_face_too_small_to_tell_people_apart_is_refused(
    pipeline: CapturePipeline,
    detector: YuNetDetector,
    people: list[RgbArray],
    orl_embedding: Callable[[int, int], np.ndarray],
    degrees: int,
) -> None:
    for photo in people[:6]:
        (face,) = detector.detect(photo)
        with pytest.raises(UnusableFaceError, match="too small") as caught:
            pipeline.embed_photo(turned(shrunk(photo, face, MIN_FACE_PIXELS - 5), degrees))
        assert caught.value.expected == "at least 24 pixels"
        assert abs(int((caught.value.got or "").split()[0]) - (MIN_FACE_PIXELS - 5)) <= 2
        large_enough = turned(shrunk(photo, face, MIN_FACE_PIXELS + 4), degrees)
        assert pipeline.embed_photo(large_enough) @ pipeline.embed_photo(photo) > THRESHOLD + 0.2


class Undecided:
    """Finds a face, and is as sure of it from every side."""

    def detect(self, image: RgbArray) -> list[Face]:
        return [Face((10, 10, 60, 70), 0.95, np.array([[20.0, 30], [50, 30], [35, 45], [25, 60], [45, 60]]))]

    def glance(self, view: RgbArray) -> float:
        return 0.9


def test_a_face_that_no_turn_shows_best_is_refused_and_the_hint_says_what_to_do(noise: np.ndarray) -> None:
    with pytest.raises(UnusableFaceError) as caught:
        upright(noise, Undecided())
    assert "upright" in hint(caught.value)


class SeenFromClose:
    """Finds a face in every turn, and tells only from close, by its bright half, which way up it is.

    rival: how sure it is of a face that is upside down; 0.8 if it is upright.
    """

    def __init__(self, rival: float) -> None:
        self._rival = rival

    def detect(self, image: RgbArray) -> list[Face]:
        middle = len(image) / 2
        landmarks = middle + np.array([[-10.0, -10], [10, -10], [0, 0], [-10, 10], [10, 10]])
        return [Face((middle - 20, middle - 20, middle + 20, middle + 20), 0.95, landmarks)]

    def glance(self, view: RgbArray) -> float:
        middle = len(view) // 2
        above = float(view[:middle].mean() - view[middle:].mean())
        if middle < 128 or abs(above) < 140:
            return 0.0
        return 0.8 if above > 0 else self._rival


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_close_looks_decide_where_glances_see_nothing_unless_two_turns_compete(degrees: int) -> None:
    photo = np.zeros((80, 80, 3), np.uint8)
    photo[:40] = 255
    view, _ = upright(turned(photo, degrees), SeenFromClose(rival=0.7))
    np.testing.assert_array_equal(view, photo)
    with pytest.raises(UnusableFaceError, match="which way up"):
        upright(turned(photo, degrees), SeenFromClose(rival=0.79))


def test_a_tilt_that_only_close_looks_show_is_refused_unless_a_glance_at_the_turned_photo_agrees() -> None:
    class SeenAtAGlance(SeenFromClose):
        """agrees: whether glances see what close looks do."""

        agrees = False

        def glance(self, view: RgbArray) -> float:
            return super().glance(view.repeat(2, axis=0).repeat(2, axis=1) if self.agrees else view)

    photo = np.zeros((80, 80, 3), np.uint8)
    photo[:40] = 255
    detector = SeenAtAGlance(rival=0.1)
    with pytest.raises(UnusableFaceError):
        upright(turned(photo, 45), detector)
    detector.agrees = True
    view, _ = upright(turned(photo, 45), detector)
    assert view[: len(view) // 2].mean() > view[len(view) // 2 :].mean() + 60


def test_nobody_is_nobody_in_every_turn(detector: YuNetDetector, noise: np.ndarray) -> None:
    with pytest.raises(NoFaceError):
        upright(noise, detector)
