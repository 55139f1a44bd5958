"""The study of quantisation on made-up faces."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import quantisation
from veilmatch.client.evaluation.data.faces import from_file
from veilmatch.client.evaluation.data.pairs import all_pairs
from veilmatch.client.evaluation.figures.rates import curve
from veilmatch.client.evaluation.scorers import float_scores, integer_scores
from veilmatch.crypto.parameters import ParameterSet

from .conftest import TOY, write_crowd

OPTIONS = argparse.Namespace(fmr=0.05, replicates=20, rotations=2)


@pytest.fixture
def photos(tmp_path: Path) -> quantisation.Photos:
    faces = from_file(write_crowd(tmp_path / "crowd.npz", 8, 4, noise=1.3), TOY)
    return quantisation.Photos("ORL", faces, all_pairs(faces.labels))


def test_integers_are_those_of_the_parameter_set(photos: quantisation.Photos) -> None:
    assert (photos.integers(TOY.scale, TOY.clip) == integer_scores(photos.faces, photos.pairs)).all()


def test_a_fine_grid_costs_nothing(photos: quantisation.Photos) -> None:
    genuine = photos.pairs.genuine
    fine = curve(photos.integers(10**6, 10**6), genuine).fnmr_at(0.05)
    assert fine == curve(float_scores(photos.faces, photos.pairs), genuine).fnmr_at(0.05)


def test_figures_cover_the_grid_and_are_drawn(
    photos: quantisation.Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation, "SCALES", (40, 60))
    monkeypatch.setattr(quantisation, "CLIPS", (15, 23))
    monkeypatch.setattr(quantisation, "CHOICES", {128: ((40, 15), (60, 23))})
    shipped = (ParameterSet(128, 60, 23, 512), ParameterSet(128, 40, 15, 512))
    sets = [quantisation._measure(p, [photos], OPTIONS) for p in shipped for _ in ("ORL", "hard")]
    for figures, parameters in zip(sets[::2], shipped, strict=True):
        (cell,) = [g for g in figures["grid"] if (g["scale"], g["clip"]) == (parameters.scale, parameters.clip)]
        assert cell["possible"] and cell["fnmr"] == figures["integer_fnmr"]
        assert [(choice["scale"], choice["slots"]) for choice in figures["choices"]] == [(40, 130), (60, 125)]
        low, high = figures["difference_interval_points"]
        assert low <= high
    quantisation._show({"fmr": 0.05, "sets": sets})
    quantisation._draw({"fmr": 0.05, "sets": sets}, tmp_path / "plots")
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"quantisation.png", "quantisation.svg"}


def test_a_set_that_refuses_a_face_is_not_possible(photos: quantisation.Photos) -> None:
    assert quantisation._possible(TOY, 60, 23, [photos])
    assert not quantisation._possible(TOY, 60, 4, [photos]), "clipped to less than half of its squared length"
