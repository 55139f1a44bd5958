"""The programs of examples/ and of the documentation do what they say, on real servers and real photos."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from veilmatch import Client
from veilmatch.client.models import SFACE, model_path
from veilmatch.common.public_file import read_public_file
from veilmatch.testing import LocalInstallation

ROOT = Path(__file__).parents[2]
Orl = Callable[[int, int], Path]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def given(folder: Path, **photos: Path) -> Path:
    """Copies of photos, under the names that a program looks for."""
    for name, photo in photos.items():
        there = folder / f"{name.replace('__', '/')}.jpg"
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, there)
    return folder


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(autouse=True)
def empty(installation: LocalInstallation) -> Iterator[None]:
    yield
    with installation.client() as client:
        client.erase_many([entry.subject for entry in client.subjects()])


@pytest.fixture
def client(installation: LocalInstallation) -> Iterator[Client]:
    with installation.client() as made:
        yield made


def test_the_door_opens_for_staff_alone(
    installation: LocalInstallation, orl: Orl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given(tmp_path, people__ada__1=orl(1, 1), people__ada__2=orl(1, 3), people__bob__1=orl(2, 1))
    given(tmp_path, ada=orl(1, 5), stranger=orl(5, 1))
    (tmp_path / "wall.jpg").write_bytes(b"no photo")
    visitors = [tmp_path / f"{name}.jpg" for name in ("ada", "stranger", "wall")]
    example("door").main(installation, tmp_path / "people", *visitors)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["enrolled: ada, bob", "ada.jpg: welcome, ada", "stranger.jpg: nobody we know"]
    assert lines[3].startswith("wall.jpg: once more, please")


def test_the_bank_lets_the_customer_in_once_and_nobody_else(
    installation: LocalInstallation, orl: Orl, capsys: pytest.CaptureFixture[str]
) -> None:
    login = example("login")
    login.main(installation, "ada", orl(1, 1), orl(1, 5))
    login.main(installation, "ada", orl(1, 1), orl(5, 1))
    said = [line for line in capsys.readouterr().out.splitlines() if "let in" in line]
    assert said == ["ada is let in: True", "ada is let in: False"]


def test_the_bank_takes_no_answer_to_another_question(
    installation: LocalInstallation, client: Client, orl: Orl
) -> None:
    login, folder = example("login"), installation.recipient("bank")
    bank = login.Bank(folder)
    client.enrol("ada", orl(1, 1))
    answer = login.answer_of(client, folder / "recipient.cert", "ada", orl(1, 5), bank.question("ada"))
    bank.question("ada")
    assert not bank.may_enter("ada", answer)
    assert not bank.may_enter("ada", answer), "nobody asked"


def test_who_is_registered_already_is_found(installation: LocalInstallation, orl: Orl, tmp_path: Path) -> None:
    given(tmp_path, ada=orl(1, 1), bob=orl(2, 1), zoe=orl(1, 5))
    (tmp_path / "eve.jpg").write_bytes(b"no photo")
    outcome = example("deduplicate").main(installation, tmp_path)
    assert outcome.registered == ["ada", "bob"]
    assert outcome.to_look_at == {"zoe": ("ada",)} and list(outcome.unusable) == ["eve"]


def test_classes_are_said_of_photos(installation: LocalInstallation, orl: Orl, tmp_path: Path) -> None:
    from veilmatch.client.capture.pipeline import CapturePipeline
    from veilmatch.client.evaluation.heads.sets import of_photos
    from veilmatch.client.evaluation.heads.training import train

    people = {"first": 1, "second": 2}
    photos = [(name, str(number), orl(person, number)) for name, person in people.items() for number in (1, 2, 3)]
    data = of_photos(photos, CapturePipeline.default(), lambda stage, done, total: None)
    parameters = read_public_file(installation.settings().public_key).public_key.parameters
    train(data, "look", parameters, 0.4).save(tmp_path / "look.head")
    given(tmp_path, a=orl(1, 9), b=orl(2, 9))
    (tmp_path / "wall.jpg").write_bytes(b"no photo")
    asked = [tmp_path / f"{name}.jpg" for name in ("a", "b", "wall")]
    assert example("classes").main(installation, tmp_path / "look.head", *asked) == {
        "a": "first", "b": "second", "wall": None,
    }  # fmt: skip


SAID_OF_OWN_MODEL = ["ada-2.jpg: the same person", "bob.jpg: somebody else"]


def test_a_model_of_ones_own_takes_the_place_of_the_default(
    installation: LocalInstallation, orl: Orl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given(tmp_path, **{"ada-1": orl(1, 1), "ada-2": orl(1, 5), "bob": orl(5, 1)})
    photos = [tmp_path / f"{name}.jpg" for name in ("ada-1", "ada-2", "bob")]
    example("own_model").main(installation, model_path(SFACE), *photos, description={"dimension": 128})
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == SAID_OF_OWN_MODEL and last.startswith("another model is refused")


def test_a_model_of_another_dimension_has_an_installation_for_it(
    orl: Orl, second_embedder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program as it stands, with the model that its description is of."""
    given(tmp_path, **{"ada-1": orl(1, 1), "ada-2": orl(1, 5), "bob": orl(5, 1)})
    photos = [tmp_path / f"{name}.jpg" for name in ("ada-1", "ada-2", "bob")]
    own_model = example("own_model")
    with LocalInstallation(parameters=own_model.PARAMETERS) as made:
        own_model.main(made, second_embedder, *photos)
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == SAID_OF_OWN_MODEL and last.startswith("another model is refused")


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)


@pytest.fixture
def folder(installation: LocalInstallation, orl: Orl, tmp_path: Path) -> Path:
    """What the quickstart has: three photos, and an installation that runs."""
    given(tmp_path, **{"ada-1": orl(1, 1), "ada-2": orl(1, 5), "bob": orl(5, 1), "door": orl(1, 3)})
    (tmp_path / "installation").symlink_to(installation.directory)
    return tmp_path


def test_the_programs_of_the_quickstart_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_photos, with_servers, with_asyncio, with_errors = blocks("quickstart.md")
    with inside(folder):
        exec(two_photos, {})
        assert capsys.readouterr().out == "True\nFalse\n"
        exec(with_servers, {})
        assert capsys.readouterr().out == "this is ada\nbest match: None\nenrolled: ['ada']\n"
        exec(with_asyncio, {"asyncio": asyncio})
        assert capsys.readouterr().out == "[True, False]\n"
        exec(with_errors, {})
        assert capsys.readouterr().out.startswith("ada: ")  # whom nobody has enrolled


def test_the_tutorial_is_true(
    installation: LocalInstallation, client: Client, orl: Orl, capsys: pytest.CaptureFixture[str]
) -> None:
    _, *steps, end = blocks("tutorial.md")
    names = {
        "client": client, "installation": installation, "staff": {"ada": [orl(1, 1)], "bob": [orl(2, 1)]},
        "photo_of_staff": orl(1, 5), "photo_of_a_stranger": orl(5, 1),
    }  # fmt: skip
    for step in steps:
        exec(step, names)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["['ada', 'bob']", "welcome, ada", "nobody we know"]
    assert lines[-1] == "ada by pair bc"
    assert end.startswith("client.erase_many(staff)")


def test_the_notebook_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((ROOT / "examples" / "first_look.ipynb").read_text())
    cells = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    with inside(folder):
        for cell in cells:
            for statement in ast.parse(cell).body:  # one by one, so that what has a value shows it
                exec(compile(ast.Interactive([statement]), "first_look.ipynb", "single"), names)
    shown = capsys.readouterr().out.splitlines()
    assert shown.count("(True, False)") == 2
    assert "pair ab shares" in "\n".join(shown)
    assert not any(cell.get("outputs") for cell in notebook["cells"])
