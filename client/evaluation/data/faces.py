"""The faces of an evaluation: embeddings with the subject of each, and the photos that gave none.

A photo counts as acquired if it shows one face whose embedding the quantiser accepts; anything else is a
failure to acquire, for every scorer alike (ISO/IEC 19795-1: failure-to-acquire rate, FTA). A subject without
any acquired photo is a failure to enrol (FTE).
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.embedder import Embedding
from veilmatch.client.capture.image import ImageSource
from veilmatch.client.capture.quality.assessment import Quality
from veilmatch.client.capture.quantiser import quantise, unit_vector
from veilmatch.crypto.errors import EmbeddingError, InvalidInputError, VeilmatchError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet

Embed = Callable[[int, ImageSource], tuple[Embedding, Quality | None]]
"""Called with the number of a photo and the photo; may be called from several threads."""

Progress = Callable[[str, int, int], None]
"""Called with a stage, how much of it is done and how much there is."""


_Acquired = tuple[Embedding, Array, Quality | None]


@dataclass(frozen=True)
class Failure:
    """A photo that was not acquired. code: of the error, as in `veilmatch.crypto.errors`."""

    subject: str
    photo: str
    code: str


@dataclass(frozen=True, eq=False, repr=False)
class FaceSet:
    """What an evaluation compares. Biometric data: it stays in this process.

    embeddings: float64[n, D], of length 1; integers: int64[n, D], quantised; subjects: of each row; photos: the
    number that each row had among all photos; failures: the photos without a row; model: named by its id.
    qualities: of each row; none at all where they were not measured.
    """

    embeddings: npt.NDArray[np.float64]
    integers: Array
    subjects: tuple[str, ...]
    photos: tuple[int, ...]
    failures: tuple[Failure, ...]
    model: str
    qualities: tuple[Quality, ...] = ()

    @property
    def labels(self) -> Array:
        """Return the subject of each row as a number from 0, int64[n]."""
        return np.unique(np.array(self.subjects), return_inverse=True)[1].astype(np.int64)

    @property
    def attempts(self) -> int:
        """How many photos there were."""
        return len(self.subjects) + len(self.failures)

    @property
    def failed_subjects(self) -> tuple[str, ...]:
        """Return the subjects none of whose photos was acquired."""
        return tuple(sorted({failure.subject for failure in self.failures} - set(self.subjects)))

    @property
    def fta(self) -> float:
        """Failure-to-acquire rate: photos that were not acquired, among all photos."""
        return len(self.failures) / self.attempts

    @property
    def fte(self) -> float:
        """Failure-to-enrol rate: subjects without an acquired photo, among all subjects."""
        return len(self.failed_subjects) / (len(set(self.subjects)) + len(self.failed_subjects))


def from_photos(
    photos: Sequence[tuple[str, ImageSource]],
    embed: Embed,
    model: str,
    parameters: ParameterSet,
    progress: Progress = lambda stage, done, total: None,
) -> FaceSet:
    """Return the faces of (subject, photo) pairs; photos that cannot be used become failures.

    Raises ModelError or whatever else `embed` raises that is not about the photo.
    """

    def acquire(number: int) -> _Acquired | InvalidInputError:
        try:
            embedding, quality = embed(number, photos[number][1])
            return embedding, quantise(embedding, parameters), quality
        except InvalidInputError as error:
            return error

    outcomes: list[_Acquired | InvalidInputError] = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for outcome in threads.map(acquire, range(len(photos))):
            outcomes.append(outcome)
            progress("capture", len(outcomes), len(photos))
    return _faces([(subject, str(photo)) for subject, photo in photos], outcomes, model, parameters)


def read_vectors(path: Path) -> tuple[npt.NDArray[np.float64], list[str], str]:
    """Return (embeddings, subjects, model) of a .npz file as of `from_file`, of whatever dimension, unchecked.

    Raises InvalidInputError if the file is not of this kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            vectors, subjects = file["embeddings"], file["subjects"]
            model = str(file["model"]) if "model" in file.files else "unknown"
    except (OSError, ValueError, LookupError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            "not a file of embeddings", got=f"{path}: {type(error).__name__}", expected=".npz: embeddings, subjects"
        ) from None
    if subjects.ndim != 1 or subjects.dtype.kind not in "Uiu" or vectors.ndim != 2 or len(vectors) != len(subjects):
        raise InvalidInputError(
            "embeddings and subjects do not fit each other",
            got=f"{vectors.shape} and {subjects.shape}",
            expected="(n, D) and (n,), text or integers",
        )
    return vectors, [str(subject) for subject in subjects], model


def from_file(path: Path, parameters: ParameterSet) -> FaceSet:
    """Return the faces of a .npz file with `embeddings`, real [n, D], and `subjects`, text or integers [n].

    An optional `model` names the model. Rows that the quantiser refuses become failures. Raises
    InvalidInputError if the file is not of this kind, EmbeddingError for another dimension.
    """
    vectors, subjects, model = read_vectors(path)
    if vectors.shape[1] != parameters.dimension:
        raise EmbeddingError(
            "embeddings of another dimension than the parameter set",
            got=vectors.shape[1],
            expected=f"{parameters.dimension} ({parameters.name})",
        )

    def acquire(vector: npt.NDArray[np.float64]) -> _Acquired | InvalidInputError:
        try:
            return unit_vector(vector, parameters.dimension), quantise(vector, parameters), None
        except EmbeddingError as error:
            return error

    named = [(subject, f"row {row}") for row, subject in enumerate(subjects)]
    return _faces(named, [acquire(vector) for vector in vectors], model, parameters)


def _faces(
    named: Sequence[tuple[str, str]],
    outcomes: Sequence[_Acquired | VeilmatchError],
    model: str,
    parameters: ParameterSet,
) -> FaceSet:
    rows, vectors, integers, qualities, failures = [], [], [], [], []
    for number, ((subject, photo), outcome) in enumerate(zip(named, outcomes, strict=True)):
        if isinstance(outcome, VeilmatchError):
            failures.append(Failure(subject, photo, outcome.code))
        else:
            rows.append(number)
            vectors.append(outcome[0])
            integers.append(outcome[1])
            qualities.append(outcome[2])
    if not rows:
        raise InvalidInputError("no photo could be used", got=f"{len(failures)} failures", expected="faces")
    return FaceSet(
        np.array(vectors, np.float64).reshape(-1, parameters.dimension),
        np.array(integers, np.int64).reshape(-1, parameters.dimension),
        tuple(named[row][0] for row in rows),
        tuple(rows),
        tuple(failures),
        model,
        measured if len(measured := tuple(q for q in qualities if q is not None)) == len(rows) else (),
    )
