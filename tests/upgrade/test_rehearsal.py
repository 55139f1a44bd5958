"""An upgrade as operators do it: the previous release's daemons replaced one by one, while devices go on.

Every answer has to be the one that plain integers give, with whoever speaks which version; at the end one daemon is
of a release that nobody here understands.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from tests.e2e.world import ENVIRONMENT, EVERYBODY, World, by, device, hold_ceremony, integers, near, unit, veilmatch
from tests.hooks import starting_with
from tests.nursery import Nursery, nursery
from tests.upgrade.device import WORK_VARIABLE
from tests.upgrade.previous import installed
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.client.wire.connection import Connection
from veilmatch.crypto.errors import UnavailableError, UnknownSubjectError, VersionError
from veilmatch.crypto.keys.parties import pairs_of
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.installation.plan import config_of
from veilmatch.server.supervisor import Process, Supervisor

TOY = ParameterSet(modulus_bits=1024)
#: Each daemon once, so that every two that speak with each other are of both releases, either way round.
ORDER = ("keyholder-a", "matcher-a", "matcher-b", "keyholder-b", "keyholder-c", "matcher-c")


@dataclass
class Upgrade:
    """The installation, and of which release each daemon is that is started."""

    folder: Path
    earlier: Nursery
    world: World = field(init=False)
    at_previous: set[str] = field(default_factory=lambda: set(EVERYBODY))
    later: set[str] = field(default_factory=set)

    def launch(self, words: Any, given: Any, log: Any) -> Process:
        config = Path(words[-1])
        party = next(one for one in EVERYBODY if config_of(self.folder, one) == config)
        if party in self.at_previous:
            more = {"PYTHONPATH": str(installed()), **starting_with("tests.upgrade.first")}
            return self.earlier.fork(words, {**given, **more}, log, log)
        more = starting_with("tests.upgrade.later") if party in self.later else {}
        return nursery().fork(words, {**given, **more}, log, log)

    def restart(self, party: str) -> None:
        self.world.parties.stop(party)
        self.world.restart()

    def earlier_device(self, pair: str, *calls: tuple[str, list[Any], dict[str, Any]]) -> list[Any]:
        """Return what a device of the previous release gets from these calls."""
        work = json.dumps({"config": str(self.world.device_config), "pair": pair, "calls": calls})
        more = {WORK_VARIABLE: work, "PYTHONPATH": str(installed()), **starting_with("tests.upgrade.device")}
        with tempfile.TemporaryFile() as out:
            process = self.earlier.fork([], {**os.environ, **more}, out, out)
            status = process.wait(60)
            out.seek(0)
            text = out.read().decode()
        assert status == 0, text
        return json.loads(text.splitlines()[-1])  # type: ignore[no-any-return]  # what it warned of is before


@pytest.fixture(scope="module")
def upgrade(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrade]:
    """An installation of the previous release that serves."""
    folder = tmp_path_factory.mktemp("upgrade") / "installation"
    made = Upgrade(folder, Nursery(PYTHONPATH=str(installed())))
    try:
        # By the previous release: certificates of devices of this one may have rights that it does not know.
        hold_ceremony(folder, TOY, run=partial(by, made.earlier, PYTHONPATH=str(installed())))
        # Of budgets those that it knows, as it would have been told them.
        for party in EVERYBODY:
            config = config_of(folder, party)
            config.write_text(config.read_text().replace("card_requests = {}\n", ""))
        with Supervisor(folder, ENVIRONMENT, launch=made.launch) as parties:
            made.world = World(folder, TOY, parties)
            made.world.restart()
            yield made
    finally:
        made.earlier.end()


class People:
    """Who is enrolled, and the answers that plain integers give."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(48)
        self.faces: dict[str, np.ndarray] = {}
        self.count = 0

    def new(self) -> tuple[str, np.ndarray]:
        self.count += 1
        return f"person {self.count}", unit(self.rng, 1, TOY.dimension)[0]

    def edge(self) -> tuple[str, np.ndarray, int]:
        """Somebody, a probe of theirs, and the score, which is the best of all."""
        name = str(self.rng.choice(sorted(self.faces)))
        probe = near(self.rng, self.faces[name], 0.4)
        scores = {one: int(integers(face, TOY)[0] @ integers(probe, TOY)[0]) for one, face in self.faces.items()}
        assert max(scores, key=scores.__getitem__) == name
        return name, probe, scores[name]


def at(t: int) -> float:
    """Return the threshold as a cosine that stands for this one."""
    return (t - 0.5) / TOY.scale**2


def check_queries(client: Client, people: People) -> None:
    """Verify and identify at the edge of what matches, and one above it."""
    subject, probe, score = people.edge()
    for t in (score, score + 1):
        assert client.verify_embedding(subject, probe, model="toy", threshold=at(t)).decision is (t == score)
        found = client.identify_embedding(probe, model="toy", threshold=at(t))
        assert (found.subject, found.compared) == (subject if t == score else None, len(people.faces))


def check(world: World, pair: str, people: People) -> None:
    """Enrol, verify, identify and erase with one pair."""
    with world.client(pairs=(pair,)) as client:
        name, face = people.new()
        client.enrol_embedding(name, face, model="toy")
        people.faces[name] = face
        check_queries(client, people)
        gone = sorted(people.faces)[0]
        assert client.erase(gone).templates == 1
        del people.faces[gone]
        with pytest.raises(UnknownSubjectError):
            client.verify_embedding(gone, face, model="toy")
        assert {one.subject for one in client.subjects()} == set(people.faces)


def check_earlier_device(upgrade: Upgrade, pair: str, people: People) -> None:
    """The same in short, with a device of the previous release."""
    (name, face), model = people.new(), {"model": "toy"}
    people.faces[name] = face
    subject, probe, score = people.edge()
    gone = min(people.faces)
    found = upgrade.earlier_device(
        pair,
        ("enrol_embedding", [name, face.tolist()], model),
        ("verify_embedding", [subject, probe.tolist()], model | {"threshold": at(score)}),
        ("verify_embedding", [subject, probe.tolist()], model | {"threshold": at(score + 1)}),
        ("identify_embedding", [probe.tolist()], model | {"threshold": at(score)}),
        ("erase", [gone], {}),
    )
    assert found[1:] == [True, False, subject, 1]
    del people.faces[gone]


def check_new_questions(world: World, people: People, behind: str | None) -> None:
    """Cards, several views, and enrolling unless known, with ab, where c is not through: the device does not ask.

    behind: the key holder whose matcher says so, if a device asks all the same; None: the pair serves it.
    """
    name, probe, score = people.edge()
    stranger = -people.faces[name]

    async def asked_all_the_same(*_: object) -> None:
        return None

    with world.client(pairs=("ab",)) as client:
        questions = [
            lambda: client.known_embedding(stranger, model="toy", views=[probe], threshold=at(score)).decision,
            lambda: client.verify_embedding(name, stranger, model="toy", views=[probe], threshold=at(score)).decision,
            lambda: client.enrol_embedding("new", probe, model="toy", unless_known=True, threshold=at(score)).known,
        ]
        for question in questions:
            with pytest.raises(VersionError, match="matcher-c has to be updated"):
                question()
            with patch.object(Connection, "require", asked_all_the_same):
                if behind is None:
                    assert question() is True
                    continue
                with pytest.raises(VersionError, match=f"{behind} has to be updated"):
                    question()
    with Client(cards_desk(world, ("ab",))) as desk:
        with pytest.raises(VersionError, match="matcher-c has to be updated"):
            desk.issue_embedding("carried", probe, model="toy", days=1)
        # If the pair can do it nobody may: the third one could not follow a log with a card in it.
        if behind is not None:
            with (
                patch.object(Connection, "require", asked_all_the_same),
                pytest.raises(VersionError, match=f"{behind} has to be updated"),
            ):
                desk.issue_embedding("carried", probe, model="toy", days=1)


def check_cards(world: World, people: People) -> None:
    """Issued and presented, when all are through."""
    name, probe, score = people.edge()
    with Client(cards_desk(world, ("bc",))) as desk:
        card = desk.issue_embedding("carried", people.faces[name], model="toy", days=1)
        for t in (score, score + 1):
            assert desk.verify_embedding(card, probe, model="toy", threshold=at(t)).decision is (t == score)


def cards_desk(world: World, pairs: tuple[str, ...]) -> DeviceSettings:
    """A device for cards, with a certificate of this release: rights that the previous one does not know."""
    config = world.directory / "desk" / "device.toml"
    if not config.exists():
        assert device(world, "desk", "--right=issue", "--right=present", "--lowest=0") == config
    return DeviceSettings.load(config).model_copy(update={"pairs": pairs})


def status(upgrade: Upgrade, party: str) -> tuple[int, dict[str, Any]]:
    done = veilmatch("status", "--config", str(upgrade.world.parties.config(party)), "--json")
    return done.returncode, json.loads(done.stdout)


def heard_of(upgrade: Upgrade, party: str, other: str, timeout_s: float = 30.0) -> None:
    """Return once a party knows what another one speaks that was started anew."""
    deadline = time.monotonic() + timeout_s
    while "speaks" not in (told := status(upgrade, party)[1]["servers"])[other]:
        assert time.monotonic() < deadline, told
        time.sleep(0.2)


def refused(client: Client, face: np.ndarray, timeout_s: float = 30.0) -> None:
    """Ask until a server refuses what another one speaks: those who knew it before reach it each in their own time."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            client.identify_embedding(face, model="toy")
        except VersionError:
            raise
        except UnavailableError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def well(upgrade: Upgrade, party: str, timeout_s: float = 30.0) -> tuple[int, dict[str, Any]]:
    """Return the first status without troubles, the last one of all if there is none in time.

    Daemons that find one that was started anew reach it again by themselves, each in its own time.
    """
    deadline = time.monotonic() + timeout_s
    while (told := status(upgrade, party))[0] and time.monotonic() < deadline:
        time.sleep(0.2)
    return told


@pytest.mark.timeout(900)  # seven starts in a row, each waits for stock
def test_daemons_are_replaced_one_by_one_and_every_answer_is_exact(upgrade: Upgrade) -> None:
    people, world = People(), upgrade.world
    for pair in ("ab", "ac"):  # servers of before, a device of now
        name, face = people.new()
        people.faces[name] = face
        with world.client(pairs=(pair,)) as client:
            client.enrol_embedding(name, face, model="toy")
    check(world, "bc", people)
    for party in ORDER:
        upgrade.at_previous.discard(party)
        upgrade.restart(party)
        whole, other = pairs_of(party[-1])  # type: ignore[arg-type]
        check(world, whole, people)
        with world.client(pairs=(other,)) as client:
            check_queries(client, people)
        if party in ("matcher-b", "keyholder-b"):
            check_new_questions(world, people, "keyholder-b" if party == "matcher-b" else None)
        if party == "keyholder-b":  # organisations a and b are through, c is not
            check_earlier_device(upgrade, "ac", people)
            told = status(upgrade, "matcher-a")[1]
            assert {name: one["speaks"]["newest"] for name, one in told["servers"].items()} == {
                "matcher-a": 2, "matcher-b": 2, "matcher-c": 1
            }  # fmt: skip
            assert "not spoken by matcher-c" in told["versions"]
    check_earlier_device(upgrade, "bc", people)
    check_cards(world, people)
    code, told = well(upgrade, "keyholder-c")
    assert (code, told["level"], told["troubles"]) == (0, "all", [])
    assert "the next upgrade may begin" in told["versions"]


def test_a_release_too_far_ahead_is_refused_in_words_and_the_other_pair_serves(upgrade: Upgrade) -> None:
    world = upgrade.world
    face = unit(np.random.default_rng(49), 1, TOY.dimension)[0]
    with world.client(pairs=("ab",)) as client:
        client.enrol_embedding("ada", face, model="toy")
    for party in upgrade.at_previous | {"keyholder-b"}:
        world.parties.stop(party)
    upgrade.at_previous, upgrade.later = set(), {"keyholder-b"}
    world.parties.start()
    world.parties.wait_ready()
    heard_of(upgrade, "keyholder-a", "keyholder-b")
    with world.client(pairs=("ab",)) as client, pytest.raises(VersionError) as caught:
        refused(client, face)
    # Whoever of its neighbours says so first.
    assert caught.value.party in ("matcher-b", "keyholder-a")
    assert f"{caught.value.party} has to be updated" in str(caught.value)
    assert "versions 1 and 2" in str(caught.value) and "versions 3 and 4" in str(caught.value)
    assert caught.value.alternatives == ("ac",)
    with world.client(pairs=("ab", "ac")) as client:
        found = client.identify_embedding(face, model="toy")
    assert (found.subject, found.pair) == ("ada", "ac")
    code, told = status(upgrade, "keyholder-a")
    assert code == 6 and told["servers"]["keyholder-b"]["speaks"]["oldest"] == 3
    assert any(one["party"] == "keyholder-a" and "pair ab is not served" in one["what"] for one in told["troubles"]), (
        told
    )
