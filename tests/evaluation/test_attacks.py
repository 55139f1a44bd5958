"""Figures of presentation attacks, by hand: APCER, APNRR, BPCER and IAPAR of a few photos."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from veilmatch.client.commands.base.application import build_app
from veilmatch.client.evaluation.attacks import measure_attacks, read_attacks
from veilmatch.client.evaluation.data.faces import FaceSet
from veilmatch.crypto.errors import InvalidInputError, LivenessError, NoFaceError

from .conftest import TOY

ADA, BOB = (np.eye(128)[n : n + 16].sum(axis=0) / 4 for n in (0, 32))


def embed(photo: object) -> np.ndarray:
    if "nobody" in str(photo):
        raise NoFaceError("nobody")
    return ADA if "ada" in str(photo) else BOB


@pytest.fixture
def faces() -> FaceSet:
    vectors = np.array([ADA, ADA, BOB, BOB])
    integers = np.rint(TOY.scale * vectors).astype(np.int64)
    return FaceSet(vectors, integers, ("ada", "ada", "bob", "bob"), (0, 1, 2, 3), (), "toy")


def test_rates_are_counted_by_species(faces: FaceSet) -> None:
    attacks = {
        "print": [("ada", "ada-live.jpg"), ("ada", "bob-live.jpg"), ("bob", "bob-flat.jpg"), ("bob", "nobody.jpg")],
        "mask": [("cleo", "ada-live.jpg"), ("ada", "ada-live.jpg")],
    }

    def is_live(photo: object) -> bool:
        if "nobody" in str(photo):
            raise NoFaceError("nobody")
        return "live" in str(photo)

    live = ["1-live.jpg", "2-live.jpg", "3-flat.jpg", "nobody.jpg"]
    found = measure_attacks(attacks, live, faces, embed, is_live, (TOY, TOY.threshold(0.5)))
    prints, masks = found.species
    assert (prints.attacks, prints.judged, prints.apcer, prints.apnrr) == (4, 3, 2 / 3, 1 / 4)
    assert (prints.compared, prints.accepted, prints.iapar) == (4, 1, 1 / 4), "one passes both detector and matching"
    assert (masks.apcer, masks.compared, masks.iapar) == (1, 1, 1), "nobody has a template of cleo"
    assert found.worst is masks
    assert (found.bona_fide, found.bona_fide_judged, found.bpcer) == (4, 3, 1 / 3)
    without = measure_attacks(attacks, live, faces, embed, None, (TOY, TOY.threshold(0.5)))
    assert not without.detector and without.species[0].apcer == 1 and without.bpcer == 0
    assert without.species[0].iapar == 2 / 4, "what matching alone lets through"

    def broken(photo: object) -> bool:
        raise LivenessError("no detector")

    with pytest.raises(LivenessError):
        measure_attacks(attacks, live, faces, embed, broken, (TOY, 1))


def test_a_folder_without_attacks_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(InvalidInputError, match="no attacks"):
            read_attacks(folder)


def test_attacks_are_in_the_report(people: Path, orl: Callable[[int, int], Path], tmp_path: Path) -> None:
    for kind, subject, photo in (("print", "s1", 9), ("print", "s2", 9), ("screen", "s3", 9)):
        (tmp_path / "attacks" / kind / subject).mkdir(parents=True)
        shutil.copy(orl(int(subject[1:]), photo), tmp_path / "attacks" / kind / subject / "1.pgm")
    done = CliRunner().invoke(
        build_app("eval"),
        ["eval", str(people), "--attacks", str(tmp_path / "attacks"), "--no-encrypted", "--replicates", "100", "--json",
         "--fmr", "0.1", "--parameters", TOY.name, "--output", str(tmp_path / "report")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [s["name"] for s in found["attacks"]["species"]] == ["print", "screen"]
    assert found["attacks"]["detector"] is False and found["attacks"]["species"][0]["accepted"] == 2
    assert "NO DETECTOR" in (tmp_path / "report" / "report.html").read_text()
    assert found["discard"]["photos"] == 12 and found["discard"]["refused"] == 0, "good photos have a quality, too"
