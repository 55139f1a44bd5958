"""An installation whose matcher a has its packs on a Ray cluster: the same answers, and the others where it is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest

from tests.e2e.world import ENVIRONMENT, World, hold_ceremony, near, settle, supervised, unit, veilmatch
from tests.matcher.cluster.nodes_here import Nodes, nodes
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.installation.plan import config_of

if find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)

TOY = ParameterSet(modulus_bits=1024)
FACES = unit(np.random.default_rng(5), 3, TOY.dimension)


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Nodes]]:
    directory = tmp_path_factory.mktemp("cluster") / "installation"
    hold_ceremony(directory, TOY)
    with nodes() as cluster:
        cluster.start_head(cpus=2)
        settings = cluster.settings(wait_s=3.0)
        config = config_of(directory, "matcher-a")
        tls = ", ".join(f'{name} = "{path}"' for name, path in settings.tls.model_dump().items())
        lines = [
            "[cluster]", f'address = "{settings.address}"', f'token_file = "{settings.token_file}"', "shards = 2",
            f"tls = {{ {tls} }}", "",
        ]  # fmt: skip
        config.write_text("\n".join([config.read_text(), *lines]))
        with supervised(directory, ENVIRONMENT) as parties:
            parties.start()
            parties.wait_ready()
            world = World(directory, TOY, parties)
            settle(world)
            yield world, cluster


def test_answers_are_those_of_any_matcher_and_go_on_without_the_cluster(spread: tuple[World, Nodes]) -> None:
    world, cluster = spread
    rng = np.random.default_rng(6)
    with world.client() as client:
        for name, face in zip(("ann", "ben", "cy"), FACES, strict=True):
            client.enrol_embedding(name, face, model="toy")
        for name, face in zip(("ann", "ben", "cy"), FACES, strict=True):
            assert client.identify_embedding(near(rng, face, 0.1), model="toy").subject == name
            assert client.verify_embedding(name, near(rng, face, 0.1), model="toy")
        client.erase("ben")
        assert client.candidates_embedding(FACES[1], model="toy").subjects == ()
        deadline = time.monotonic() + 60  # until then it does without them
        while ready(world) != {0, 1}:
            assert time.monotonic() < deadline, ready(world)
            time.sleep(0.2)
        assert client.identify_embedding(FACES[2], model="toy").subject == "cy"
        assert veilmatch("check", str(world.folder("matcher-a"))).returncode == 0

        cluster.close()
        assert client.identify_embedding(FACES[2], model="toy").subject == "cy"
        checked = veilmatch("check", str(world.folder("matcher-a")), "--json")
        assert checked.returncode == 7 and "[cluster]" in checked.stdout


def ready(world: World) -> set[int]:
    """The shards that matcher-a has said to be ready."""
    log = [json.loads(line) for line in world.log("matcher-a").splitlines()]
    return {entry["shard"] for entry in log if entry["event"] == "shard ready"}


def test_a_matcher_does_not_start_on_a_cluster_that_is_not_private(
    spread: tuple[World, Nodes], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = spread
    config = config_of(world.directory, "matcher-a")
    before = config.read_text()
    with nodes(authenticated=False) as public:
        public.start_head()
        settings = public.settings()
        lines = before.split("[cluster]")[0]
        tls = ", ".join(f'{name} = "{path}"' for name, path in settings.tls.model_dump().items())
        config.write_text(
            f'{lines}[cluster]\naddress = "{settings.address}"\ntoken_file = "{settings.token_file}"\nshards = 1\n'
            f"tls = {{ {tls} }}\n"
        )
        world.parties.stop()
        refused = veilmatch("matcher", "--config", str(config), **ENVIRONMENT)
        assert refused.returncode == 3 and "RAY_AUTH_MODE=token" in refused.stderr
        monkeypatch.chdir(config.parent)
        looked = veilmatch("doctor", "--for", "server", "--json")
        problems = json.loads(looked.stdout)["problems"]
        assert looked.returncode == 3 and [problem["part"] for problem in problems] == ["cluster"]
        assert "RAY_AUTH_MODE=token" in problems[0]["advice"]
