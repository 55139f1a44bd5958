"""Embeddings by class: of a folder, of a file, or of test photos that were made into classes.

    photos/smile/ada/1.jpg      class, person, photo; or class, photo, then every photo is of somebody else
    embeddings.npz              `embeddings` [n, d], `classes` [n], maybe `people` [n] and `model`
    --orl condition             400 test photos, as they are and made worse in six ways
    --orl mask                  400 test photos, as they are and with a mask painted over mouth and nose

Whose a photo is matters: a classifier that is tested on people it was trained on looks better than it is.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.detector import Detector, Face
from veilmatch.client.capture.embedder import Embedding
from veilmatch.client.capture.image import ImageSource, RgbArray, load_image
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.quantiser import unit_vector
from veilmatch.client.capture.turn import upright
from veilmatch.client.evaluation.data.degrade import DEGRADATIONS, Place
from veilmatch.client.evaluation.data.faces import Progress
from veilmatch.client.given.photo_folder import read_folder
from veilmatch.client.vectors.fusing import mean_view
from veilmatch.crypto.errors import EmbeddingError, InvalidInputError

MadeClasses: TypeAlias = Literal["condition", "mask"]

#: Conditions of a photo: the degradation and its strength. Each is one at which photos still match, mostly.
CONDITIONS: dict[str, tuple[str, float]] = {
    "blurred": ("blur", 2),
    "coarse": ("low resolution", 20),
    "dark": ("darker", -2),
    "bright": ("brighter", 1),
    "covered": ("occlusion", 20),
    "compressed": ("JPEG", 10),
}
_GOOD = "good"


@dataclass(frozen=True, eq=False, repr=False)
class Labelled:
    """Embeddings with their classes. Biometric data: it stays in this process.

    embeddings: float64[n, d] of length 1; classes, people: of each row. model: id of the face model. failures: photos
    that could not be used.
    """

    embeddings: npt.NDArray[np.float64]
    classes: tuple[str, ...]
    people: tuple[str, ...]
    model: str
    failures: int

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, each once, in order of names."""
        return tuple(sorted(set(self.classes)))


def read_class_folder(folder: Path) -> tuple[list[tuple[str, str, Path]], list[str]]:
    """Return (class, person, photo) of a folder CLASS/PERSON/PHOTO or CLASS/PHOTO, and what else is in it.

    Raises InvalidInputError if there is no such folder, or there are fewer than two classes in it.
    """
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise InvalidInputError("the folder cannot be read", got=f"{folder}: {error.strerror}") from None
    if len(inside) < 2:
        raise InvalidInputError(
            "not a folder of classes",
            got=f"{len(inside)} folders in {folder}",
            expected="CLASS/PERSON/PHOTO, two or more",
        )
    found, left_out = [], []
    for of_class in inside:
        photos = read_folder(of_class)
        found += [(of_class.name, person, path) for person, path in photos.photos]
        left_out += [f"{of_class.name}/{entry}" for entry in photos.left_out]
    return found, left_out


def of_photos(
    photos: Sequence[tuple[str, str, ImageSource]], pipeline: CapturePipeline, progress: Progress
) -> Labelled:
    """Return the embeddings of (class, person, photo). Raises InvalidInputError if none can be used."""

    def embed(number: int) -> Embedding:
        return pipeline.embed_photo(photos[number][2])

    return _labelled([(c, p) for c, p, _ in photos], embed, pipeline.model_id, progress)


def of_test_photos(
    kind: MadeClasses,
    photos: Sequence[tuple[str, ImageSource]],
    detector: Detector,
    pipeline: CapturePipeline,
    seed: int,
    progress: Progress,
) -> Labelled:
    """Return the embeddings of (person, photo) as they are and in every other class of `kind`, seeded."""
    ways = _ways(kind)
    named = [(name, person) for person, _ in photos for name in ways]

    def embed(number: int) -> Embedding:
        photo, way = divmod(number, len(ways))
        view, face = upright(load_image(photos[photo][1]), detector)
        return pipeline.embed_photo(list(ways.values())[way](view, face, (seed, photo)))

    return _labelled(named, embed, pipeline.model_id, progress)


_Way = Callable[[RgbArray, Face, tuple[int, int]], RgbArray]


def _ways(kind: MadeClasses) -> dict[str, _Way]:
    as_it_is: dict[str, _Way] = {_GOOD: lambda view, face, seed: view}
    if kind == "mask":
        return {"no mask": as_it_is[_GOOD], "mask": masked}
    kinds = {degradation.name: degradation for degradation in DEGRADATIONS}
    made = as_it_is
    for name, (degradation, strength) in CONDITIONS.items():
        made[name] = lambda view, face, seed, d=kinds[degradation], s=strength: d(view, Place.of(face), s, seed)  # type: ignore[misc]
    return made


def masked(view: RgbArray, face: Face, seed: tuple[int, int]) -> RgbArray:
    """Return the photo with a mask painted on: from below the eyes to the chin, in a light colour. seed: see
    degrade."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng((zlib.crc32(b"mask"), *seed))
    left, right, _, mouth_left, mouth_right = face.landmarks
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    down, across = mouth - eyes, (right - left) * rng.uniform(0.85, 1.1)
    bridge, chin = eyes + down * rng.uniform(0.3, 0.45), mouth + down * rng.uniform(0.75, 0.95)
    corners = [
        bridge,
        eyes + across + down * 0.5,
        mouth + across * 0.95,
        chin + across * 0.45,
        chin - across * 0.45,
        mouth - across * 0.95,
        eyes - across + down * 0.5,
    ]
    picture = Image.fromarray(view)
    colour = tuple(int(value) for value in rng.integers(150, 251, 3))
    ImageDraw.Draw(picture).polygon([(float(x), float(y)) for x, y in corners], fill=colour)
    return np.asarray(picture)


def of_file(path: Path) -> Labelled:
    """Return what a .npz file holds: `embeddings`, real [n, d], `classes`, text or integers [n], maybe `people`,
    `model`.

    Raises InvalidInputError if the file is not of this kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            vectors, classes = file["embeddings"], file["classes"]
            people = file["people"] if "people" in file.files else np.arange(len(classes))
            model = str(file["model"]) if "model" in file.files else "unknown"
    except (OSError, ValueError, LookupError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            "not a file of embeddings", got=f"{path}: {type(error).__name__}", expected=".npz: embeddings, classes"
        ) from None
    texts = classes.ndim == people.ndim == 1 and classes.dtype.kind in "Uiu" and people.dtype.kind in "Uiu"
    if not texts or vectors.ndim != 2 or not len(vectors) == len(classes) == len(people):
        raise InvalidInputError(
            "embeddings, classes and people do not fit each other",
            got=f"{vectors.shape}, {classes.shape} and {people.shape}",
            expected="(n, d), (n,) and (n,), text or integers",
        )
    return _labelled(
        [(str(name), str(person)) for name, person in zip(classes, people, strict=True)],
        lambda row: unit_vector(vectors[row], vectors.shape[1]),
        model,
        lambda stage, done, total: None,
    )


def in_means(data: Labelled, count: int) -> Labelled:
    """Return the mean directions of up to `count` photos of one person in one class each, in the order of photos.

    What `heads classify` makes of so many photos. count: 1 changes nothing. The last mean of a person may be of fewer.
    """
    if count == 1:
        return data
    rows: dict[tuple[str, str], list[int]] = {}
    for row, whose in enumerate(zip(data.classes, data.people, strict=True)):
        rows.setdefault(whose, []).append(row)
    groups = [of_one[start : start + count] for of_one in rows.values() for start in range(0, len(of_one), count)]
    return Labelled(
        np.array([mean_view([data.embeddings[row] for row in group]) for group in groups]),
        tuple(data.classes[group[0]] for group in groups),
        tuple(data.people[group[0]] for group in groups),
        data.model,
        data.failures,
    )


def _labelled(
    named: Sequence[tuple[str, str]], embed: Callable[[int], Embedding], model: str, progress: Progress
) -> Labelled:
    def acquire(number: int) -> Embedding | None:
        try:
            return embed(number)
        except InvalidInputError:
            return None

    found: list[Embedding | None] = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for embedding in threads.map(acquire, range(len(named))):
            found.append(embedding)
            progress("capture", len(found), len(named))
    rows = [row for row, embedding in enumerate(found) if embedding is not None]
    if not rows:
        raise EmbeddingError("no photo could be used", got=f"{len(named)} failures", expected="faces")
    return Labelled(
        np.array([found[row] for row in rows]),
        tuple(named[row][0] for row in rows),
        tuple(named[row][1] for row in rows),
        model,
        len(named) - len(rows),
    )
