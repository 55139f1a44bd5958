"""`veilmatch eval` from photos to the report, with toy keys."""

from __future__ import annotations

import importlib
import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from veilmatch.client.commands.base.application import build_app
from veilmatch.client.config import DeviceSettings
from veilmatch.client.evaluation import study
from veilmatch.client.evaluation.data.faces import from_file
from veilmatch.client.evaluation.figures.curves import plots
from veilmatch.client.evaluation.figures.report import verdict
from veilmatch.client.evaluation.study import Settings, evaluate

from .conftest import DEVICE, TOY, certified, write_crowd

Run = Callable[..., Result]
QUICK = ("--parameters", TOY.name, "--replicates", "100", "--fmr", "0.1")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    app = build_app("eval")
    return lambda *args: CliRunner().invoke(app, ["eval", *map(str, args)])


@pytest.fixture
def crowd_file(tmp_path: Path) -> Path:
    return write_crowd(tmp_path / "crowd.npz", 6, 3, noise=1.2)


class _Page(HTMLParser):
    """Counts tags, and collects text and what would be fetched from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.fetched, self.count = "", [], {}  # type: ignore[var-annotated]
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.fetched += [v for k, v in attributes if k in ("src", "href", "xlink:href") and v and not v.startswith("#")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_photos_to_report(run: Run, people: Path) -> None:
    result = run(people, *QUICK, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["subjects"], figures["photos"], figures["acquired"]) == (4, 13, 12)
    assert (figures["genuine"], figures["impostors"]) == (12, 54)
    assert figures["fta"] == pytest.approx(1 / 13) and figures["failures"][0]["code"] == "no_face"
    assert figures["agreement"] == {"decisions": 66 * 4, "different": 0}
    assert figures["scorers"]["float"]["rank_one"] == 1
    assert [p["target_fmr"] for p in figures["scorers"]["encrypted"]["points"]] == [0.1, 0.01, 0.001, 0.0001]
    for mine, theirs in zip(*(figures["scorers"][name]["points"] for name in ("encrypted", "integer")), strict=True):
        assert mine["fmr"] == theirs["fmr"] and mine["fnmr"]["errors"] == theirs["fnmr"]["errors"]


def test_files_of_the_report_parse(run: Run, crowd_file: Path) -> None:
    result = run(crowd_file, *QUICK, "--output", "report")
    assert result.exit_code == 0, result.output
    folder = crowd_file.parent / "report"
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.html"} | {
        f"{name}.{kind}" for name in ("det", "roc", "scores") for kind in ("svg", "png")
    }
    figures = json.loads((folder / "report.json").read_text())
    assert figures["parameter_set"] == TOY.name
    page = _Page((folder / "report.html").read_text())
    assert page.fetched == [], "the page needs nothing else"
    assert page.count["svg"] == 3 and page.count["table"] == 3
    assert "Exact: all" in page.text and "made up" in page.text
    for picture in folder.glob("*.svg"):
        assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")
    for picture in folder.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_names_in_a_report_are_only_text(run: Run, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((7, 128))
    vectors[6] = 0
    subjects = ["a", "a", "b", "b", "c", "c", "<script>alert(1)</script>"]
    np.savez(tmp_path / "x.npz", embeddings=vectors, subjects=subjects, model="<b>model</b>")
    assert run(tmp_path / "x.npz", *QUICK, "--no-encrypted").exit_code == 0
    page = _Page((tmp_path / "evaluation" / "report.html").read_text())
    assert "script" not in page.count and "b" not in {tag for tag in page.count if page.count[tag] > 20}
    assert "<script>alert(1)</script>" in page.text and "<b>model</b>" in page.text


def test_tables_are_printed_for_people(run: Run, crowd_file: Path) -> None:
    text = run(crowd_file, *QUICK).stdout
    for word in ("FMR", "FNMR", "FPIR", "FNIR", "FTA", "EER", "rank 1", "encrypted decisions equal"):
        assert word in text


def test_threshold_is_written_to_the_device(run: Run, crowd_file: Path, device: Path) -> None:
    result = run(crowd_file, *QUICK, "--json", "--write-threshold", device)
    assert result.exit_code == 0, result.output
    cosine = json.loads(result.stdout)["choice"]["cosine"]
    assert device.read_text() == DEVICE.replace("0.40", f"{cosine:g}")
    assert DeviceSettings.load(device).threshold == cosine


def test_threshold_that_the_photos_cannot_show_is_not_written(run: Run, crowd_file: Path, device: Path) -> None:
    result = run(crowd_file, *QUICK[:4], "--fmr", "0.001", "--write-threshold", device)
    assert result.exit_code == 3 and "too few impostor comparisons" in result.stderr
    assert device.read_text() == DEVICE


def test_threshold_below_the_lowest_of_the_certificate_is_not_written(run: Run, crowd_file: Path, device: Path) -> None:
    certified(device, lowest={"verify": 0.99})
    before = device.read_text()
    result = run(crowd_file, *QUICK, "--no-encrypted", "--write-threshold", device)
    assert result.exit_code == 3 and "below the lowest" in result.stderr and "0.99" in result.stderr
    assert device.read_text() == before and "written" not in result.stderr
    assert (crowd_file.parent / "evaluation" / "report.json").exists(), "what was measured is not lost"


@pytest.mark.parametrize("wrong", ["no such file", "a matcher's file", "no public key", "no folder to write to"])
def test_what_the_result_is_for_is_looked_at_before_anything_is_measured(
    run: Run, crowd_file: Path, device: Path, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*args: Any) -> Any:
        raise AssertionError("it was measured first")

    monkeypatch.setattr(study, "evaluate", measured)
    output = device.parent / "evaluation"
    if wrong == "no such file":
        device.unlink()
    elif wrong == "a matcher's file":
        device.write_text('key_holder = "localhost:1"\ngalleries = ["main"]\n')
    elif wrong == "no public key":
        (device.parent / "public.json").unlink()
    else:
        output = device / "evaluation"
    result = run(crowd_file, *QUICK, "--write-threshold", device, "--output", output, "--json")
    assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == (3, "configuration"), result.output


def test_one_wrong_encrypted_decision_fails_after_the_report(
    run: Run,
    crowd_file: Path,
    device: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def one_wrong(*args: Any) -> np.ndarray:
        decisions = encrypted_decisions(*args)
        decisions[1, 5] ^= True
        return decisions

    encrypted_decisions = study.encrypted_decisions
    monkeypatch.setattr(study, "encrypted_decisions", one_wrong)
    result = run(crowd_file, *QUICK, "--write-threshold", device)
    assert result.exit_code == 7
    assert "NOT EXACT: 1 of" in result.stdout and "NOT EXACT" in result.stderr
    assert json.loads((crowd_file.parent / "evaluation" / "report.json").read_text())["agreement"]["different"] == 1
    assert device.read_text() == DEVICE


def test_without_encryption_nothing_is_said_of_it(run: Run, crowd_file: Path) -> None:
    result = run(crowd_file, *QUICK, "--no-encrypted", "--json")
    figures = json.loads(result.stdout)
    assert result.exit_code == 0 and figures["agreement"] is None and "encrypted" not in figures["scorers"]


def test_degraded_photos_are_measured(run: Run, people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    degrade = importlib.import_module("veilmatch.client.evaluation.data.degrade")
    few = tuple(d for d in degrade.DEGRADATIONS if d.name in ("blur", "darker"))
    monkeypatch.setattr("veilmatch.client.evaluation.sweep.DEGRADATIONS", few)
    turns = degrade.TURNS[:2]
    monkeypatch.setattr("veilmatch.client.evaluation.sweep.TURNS", turns)
    result = run(people, *QUICK, "--no-encrypted", "--degrade", "--json")
    assert result.exit_code == 0, result.output
    points = json.loads(result.stdout)["degradations"]
    steps = [(d.name, s) for d in few + turns for s in d.strengths]
    assert [(p["degradation"], p["strength"]) for p in points] == steps
    mild, strong = points[0], points[3]
    assert mild["fta"] == 0 and abs(mild["loss"]) < 0.1
    assert strong["frr"] > mild["frr"] + 0.2
    assert all(p["loss"] == 0 and p["fta"] == 0 for p in points if p["degradation"] == "turn")
    assert (people / "s1" / "1.pgm").stat().st_size == 10318, "photos stay as they are"


def test_hard_photos_are_harder(run: Run, people: Path) -> None:
    rates = []
    for options in ((), ("--hard",)):
        figures = json.loads(run(people, *QUICK, "--no-encrypted", "--json", *options).stdout)
        rates.append(figures["scorers"]["float"]["points"][-1]["fnmr"]["rate"] + figures["fta"])
    assert rates[1] > rates[0]


def test_same_seed_gives_the_same_figures(tmp_path: Path, crowd_file: Path) -> None:
    settings = Settings(TOY, fmr=0.1, replicates=100, encrypted=False)
    first, again = (evaluate(from_file(crowd_file, TOY), settings) for _ in range(2))
    assert first.figures == again.figures
    assert verdict(first.figures).startswith("Not compared")


def test_axes_are_named_with_units(crowd_file: Path) -> None:
    evaluation = evaluate(from_file(crowd_file, TOY), Settings(TOY, fmr=0.1, replicates=100, encrypted=False))
    for figure in plots(evaluation).values():
        for axes in figure.axes:
            assert "[" in axes.get_xlabel() and "[" in axes.get_ylabel()


def test_same_faces_under_several_names_are_refused(run: Run, tmp_path: Path) -> None:
    vectors = np.repeat(np.random.default_rng(2).standard_normal((1, 128)), 6, axis=0)
    np.savez(tmp_path / "x.npz", embeddings=vectors, subjects=[1, 1, 2, 2, 3, 3])
    result = run(tmp_path / "x.npz", *QUICK, "--json")
    assert result.exit_code == 3, "all are one person"
    assert "under two names" in json.loads(result.stdout)["error"]["message"]


def test_one_subject_is_refused(run: Run, tmp_path: Path) -> None:
    write_crowd(tmp_path / "one.npz", 1, 5)
    result = run(tmp_path / "one.npz", *QUICK)
    assert result.exit_code == 3 and "nothing to compare" in result.stderr


@pytest.mark.parametrize("library", ["matplotlib", "sklearn", "scipy", "tomlkit", "jinja2"])
def test_a_missing_library_names_the_extra(
    run: Run, crowd_file: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    result = run(crowd_file, *QUICK, "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"], error["expected"]) == (3, "missing_extra", "pip install 'veilmatch[eval]'")


@pytest.mark.parametrize(
    "args",
    [(), ("x.npz", "--orl"), ("crowd.npz", "--hard"), ("crowd.npz", "--degrade"), ("--orl", "--hard", "--degrade")],
)
def test_wrong_usage_is_status_two(run: Run, crowd_file: Path, args: tuple[str, ...]) -> None:
    assert run(*args).exit_code == 2


@pytest.mark.parametrize(
    "args", [("nowhere",), ("crowd.npz", "--fmr", "0"), ("crowd.npz", "--fmr", "1"), ("crowd.npz", "--parameters", "x")]
)
def test_unusable_input_is_status_three(run: Run, crowd_file: Path, args: tuple[str, ...]) -> None:
    assert run(*args).exit_code == 3
