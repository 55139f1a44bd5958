"""What floors on quality rest on: errors left when the worst photos by each component are discarded, and refusals.

    python benchmarks/quality.py                every eighth ORL photo in all degradations (some minutes)
    python benchmarks/quality.py --every 1      all 400 of them (an hour of CPU time)
    python benchmarks/quality.py --mesh         with the face mesh: eyes, mouth, presence
    python benchmarks/quality.py --json PATH    writes the figures as well

Degraded photos are probes, all ORL photos as they are the templates, as in `veilmatch eval --degrade`, at a cosine of
0.38. A photo is bad if more than half of its genuine comparisons fail.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from veilmatch.client.capture.detector import YuNetDetector
from veilmatch.client.capture.image import RgbArray, load_image
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.quality.assessment import COMPONENTS, Quality
from veilmatch.client.capture.settings import CaptureSettings
from veilmatch.client.capture.turn import upright
from veilmatch.client.evaluation.data.degrade import DEGRADATIONS, Place, hard
from veilmatch.client.evaluation.figures.discard import KNOWING, goodness, left
from veilmatch.client.models import ORL_PHOTOS, ORL_SUBJECTS, install_mesh, install_models, install_photos, orl_photo
from veilmatch.crypto.errors import InvalidInputError

THRESHOLD = 0.38
SHARES = (0, 2, 5, 10, 15, 20, 30)
SEED = 1
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Probe:
    """A degraded photo that was acquired. fnmr: share of its genuine comparisons that fail."""

    quality: Quality
    fnmr: float


def worse(photo: RgbArray, number: int, detector: YuNetDetector) -> list[RgbArray]:
    """Return the photo in every degradation and strength, and as `hard`."""
    view, face = upright(photo, detector)
    place = Place.of(face)
    made = [d(view, place, strength, (SEED, number)) for d in DEGRADATIONS for strength in d.strengths]
    return [*made, hard(photo, (SEED, number))]


def left_percent(order: Values, fnmr: Values) -> list[float]:
    """Return the FNMR in percent without the lowest SHARES of photos."""
    return [100 * value for value in left(order, fnmr, [share / 100 for share in SHARES])]


def measure(every: int, mesh: bool) -> dict[str, Any]:
    """Return all figures. every: take one photo of so many."""
    detector, pipeline = YuNetDetector.installed(), CapturePipeline.default(CaptureSettings(mesh=mesh))
    keys = [(s, k) for s in range(1, ORL_SUBJECTS + 1) for k in range(1, ORL_PHOTOS + 1)]
    photos = [load_image(orl_photo(*key)) for key in keys]
    good = [pipeline.capture(photo) for photo in photos]
    templates, subjects = np.array([face.embedding for face in good]), np.array([s for s, _ in keys])
    probes = []
    for number in range(0, len(photos), every):
        mine = (subjects == subjects[number]) & (np.arange(len(photos)) != number)
        for photo in worse(photos[number], number, detector):
            try:
                face = pipeline.capture(photo)
            except InvalidInputError:
                continue
            probes.append(Probe(face.quality, float(np.mean(templates[mine] @ face.embedding < THRESHOLD))))
    fnmr = np.array([probe.fnmr for probe in probes])
    refused, bad = np.array([not probe.quality for probe in probes]), fnmr > 1 / 2
    by_component = {c: [c in (r.component for r in p.quality.reasons) for p in probes] for c in COMPONENTS}
    return {
        "probes": len(probes),
        "curves": {KNOWING: left_percent(-fnmr, fnmr)}
        | {c: left_percent(np.array([goodness(p.quality, c) for p in probes]), fnmr) for c in COMPONENTS},
        "bad": int(bad.sum()),
        "bad_refused": int((bad & refused).sum()),
        "others_refused": int((~bad & refused).sum()),
        "bad_refused_by": {c: int((bad & np.array(found)).sum()) for c, found in by_component.items()},
        "others_refused_by": {c: int((~bad & np.array(found)).sum()) for c, found in by_component.items()},
        "good_photos": len(good),
        "good_refused": sum(not face.quality for face in good),
        "fnmr": 100 * float(fnmr.mean()),
        "fnmr_of_the_rest": 100 * float(fnmr[~refused].mean()),
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    table = Table("discarded by", *(f"{share} %" for share in SHARES), "refuses bad", "refuses others")
    for name, values in found["curves"].items():
        refuses = [str(found[kind].get(name, "")) for kind in ("bad_refused_by", "others_refused_by")]
        table.add_row(name, *(f"{value:.1f}" for value in values), *refuses)
    others = found["probes"] - found["bad"]
    console = Console()
    console.print(table)
    console.print(
        f"refused: {found['bad_refused']} of {found['bad']} bad photos, {found['others_refused']} of {others} others,"
        f" {found['good_refused']} of {found['good_photos']} good ones;"
        f" FNMR {found['fnmr']:.1f} -> {found['fnmr_of_the_rest']:.1f} %",
        highlight=False,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=8, help="one ORL photo of so many")
    parser.add_argument("--mesh", action="store_true", help="look at eyes and mouth as well")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    install_models()
    install_photos()
    if options.mesh:
        install_mesh()
    found = measure(max(1, options.every), options.mesh)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()
