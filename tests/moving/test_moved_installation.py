"""An installation of two matchers is moved, and serves: with every pair, the templates and tokens of before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.world import ENVIRONMENT, World, hold_ceremony, settle, unit
from tests.moving.backwards import write_earlier
from veilmatch.client.wire.signing import new_token
from veilmatch.crypto.keys.parties import PAIRS
from veilmatch.crypto.parameters import EARLIER_LANE_BITS, ParameterSet
from veilmatch.server.supervisor import Supervisor

PARAMETERS = ParameterSet(modulus_bits=1024, lane_bits=EARLIER_LANE_BITS)
FACES = unit(np.random.default_rng(3), 5, PARAMETERS.dimension)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """An installation as versions before had it, with a token of one of its enrolments."""
    folder, token = tmp_path_factory.mktemp("moved"), new_token()
    hold_ceremony(folder / "made", PARAMETERS)
    with Supervisor(folder / "made", ENVIRONMENT) as parties:
        parties.start()
        parties.wait_ready()
        world = World(folder / "made", PARAMETERS, parties)
        settle(world)
        with world.client(pairs=["ab"]) as client:
            client.enrol_embedding("ada", FACES[0], model="toy", token=token)
            client.enrol_many_embeddings([("bob", FACES[1]), ("eve", FACES[2])], model="toy")
            client.erase("eve")
    return write_earlier(folder / "made", folder / "old"), token


def test_nobody_is_enrolled_again(earlier: tuple[Path, bytes], tmp_path: Path) -> None:
    old, token = earlier
    new = tmp_path / "new"
    done = subprocess.run(
        [sys.executable, "-m", "veilmatch", "move", str(old), str(new)],
        env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Supervisor(new, ENVIRONMENT) as parties:
        parties.start()
        parties.wait_ready()
        world = World(new, PARAMETERS, parties)
        settle(world)
        for pair in PAIRS:
            with world.client(pairs=[pair]) as client:
                assert client.verify_embedding("ada", FACES[0], model="toy").decision
                assert not client.verify_embedding("bob", FACES[0], model="toy").decision
                assert client.identify_embedding(FACES[1], model="toy").subject == "bob"
        with world.client() as client:
            again = client.enrol_embedding("ada", FACES[0], model="toy", token=token)
            assert again.repeated, "the token of before is known"
            assert {entry.subject: entry.templates for entry in client.subjects()} == {"ada": 1, "bob": 1}
            client.enrol_embedding("dee", FACES[3], model="toy")
            assert client.verify_embedding("dee", FACES[3], model="toy", assured=True).decision
            assert client.take_back("ada", token).templates == 1
            assert client.erase("bob").templates == 1
            assert [entry.subject for entry in client.subjects()] == ["dee"]
