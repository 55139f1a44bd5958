"""Does a face model get what it was trained on? Photos of the test set, embedded as configured and in other ways.

Wrong channels, scaling or alignment raise no error: the model still answers, and people merely look more alike than
they are. So genuine comparisons are held against impostor ones, on grey ORL photos (many people) and on colour photos
(where the order of channels shows). The same photos go through the other order of channels and other usual scalings;
if one of them separates people clearly better, the configuration is probably wrong. Needs no `eval` extra.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.alignment import align
from veilmatch.client.capture.detector import Detector, Face
from veilmatch.client.capture.embedder import Embedder, OnnxEmbedder, Preprocessing
from veilmatch.client.capture.image import RgbArray, load_image
from veilmatch.client.capture.quantiser import unit_vector
from veilmatch.client.capture.turn import upright
from veilmatch.client.models import fixture_photos, orl_photo

#: ORL photos that are compared: people, and photos of each.
_PEOPLE, _PHOTOS = 12, (1, 4, 7)
#: Separation below this cannot come from a face model that gets what it was trained on; SFace has 7.7 here.
ENOUGH = 4.0
#: How much better another way has to be before it is named.
_CLEARLY = 1.15
_SCALINGS = {"0 to 255": (0.0, 1.0), "-1 to 1": (127.5, 127.5), "0 to 1": (0.0, 255.0)}


@dataclass(frozen=True)
class Separation:
    """Comparisons of one way. genuine, impostor: mean cosine. lowest_genuine, highest_impostor: the extremes.

    distance: between the two means, in standard deviations of both together (d'). colour_distance: the same among the
    colour photos only, where the order of channels shows.
    """

    way: str
    genuine: float
    impostor: float
    lowest_genuine: float
    highest_impostor: float
    distance: float
    colour_distance: float


@dataclass(frozen=True)
class ModelCheck:
    """configured: as it is used. others: the same photos in other ways. photos: how many."""

    photos: int
    configured: Separation
    others: tuple[Separation, ...]

    @property
    def better(self) -> Separation | None:
        """Another way that separates people clearly better."""
        now = self.configured
        clearly = [
            way
            for way in self.others
            if way.distance > _CLEARLY * now.distance
            or (way.distance > now.distance and way.colour_distance > _CLEARLY * now.colour_distance)
        ]
        return max(clearly, key=lambda way: way.distance, default=None)

    def __bool__(self) -> bool:
        return self.configured.distance >= ENOUGH and self.better is None


def check_model(detector: Detector, embedder: Embedder) -> ModelCheck:
    """Embed 36 ORL and 11 colour photos and compare. Raises ModelError if the test photos are not installed."""
    photos = [(f"s{s}", orl_photo(s, k)) for s in range(1, _PEOPLE + 1) for k in _PHOTOS]
    photos += [(photo.person, photo.path) for photo in fixture_photos() if photo.whole_face]
    faces = [(person, *upright(load_image(path), detector)) for person, path in photos]
    if not isinstance(embedder, OnnxEmbedder):
        return ModelCheck(len(faces), _separation("as configured", faces, partial(_default, embedder)), ())
    now = embedder.preprocessing
    ways = {"as configured": now}
    ways |= {f"channels = {order!r}": replace(now, channels=order) for order in ("rgb", "bgr") if order != now.channels}
    for name, (mean, scale) in _SCALINGS.items():
        if (now.mean, now.scale) != ((mean,) * 3, (scale,) * 3):
            ways[f"pixels from {name}"] = replace(now, mean=(mean,) * 3, scale=(scale,) * 3)
    found = [_separation(name, faces, partial(_in_a_way, embedder, way)) for name, way in ways.items()]
    return ModelCheck(len(faces), found[0], tuple(found[1:]))


def _default(embedder: Embedder, image: RgbArray, face: Face) -> npt.NDArray[np.float64]:
    return embedder.embed(align(image, face.landmarks))


def _in_a_way(embedder: OnnxEmbedder, way: Preprocessing, image: RgbArray, face: Face) -> npt.NDArray[np.float64]:
    crop = align(image, face.landmarks, way.points, way.size)
    return unit_vector(embedder.output(crop, way), embedder.dimension)


def _separation(
    way: str,
    faces: Sequence[tuple[str, RgbArray, Face]],
    embed: Callable[[RgbArray, Face], npt.NDArray[np.float64]],
) -> Separation:
    vectors = np.array([embed(image, face) for _, image, face in faces])
    people = np.array([person for person, _, _ in faces])
    first, second = np.triu_indices(len(people), 1)
    grey = _PEOPLE * len(_PHOTOS)  # they come first
    cosines, same = (vectors @ vectors.T)[first, second], people[first] == people[second]
    genuine, impostor = cosines[same], cosines[~same]
    return Separation(
        way,
        float(genuine.mean()),
        float(impostor.mean()),
        float(genuine.min()),
        float(impostor.max()),
        _distance(genuine, impostor),
        _distance(cosines[same & (first >= grey)], cosines[~same & (first >= grey)]),
    )


def _distance(genuine: npt.NDArray[np.float64], impostor: npt.NDArray[np.float64]) -> float:
    spread = float(np.sqrt((genuine.var() + impostor.var()) / 2))
    return float(genuine.mean() - impostor.mean()) / max(spread, 1e-9)
