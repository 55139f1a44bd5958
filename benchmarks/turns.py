"""Turned, tilted and small photos: how many are turned right, refused or used wrongly, and what looking costs.

    python benchmarks/turns.py                all ORL and colour photos in four turns, and the rest (ten minutes)
    python benchmarks/turns.py --quick        one ORL photo of a person in place of ten (some minutes)
    python benchmarks/turns.py --json PATH    writes the figures as well

A photo is turned, embedded, and the embedding compared with that of the same photo upright: right from a cosine of 0.9
on, near from 0.7 (a photo that was resampled does not reach more), wrong below; or the photo is refused. "Before" is
the same without looking for the turn: the detector's one face is aligned and embedded as it comes. False matches are
pairs of different people, both turned alike, whose cosine reaches 0.4.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from veilmatch.client.capture.alignment import align
from veilmatch.client.capture.detector import YuNetDetector
from veilmatch.client.capture.embedder import Embedding, SFaceEmbedder
from veilmatch.client.capture.image import RgbArray, load_image
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.turn import turned, upright
from veilmatch.client.evaluation.data.degrade import DEGRADATIONS, Place, hard
from veilmatch.client.models import fixture_photos, install_models, install_photos, orl_photo
from veilmatch.crypto.errors import NoFaceError, SeveralFacesError, VeilmatchError

THRESHOLD = 0.4
RIGHT, NEAR = 0.9, 0.7
QUARTERS = (0, 90, 180, 270)
TILTS = tuple(range(0, 360, 15))
WIDTHS = (12, 16, 20, 24, 28, 36, 60)
#: What happens to a photo before it is turned: a degradation of `veilmatch eval --degrade` and its strength.
WORSE = (("blur", 3), ("low resolution", 16), ("darker", -3), ("occlusion", 20), ("occlusion", 30))

Embed = Callable[[RgbArray], Embedding]


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright photo. subject: who it shows; place: where the face is."""

    subject: str
    image: RgbArray
    place: Place


@dataclass(frozen=True)
class Row:
    """What became of photos turned alike. pairs: of different people among those embedded; false_matches: of these."""

    photos: str
    turn: str
    way: str
    right: int
    near: int
    wrong: int
    refused: dict[str, int]
    pairs: int
    false_matches: int


class Plain:
    """The detector's one face, aligned and embedded without looking for the turn."""

    def __init__(self, detector: YuNetDetector, embedder: SFaceEmbedder) -> None:
        self._detector = detector
        self._embedder = embedder

    def __call__(self, image: RgbArray) -> Embedding:
        """Raises NoFaceError, SeveralFacesError."""
        faces = self._detector.detect(image)
        if len(faces) != 1:
            raise SeveralFacesError("several") if faces else NoFaceError("none")
        return self._embedder.embed(align(image, faces[0].landmarks))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one ORL photo of a person in place of ten")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    install_models()
    install_photos()
    console = Console()
    detector, embedder = YuNetDetector.installed(), SFaceEmbedder.installed()
    ways: dict[str, Embed] = {
        "before": Plain(detector, embedder),
        "now": CapturePipeline(detector, embedder).embed_photo,
    }
    orl, colour = _photos(detector, 1 if options.quick else 10)
    everyone = orl[:: len(orl) // 40]
    few = everyone + colour
    rows: list[Row] = []

    def add(made: list[Row]) -> None:
        rows.extend(made)
        _show_rows(console, made)

    add(_rows("ORL and colour", orl + colour, ways, QUARTERS, lambda photo, number: photo.image))
    add(_rows("ORL and colour", few, ways, TILTS, lambda photo, number: photo.image))
    for name, strength in WORSE:
        (worse,) = [d for d in DEGRADATIONS if d.name == name]

        def degraded(photo: Photo, number: int, worse: Any = worse, strength: float = strength) -> RgbArray:
            return worse(photo.image, photo.place, strength, (1, number))  # type: ignore[no-any-return]

        add(_rows(f"{name} {strength}", few, ways, (*QUARTERS, 45, 135), degraded))
    add(_rows("hard", everyone, ways, (*QUARTERS, 45, 135), lambda p, number: hard(p.image, (1, number))))
    sizes = [_size(width, orl if options.quick else orl[::2], detector, embedder) for width in WIDTHS]
    times = _times(everyone[::4] + colour[:8], ways)
    _show(console, sizes, times)
    if options.json:
        figures = {"turns": [asdict(row) for row in rows], "sizes": sizes, "milliseconds": times}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _photos(detector: YuNetDetector, each: int) -> tuple[list[Photo], list[Photo]]:
    def made(subject: str, path: Path) -> Photo:
        image, face = upright(load_image(path), detector)
        return Photo(subject, image, Place.of(face))

    orl = [made(f"s{s}", orl_photo(s, k)) for s in range(1, 41) for k in range(1, each + 1)]
    return orl, [made(photo.person, photo.path) for photo in fixture_photos()]


def _rows(
    name: str,
    photos: Sequence[Photo],
    ways: dict[str, Embed],
    turns: Sequence[int],
    prepare: Callable[[Photo, int], RgbArray],
) -> list[Row]:
    """Return a row for every turn and way; only photos that give an embedding upright, without any turn, take part."""

    def outcomes(item: tuple[int, Photo]) -> list[tuple[str, Embedding | str]] | None:
        number, photo = item
        image = prepare(photo, number)
        try:
            before = ways["before"](image)
        except VeilmatchError:
            return None
        return [_outcome(embed, turned(image, turn), before) for turn in turns for embed in ways.values()]

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        found = list(threads.map(outcomes, enumerate(photos)))
    used = [(photo.subject, each) for photo, each in zip(photos, found, strict=True) if each is not None]
    subjects = np.array([subject for subject, _ in used])
    rows = []
    for column, (turn, way) in enumerate((turn, way) for turn in turns for way in ways):
        ends = [each[column] for _, each in used]
        kinds = Counter(kind for kind, _ in ends)
        taken = [row for row, (_, value) in enumerate(ends) if not isinstance(value, str)]
        vectors = np.array([ends[row][1] for row in taken]) if taken else np.zeros((0, 1))
        first, second = np.triu_indices(len(taken), 1)
        others = subjects[taken][first] != subjects[taken][second]
        matches = (vectors @ vectors.T)[first, second] >= THRESHOLD
        refused = {kind: n for kind, n in kinds.items() if kind not in ("right", "near", "wrong")}
        counted = kinds["right"], kinds["near"], kinds["wrong"], refused
        rows.append(Row(name, str(turn), way, *counted, int(others.sum()), int((matches & others).sum())))
    return rows


def _outcome(embed: Embed, image: RgbArray, before: Embedding) -> tuple[str, Embedding | str]:
    try:
        embedding = embed(image)
    except VeilmatchError as error:
        return error.code, error.code
    cosine = float(embedding @ before)
    return ("right" if cosine >= RIGHT else "near" if cosine >= NEAR else "wrong"), embedding


def _size(width: int, photos: Sequence[Photo], detector: YuNetDetector, embedder: SFaceEmbedder) -> dict[str, Any]:
    """Return error rates of photos shrunk until the face is so wide, with each other and with good ones."""
    from PIL import Image

    subjects, good, small = [], [], []
    for photo in photos:
        factor = width / photo.place.width
        size = [max(1, round(side * factor)) for side in photo.image.shape[1::-1]]
        shrunk = np.asarray(Image.fromarray(photo.image).resize((size[0], size[1]), Image.Resampling.BICUBIC))
        try:
            image, face = upright(shrunk, detector)
        except VeilmatchError:
            continue
        small.append(embedder.embed(align(image, face.landmarks)))
        good.append(embedder.embed(align(photo.image, detector.detect(photo.image)[0].landmarks)))
        subjects.append(photo.subject)
    same = np.array(subjects)[:, None] == np.array(subjects)
    other_photo = ~np.eye(len(subjects), dtype=bool)
    figures: dict[str, Any] = {"pixels": width, "acquired": len(small), "photos": len(photos)}
    for name, templates in (("good", good), ("small", small)):
        matches = np.array(small) @ np.array(templates).T >= THRESHOLD
        figures[f"fnmr_{name}"] = float(np.mean(~matches[same & other_photo])) if (same & other_photo).any() else None
        figures[f"fmr_{name}"] = float(np.mean(matches[~same]))
    return figures


def _times(photos: Sequence[Photo], ways: dict[str, Embed]) -> dict[str, float]:
    """Return the median milliseconds to embed a decoded photo; ways alternate, as others may be at work."""
    taken: dict[str, list[float]] = {}
    for _ in range(5):
        for photo in photos:
            for name, way, turn in (
                ("before", "before", 0),
                ("now", "now", 0),
                ("turned", "now", 90),
                ("tilted", "now", 45),
            ):
                image = turned(photo.image, turn)
                start = time.perf_counter()
                try:
                    ways[way](image)
                except VeilmatchError:
                    continue
                taken.setdefault(name, []).append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in taken.items()}


def _show_rows(console: Console, rows: Sequence[Row]) -> None:
    table = Table("photos", "turned by", "way", "right", "near", "wrong", "refused", "false matches of pairs")
    for row in rows:
        refused = ", ".join(f"{n} {kind}" for kind, n in row.refused.items()) or "0"
        share = f" ({row.false_matches / row.pairs:.2%})" if row.pairs else ""
        matches = f"{row.false_matches:,} of {row.pairs:,}{share}"
        table.add_row(row.photos, row.turn, row.way, *map(str, (row.right, row.near, row.wrong)), refused, matches)
    console.print(table)
    console.file.flush()


def _show(console: Console, sizes: Sequence[dict[str, Any]], times: dict[str, float]) -> None:
    table = Table(
        "face, pixels wide", "acquired", "FNMR, good templates", "FNMR, small ones", "FMR, good", "FMR, small"
    )
    for size in sizes:
        shares = [size[key] for key in ("fnmr_good", "fnmr_small", "fmr_good", "fmr_small")]
        cells = ["" if share is None else f"{share:.2%}" for share in shares]
        table.add_row(str(size["pixels"]), f"{size['acquired']} of {size['photos']}", *cells)
    console.print(table)
    console.file.flush()
    console.print("milliseconds to embed a photo: " + ", ".join(f"{name} {value:.1f}" for name, value in times.items()))


if __name__ == "__main__":
    main()
