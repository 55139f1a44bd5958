"""Budgets and audit logs over real processes: what a device is told, and what the key holders can show afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
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
from veilmatch.client.results import Budgets
from veilmatch.crypto.errors import BudgetExceededError, UnavailableError
from veilmatch.crypto.parameters import ParameterSet

#: Bits are counted, and never used up.
SEARCHES, VERIFICATIONS, BITS = 3, 4, 1000


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation in which a device gets a few searches, and a subject a few verifications, a day."""
    directory, parameters = tmp_path_factory.mktemp("limited") / "installation", ParameterSet(modulus_bits=1024)
    hold_ceremony(directory, parameters, 3)
    for party in KEY_HOLDERS:
        set_budgets(
            directory, party, device_searches={"day": SEARCHES}, device_bits={"day": BITS}, gallery_bits={"day": BITS}
        )
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


def test_a_device_is_told_what_is_left_of_its_own_budgets_by_pair(limited: World) -> None:
    """After the test above: three searches of a day are used at a and b, and as many requests at least."""
    with limited.client() as client:
        before, again = client.budgets(), client.budgets()
    assert lefts(before) == lefts(again), "to ask uses up nothing"
    second = DeviceSettings.load(limited.directory / "device-2" / "device.toml")
    with Client(second) as other:
        theirs = other.budgets()
    assert set(before.pairs) == {"ab", "ac", "bc"} and not before.missing
    for pair, left in {"ab": 0, "ac": 0, "bc": 0}.items():
        searches, bits = before.pairs[pair]  # type: ignore[index]
        assert (bits.measure, bits.limit) == ("bits", BITS)
        assert (searches.measure, searches.window, searches.limit) == ("searches", "day", SEARCHES)
        assert searches.left == left and 0 < searches.eases_s <= 86_400 * 61 / 60
    # What b refused of pair bc, c may have counted before it heard of that.
    assert before.organisations["c"][0].left >= SEARCHES - 1
    assert theirs.pairs["ab"][0].left == SEARCHES - 1, "device-2 has searched once"


def lefts(found: Budgets) -> dict[str, list[int]]:
    """How much is left, without the waits: they grow shorter while one looks."""
    return {pair: [one.left for one in budgets] for pair, budgets in found.pairs.items()}


def test_one_organisation_that_is_down_is_said_and_stands_in_nobodys_way(limited: World) -> None:
    config = ["--config", str(limited.device_config)]
    limited.parties.kill("keyholder-c")
    try:
        with limited.client() as client:
            found = client.budgets()
        assert set(found.pairs) == {"ab"} and set(found.missing) == {"c"}
        assert isinstance(found.missing["c"], UnavailableError) and found.missing["c"].party == "keyholder-c"
        shown = veilmatch("budgets", *config)
        assert shown.returncode == 0 and "searches in a day" in shown.stdout and "organisation c" in shown.stderr
        document = json.loads(veilmatch("budgets", *config, "--json").stdout)
        assert document["pairs"]["ab"][0]["left"] == 0 and document["missing"]["c"]["code"] == "unavailable"
    finally:
        limited.restart()


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


def test_a_search_uses_up_the_bits_of_its_answer_as_matchers_announce_it(limited: World) -> None:
    """After those above, in a gallery of seven: known and enrol unless known are one bit, and views change nothing."""
    faces = unit(np.random.default_rng(3), 8, limited.parameters.dimension)
    with limited.client(pairs=["ab"]) as client:
        for entry in client.subjects():
            client.erase(entry.subject)
        client.enrol_many_embeddings([(f"p{i}", face) for i, face in enumerate(faces[:7])], model="toy")
    questions: list[tuple[int, int, Callable[[Client], object], object]] = [
        (2, 1, lambda device: device.known_embedding(faces[0], model="toy").decision, True),
        (2, 1, lambda device: device.known_embedding(faces[7], views=[faces[1]], model="toy").decision, True),
        (3, 1, lambda device: device.enrol_embedding("new", faces[2], unless_known=True, model="toy").known, True),
        (3, 1, lambda device: device.enrol_embedding("new", faces[7], unless_known=True, model="toy").known, False),
        # The one that was new is the eighth template.
        (3, 8, lambda device: set(device.candidates_embedding(faces[1], views=[faces[7]], model="toy")), {"p1", "new"}),
    ]
    for number, bits, ask, expected in questions:
        settings = DeviceSettings.load(limited.directory / f"device-{number}" / "device.toml")
        with Client(settings.model_copy(update={"pairs": ["ab"]})) as device:
            before = left(device)
            assert ask(device) == expected
            assert {pair: before[pair] - now for pair, now in left(device).items()} == {"ab": bits}


def left(device: Client) -> dict[str, int]:
    """How many answer bits a device has left, by pair."""
    found = device.budgets().pairs.items()
    return {pair: one.left for pair, budgets in found for one in budgets if one.measure == "bits"}
