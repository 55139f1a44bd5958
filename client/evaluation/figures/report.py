"""What an evaluation leaves behind: tables for the terminal, one JSON document, plots, and one page of HTML."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from veilmatch.client.evaluation.figures.curves import plots, png, svg
from veilmatch.client.evaluation.figures.intervals import Interval
from veilmatch.client.evaluation.study import SEARCH_TARGETS, Evaluation, Figures
from veilmatch.client.evaluation.sweep import SweepPoint
from veilmatch.crypto.errors import ConfigurationError

_NAMES = {"float": "float cosine", "integer": "quantised integers", "encrypted": "encrypted"}
_TITLES = {
    "det": "Detection error trade-off",
    "roc": "Receiver operating characteristic",
    "scores": "Scores",
    "degradations": "Degradations",
}


@dataclass(frozen=True)
class Table:
    """A table of text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def document(evaluation: Evaluation, points: Sequence[SweepPoint] = ()) -> dict[str, Any]:
    """Return every figure in JSON types. Rates are 0..1; "degradations" is there if a sweep was run."""
    figures = asdict(evaluation.figures)
    return figures | ({"degradations": [asdict(point) for point in points]} if points else {})


def prepare(folder: Path) -> None:
    """Make the folder of a report if it is not there. Raises ConfigurationError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _not_written(folder, error) from None


def write(folder: Path, evaluation: Evaluation, points: Sequence[SweepPoint] = ()) -> list[Path]:
    """Write report.json, report.html and every plot as SVG and PNG; return the files.

    folder: made if it is not there. Raises ConfigurationError if something cannot be written.
    """
    files: dict[str, bytes] = {"report.json": (json.dumps(document(evaluation, points), indent=1) + "\n").encode()}
    pictures = {}
    for name, figure in plots(evaluation, points).items():
        pictures[name] = svg(figure)
        files[f"{name}.svg"] = pictures[name].encode()
        files[f"{name}.png"] = png(figure)
    files["report.html"] = page(evaluation.figures, points, pictures).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise _not_written(folder, error) from None
    return [folder / name for name in files]


def _not_written(folder: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        "the report cannot be written", got=f"{folder}: {error.strerror}", expected="a folder for --output"
    )


def verdict(figures: Figures) -> str:
    """Return in one sentence whether encryption changed a decision."""
    if figures.agreement is None:
        return "Not compared: the encrypted scorer was not run."
    total, different = figures.agreement.decisions, figures.agreement.different
    if different:
        return f"NOT EXACT: {different:,} of {total:,} encrypted decisions differ from those of the integers."
    return f"Exact: all {total:,} encrypted decisions equal those of the integers."


def tables(figures: Figures, points: Sequence[SweepPoint] = ()) -> list[Table]:
    """Return what the report says in numbers."""
    made = [_data(figures), _verification(figures), _search(figures)]
    return made + ([_degradations(figures, points)] if points else [])


def _data(f: Figures) -> Table:
    return Table(
        "what was compared",
        ("", ""),
        (
            ("model", f.model),
            ("parameter set", f.parameter_set),
            ("subjects, photos", f"{f.subjects:,}, {f.photos:,}"),
            ("failure to acquire, FTA", f"{_percent(f.fta)} ({len(f.failures)} of {f.photos} photos)"),
            ("failure to enrol, FTE", f"{_percent(f.fte)} of the subjects"),
            ("genuine comparisons", f"{f.genuine:,}"),
            ("impostor comparisons", f"{f.impostors:,}"),
            ("threshold for FMR " + f"{f.choice.fmr:g}", f"cosine {f.choice.cosine:g} (t = {f.choice.t})"),
            ("can this set show it?", "yes" if f.choice.shown else "NO: fewer than 3/FMR impostor comparisons"),
        ),
    )


def _verification(f: Figures) -> Table:
    rows = []
    for name, scorer in f.scorers.items():
        if scorer.eer is not None and scorer.eer_interval is not None:
            rows.append((_NAMES[name], "EER", "", "", _with(scorer.eer, scorer.eer_interval)))
        for p in scorer.points:
            threshold = f"{p.threshold:.4f}" if name == "float" else f"{p.cosine:.4f} (t = {p.threshold:.0f})"
            rows.append(
                (
                    _NAMES[name],
                    f"FMR {p.target_fmr:g}",
                    threshold,
                    _with(p.fmr.rate, p.fmr.interval),
                    _with(p.fnmr.rate, p.fnmr.interval),
                )
            )
    return Table("verification, with 95 % intervals", ("scorer", "at", "cosine", "FMR", "FNMR"), tuple(rows))


def _search(f: Figures) -> Table:
    rows = []
    for name, scorer in f.scorers.items():
        if scorer.rank_one is not None:
            rows.append((_NAMES[name], "rank 1", "", _percent(1 - scorer.rank_one)))
            found = scorer.fnir_at_fpir
            rows += [(_NAMES[name], f"FPIR {t:g}", _percent(t), _percent(found[f"{t:g}"])) for t in SEARCH_TARGETS]
        rows += [(_NAMES[name], f"FMR {p.target_fmr:g}", _percent(p.fpir), _percent(p.fnir)) for p in scorer.points]
    title = f"search: {f.searches} searches among {f.enrolled} subjects, one photo each"
    return Table(title, ("scorer", "at", "FPIR", "FNIR"), tuple(rows))


def _degradations(f: Figures, points: Sequence[SweepPoint]) -> Table:
    rows = []
    for p in points:
        rows.append(
            (
                p.degradation,
                f"{p.strength:g} {p.unit}",
                _percent(p.fta),
                _with(p.fnmr.rate, p.fnmr.interval) if p.fnmr is not None else "no face",
                f"{100 * p.loss:+.2f}" if p.loss is not None else "",
                _percent(p.fmr) if p.fmr is not None else "",
                _percent(p.frr),
            )
        )
    title = f"degraded probes at the threshold for FMR {f.choice.fmr:g} (cosine {f.choice.cosine:g})"
    return Table(title, ("degradation", "strength", "FTA", "FNMR", "loss, points", "FMR", "FRR"), tuple(rows))


def _percent(rate: float) -> str:
    """Two decimals, more where they would say nothing."""
    if rate == 0 or rate >= 1e-3:
        return f"{100 * rate:.2f} %"
    return f"{100 * rate:.2g} %"


def _with(rate: float, interval: Interval) -> str:
    low, high = (_percent(x).removesuffix(" %") for x in (interval.low, interval.high))
    mark = {"rule of three": " r3", "none": " ?"}.get(interval.method, "")
    return f"{_percent(rate)} [{low}, {high}{mark}]"


# -- the page -------------------------------------------------------------------------------------

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #111 }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; font-size: 0.9rem }
th, td { border: 1px solid #bbb; padding: 0.25rem 0.6rem; text-align: left } th { background: #eee }
.verdict { border: 2px solid #111; padding: 0.6rem 1rem; font-weight: bold }
svg { max-width: 100%; height: auto } figure { margin: 1.5rem 0 } code { background: #eee }
"""

_READING = """
<h2>How to read it</h2>
<p>The words are those of ISO/IEC 19795-1. <b>FMR</b>: impostor comparisons that match. <b>FNMR</b>: genuine
comparisons that do not. Both are of photos in which one usable face was found; the others are <b>FTA</b>.
<b>FRR</b> = FTA + FNMR (1 - FTA). <b>EER</b>: where FMR and FNMR are equal. <b>FPIR</b>: searches by somebody who is
not enrolled that return anybody. <b>FNIR</b>: searches by an enrolled subject that do not return it; at <i>rank 1</i>,
in which it is not alone the best.</p>
<p>Intervals are of 95 %: subjects drawn again with all their photos. <b>r3</b> marks the rule of three, where no error
was seen: 3/n. Comparisons of one subject resemble each other, so the truth may lie further off than r3 says.
<b>?</b> marks a rate about whose interval nothing is known.</p>
<p>The encrypted scorer gives one bit for each comparison, at one threshold, and has no score; so it has rates at the
operating thresholds, and no curve. Its FNMR intervals are for the threshold as it is; those of the other scorers allow
for the choice of the threshold too.</p>
"""


def page(figures: Figures, points: Sequence[SweepPoint], pictures: dict[str, str]) -> str:
    """Return a page that needs no other file. pictures: SVG elements by name."""
    parts = [
        f"<h1>Accuracy of {escape(figures.model)}</h1>",
        f'<p class="verdict">{escape(verdict(figures))}</p>',
        *(_html(table) for table in tables(figures, points)),
        *(
            f"<figure><figcaption><h2>{_TITLES[name]}</h2></figcaption>{_unique_ids(name, picture)}</figure>"
            for name, picture in pictures.items()
        ),
        _READING,
        _failures(figures),
        f"<p>{figures.replicates} resamples of the subjects, seed {figures.seed}.</p>",
    ]
    head = f'<meta charset="utf-8"><title>Veilmatch: accuracy of {escape(figures.model)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _html(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    header = f"<tr>{head}</tr>" if any(table.header) else ""
    return f"<h2>{escape(table.title.capitalize())}</h2><table>{header}{rows}</table>"


def _failures(figures: Figures) -> str:
    if not figures.failures:
        return ""
    items = "".join(f"<li>{escape(f.subject)}: {escape(f.photo)} ({escape(f.code)})</li>" for f in figures.failures)
    return f"<h2>Photos that were not acquired</h2><ul>{items}</ul>"


def _unique_ids(name: str, picture: str) -> str:
    """Keep the ids of several plots in one page apart."""
    for mark in ('id="', 'href="#', "url(#"):
        picture = picture.replace(mark, f"{mark}{name}-")
    return picture
