"""A gallery goes to a new key while it is served, over real processes; every step is one of docs/operations.md."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.test_invalid_vectors import DISHONEST, dishonest
from tests.e2e.world import (
    ENVIRONMENT,
    World,
    asked_days_ago,
    device,
    hold_ceremony,
    integers,
    near,
    running,
    settle,
    supervised,
    unit,
    veilmatch,
)
from veilmatch.client.card import Card
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.client.operations.device import Device
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import (
    ConfigurationError,
    GalleryRotatedError,
    KeyMismatchError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.installation.plan import folder_of
from veilmatch.server.matcher.change.progress import STEP_TEMPLATES

TOY = ParameterSet(modulus_bits=1024)
RNG = np.random.default_rng(71)
#: More than a pack, and more than two steps.
PEOPLE = 72
#: Who is erased during the rotation, and nobody asks for.
ERASED = 12
FACES = unit(RNG, PEOPLE, TOY.dimension)
UNDER = Consent("7f3a", "v3", int(time.time()) + 365 * 86400)
#: Whom nobody had asked for in a month when the rotation began; while it goes on, p1 is asked for.
IDLE = ("p1", "p2", "several")


#: What templates of the old installation are kept under, and since when.
TERMS: dict[str, tuple[Consent | None, datetime | None]] = {}


#: Issued under the old key, of FACES[1].
CARDS: list[Card] = []


def desk(world: World) -> Path:
    """A device that issues and presents cards."""
    return device(world, "desk", "--right=issue", "--right=present", "--lowest=0")


def key_id(directory: Path) -> bytes:
    return PublicFile.decode((directory / "public.json").read_bytes()).public_key.key_id


def configure(old: World, new: Path, *matchers: str, asked_before: int = 0) -> None:
    """Write [rotation] into the old matchers' files and restart them. asked_before: days since IDLE were asked for."""
    for matcher in matchers or ("matcher-a", "matcher-b"):
        config = old.directory / folder_of(matcher) / "matcher.toml"
        rotation = (
            f'[rotation]\npublic_key = "{new / "public.json"}"\ndata_dir = "{new / folder_of(matcher) / "data"}"\n'
        )
        config.write_text(config.read_text().split("\n[rotation]\n")[0] + "\n" + rotation)
        old.parties.stop(matcher)
        if asked_before:
            asked_days_ago(old.folder(matcher) / "data" / "gallery.db", asked_before, IDLE)
    old.restart()


class Asking(threading.Thread):
    """Verifies and searches in a loop until told to stop, and notes what was wrong."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.ended = threading.Event()
        self.asked = 0
        self.wrong: list[object] = []

    def run(self) -> None:
        rng = np.random.default_rng(72)
        with self.world.client() as client:
            while not self.ended.is_set():
                i = int(rng.choice([i for i in range(10, PEOPLE) if i != ERASED]))
                try:
                    right = client.verify_embedding(f"p{i}", FACES[i], model="toy").decision
                    wrong = client.verify_embedding(f"p{i}", FACES[i - 1], model="toy", threshold=0.9).decision
                    if not right or wrong or f"p{i}" not in client.candidates_embedding(FACES[i], model="toy").subjects:
                        self.wrong.append((i, right, wrong))
                except VeilmatchError as error:
                    self.wrong.append(error)
                self.asked += 1

    def __enter__(self) -> Asking:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation with a gallery in which everything occurs, and a second ceremony beside it."""
    directory = tmp_path_factory.mktemp("rotation")
    hold_ceremony(directory / "new", TOY)
    with running(directory / "old", TOY) as world:
        with world.client() as client:
            client.enrol_many_embeddings([(f"p{i}", face) for i, face in enumerate(FACES[10:], start=10)], model="toy")
            for i in range(4):
                client.enrol_embedding(f"p{i}", FACES[i], model="toy")
            client.enrol_embedding("several", *FACES[4:7], model="toy", consent=UNDER)
            with pytest.MonkeyPatch.context() as patch:
                dishonest(patch, DISHONEST["times 10"])
                client.enrol_many_embeddings({"eve": FACES[7], "mallory": FACES[8]}, model="toy")
        with Client(DeviceSettings.load(desk(world))) as client:
            CARDS.append(client.issue_embedding("carried", FACES[1], model="toy", days=1))
        yield world


def new_of(old: World) -> Path:
    return old.directory.parent / "new"


def cosine(t: int) -> float:
    """What the device rounds up to the threshold t."""
    return (t - 0.5) / TOY.scale**2


def assert_decisions_are_those_of_plaintext(client: Client, templates: dict[str, np.ndarray]) -> None:
    """templates: float64[n, D] of each subject."""
    rng = np.random.default_rng(73)
    names = sorted(templates)
    values = {name: integers(templates[name], TOY) for name in names}
    for i in range(6):
        probe = near(rng, templates[names[(i * 13) % len(names)]][0], [0.3, 2.1][i % 2])
        scores = {name: int((values[name] @ integers(probe, TOY)[0]).max()) for name in names}
        threshold = max(1, sorted(scores.values())[-2])
        expected = {name for name in names if scores[name] >= threshold}
        assert set(client.candidates_embedding(probe, model="toy", threshold=cosine(threshold)).subjects) == expected
        best = names[(i * 13) % len(names)]
        for t in (scores[best], scores[best] + 1):
            if 1 <= t <= TOY.threshold_max:
                assert client.verify_embedding(best, probe, model="toy", threshold=cosine(t)).decision == (
                    t <= scores[best]
                )


def test_without_a_rotation_in_the_configuration_it_is_refused(old: World) -> None:
    with old.client() as client, pytest.raises(ConfigurationError, match="no rotation is configured"):
        client.rotate(key_id(new_of(old)))


def test_a_key_that_not_both_organisations_configured_is_refused(old: World) -> None:
    with old.client() as client:
        TERMS.update({one.subject: (one.consent, one.enrolled_at) for one in client.templates()})
    configure(old, new_of(old), asked_before=31)
    with old.client() as client, pytest.raises(KeyMismatchError, match="another key than the one configured"):
        client.rotate(bytes(16))


def test_a_key_holder_that_dies_is_named_and_nothing_is_lost(old: World) -> None:
    """kill -9 between two steps. Matchers that die within one: tests/faults."""

    def kill(stage: str, converted: int, total: int) -> None:
        if converted:
            old.parties.kill("keyholder-b")

    with old.client(pairs=["ab"]) as client, pytest.raises(UnavailableError) as caught:
        client.rotate(key_id(new_of(old)), progress=kill, timeout_s=20.0)
    assert caught.value.party == "keyholder-b"
    old.restart()
    with old.client() as client:
        assert client.verify_embedding("p1", FACES[1], model="toy")
    refused = veilmatch("matcher", "--config", str(new_of(old) / folder_of("matcher-a") / "matcher.toml"))
    assert refused.returncode == 3, "the old matcher holds the data directory"


def test_a_rotation_with_the_service_running_and_changes_meanwhile(old: World) -> None:
    changed: list[int] = []

    def change(stage: str, converted: int, total: int) -> None:
        """Erase somebody who was converted, and enrol somebody new, once."""
        if not changed and converted:
            changed.append(converted)
            with old.client() as other:
                other.erase("p0")
                other.erase(f"p{ERASED}")
                other.enrol_embedding("late", FACES[9], model="toy")

    with Asking(old) as asking, old.client() as client:
        rotated = client.rotate(key_id(new_of(old)), progress=change)
    assert changed[0] > STEP_TEMPLATES, "it goes on where it stopped"
    assert asking.asked > 3 and asking.wrong == []
    assert rotated.empty == ("eve", "mallory")
    config = ["--config", str(old.device_config)]
    again = veilmatch("rotate", str(new_of(old) / "public.json"), *config, "--json")
    assert again.returncode == 0, again.stderr
    printed = json.loads(again.stdout)
    assert len(printed.pop("request_id")) == 16
    assert printed == {
        "key_id": key_id(new_of(old)).hex(), "templates": rotated.templates, "sequence": rotated.sequence,
        "empty": [],
    }  # fmt: skip


def test_the_old_gallery_still_answers_and_is_changed_no_more(old: World) -> None:
    old.parties.kill("matcher-a")
    old.restart()
    with old.client() as client:
        assert client.verify_embedding("late", FACES[9], model="toy")
        for call in (
            lambda: client.enrol_embedding("x", FACES[0], model="toy"),
            lambda: client.erase("late"),
            lambda: client.enrol_many_embeddings({"x": FACES[0]}, model="toy"),
        ):
            with pytest.raises(GalleryRotatedError):
                call()
    with Client(DeviceSettings.load(old.directory / "desk" / "device.toml")) as client:
        assert client.verify_embedding(CARDS[0], FACES[1], model="toy")
        for call in (
            lambda: client.issue_embedding("x", FACES[0], model="toy", days=1),
            lambda: client.revoke_card(CARDS[0].serial),
        ):
            with pytest.raises(GalleryRotatedError):
                call()


def keep_30_idle_days(directory: Path) -> None:
    for party in "ab":
        config = directory / folder_of(f"matcher-{party}") / "matcher.toml"
        config.write_text(config.read_text().replace("\n[", "\nretention.main.idle_days = 30\n[", 1))


def assert_a_rotation_is_no_enrolment_and_no_request(new: World) -> None:
    """Terms came along, and so did the days: who was not asked for under either key is due."""
    with new.client() as client:
        now = {one.subject: (one.consent, one.enrolled_at) for one in client.templates()}
        assert now["several"][0] == UNDER and None not in {at for _, at in now.values()}
        now.pop("late")
        assert now == {name: TERMS[name] for name in now}
    for party in "ab":
        config = str(new.folder(f"matcher-{party}") / "matcher.toml")
        shown = json.loads(veilmatch("gallery", "retention", "--names", "--json", "--config", config).stdout)
        assert set(shown["galleries"][0]["subjects"]) == {"p2", "several"}, "p1 was asked for meanwhile"
    issued = veilmatch("device", "issue", str(new.directory), "reaper", "--right", "retain", "--json")
    reaper = DeviceSettings.load(Path(json.loads(issued.stdout)["directory"]) / "device.toml")
    with Client(reaper.model_copy(update={"pairs": ["ab"]})) as client:
        # The decisions above were about "several" as well, which is noted in memory.
        assert client.retain().templates == 1
    with new.client() as client:
        assert client.templates("p2") == [] and len(client.templates("several")) == 3


def assert_cards_are_issued_anew(new: World) -> None:
    """The device sees it before it sends anything; of a device that does not look, each server refuses it."""
    with Client(DeviceSettings.load(desk(new))) as client:
        with pytest.raises(KeyMismatchError, match="under another key") as refused:
            client.verify_embedding(CARDS[0], FACES[1], model="toy")
        assert "another card" in (refused.value.hint or "")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Device, "require_own_key", lambda *_: None)
            with pytest.raises(KeyMismatchError, match="under another key"):
                client.verify_embedding(CARDS[0], FACES[1], model="toy")
        card = client.issue_embedding("carried", FACES[1], model="toy", days=1)
        assert client.verify_embedding(card, FACES[1], model="toy")


def test_the_new_installation_decides_as_plaintext_would_and_takes_changes(old: World) -> None:
    old.parties.stop()
    keep_30_idle_days(new_of(old))
    with supervised(new_of(old), ENVIRONMENT) as parties:
        parties.start()
        parties.wait_ready()
        new = World(new_of(old), TOY, parties)
        settle(new)
        people = {f"p{i}": FACES[i : i + 1] for i in range(PEOPLE) if i not in (0, 4, 5, 6, 7, 8, 9, ERASED)}
        templates = people | {"several": FACES[4:7], "late": FACES[9:10]}
        with new.client() as client:
            empty = {"eve": 1, "mallory": 1}
            assert {s.subject: s.templates for s in client.subjects()} == {
                n: len(t) for n, t in templates.items()
            } | empty
            for name, face in (("eve", FACES[7]), ("mallory", FACES[8])):
                assert not client.verify_embedding(name, face, model="toy", threshold=cosine(1))
                assert client.erase(name).templates == 1
            assert_decisions_are_those_of_plaintext(client, templates)
        assert_a_rotation_is_no_enrolment_and_no_request(new)
        assert_cards_are_issued_anew(new)
        with new.client() as client:
            assert client.erase("p20").templates == 1
            client.enrol_embedding("new", FACES[0], model="toy")
            assert client.erase("several").templates == 3
            for name in ("several", "p2", "p20"):
                del templates[name]
            assert_decisions_are_those_of_plaintext(client, templates | {"new": FACES[:1]})
