"""What rounding to small integers costs: FNMR at a fixed FMR over scale S and clip c.

    python benchmarks/quantisation.py                 both dimensions, good and hard photos (about half an hour)
    python benchmarks/quantisation.py --quick         fewer hard photos, rotations and resamples (a minute or two)
    python benchmarks/quantisation.py --json PATH     writes the figures as well
    python benchmarks/quantisation.py --plots FOLDER  draws the heat maps there, as SVG and PNG

Photos: the 400 of AT&T/ORL as they are, and made bad (`veilmatch.client.evaluation.data.degrade.hard`) with several
seeds, over which hard figures are means. Embedders: SFace for 128 dimensions, the second embedder for 512
(`veilmatch models install --evaluation`). The threshold is chosen anew for every S and c.

One genuine comparison more or less is 0.06 points, and which ones lie at the threshold is chance. So shipped sets have
their difference to float embeddings with a 95 % interval (subjects drawn again, float and integer scores of the same
ones). Rounding errors are chance too: a rotation of all embeddings changes no cosine, but rounds everything
anew. The mean over random rotations is what a set costs on these photos when the luck of rounding is taken out: the
bar is for this mean. Which comparisons lie at the threshold of the float embeddings themselves is luck as well, of one
set of photos; many seeds take that out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from veilmatch.client.capture.detector import YuNetDetector
from veilmatch.client.evaluation.data.capture import capture, installed_embedder, orl_photos
from veilmatch.client.evaluation.data.faces import FaceSet
from veilmatch.client.evaluation.data.pairs import Pairs, all_pairs
from veilmatch.client.evaluation.figures.curves import png, svg
from veilmatch.client.evaluation.figures.intervals import resamples
from veilmatch.client.evaluation.figures.rates import Floats, curve
from veilmatch.client.evaluation.libraries import require
from veilmatch.client.evaluation.scorers import float_scores
from veilmatch.client.models import install_evaluation_model, install_models, install_photos
from veilmatch.crypto.errors import ParameterError
from veilmatch.crypto.gates.validity import validity_cost
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import D512, DEFAULT, ParameterSet

SCALES = (20, 30, 40, 50, 60, 75, 90, 120, 126, 150)
CLIPS = (7, 11, 15, 18, 23, 29, 38, 46, 57)
SHIPPED = (DEFAULT, D512)
#: (S, c) between which the shipped ones were chosen, by dimension, and with which they are compared.
CHOICES = {
    128: (
        (60, 23), (88, 25), (88, 31), (104, 31), (107, 31), (110, 31), (120, 31), (120, 46), (126, 38), (126, 51),
        (150, 57),
    ),
    512: ((40, 15), (60, 15), (75, 15), (88, 15), (88, 20), (110, 18), (120, 18), (126, 25)),
}  # fmt: skip
#: Points of FNMR that a shipped set may cost.
BAR = 0.1


@dataclass(frozen=True, eq=False)
class Photos:
    """One set of faces with its comparisons. name: "ORL" or "hard"."""

    name: str
    faces: FaceSet
    pairs: Pairs

    @property
    def floats(self) -> Floats:
        """The cosines of all comparisons."""
        return float_scores(self.faces, self.pairs)

    def integers(self, scale: int, clip: int, rotation: Floats | None = None) -> Floats:
        """The integer scores of all comparisons, without the checks that a parameter set makes.

        rotation: orthogonal, of the embeddings before they are rounded.
        """
        embeddings = self.faces.embeddings if rotation is None else self.faces.embeddings @ rotation
        q = np.clip(np.rint(scale * embeddings), -clip, clip)
        return np.asarray((q @ q.T)[self.pairs.first, self.pairs.second])


def main() -> None:
    """Measure, print, draw and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fmr", type=float, default=1e-3, help="false match rate (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=24, help="hard sets (default: %(default)s)")
    parser.add_argument("--rotations", type=int, default=20, help="of the embeddings (default: %(default)s)")
    parser.add_argument("--replicates", type=int, default=200, help="resamples of subjects (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 hard sets, 2 rotations, 40 resamples")
    parser.add_argument("--plots", type=Path, help="folder for the heat maps")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.rotations, options.replicates = 2, 2, 40
    console = Console(stderr=True)
    install_models()
    install_photos()
    install_evaluation_model()
    figures: dict[str, Any] = {"fmr": options.fmr, "hard_seeds": options.seeds, "sets": []}
    for parameters in SHIPPED:
        good, hard = _photos(parameters, options.seeds, console)
        for sets in (good, hard):
            console.print(f"{parameters.name}: {sets[0].name}")
            figures["sets"].append(_measure(parameters, sets, options))
    _show(figures)
    if options.plots:
        _draw(figures, options.plots)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _photos(parameters: ParameterSet, seeds: int, console: Console) -> tuple[list[Photos], list[Photos]]:
    detector, embedder, photos = YuNetDetector.installed(), installed_embedder(parameters), orl_photos()
    made = []
    for seed in (None, *range(1, seeds + 1)):
        console.print(f"{embedder.model_id}: {'ORL' if seed is None else f'hard photos, seed {seed}'}")
        faces = capture(photos, detector, embedder, parameters, hard_seed=seed)
        made.append(Photos("ORL" if seed is None else "hard", faces, all_pairs(faces.labels)))
    return made[:1], made[1:]


def _measure(parameters: ParameterSet, sets: Sequence[Photos], options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one embedder and one kind of photos."""
    fmr = options.fmr
    floats = [photos.floats for photos in sets]
    shipped = [photos.integers(parameters.scale, parameters.clip) for photos in sets]
    curves = [curve(scores, photos.pairs.genuine) for scores, photos in zip(floats, sets, strict=True)]
    float_fnmr = float(np.mean([c.fnmr_at(fmr) for c in curves]))
    grid = [
        {
            "scale": scale,
            "clip": clip,
            "fnmr": float(np.mean([curve(p.integers(scale, clip), p.pairs.genuine).fnmr_at(fmr) for p in sets])),
            "possible": _possible(parameters, scale, clip, sets),
        }
        for scale in SCALES
        for clip in CLIPS
        if clip <= scale
    ]
    integer_fnmr = float(np.mean([curve(s, p.pairs.genuine).fnmr_at(fmr) for s, p in zip(shipped, sets, strict=True)]))
    return {
        "parameter_set": parameters.name,
        "scale": parameters.scale,
        "clip": parameters.clip,
        "model": sets[0].faces.model,
        "photos": sets[0].name,
        "sets": len(sets),
        "fta": float(np.mean([p.faces.fta for p in sets])),
        "genuine": sum(int(np.count_nonzero(p.pairs.genuine)) for p in sets),
        "impostors": sum(int(np.count_nonzero(~p.pairs.genuine)) for p in sets),
        "float_eer": float(np.mean([c.eer for c in curves])),
        "float_fnmr": float_fnmr,
        "integer_fnmr": integer_fnmr,
        "difference_points": 100 * (integer_fnmr - float_fnmr),
        "difference_interval_points": _interval(sets, floats, shipped, options),
        "rotated": _rotated(parameters.scale, parameters.clip, sets, options),
        "choices": [
            _rotated(scale, clip, sets, options) | _cost(ParameterSet(parameters.dimension, scale, clip))
            for scale, clip in CHOICES[parameters.dimension]
        ],
        "grid": grid,
    }


def _rotated(scale: int, clip: int, sets: Sequence[Photos], options: argparse.Namespace) -> dict[str, float]:
    """Return the difference to float embeddings in points: mean over random rotations, and its standard error."""
    dimension = sets[0].faces.embeddings.shape[1]
    before = np.mean([curve(p.floats, p.pairs.genuine).fnmr_at(options.fmr) for p in sets])
    rng, found = np.random.default_rng(1), []
    for _ in range(options.rotations):
        rotation, _ = np.linalg.qr(rng.standard_normal((dimension, dimension)))
        scores = [p.integers(scale, clip, rotation) for p in sets]
        after = [curve(s, p.pairs.genuine).fnmr_at(options.fmr) for s, p in zip(scores, sets, strict=True)]
        found.append(100 * float(np.mean(after) - before))
    return {
        "scale": scale,
        "clip": clip,
        "points": float(np.mean(found)),
        "standard_error": float(np.std(found) / np.sqrt(len(found))),
    }


def _cost(parameters: ParameterSet) -> dict[str, float]:
    """Return what a set costs: exponent bits, slot bits, identities in a pack, and bytes of bit triples a probe."""
    return {
        "ring_bits": parameters.ring_bits,
        "slot_bits": parameters.slot_bits,
        "slots": parameters.slots,
        "triple_bytes": validity_cost(1, parameters),
    }


def _possible(parameters: ParameterSet, scale: int, clip: int, sets: Sequence[Photos]) -> bool:
    """Whether there is such a parameter set at this dimension, and it accepts every face of the photos."""
    try:
        made = ParameterSet(parameters.dimension, scale, clip, parameters.modulus_bits)
    except ParameterError:
        return False
    embeddings = np.concatenate([photos.faces.embeddings for photos in sets])
    norms = np.sum(np.clip(np.rint(scale * embeddings), -clip, clip) ** 2, axis=1)
    return bool(made.norm_min <= norms.min() and norms.max() <= made.norm_max)


def _interval(
    sets: Sequence[Photos], floats: Sequence[Floats], integers: Sequence[Floats], options: argparse.Namespace
) -> list[float]:
    """Return the 95 % interval of the mean difference in points: all sets have the same subjects drawn."""

    def statistic(counts: Array) -> list[float]:
        differences = []
        for photos, a, b in zip(sets, floats, integers, strict=True):
            weights, genuine = photos.pairs.weights(counts), photos.pairs.genuine
            differences.append(
                curve(b, genuine, weights).fnmr_at(options.fmr) - curve(a, genuine, weights).fnmr_at(options.fmr)
            )
        return [100 * float(np.mean(differences))]

    drawn = resamples(statistic, sets[0].pairs.subjects, options.replicates, 1)[:, 0]
    return [float(x) for x in np.percentile(drawn, [2.5, 97.5])]


def _show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=max(140, Console().width))
    table = Table(
        "set", "photos", "comparisons", "float EER", "float FNMR", "integer FNMR", "difference [95 %]",
        "rotated (s.e.)", "bar",
        title=f"shipped sets: FNMR at FMR {figures['fmr']:g}; the bar is {BAR} points",
    )  # fmt: skip
    for f in figures["sets"]:
        (low, high), rotated = f["difference_interval_points"], f["rotated"]
        table.add_row(
            f["parameter_set"],
            f"{f['photos']} x {f['sets']}",
            f"{f['genuine']:,} + {f['impostors']:,}",
            f"{f['float_eer']:.2%}",
            f"{f['float_fnmr']:.2%}",
            f"{f['integer_fnmr']:.2%}",
            f"{f['difference_points']:+.2f} [{low:+.2f}, {high:+.2f}]",
            _points(rotated),
            "kept" if keeps_the_bar(rotated) else "MISSED",
        )
    console.print(table)
    for good, hard in zip(figures["sets"][::2], figures["sets"][1::2], strict=True):
        title = f"{hard['model']}: difference in points, mean over rotations (s.e.), and cost"
        choices = Table(
            "S", "c", "k", "slot bits", "identities a pack", "triple bytes a probe", "ORL", "hard", "bar", title=title
        )
        for on_good, on_hard in zip(good["choices"], hard["choices"], strict=True):
            cost = [str(on_hard[x]) for x in ("scale", "clip", "ring_bits", "slot_bits", "slots", "triple_bytes")]
            kept = "kept" if keeps_the_bar(on_good, on_hard) else "missed"
            choices.add_row(*cost, _points(on_good), _points(on_hard), kept)
        console.print(choices)
    for f in figures["sets"]:
        title = f"{f['model']}, {f['photos']}: FNMR in % at FMR {figures['fmr']:g}; float {f['float_fnmr']:.2%}"
        grid = Table("c \\ S", *map(str, SCALES), title=title, caption="( ): no such set, or it refuses a face")
        for clip in CLIPS:
            grid.add_row(str(clip), *(_cell(f, scale, clip) for scale in SCALES))
        console.print(grid)


def keeps_the_bar(*rotated: Mapping[str, float]) -> bool:
    """Return whether a set costs at most `BAR` on each kind of photos that its mean over rotations is given of."""
    return all(one["points"] <= BAR for one in rotated)


def _points(rotated: dict[str, float]) -> str:
    return f"{rotated['points']:+.2f} ({rotated['standard_error']:.2f})"


def _cell(figures: dict[str, Any], scale: int, clip: int) -> str:
    for cell in figures["grid"]:
        if (cell["scale"], cell["clip"]) == (scale, clip):
            text = f"{100 * cell['fnmr']:.2f}"
            return text if cell["possible"] else f"({text})"
    return ""


def _draw(figures: dict[str, Any], folder: Path) -> None:
    """Draw one heat map for each embedder and kind of photos."""
    figure = require("matplotlib.figure").Figure(figsize=(11.5, 9.5), layout="constrained")
    for axes, f in zip(figure.subplots(2, 2).ravel(), figures["sets"], strict=True):
        values = np.full((len(CLIPS), len(SCALES)), np.nan)
        for cell in f["grid"]:
            values[CLIPS.index(cell["clip"]), SCALES.index(cell["scale"])] = 100 * cell["fnmr"]
        loss = values - 100 * f["float_fnmr"]
        # The darkest grey is half of black, so that numbers and the frame can be read on it.
        top = 2 * max(float(np.nanmax(loss)), 0.1)
        image = axes.imshow(
            loss, origin="lower", cmap="Greys", vmin=min(0.0, float(np.nanmin(loss))), vmax=top, aspect="auto"
        )
        axes.patch.set(hatch="//", edgecolor="0.8")  # shows where c > S
        for row, clip in enumerate(CLIPS):
            for column, scale in enumerate(SCALES):
                axes.text(column, row, _cell(f, scale, clip), ha="center", va="center", fontsize=7.5)
        x, y = SCALES.index(f["scale"]), CLIPS.index(f["clip"])
        axes.add_patch(
            require("matplotlib.patches").Rectangle(
                (x - 0.5, y - 0.5), 1, 1, fill=False, linewidth=2.5, edgecolor="black"
            )
        )
        axes.set_xticks(range(len(SCALES)), map(str, SCALES))
        axes.set_yticks(range(len(CLIPS)), map(str, CLIPS))
        axes.set_xlabel("scale S [integer units for a length of 1]")
        axes.set_ylabel("clip c [integer units]")
        floats = f"FNMR [%] at FMR {figures['fmr']:g}; float: {100 * f['float_fnmr']:.2f}"
        axes.set_title(f"{f['model']}, {f['photos']} photos\n{floats}", fontsize=9)
        bar = figure.colorbar(image, ax=axes, label="shade: FNMR above that of float [percentage points]")
        bar.ax.set_ylim(image.get_clim()[0], top / 2)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quantisation.png").write_bytes(png(figure))
    (folder / "quantisation.svg").write_text(svg(figure))


if __name__ == "__main__":
    main()
