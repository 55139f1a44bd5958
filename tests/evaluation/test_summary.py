"""What a report says first, and what it says if asked: groups, and photos of the worst comparisons."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from veilmatch.client.commands.base.application import build_app
from veilmatch.client.evaluation.data.faces import FaceSet
from veilmatch.client.evaluation.figures.groups import by_group, read_groups
from veilmatch.client.evaluation.figures.summary import PerThousand, chosen, summary
from veilmatch.client.evaluation.study import Settings, evaluate
from veilmatch.crypto.errors import InvalidInputError

from .conftest import TOY

SETTINGS = Settings(TOY, fmr=0.1, replicates=100, encrypted=False)


def test_the_first_sentence_counts_what_the_figures_say(crowd: FaceSet) -> None:
    figures = evaluate(crowd, SETTINGS).figures
    point, said = chosen(figures), summary(figures, 1000)
    assert said.strangers.rate == 1000 * point.fmr.rate and said.cosine == figures.choice.cosine
    assert said.turned_away.rate == pytest.approx(1000 * (figures.fta + (1 - figures.fta) * point.fnmr.rate))
    assert said.named.rate == pytest.approx(1000 * (1 - (1 - point.fmr.rate) ** 1000))
    assert summary(figures).gallery == figures.enrolled
    text = str(said)
    assert "in a gallery of 1,000" in text and f"At threshold {figures.choice.cosine:g}" in text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (PerThousand(0, 0, 1.7), "at most 1.7"),
        (PerThousand(1.04, 0.05, 3.8), "1 (0.05 to 3.8)"),
        (PerThousand(38.2, 20.4, 1000), "38 (20 to 1,000)"),
    ],
)
def test_numbers_have_the_digits_that_count(rate: PerThousand, text: str) -> None:
    assert str(rate) == text


def test_rates_of_groups_are_those_of_their_own_comparisons(crowd: FaceSet) -> None:
    evaluation = evaluate(crowd, SETTINGS)
    subjects = sorted(set(crowd.subjects))
    groups = {subject: {"team": "red" if i < 3 else "blue"} for i, subject in enumerate(subjects[:-1])}
    found = {each.group: each for each in by_group(evaluation, crowd.subjects, groups)}
    assert {name: each.subjects for name, each in found.items()} == {"red": 3, "blue": 3}
    scores = crowd.integers @ crowd.integers.T
    for name, each in found.items():
        rows = [i for i, s in enumerate(crowd.subjects) if groups.get(s, {}).get("team") == name]
        pairs = [(i, j) for i in rows for j in rows if i < j]
        same = [(i, j) for i, j in pairs if crowd.subjects[i] == crowd.subjects[j]]
        t = evaluation.figures.choice.t
        assert each.fnmr is not None and each.fmr is not None
        assert (each.fnmr.trials, each.fmr.trials) == (len(same), len(pairs) - len(same))
        assert each.fnmr.errors == sum(scores[p] < t for p in same)
        assert each.fmr.errors == sum(scores[p] >= t for p in set(pairs) - set(same))
    with pytest.raises(InvalidInputError, match="no subject of the photos"):
        by_group(evaluation, crowd.subjects, {"stranger": {"team": "red"}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "subject\nada\n",
        "subject,photo\nada,1.jpg\n",
        "subject,photo,pose\nada,1.jpg,left\nada,1.jpg,right\n",
        "name,team\nada,red\n",
        "subject,team\nada,red\nada,blue\n",
        "subject,team\nada,red,more\n",
    ],
)
def test_what_is_no_file_of_groups_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(InvalidInputError):
        read_groups(tmp_path / "groups.csv")


def test_empty_cells_are_no_group(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("subject,team,age\nada,red,\n bob ,,30\n")
    assert read_groups(tmp_path / "groups.csv") == {"ada": {"team": "red"}, "bob": {"age": "30"}}


def test_attributes_of_single_photos(crowd: FaceSet, tmp_path: Path) -> None:
    """Two photos of five of each person are from the side, but of one person, of whom the file says so on the whole."""
    (subject, *others), sides = sorted(set(crowd.subjects)), ("0.jpg", "1.jpg")
    rows = [f"{other},{photo},side" for other in others for photo in sides]
    (tmp_path / "groups.csv").write_text("\n".join(["subject,photo,pose", *rows, f"{subject},,side", ""]))
    names = [f"{row % 5}.jpg" for row in range(len(crowd.subjects))]
    (found,) = by_group(evaluate(crowd, SETTINGS), crowd.subjects, read_groups(tmp_path / "groups.csv"), names)
    assert (found.group, found.subjects) == ("side", 7)
    assert found.fnmr is not None and found.fnmr.trials == 6 * 1 + 5 * 4 // 2
    assert found.fmr is not None and found.fmr.trials == (6 * 2 + 5) * (6 * 2 + 4) // 2 - found.fnmr.trials


def test_a_report_with_photos_is_its_owners_alone(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "groups.csv").write_text("subject,photo,team\ns1,,red\ns2,,red\ns3,1.pgm,blue\ns4,,<b>blue</b>\n")
    options = ["--parameters", TOY.name, "--replicates", "100", "--fmr", "0.1", "--no-encrypted", "--json"]
    options += ["--groups", "groups.csv", "--pictures", "--gallery-size", "500"]
    done = CliRunner().invoke(build_app("eval"), ["eval", str(people), *options])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["summary"]["gallery"] == 500 and "data:image" not in done.stdout
    assert [(g["attribute"], g["group"], g["subjects"]) for g in figures["groups"]] == [
        ("team", "<b>blue</b>", 1), ("team", "blue", 1), ("team", "red", 2),
    ]  # fmt: skip
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert stat.S_IMODE((tmp_path / "evaluation" / "report.html").stat().st_mode) == 0o600
    # Of six pairs of people, and of four people, the worst comparison of each.
    assert page.count("data:image/jpeg") == 2 * (6 + 4)
    assert "keep it on this machine" in page and "<b>blue</b>" not in page and "&lt;b&gt;blue" in page
    assert (
        page.index('class="lead"') < page.index("<svg") < page.index("The worst comparisons") < page.index("<details")
    )


def test_a_report_without_photos_has_none(crowd: FaceSet, tmp_path: Path) -> None:
    from veilmatch.client.evaluation.figures import report

    report.write(tmp_path, evaluate(crowd, SETTINGS))
    page = (tmp_path / "report.html").read_text()
    assert "<img" not in page and "keep it on this machine" not in page
    assert page.count("<details") > 3 and "<details open" not in page, "tables are folded"
    assert np.all([f"{name}.svg" in {p.name for p in tmp_path.iterdir()} for name in ("det", "roc", "scores")])
