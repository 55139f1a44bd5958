"""Enrolling again, after a success, a time-out that hid one, or an erasure: each photo is in the gallery once."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import World, unit, veilmatch
from veilmatch.client.models import fixture_photos, install_models, install_photos
from veilmatch.crypto.errors import UnavailableError, UnknownSubjectError


@pytest.fixture(scope="module")
def photos() -> list[Path]:
    install_models()
    install_photos()
    return [photo.path for photo in fixture_photos() if photo.whole_face][:3]


@contextmanager
def locked(world: World, matcher: str) -> Iterator[None]:
    """Another program writes to the matcher's database and does not end."""
    path = world.folder(matcher) / "data" / "gallery.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def command(world: World, *arguments: object) -> tuple[int, dict[str, object]]:
    done = veilmatch(*map(str, arguments), "--config", str(world.device_config), "--json")
    return done.returncode, json.loads(done.stdout)


def test_the_command_line_enrols_a_photo_once_until_it_is_erased(world: World, photos: list[Path]) -> None:
    enrol = ("enrol", "ada", *photos[:2])
    counts = [command(world, *arguments) for arguments in (enrol, enrol, ("enrol", "ada", photos[1], photos[2]))]
    assert [(status, found["templates"], found["repeated"]) for status, found in counts] == [
        (0, 2, 0),
        (0, 2, 2),
        (0, 2, 1),
    ]
    assert command(world, "subjects")[1]["subjects"] == [{"subject": "ada", "templates": 3}]
    assert command(world, *enrol, "--again")[1]["repeated"] == 0
    assert command(world, "erase", "ada")[1]["templates"] == 5
    for repeated in (0, 2):  # not what was enrolled and erased counts, but what is there
        assert command(world, *enrol)[1]["repeated"] == repeated
    assert command(world, "erase", "ada")[1]["templates"] == 2


def test_a_folder_is_enrolled_once(world: World, photos: list[Path], tmp_path: Path) -> None:
    for name, photo in zip(("ada", "bob"), photos, strict=False):
        (tmp_path / f"{name}.jpg").write_bytes(photo.read_bytes())
    for repeated in (0, 2):
        status, found = command(world, "enrol", "--folder", tmp_path)
        assert (status, found["templates"], found["repeated"]) == (0, 2, repeated)
    command(world, "erase", "bob")
    assert command(world, "enrol", "--folder", tmp_path)[1]["repeated"] == 2, "ada is still there"
    command(world, "erase", "ada")
    assert command(world, "enrol", "--folder", tmp_path)[1]["repeated"] == 0
    for name in ("ada", "bob"):
        command(world, "erase", name)


@pytest.mark.parametrize("matcher", ["matcher-a", "matcher-b"])
def test_a_locked_database_is_blamed_on_its_matcher_and_the_enrolment_can_be_repeated(
    world: World, matcher: str
) -> None:
    face, token = unit(np.random.default_rng(31), 1, world.parameters.dimension)[0], b"enrolling again!"
    if matcher == "matcher-b":
        token = token[::-1]
    with world.client(pairs=["ab"]) as client:
        with locked(world, matcher), pytest.raises(UnavailableError) as caught:
            started = time.monotonic()
            client.enrol_embedding("ada", face, model="toy", token=token)
        assert (caught.value.party, time.monotonic() - started < 14) == (matcher, True)
        client.enrol_embedding("ada", face, model="toy", token=token)
        assert [(entry.subject, entry.templates) for entry in client.subjects()] == [("ada", 1)]
        client.erase("ada")


def test_a_retry_at_another_pair_is_answered_from_the_log_and_says_whether_the_vector_was_valid(world: World) -> None:
    face = unit(np.random.default_rng(33), 1, world.parameters.dimension)[0]
    tokens = [f"retried at {pair}      "[:16].encode() for pair in ("ab", "ac", "bc")]
    for first, token in zip(("ab", "ac", "bc"), tokens, strict=True):
        with world.client(pairs=[first]) as client:
            done = client.enrol_embedding("ada", face, model="toy", token=token)
            assert (done.templates, done.repeated) == (1, 0)
        for other in ("ab", "ac", "bc"):
            with world.client(pairs=[other]) as client:
                again = client.enrol_embedding("ada", face, model="toy", token=token)
                assert (again.templates, again.repeated, again.sequence) == (1, 1, done.sequence), (first, other)
    with world.client(pairs=["bc"]) as client:
        client.erase("ada")
        with pytest.raises(UnknownSubjectError):
            client.erase("ada")


def test_an_unknown_subject_is_named(world: World) -> None:
    face = unit(np.random.default_rng(32), 1, world.parameters.dimension)[0]
    with world.client() as client:
        for ask in (
            lambda: client.verify_embedding("nobody-here", face, model="toy"),
            lambda: client.erase("nobody-here"),
        ):
            with pytest.raises(UnknownSubjectError, match="nobody-here"):
                ask()
