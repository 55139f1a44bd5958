"""A head: a linear classifier of embeddings, which its owner enrols as one template for each class.

    head = Head.load("condition.head")
    head.enrol(client)                                   # once, on a device with the right to enrol
    client.identify(photo).subject                       # on any device whose capture is a `ClassCapture`

Whoever has the file has the classifier. Servers have ciphertexts of it, and devices that ask have none of it: what they
need is its name, the parameter set and the threshold.
"""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.given.arguments import checked_model, checked_name
from veilmatch.client.vectors.classes import ClassMap, Matrix
from veilmatch.client.vectors.spreading import Vector
from veilmatch.common.secret_file import read_private
from veilmatch.crypto.errors import InvalidInputError, KeyMismatchError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet

if TYPE_CHECKING:
    from veilmatch.client.client import Client

#: Cosine that heads are asked with: the lowest that devices are usually certified for.
HEAD_THRESHOLD = 0.40
#: A file of 1,000 classes of 4,096 coordinates has 32 MB.
_MAX_BYTES = 64 << 20
_MAX_NAME = 24


def head_model(embedder: str, name: str, threshold: float) -> str:
    """Return the name under which a gallery knows the classes of a head: no other vectors are compared with them.

    embedder: id of the face model. Raises InvalidInputError if a name is none, or longer than 24 characters.
    """
    if not 1 <= len(checked_name(name)) <= _MAX_NAME:
        raise InvalidInputError("the name of a head is short", got=len(name), expected=f"1..{_MAX_NAME} characters")
    return checked_model(f"{embedder}+{name}@{threshold:g}")


@dataclass(frozen=True, eq=False)
class Head:
    """A trained classifier. weights: float64[K, D - 2] on `ClassMap.feature`; biases: float64[K]; classes: K names.

    embedder: id of the face model whose embeddings it takes. Raises InvalidInputError, ParameterError if these do not
    fit each other.
    """

    name: str
    embedder: str
    parameters: ParameterSet
    threshold: float
    classes: tuple[str, ...]
    weights: Matrix = field(repr=False)
    biases: Vector = field(repr=False)

    def __post_init__(self) -> None:
        names = [checked_name(name) for name in self.classes]
        if len(names) != len(self.weights) or len(set(names)) != len(names):
            raise InvalidInputError(
                "the classes of a head have names of their own",
                got=f"{len(set(names))} names",
                expected=f"{len(self.weights)} weights",
            )
        head_model(self.embedder, self.name, self.threshold)
        self.map.templates(self.weights, self.biases)

    @property
    def map(self) -> ClassMap:
        """How embeddings and classes become vectors."""
        return ClassMap(self.parameters, self.threshold)

    @property
    def model(self) -> str:
        """See `head_model`."""
        return head_model(self.embedder, self.name, self.threshold)

    def templates(self) -> Matrix:
        """Return the vectors to enrol, float64[K, D] of length 1, in the order of classes."""
        return self.map.templates(self.weights, self.biases)

    def integers(self) -> Array:
        """Return the quantised templates, int64[K, D]: what is encrypted."""
        return np.array([quantise(vector, self.parameters) for vector in self.templates()])

    def classify(self, embedding: npt.ArrayLike) -> str | None:
        """Return the class of an embedding as the servers would, in integers and in clear; None for none.

        Of equal scores the class that was enrolled first wins.
        """
        scores = self.integers() @ quantise(self.map.probe(embedding), self.parameters)
        best = int(np.argmax(scores))
        return self.classes[best] if scores[best] >= self.parameters.threshold(self.threshold) else None

    def enrol(self, client: Client) -> int:
        """Enrol the classes in the client's gallery, each anew if it is there; return the gallery's sequence number.

        The gallery is for one head alone: other vectors in it raise ModelMismatchError. Raises KeyMismatchError if the
        client's key is of another parameter set, and what `Client.enrol_embedding` raises.
        """
        theirs = client.parameters
        if (theirs.dimension, theirs.scale, theirs.clip) != (
            self.parameters.dimension,
            self.parameters.scale,
            self.parameters.clip,
        ):
            raise KeyMismatchError(
                "the head was trained for another parameter set", got=theirs.name, expected=self.parameters.name
            )
        sequence = 0
        for name, vector in zip(self.classes, self.templates(), strict=True):
            sequence = client.enrol_embedding(name, vector, model=self.model, replace=True).sequence
        return sequence

    def save(self, path: str | Path) -> None:
        """Write the head, for its owner alone (mode 0600). Raises InvalidInputError if that cannot be done."""
        buffer = io.BytesIO()
        np.savez(
            buffer, name=self.name, embedder=self.embedder, parameters=self.parameters.name,
            threshold=self.threshold, classes=np.array(self.classes), weights=self.weights, biases=self.biases,
        )  # fmt: skip
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), 0o600)
                file.write(buffer.getvalue())
        except OSError as error:
            raise InvalidInputError("the head cannot be written", got=f"{path}: {error.strerror}") from None

    @staticmethod
    def load(path: str | Path) -> Head:
        """Return a head that `save` wrote. Raises InvalidInputError if it is none, KeyFileError if others may read
        it."""
        try:
            data = read_private(Path(path), "the head", _MAX_BYTES)
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                texts = {name: str(file[name]) for name in ("name", "embedder", "parameters")}
                threshold = float(file["threshold"])
                classes = tuple(str(name) for name in file["classes"])
                weights, biases = (np.asarray(file[name], np.float64) for name in ("weights", "biases"))
        except (OSError, ValueError, LookupError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InvalidInputError(
                "not a head", got=f"{path}: {type(error).__name__}", expected="a file of `veilmatch heads train`"
            ) from None
        return Head(
            texts["name"],
            texts["embedder"],
            ParameterSet.from_name(texts["parameters"]),
            threshold,
            classes,
            weights,
            biases,
        )
