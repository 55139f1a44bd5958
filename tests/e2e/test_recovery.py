"""A key holder's machine is lost: real processes give a fresh one a share, one is killed, and all pairs answer as plain
integers do. What the lost machine had is refused, and named, when it comes back."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.recovering import all_begun
from tests.e2e.world import KEY_HOLDERS, World, device, integers, near, running, unit, veilmatch
from tests.installation.making import PARAMETERS
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.errors import KeyMismatchError
from veilmatch.crypto.keys.parties import PAIRS
from veilmatch.server.keyholder.audit.check import entries_of

PEOPLE = unit(np.random.default_rng(44), 4, PARAMETERS.dimension)
PROBE = near(np.random.default_rng(45), PEOPLE[1], 0.5)


def fresh_machine(world: World, scratch: Path) -> None:
    """What organisation c makes elsewhere, of its matcher's folder and its authority, and of the old configuration."""
    lost, fresh = scratch / "lost", world.folder("keyholder-c")
    fresh.rename(lost)
    done = veilmatch(
        "keyholder", "fresh", str(fresh), "--matcher", str(world.folder("matcher-c") / "matcher.toml"),
        "--installation", str(world.directory), "--config", str(lost / "keyholder.toml"), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["party"] == "keyholder-c"
    assert not (fresh / "share.key").exists() and not any((fresh / "data").iterdir())


def test_a_fresh_machine_takes_the_place_of_a_lost_key_holder(tmp_path: Path) -> None:
    with running(tmp_path / "installation", PARAMETERS) as world:
        with world.client() as client:
            for i, person in enumerate(PEOPLE):
                client.enrol_embedding(f"person-{i}", person, model="toy")
        desk = DeviceSettings.load(device(world, "desk", "--right=issue", "--right=present", "--lowest=0"))
        with Client(desk.model_copy(update={"pairs": ["ac"]})) as client:
            card = client.issue_embedding("carried", PEOPLE[1], model="toy", days=1)
        for party in KEY_HOLDERS:
            world.parties.stop(party)
        fresh_machine(world, tmp_path)

        recovering = all_begun(world)
        recovering["keyholder-b"].wait_for("step", "writing")
        os.kill(recovering["keyholder-b"].process.pid, signal.SIGKILL)
        assert recovering["keyholder-b"].process.wait(60) == -signal.SIGKILL
        statuses = {recovering[party].ended()[0] for party in ("keyholder-a", "keyholder-c")}
        assert statuses <= {0, 6}

        recovering = all_begun(world)
        done = {party: one.ended() for party, one in recovering.items()}
        assert all(status == 0 and not document["unconfirmed"] for status, document in done.values()), done
        assert len({(document["epoch"], document["transcript"]) for _, document in done.values()}) == 1
        epoch = done["keyholder-a"][1]["epoch"]
        for party in KEY_HOLDERS:
            names = {path.name for path in world.folder(party).iterdir()}
            assert {name for name in names if name.startswith(("share", "recovery"))} == {"share.key", "recovery.json"}
            noted = [e.fields for e in entries_of(world.folder(party) / "data") if e.fields["event"] == "recovery"]
            assert [(one["epoch"], one["lost"]) for one in noted][-1] == (epoch, "keyholder-c")

        world.restart()
        assert all_pairs_match(world)
        # A card that the lost machine helped to issue: the key is the same.
        for pair in PAIRS:
            with Client(desk.model_copy(update={"pairs": [pair]})) as client:
                assert client.verify_embedding(card, PROBE, model="toy")
                assert not client.verify_embedding(card, PEOPLE[2], model="toy", threshold=0.9)

        # The lost machine comes back, with its stock, its share and its certificate.
        world.parties.stop("keyholder-c")
        world.folder("keyholder-c").rename(tmp_path / "fresh")
        (tmp_path / "lost").rename(world.folder("keyholder-c"))
        world.parties.start()
        world.parties.wait_ready()
        for pair in ("ac", "bc"):
            with (
                world.client(pairs=[pair]) as client,
                pytest.raises(KeyMismatchError, match="different epochs") as seen,
            ):
                client.candidates_embedding(PROBE, model="toy")
            assert "epoch 1 at keyholder-c" in str(seen.value) and f"epoch {epoch}" in str(seen.value)
        a, b = (str(world.folder(f"keyholder-{party}") / "data") for party in "ab")
        assert veilmatch("audit", "verify", a, "--against", b).returncode == 0


def all_pairs_match(world: World) -> bool:
    """Whether each pair answers as plain integers do."""
    templates, (vector,) = integers(PEOPLE, PARAMETERS), integers(PROBE, PARAMETERS)
    bound = PARAMETERS.threshold(world.settings().threshold)
    expected = [f"person-{i}" for i in range(len(PEOPLE)) if templates[i] @ vector >= bound]
    answers = []
    for pair in PAIRS:
        with world.client(pairs=[pair]) as client:
            answers.append(sorted(client.candidates_embedding(PROBE, model="toy")))
    return bool(expected) and answers == [expected] * len(PAIRS)
