"""Fusion: weights learnt on some people, measured on others; the fused integers decide, encrypted or not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from veilmatch.client.commands.base.application import build_app
from veilmatch.client.evaluation.data.faces import from_file
from veilmatch.client.evaluation.fusion import Part, Parts, fusion, learnt, parts_of_faces, parts_of_files
from veilmatch.client.evaluation.study import Settings
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.parameters import ParameterSet

from .conftest import TOY, write_crowd

#: As many coordinates as a face and a voice have together: nothing is projected.
WHOLE = ParameterSet(192, 60, 20, 512)
SETTINGS = Settings(TOY, fmr=0.01, replicates=100, encrypted=False)


def part(name: str, size: int, noise: float, seed: int, people: int = 24, photos: int = 4) -> Part:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((people, 1, size)) + noise * rng.standard_normal((people, photos, size))
    flat = vectors.reshape(-1, size)
    return Part(name, flat / np.linalg.norm(flat, axis=1, keepdims=True))


def parts(*made: Part, people: int = 24, photos: int = 4) -> Parts:
    return Parts(made, tuple(f"p{i // photos}" for i in range(people * photos)))


def test_two_independent_vectors_are_better_than_each() -> None:
    both = parts(part("face", 128, 1.6, 1), part("voice", 64, 1.3, 2))
    faces, figures = fusion(both, Settings(WHOLE, fmr=0.01, replicates=100, encrypted=False))
    fnmr = {row.name: row.fnmr["0.01"] for row in figures.rows}
    assert set(fnmr) == {"face", "voice", "equal weights, float", "fused, float", "fused, integers"}
    assert fnmr["fused, integers"] < min(fnmr["face"], fnmr["voice"]) / 2
    assert figures.gain == pytest.approx(min(fnmr["face"], fnmr["voice"]) - fnmr["fused, integers"])
    assert figures.gain_interval[0] > 0
    assert (figures.taught, figures.compared, faces.embeddings.shape) == (12, 12, (48, 192))


def test_a_part_that_knows_nothing_gets_no_weight() -> None:
    noise = part("noise", 64, 1000.0, 3)
    _, figures = fusion(parts(part("face", 128, 1.5, 1), noise), SETTINGS)
    assert figures.weights[1] < 0.1 and sum(figures.weights) == pytest.approx(1)
    with pytest.raises(InvalidInputError, match="tells people apart"):
        opposite = np.array([[1.0, 0.0], [-1.0, 0.0]] * 4)
        learnt([opposite], np.array([f"p{i // 2}" for i in range(8)]))


def test_weights_are_learnt_without_those_who_are_compared() -> None:
    both = parts(part("face", 128, 2.0, 1), part("voice", 64, 2.0, 2))
    names = np.array(both.subjects)
    taught = set(np.random.default_rng(SETTINGS.seed).permutation(np.unique(names))[:12])
    changed = both.parts[1].embeddings.copy()
    rows = [i for i, name in enumerate(names) if name not in taught]
    changed[rows] = changed[rows[::-1]]
    other = Parts((both.parts[0], Part("voice", changed)), both.subjects)
    assert fusion(both, SETTINGS)[1].weights == fusion(other, SETTINGS)[1].weights


def test_files_belong_together(tmp_path: Path) -> None:
    a, b = write_crowd(tmp_path / "a.npz", 8, 3), write_crowd(tmp_path / "b.npz", 8, 3, seed=2)
    made = parts_of_files([a, b])
    assert len(made.parts) == 2 and len(made.subjects) == 24
    with pytest.raises(InvalidInputError, match="same subjects"):
        parts_of_files([a, write_crowd(tmp_path / "c.npz", 6, 4)])
    with pytest.raises(InvalidInputError, match="8 or more"):
        few = write_crowd(tmp_path / "d.npz", 7, 3)
        fusion(parts_of_files([few, few]), SETTINGS)
    with pytest.raises(InvalidInputError, match="two kinds"):
        fusion(Parts(made.parts[:1], made.subjects), SETTINGS)
    sets = [from_file(path, TOY) for path in (a, b)]
    assert parts_of_faces(sets).subjects == made.subjects


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app("eval"), ["eval", *map(str, arguments)])


def test_the_report_of_a_fusion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    a, b = (write_crowd(tmp_path / f"{name}.npz", 10, 3, noise=1.3, seed=n) for n, name in ((1, "a"), (2, "b")))
    larger = ParameterSet(256, 60, 16, 512)
    for parameters in (TOY, larger):
        result = run(a, "--fuse", b, "--parameters", parameters.name, "--replicates", 100, "--fmr", 0.1, "--json")
        assert result.exit_code == 0, result.output
        figures = json.loads(result.stdout)
        assert figures["agreement"]["different"] == 0 and figures["agreement"]["decisions"] > 0
        assert figures["fusion"]["compared"] == figures["subjects"] == 5
        assert figures["fusion"]["dimensions"] == [128, 128]
    assert "gain over" in (tmp_path / "evaluation" / "report.html").read_text()
    assert run(tmp_path / "a.npz", "--fuse", b, "--views").exit_code == 2
    assert run(tmp_path, "--fuse", "third").exit_code == 2
    assert run(a, "--fuse", tmp_path / "nothing.npz", "--parameters", TOY.name).exit_code == 3
