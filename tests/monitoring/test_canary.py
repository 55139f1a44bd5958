"""The canary: right while all is well, and it says which pair is not; its device can do nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import ENVIRONMENT, MATCHERS, World, hold_ceremony, settle, stopped, supervised, veilmatch
from tests.monitoring.conftest import TOY
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.client.operations import canary
from veilmatch.crypto.errors import DeviceRightsError

DIMENSION = TOY.dimension


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation with a gallery for canaries, which a device may verify in and another one may fill."""
    directory = tmp_path_factory.mktemp("canary") / "installation"
    hold_ceremony(directory, TOY)
    for name in MATCHERS:
        config = directory / f"organisation-{name[-1]}" / "matcher" / "matcher.toml"
        config.write_text(config.read_text().replace('galleries = ["main"]', 'galleries = ["main", "canary"]'))
    for device, right in (("canary", "verify"), ("keeper", "enrol")):
        done = veilmatch("device", "issue", str(directory), device, "--right", right, "--gallery", "canary")
        assert done.returncode == 0, done.stderr
        own = directory / device / "device.toml"
        own.write_text('gallery = "canary"\ntimeout_s = 60.0\n' + own.read_text())
    with supervised(directory, ENVIRONMENT) as parties:
        parties.start()
        parties.wait_ready()
        made = World(directory, TOY, parties)
        settle(made)
        done = veilmatch("canary", "--enrol", "--config", str(directory / "keeper" / "device.toml"), "--json")
        assert (done.returncode, json.loads(done.stdout)) == (0, {"canaries": canary.CANARIES}), done.stderr
        with Client(DeviceSettings.load(directory / "keeper" / "device.toml")) as keeper:
            before = keeper.enrol_embedding("somebody", np.ones(DIMENSION), model=canary.MODEL).sequence
        # Again: nothing is added.
        veilmatch("canary", "--enrol", "--config", str(directory / "keeper" / "device.toml"))
        with Client(DeviceSettings.load(directory / "keeper" / "device.toml")) as keeper:
            assert keeper.enrol_embedding("somebody", np.ones(DIMENSION), model=canary.MODEL).sequence == before + 1
        yield made


def ask(world: World, *options: str) -> tuple[int, dict[str, dict[str, object]]]:
    done = veilmatch("canary", "--config", str(world.directory / "canary" / "device.toml"), "--json", *options)
    return done.returncode, json.loads(done.stdout)["pairs"]


def test_all_pairs_are_right_and_the_metrics_say_so(guarded: World, tmp_path: Path) -> None:
    file = tmp_path / "canary.prom"
    code, pairs = ask(guarded, "--textfile", str(file))
    assert code == 0 and all(pair["right"] for pair in pairs.values()) and set(pairs) == {"ab", "ac", "bc"}
    text = file.read_text()
    assert text.count("veilmatch_canary_right{") == 3 == text.count("} 1\n")
    assert [one.name for one in tmp_path.iterdir()] == ["canary.prom"]


def test_a_missing_organisation_fails_its_pairs_alone(guarded: World, tmp_path: Path) -> None:
    file = tmp_path / "canary.prom"
    with stopped(guarded, "keyholder-c"):
        code, pairs = ask(guarded, "--textfile", str(file))
    assert code == 6
    assert {pair for pair, one in pairs.items() if one["right"]} == {"ab"}
    assert 'veilmatch_canary_right{pair="ab"} 1' in file.read_text()
    assert 'veilmatch_canary_right{pair="bc"} 0' in file.read_text()


def test_its_device_may_do_nothing_else(guarded: World) -> None:
    settings = DeviceSettings.load(guarded.directory / "canary" / "device.toml")
    vector = canary.vector_of(0, DIMENSION)
    # Refused by the servers, whatever the device takes itself to be allowed.
    alone = settings.model_copy(update={"certificate": None})
    with Client(alone) as client:
        with pytest.raises(DeviceRightsError):
            client.candidates_embedding(vector, model=canary.MODEL)
        with pytest.raises(DeviceRightsError):
            client.enrol_embedding("another", vector, model=canary.MODEL)
        with pytest.raises(DeviceRightsError):
            client.subjects()
    with Client(alone.model_copy(update={"gallery": "main"})) as client, pytest.raises(DeviceRightsError):
        client.verify_embedding("canary-00", vector, model=canary.MODEL)


def test_it_refuses_to_ask_among_people(guarded: World) -> None:
    done = veilmatch("canary", "--config", str(guarded.device_config), "--json")
    assert done.returncode == 3 and "gallery of their own" in json.loads(done.stdout)["error"]["message"]


def test_a_wrong_answer_is_found(guarded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shown another face than was enrolled: as if the servers had answered wrongly."""
    settings = DeviceSettings.load(guarded.directory / "canary" / "device.toml")
    monkeypatch.setattr(canary, "vector_of", lambda number, dimension: np.ones(dimension))
    runs = canary.run_canary(settings)
    assert [run.error.code for run in runs if run.error is not None] == ["integrity"] * 3


def test_canaries_are_no_likeness_of_each_other_and_take_turns() -> None:
    vectors = np.array([canary.vector_of(number, 128) for number in range(canary.CANARIES)])
    likeness = vectors @ vectors.T - np.eye(len(vectors))
    assert np.abs(likeness).max() < 0.39 and np.allclose(np.linalg.norm(vectors, axis=1), 1)
    # Thirty days of four runs an hour, each with two questions to each of two pairs at every matcher.
    asked = [canary.number_at(900.0 * run) for run in range(30 * 96)]
    assert max(4 * asked.count(number) for number in set(asked)) <= 500
    assert max(4 * asked[:96].count(number) for number in set(asked)) <= 60
