"""Budgets and audit logs over real processes: what a device is told, and what the key holders can show afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.e2e.world import (
    ENVIRONMENT,
    KEY_HOLDERS,
    World,
    hold_ceremony,
    set_budgets,
    settle,
    supervised,
    unit,
    veilmatch,
)
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.errors import BudgetExceededError
from veilmatch.crypto.parameters import ParameterSet

SEARCHES, VERIFICATIONS = 3, 4


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation in which a device gets a few searches, and a subject a few verifications, a day."""
    directory, parameters = tmp_path_factory.mktemp("limited") / "installation", ParameterSet(modulus_bits=1024)
    hold_ceremony(directory, parameters, 2)
    for party in KEY_HOLDERS:
        set_budgets(directory, party, device_searches={"day": SEARCHES})
    for party in ("matcher-a", "matcher-b"):
        set_budgets(directory, party, subject_requests={"day": VERIFICATIONS})
    with supervised(directory, ENVIRONMENT) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory, parameters, parties)
        settle(world)
        yield world


def audit(*arguments: str) -> tuple[int, Any]:
    done = veilmatch("audit", *arguments, "--json")
    return done.returncode, json.loads(done.stdout)


def data(world: World, party: str) -> str:
    return str(world.folder(party) / "data")


def test_a_used_up_budget_reaches_the_device_with_the_time_to_wait_and_outlives_a_kill(limited: World) -> None:
    faces = unit(np.random.default_rng(1), 2, limited.parameters.dimension)
    with limited.client() as client:
        client.enrol_embedding("ada", faces[0], model="toy")
        for _ in range(SEARCHES):
            assert client.candidates_embedding(faces[0], model="toy").subjects == ("ada",)
        for killed in (False, True):
            if killed:
                limited.parties.kill("keyholder-a")
                limited.parties.kill("keyholder-b")
                limited.restart()
            with pytest.raises(BudgetExceededError) as caught:
                client.candidates_embedding(faces[0], model="toy")
            assert (caught.value.budget, caught.value.limit) == ("searches of a device in a day", SEARCHES)
            assert caught.value.retry_after_s is not None
            assert 86_000 < caught.value.retry_after_s <= 86_400 * 61 / 60
        # A pair with the third key holder has one holder that has counted nothing so far, and one that has.
        with limited.client(pairs=["bc"]) as other, pytest.raises(BudgetExceededError):
            other.candidates_embedding(faces[0], model="toy")
        # Another device, and other requests of this one, have budgets of their own.
        assert client.verify_embedding("ada", faces[0], model="toy")
    config = limited.directory / "device-2" / "device.toml"
    with Client(DeviceSettings.load(config)) as second:
        assert second.candidates_embedding(faces[0], model="toy").subjects == ("ada",)


def test_a_subject_has_a_budget_over_all_devices_that_matchers_hold(limited: World) -> None:
    faces = unit(np.random.default_rng(2), 2, limited.parameters.dimension)
    second = DeviceSettings.load(limited.directory / "device-2" / "device.toml")
    with limited.client() as client, Client(second) as other:
        client.enrol_embedding("bob", faces[0], model="toy")
        client.enrol_embedding("eve", faces[1], model="toy")
        for i in range(VERIFICATIONS):
            assert (client, other)[i % 2].verify_embedding("bob", faces[0], model="toy")
        for device in (client, other):
            with pytest.raises(BudgetExceededError, match="used up") as caught:
                device.verify_embedding("bob", faces[0], model="toy")
            assert caught.value.budget == "requests of a subject in a day"
        assert client.verify_embedding("eve", faces[1], model="toy")


def test_the_command_line_ends_with_status_9(limited: World, orl) -> None:  # type: ignore[no-untyped-def]
    config = ["--config", str(limited.directory / "device-1" / "device.toml"), "--json"]
    with limited.client() as client:
        for entry in client.subjects():  # embeddings, with which no photo can be compared
            client.erase(entry.subject)
    assert veilmatch("enrol", *config, "zoe", str(orl(1, 1))).returncode == 0
    for _ in range(SEARCHES + 1):
        done = veilmatch("candidates", *config, str(orl(1, 5)))
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"], error["limit"], error["exit_status"]) == (9, "budget_exceeded", SEARCHES, 9)
    assert error["retry_after_s"] > 0 and "Try again in" in error["hint"]


def test_the_logs_of_both_key_holders_are_intact_and_tell_of_the_same_sessions(limited: World) -> None:
    status, document = audit("verify", data(limited, "keyholder-a"), "--against", data(limited, "keyholder-b"))
    assert status == 0, document
    assert document["comparison"]["common"] >= SEARCHES and document["comparison"]["differences"] == []
    _, shown = audit("show", data(limited, "keyholder-a"), "--operation", "candidates", "--last", "1000")
    refused = [entry for entry in shown["entries"] if entry["event"] == "refused"]
    served = [entry for entry in shown["entries"] if entry["event"] == "session"]
    assert {entry["code"] for entry in refused} == {"budget_exceeded"}
    assert [entry["device"] for entry in served].count("device-1") <= SEARCHES
    assert all(entry["output_bits"] >= 1 for entry in served)
    _, opened = audit("show", data(limited, "keyholder-a"), "--event", "open")
    assert len(opened["entries"]) == 2
