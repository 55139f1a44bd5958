"""Several views: each plan has the threshold of the same FMR, and what more templates gain is measured at it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from veilmatch.client.commands.base.application import build_app
from veilmatch.client.evaluation.data.degrade import DEGRADATIONS
from veilmatch.client.evaluation.local_pair import LocalPair
from veilmatch.client.evaluation.study import Settings
from veilmatch.client.evaluation.views import AUGMENTED, MIRROR, PLANS, TURNED, WORSE, ViewSet, view_study
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.packing.fields import Array

from .conftest import TOY


def crowd(people: int, photos: int, noise: float = 1.4) -> ViewSet:
    """Made-up people; every view is the photo with a little more noise, and a face in ten is not found in it."""
    rng = np.random.default_rng(9)

    def unit(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    centres = np.repeat(rng.standard_normal((people, 128)), photos, axis=0)
    good = unit(centres + noise * rng.standard_normal(centres.shape))
    views = {"as it is": good}
    for name in (MIRROR, *AUGMENTED, *WORSE):
        views[name] = unit(good + 0.05 * rng.standard_normal(good.shape))
        views[name][rng.random(len(good)) < 0.1] = np.nan
    return ViewSet(views, np.repeat(np.arange(people), photos), rng.normal(0, 15, len(good)))


def test_several_photos_and_their_mean_gain_at_the_same_fmr() -> None:
    figures = view_study(crowd(12, 10), Settings(TOY, fmr=0.01, replicates=100, encrypted=False))
    rows = {row.name: row for row in figures.rows}
    assert list(rows) == [row.name for row in figures.rows] == list(PLANS), "no two plans are shown under one name"
    assert all(row.fmr <= 0.01 for row in figures.rows)
    one, five, mean = (rows[name].fnmr["good probes"] for name in ("1 photo", "5 photos", "5 photos, their mean"))
    assert one is not None and five is not None and mean is not None
    assert mean.rate < five.rate < one.rate
    assert rows["5 photos"].templates == 5 and rows["5 photos, their mean"].templates == 1
    assert rows["5 photos"].cosine > rows["1 photo"].cosine, "more templates take a higher threshold"
    assert one.trials == 12 * 5 * figures.draws


def test_encrypted_decisions_about_all_kinds_of_probes_are_those_of_the_integers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And one that differs is counted, in every kind that its probe is of."""
    decide, made, people = LocalPair.decide, [], crowd(3, 4)

    def recorded(*arguments: Any) -> Array:
        made.append(decide(*arguments))
        return made[-1]

    def altered(*_: Any) -> Array:
        bits = made.pop(0)
        bits[:, 0] ^= 1  # about the first template
        return bits

    monkeypatch.setattr(LocalPair, "decide", recorded)
    figures = view_study(people, Settings(TOY, fmr=0.1, replicates=100))
    assert figures.exact and figures.agreement is not None and tuple(figures.agreement) == figures.probes
    decisions = {kind: agreement.decisions for kind, agreement in figures.agreement.items()}
    assert decisions["good probes"] == sum(decisions[kind] for kind in TURNED) > 300
    assert all(0 < decisions[kind] <= decisions["good probes"] for kind in WORSE)
    monkeypatch.setattr(LocalPair, "decide", altered)
    figures = view_study(people, Settings(TOY, fmr=0.1, replicates=100))
    assert not made and not figures.exact and figures.agreement is not None
    (templates,) = {a.decisions / a.different for a in figures.agreement.values() if a.decisions}
    assert {kind: templates * a.different for kind, a in figures.agreement.items()} == decisions


def test_every_kind_is_mild_and_strong_as_the_sweep_of_degradations_has_it() -> None:
    strengths = {degradation.name: degradation.strengths for degradation in DEGRADATIONS}
    kinds = list(dict.fromkeys(kind for kind, _ in WORSE.values()))
    assert list(WORSE.values()) == [(kind, strength) for kind in kinds for strength in strengths[kind][1:3]]


@pytest.mark.parametrize(("yaw", "turned"), [(0, 0), (-14.9, 0), (15, 1), (-29.9, 1), (30, 2), (-90, 2)])
def test_a_head_is_turned_to_either_side(yaw: float, turned: int) -> None:
    found = [name for name, (low, high) in TURNED.items() if low <= abs(yaw) < high]
    assert found == [list(TURNED)[turned]]


def test_subjects_with_few_photos_are_left_out() -> None:
    with pytest.raises(InvalidInputError, match="too few photos"):
        view_study(crowd(4, 3), Settings(TOY, replicates=100, encrypted=False))


def test_the_report_of_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orl: Callable[[int, int], Path]) -> None:
    monkeypatch.chdir(tmp_path)
    for person in (1, 2):
        for photo in (1, 2, 3, 4):
            (tmp_path / "photos" / f"s{person}").mkdir(parents=True, exist_ok=True)
            shutil.copy(orl(person, photo), tmp_path / "photos" / f"s{person}" / f"{photo}.pgm")
    arguments = ["eval", "photos", "--views", "--parameters", TOY.name, "--replicates", "100", "--fmr", "0.1", "--json"]
    result = CliRunner().invoke(build_app("eval"), arguments)
    assert result.exit_code == 0, result.output
    views = json.loads(result.stdout)["views"]
    assert [agreement["different"] for agreement in views["agreement"].values()] == [0] * len(views["probes"])
    assert len(views["rows"]) == len(PLANS) and len(views["probes"]) == 1 + len(TURNED) + len(WORSE)
    assert CliRunner().invoke(build_app("eval"), ["eval", "x.npz", "--views", "--hard"]).exit_code == 2
