"""Heads are measured on people they were not trained on, and encrypted decisions are those of the integers."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner, Result

from tests.evaluation.conftest import TOY
from veilmatch.client.commands.base.application import build_app
from veilmatch.client.evaluation.heads.sets import (
    Labelled,
    in_means,
    masked,
    of_file,
    of_test_photos,
    read_class_folder,
)
from veilmatch.client.evaluation.heads.study import HeadSettings, measure_head
from veilmatch.client.evaluation.heads.training import fit, train
from veilmatch.client.evaluation.local_pair import LocalPair
from veilmatch.client.models import SFACE, model_path
from veilmatch.client.vectors.head import Head
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.parameters import DEFAULT


def crowd(classes: int, people: int, photos: int, noise: float = 0.8) -> Labelled:
    """Embeddings whose class is a direction, beside a direction of the person and noise."""
    rng = np.random.default_rng(3)
    of_class, of_person = rng.standard_normal((classes, 128)), rng.standard_normal((people, 128))
    rows, names, persons = [], [], []
    for k in range(classes):
        for person in range(people):
            for _ in range(photos):
                vector = of_class[k] + 0.8 * of_person[person] + noise * rng.standard_normal(128)
                rows.append(vector / np.linalg.norm(vector))
                names.append(f"c{k}")
                persons.append(f"p{person}")
    return Labelled(np.array(rows), tuple(names), tuple(persons), "made up", 0)


def test_encrypted_decisions_are_those_of_the_integers() -> None:
    data = crowd(4, 6, 2, noise=2.5)
    figures = measure_head(data, HeadSettings(TOY, 0.4, folds=3, replicates=100))
    assert figures.different == 0 and figures.none == 0
    assert figures.errors["encrypted"] == figures.errors["integers"]
    assert 0 < figures.errors["integers"].rate < figures.baseline == 0.75
    assert sum(map(sum, figures.confusion)) == 48
    assert figures.lowest >= 0.4


def test_nobody_is_tested_by_a_head_that_was_trained_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes are drawn at random for each person: a head that knows the person would be right all the same."""
    rng = np.random.default_rng(5)
    people = rng.standard_normal((20, 128))
    truth = rng.integers(0, 2, 20)
    rows = np.repeat(people, 5, axis=0) + 0.1 * rng.standard_normal((100, 128))
    data = Labelled(
        rows / np.linalg.norm(rows, axis=1, keepdims=True), tuple(f"c{truth[i // 5]}" for i in range(100)),
        tuple(f"p{i // 5}" for i in range(100)), "made up", 0,
    )  # fmt: skip
    figures = measure_head(data, HeadSettings(TOY, 0.4, replicates=100, encrypted=False))
    assert figures.errors["all coordinates"].rate > 0.2
    alone = Labelled(data.embeddings, data.classes, tuple(map(str, range(100))), "made up", 0)
    leaking = measure_head(alone, HeadSettings(TOY, 0.4, replicates=100, encrypted=False))
    assert leaking.errors["all coordinates"].rate < 0.1


def test_digits_of_a_public_set(tmp_path: Path) -> None:
    """scikit-learn carries 1,797 digits of 64 pixels: no faces, but vectors with true classes."""
    X, y = load_digits(return_X_y=True)
    np.savez(tmp_path / "digits.npz", embeddings=X, classes=y)
    data = of_file(tmp_path / "digits.npz")
    figures = measure_head(data, HeadSettings(DEFAULT, 0.4, folds=2, replicates=100, encrypted=False))
    assert (figures.photos, len(figures.classes), figures.none) == (1797, 10, 0)
    assert figures.errors["integers"].rate < 0.06
    assert abs(figures.errors["integers"].rate - figures.errors["all coordinates"].rate) < 0.01


def test_the_tournament_of_one_process_is_that_of_the_integers() -> None:
    rng, pair = np.random.default_rng(7), LocalPair(TOY)
    templates = rng.integers(-5, 6, (21, 128))
    templates[20] = templates[3]  # a tie: the first wins
    gallery = pair.gallery(templates)
    for row in (3, 12, 20):
        scores = templates @ templates[row]
        wanted = np.arange(21)
        assert pair.best(templates[row], gallery, wanted, int(scores.max())) == int(np.argmax(scores))
        assert pair.best(templates[row], gallery, wanted, int(scores.max()) + 1) is None
    assert pair.best(templates[20], gallery, np.array([20, 3, 5]), 1) == 0


def test_two_classes_are_two_rows() -> None:
    data = crowd(2, 4, 3)
    weights, biases = fit(data.embeddings, data.classes, data.names, 10.0)
    assert weights.shape == (2, 128) and np.allclose(weights[0], -weights[1]) and np.allclose(biases[0], -biases[1])
    right = np.argmax(data.embeddings @ weights.T + biases, axis=1) == [int(name[1]) for name in data.classes]
    assert right.mean() > 0.9


def test_what_cannot_be_measured_is_told() -> None:
    data = crowd(2, 1, 4)
    with pytest.raises(InvalidInputError, match="one person"):
        measure_head(data, HeadSettings(TOY, 0.4))
    lonely = Labelled(data.embeddings, data.classes, ("a", "b", "b", "b", "a", "a", "a", "a"), "made up", 0)
    with pytest.raises(InvalidInputError, match="a class without a photo"):
        measure_head(
            Labelled(lonely.embeddings, lonely.classes, ("a",) * 4 + ("b",) * 4, "made up", 0),
            HeadSettings(TOY, 0.4, encrypted=False),
        )


@pytest.mark.parametrize(
    "arrays",
    [
        {"embeddings": np.ones((3, 4))},
        {"embeddings": np.ones((3, 4)), "classes": np.array(["a", "b"])},
        {"embeddings": np.ones(4), "classes": np.array(["a"] * 4)},
        {"embeddings": np.ones((3, 4)), "classes": np.array([1.5, 2, 3])},
        {"embeddings": np.ones((3, 4)), "classes": np.array(["a", "b", "c"]), "people": np.array(["x"])},
        {"embeddings": np.zeros((2, 4)), "classes": np.array(["a", "b"])},
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InvalidInputError):
        of_file(tmp_path / "x.npz")


def test_a_folder_of_classes(tmp_path: Path, orl: Callable[[int, int], Path]) -> None:
    for place in ("smile/ada/1.pgm", "smile/2.pgm", "neutral/ada/3.pgm"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(orl(1, 1), tmp_path / place)
    (tmp_path / "smile" / "notes.txt").write_text("no photo")
    photos, left_out = read_class_folder(tmp_path)
    assert {(c, p) for c, p, _ in photos} == {("smile", "ada"), ("smile", "2"), ("neutral", "ada")}
    assert left_out == ["smile/notes.txt: not a photo"]
    shutil.rmtree(tmp_path / "neutral")
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(InvalidInputError):
            read_class_folder(folder)


def test_classes_made_of_photos(orl: Callable[[int, int], Path]) -> None:
    from veilmatch.client.capture.detector import YuNetDetector
    from veilmatch.client.capture.image import load_image
    from veilmatch.client.capture.pipeline import CapturePipeline
    from veilmatch.client.evaluation.data.capture import installed_embedder

    detector = YuNetDetector.installed()
    pipeline = CapturePipeline(detector, installed_embedder(DEFAULT))
    photos = [(f"s{s}", orl(s, 1)) for s in (1, 2)]
    made = of_test_photos("condition", photos, detector, pipeline, 1, lambda stage, done, total: None)
    assert made.names == ("blurred", "bright", "coarse", "compressed", "covered", "dark", "good")
    assert len(made.classes) + made.failures == 14 and set(made.people) == {"s1", "s2"}
    view = load_image(orl(1, 1))
    (face, *_) = detector.detect(view)
    painted = masked(view, face, (1, 0))
    assert np.array_equal(painted, masked(view, face, (1, 0))) and not np.array_equal(painted, view)
    eyes = slice(0, int(face.landmarks[:2, 1].min()))
    assert np.array_equal(painted[eyes], view[eyes]), "nothing is painted above the eyes"


def test_means_are_of_photos_of_one_person_in_one_class() -> None:
    rows = np.eye(7)
    data = Labelled(rows, tuple("aababaa"), tuple("xxxyxxy"), "made up", 2)
    assert in_means(data, 1) is data
    pairs = in_means(data, 2)
    assert [*map("".join, zip(pairs.classes, pairs.people, strict=True))] == ["ax", "ax", "bx", "ay"]
    half = np.sqrt(0.5)
    expected = [half * (rows[0] + rows[1]), rows[5], half * (rows[2] + rows[4]), half * (rows[3] + rows[6])]
    assert np.allclose(pairs.embeddings, expected) and (pairs.model, pairs.failures) == ("made up", 2)


def test_means_err_less_and_encrypted_as_the_integers() -> None:
    data = crowd(4, 6, 4, noise=2.5)
    alone = measure_head(data, HeadSettings(TOY, 0.4, folds=3, replicates=100, encrypted=False))
    means = measure_head(in_means(data, 4), HeadSettings(TOY, 0.4, folds=3, replicates=100))
    assert means.photos == 24 and means.different == 0
    assert means.errors["integers"].rate < alone.errors["integers"].rate


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app("heads"), ["heads", *map(str, arguments)])


def test_the_command_measures_and_writes(tmp_path: Path) -> None:
    data = crowd(3, 6, 2)
    np.savez(tmp_path / "x.npz", embeddings=data.embeddings, classes=data.classes, people=data.people, model="made up")
    options = ("--parameters", TOY.name, "--replicates", 100, "--folds", 3)
    result = run("train", tmp_path / "x.npz", *options, "--name", "look", "-o", tmp_path / "h", "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["different"] == 0 and figures["classes"] == ["c0", "c1", "c2"]
    head = Head.load(tmp_path / "h")
    assert head.model == "made up+look@0.4" and head.parameters == TOY
    assert np.array_equal(head.integers(), train(of_file(tmp_path / "x.npz"), "look", TOY, 0.4).integers())
    text = " ".join(run("train", tmp_path / "x.npz", *options).stdout.split())
    assert "Exact: all 36 encrypted decisions equal those of the integers" in text and "integers" in text


def test_the_command_trains_on_means_of_photos(tmp_path: Path) -> None:
    data = crowd(3, 6, 2)
    np.savez(tmp_path / "x.npz", embeddings=data.embeddings, classes=data.classes, people=data.people, model="made up")
    options = ("--parameters", TOY.name, "--replicates", 100, "--folds", 3, "--mean", 2, "--no-encrypted")
    result = run("train", tmp_path / "x.npz", *options, "-o", tmp_path / "h", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["photos"] == 18
    trained = train(in_means(of_file(tmp_path / "x.npz"), 2), "head", TOY, 0.4)
    assert np.array_equal(Head.load(tmp_path / "h").integers(), trained.integers())


def test_the_command_embeds_with_the_model_of_a_configuration(
    device: Path, tmp_path: Path, orl: Callable[[int, int], Path]
) -> None:
    """The head is for the face model that the device will ask with; here SFace, as somebody's own model."""
    data = model_path(SFACE).read_bytes()
    digest, path = hashlib.sha256(data).hexdigest(), model_path(SFACE)
    own = f'name = "own"\nfile = "{path}"\nsha256 = "{digest}"\ndimension = 128\n'
    device.write_text(device.read_text() + f"[capture.embedder]\n{own}")
    for person, name in ((1, "dark hair"), (2, "glasses")):
        for photo in (1, 2):
            there = tmp_path / "photos" / name / f"somebody-{photo}"
            there.mkdir(parents=True)
            shutil.copy(orl(person, photo), there / "1.pgm")
    options = ("--parameters", TOY.name, "--replicates", 100, "--folds", 2, "--no-encrypted", "--json")
    models = {}
    for said in ((), ("--config", device)):
        result = run("train", tmp_path / "photos", *options, *said)
        assert result.exit_code == 0, result.output
        models[len(said)] = json.loads(result.stdout)["model"]
    assert models[2] == f"own-{digest[:8]}" != models[0]


def test_wrong_usage_of_the_command(tmp_path: Path) -> None:
    assert run("train").exit_code == 2
    assert run("train", "--orl", "smile").exit_code == 2
    assert run("train", tmp_path, "--orl", "mask").exit_code == 2
    assert run("train", tmp_path).exit_code == 3
    assert run("enrol", tmp_path / "nothing").exit_code == 3
