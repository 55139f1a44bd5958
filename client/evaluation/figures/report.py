"""What an evaluation leaves behind: tables for the terminal, one JSON document, plots, and one page of HTML."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from veilmatch.client.evaluation.attacks import AttackFigures
from veilmatch.client.evaluation.figures.curves import plots, png, svg
from veilmatch.client.evaluation.figures.discard import Discard, in_words
from veilmatch.client.evaluation.figures.groups import GroupFigures
from veilmatch.client.evaluation.figures.intervals import Interval
from veilmatch.client.evaluation.figures.pictures import Pictures
from veilmatch.client.evaluation.figures.summary import summary
from veilmatch.client.evaluation.fusion import FusionFigures
from veilmatch.client.evaluation.pages import markup, render, unique_ids
from veilmatch.client.evaluation.study import SEARCH_TARGETS, Evaluation, Figures
from veilmatch.client.evaluation.sweep import SweepPoint
from veilmatch.client.evaluation.views import ViewFigures
from veilmatch.crypto.errors import ConfigurationError

#: Kinds of probes in one table of ways to enrol.
_KINDS = 4
_NAMES = {"float": "float cosine", "integer": "quantised integers", "encrypted": "encrypted"}


@dataclass(frozen=True)
class Table:
    """A table of text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Extra:
    """What a report has if it was asked for. gallery: size of the one that the first sentence speaks of.

    discard: the error-versus-discard curve of degraded photos, all together.
    """

    gallery: int | None = None
    groups: Sequence[GroupFigures] = ()
    pictures: Pictures | None = None
    discard: Discard | None = None
    attacks: AttackFigures | None = None
    fusion: FusionFigures | None = None
    views: ViewFigures | None = None


def document(evaluation: Evaluation, points: Sequence[SweepPoint] = (), extra: Extra | None = None) -> dict[str, Any]:
    """Return every figure in JSON types. Rates are 0..1, "summary" counts in a thousand.

    "degradations", "degradations_discard", "groups", "attacks", "fusion" and "views" are there if they were asked for;
    pictures never.
    """
    extra = extra or Extra()
    figures = asdict(evaluation.figures) | {"summary": asdict(summary(evaluation.figures, extra.gallery))}
    if points:
        figures["degradations"] = [asdict(point) for point in points]
        figures["degradations_discard"] = None if extra.discard is None else asdict(extra.discard)
    if extra.attacks is not None:
        figures["attacks"] = asdict(extra.attacks)
    figures |= {} if extra.fusion is None else {"fusion": asdict(extra.fusion)}
    figures |= {} if extra.views is None else {"views": asdict(extra.views)}
    if extra.groups:
        figures["groups"] = [asdict(group) for group in extra.groups]
    return figures


def prepare(folder: Path) -> None:
    """Make the folder of a report if it is not there. Raises ConfigurationError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _not_written(folder, error) from None


def write(
    folder: Path, evaluation: Evaluation, points: Sequence[SweepPoint] = (), extra: Extra | None = None
) -> list[Path]:
    """Write report.json, report.html and every plot as SVG and PNG; return the files.

    folder: made if it is not there. A page with photos is its owner's alone. Raises ConfigurationError if something
    cannot be written.
    """
    extra = extra or Extra()
    figures = json.dumps(document(evaluation, points, extra), indent=1) + "\n"
    files: dict[str, bytes] = {"report.json": figures.encode()}
    pictures = {}
    for name, figure in plots(evaluation, points, extra.discard).items():
        pictures[name] = svg(figure)
        files[f"{name}.svg"] = pictures[name].encode()
        files[f"{name}.png"] = png(figure)
    files["report.html"] = page(evaluation, points, pictures, extra).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if extra.pictures is not None:
            (folder / "report.html").touch(mode=0o600)
            (folder / "report.html").chmod(0o600)
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


def tables(figures: Figures, points: Sequence[SweepPoint] = (), extra: Extra | None = None) -> list[Table]:
    """Return what the report says in numbers."""
    extra = extra or Extra()
    made = [_data(figures), _verification(figures), _search(figures)]
    made += [_fusion(figures, extra.fusion)] if extra.fusion is not None else []
    made += _views(figures, extra.views) if extra.views is not None else []
    made += _discard(figures, figures.discard, "these photos") if figures.discard is not None else []
    made += [_degradations(figures, points)] if points else []
    made += _discard(figures, extra.discard, "degraded photos") if extra.discard is not None else []
    made += [_attacks(extra.attacks)] if extra.attacks is not None else []
    return made + ([_groups(extra.groups)] if extra.groups else [])


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
                _percent(p.refused) if p.refused is not None else "",
            )
        )
    title = f"degraded probes at the threshold for FMR {f.choice.fmr:g} (cosine {f.choice.cosine:g})"
    return Table(
        title, ("degradation", "strength", "FTA", "FNMR", "loss, points", "FMR", "FRR", "refused"), tuple(rows)
    )


def _discard(f: Figures, d: Discard, photos: str) -> list[Table]:
    rows = [
        (f"{100 * share:g} % of the comparisons discarded", _percent(fnmr))
        for share, fnmr in zip(d.shares, d.fnmr, strict=True)
    ]
    left = "no comparison is left" if d.kept_fnmr is None else _percent(d.kept_fnmr)
    rows += [
        ("those that the floors refuse discarded", left),
        ("bad photos refused", f"{d.bad_refused} of {d.bad}"),
        ("other photos refused", f"{d.good_refused} of {d.good}"),
    ]
    title = f"error versus discard of {photos}, worst unified quality first, at cosine {f.choice.cosine:g}"
    by_component = tuple((in_words(name), *map(_percent, fnmr)) for name, fnmr in d.components.items())
    shares = ("discarded by", *(f"{100 * share:g} %" for share in d.shares))
    return [
        Table(title, ("", "FNMR"), tuple(rows)),
        Table(f"FNMR of {photos} that is left, by one component alone", shares, by_component),
    ]


def _fusion(f: Figures, found: FusionFigures) -> Table:
    targets = list(found.rows[0].fnmr)
    rows = [
        (
            row.name,
            _with(row.eer, row.eer_interval),
            *(_with(row.fnmr[target], row.fnmr_intervals[target]) for target in targets),
        )
        for row in found.rows
    ]
    weights = ", ".join(f"{weight:.3f}" for weight in found.weights)
    low, high = (100 * end for end in found.gain_interval)
    title = (
        f"fusion: weights {weights}, learnt of {found.taught} subjects, compared on {found.compared} others;"
        f" gain over {found.best} at FMR {f.choice.fmr:g}: {100 * found.gain:.2f} points [{low:.2f}, {high:.2f}]"
    )
    return Table(title, ("vector", "EER", *(f"FNMR at FMR {target}" for target in targets)), tuple(rows))


def _views(f: Figures, found: ViewFigures) -> list[Table]:
    """One table would be too wide: a few kinds of probes in each."""
    title = (
        f"what is enrolled of a subject, and FNMR by kind of probe at FMR {f.choice.fmr:g} of good probes"
        f" ({found.subjects} subjects, {found.draws} draws of photos)"
    )
    parts = [found.probes[start : start + _KINDS] for start in range(0, len(found.probes), _KINDS)]
    return [
        Table(title, ("enrolled", "templates", "cosine", *kinds), tuple(_view_rows(found, kinds))) for kinds in parts
    ]


def _view_rows(found: ViewFigures, kinds: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for row in found.rows:
        rates = (row.fnmr[kind] for kind in kinds)
        told = ("no photo" if rate is None else _with(rate.rate, rate.interval) for rate in rates)
        yield (row.name, f"{row.templates:g}", f"{row.cosine:.3f}", *told)
    if found.agreement is not None:
        agreed = (found.agreement[kind] for kind in kinds)
        yield ("encrypted decisions that differ", "", "", *(f"{a.different} of {a.decisions:,}" for a in agreed))


def _attacks(found: AttackFigures) -> Table:
    rows = [
        (s.name, f"{s.attacks}", _percent_or(s.apcer), _percent(s.apnrr), _percent_or(s.iapar)) for s in found.species
    ]
    bona_fide = f"{found.bona_fide_refused} of {found.bona_fide_judged}, {_percent_or(found.bpcer)}"
    detector = "" if found.detector else "NO DETECTOR, everything is taken for live; "
    worst = f"; worst species: {found.worst.name}" if found.worst is not None and found.detector else ""
    title = f"presentation attacks (ISO/IEC 30107-3): {detector}BPCER {bona_fide}{worst}"
    return Table(title, ("species", "attacks", "APCER", "APNRR", "IAPAR"), tuple(rows))


def _percent_or(rate: float | None) -> str:
    return "nothing to count" if rate is None else _percent(rate)


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


def page(evaluation: Evaluation, points: Sequence[SweepPoint], drawn: dict[str, str], extra: Extra) -> str:
    """Return a page that needs no other file. drawn: the plots as SVG elements by name."""
    figures = evaluation.figures
    said = summary(figures, extra.gallery)
    return render(
        "accuracy.html",
        title=f"Veilmatch: accuracy of {figures.model}",
        figures=figures,
        summary=str(said),
        gallery=said.gallery,
        verdict=verdict(figures),
        tables=tables(figures, points, replace(extra, groups=())),
        plots={name: markup(unique_ids(name, picture)) for name, picture in drawn.items()},
        pictures=extra.pictures,
        groups=_groups(extra.groups) if extra.groups else None,
    )


def _groups(groups: Sequence[GroupFigures]) -> Table:
    rows = tuple(
        (
            f"{g.attribute}: {g.group}",
            f"{g.subjects:,}",
            "no comparison" if g.fmr is None else _with(g.fmr.rate, g.fmr.interval),
            "no comparison" if g.fnmr is None else _with(g.fnmr.rate, g.fnmr.interval),
        )
        for g in groups
    )
    return Table("by group", ("group", "subjects", "FMR", "FNMR"), rows)
