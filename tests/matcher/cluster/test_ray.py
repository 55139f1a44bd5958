"""Packs on a real Ray cluster of two nodes, with TLS and a token; one cluster for all tests here."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.matcher.cluster.nodes_here import Nodes, nodes
from tests.matcher.cluster.packed import NAMES, PUBLIC_KEY, Packed, exponents
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, UnavailableError
from veilmatch.server.check.cluster import check_cluster
from veilmatch.server.check.report import Report
from veilmatch.server.matcher.cluster import wire
from veilmatch.server.matcher.cluster.guard import require_private
from veilmatch.server.matcher.cluster.nodes import RayActors, connected
from veilmatch.server.matcher.cluster.shard import State
from veilmatch.server.matcher.gallery.disk.database import FILE_NAME

if find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matcher")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes() as found:
        found.start_head()
        found.start_node()
        yield found


@pytest.fixture(scope="module")
def actors(cluster: Nodes, folder: Path) -> Iterator[RayActors]:
    before = dict(os.environ)
    try:
        with connected(cluster.settings(), "a", PUBLIC_KEY, NAMES, folder / FILE_NAME) as found:
            yield found
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
async def packed(actors: RayActors, folder: Path) -> AsyncIterator[Packed]:
    """The gallery of the module: the shards follow one and the same through all tests."""
    global _PACKED
    if _PACKED is None:
        _PACKED = await Packed(folder).open()
    yield _PACKED


_PACKED: Packed | None = None


async def statuses(packed: Packed, actors: RayActors) -> list[wire.Status]:
    head = wire.head(0, State(packed.gallery.state.sequence, packed.gallery.state.chain))
    answers = await asyncio.gather(*(actors.ask(shard, "follow", head) for shard in range(actors.count)))
    return [wire.Status.decode(wire.opened(answer)) for answer in answers]


async def test_two_nodes_answer_as_the_integers_do_and_as_threads_do(packed: Packed, actors: RayActors) -> None:
    spread = packed.on(actors, wait_s=60)
    await packed.check(spread)
    await packed.change([1, 8, 30])
    await packed.check(spread)
    found = await statuses(packed, actors)
    assert sum(status.packs for status in found) == len(packed.clear) and all(status.packs for status in found)
    assert len({psutil.Process(status.pid).ppid() for status in found}) == 2  # one on each node


async def test_an_actor_that_lags_refuses_and_the_query_waits_for_it(packed: Packed, actors: RayActors) -> None:
    spread = packed.on(actors, wait_s=60)
    await packed.check(spread)
    await packed.change([2, 9])
    state = State(packed.gallery.state.sequence, packed.gallery.state.chain)
    share = exponents().astype("<i8").tobytes()
    with pytest.raises(UnavailableError, match="another state"):
        wire.opened(await actors.ask(0, "match", wire.head(0, state), (2).to_bytes(4, "big"), share))
    await packed.check(spread)


async def test_a_node_killed_in_the_middle_of_searches_costs_time_or_a_typed_error(
    cluster: Nodes, packed: Packed, actors: RayActors
) -> None:
    await packed.check(packed.on(actors, wait_s=60))
    second = cluster.processes[1]
    short, patient = packed.on(actors, wait_s=2.0), packed.on(actors, wait_s=120)
    refused = answered = 0

    async def search_until(ended: asyncio.Event) -> None:
        nonlocal refused, answered
        while not ended.is_set():
            try:
                await packed.check(short)
                answered += 1
            except UnavailableError as error:
                assert error.party == "matcher-a"
                refused += 1

    ended = asyncio.Event()
    searching = [asyncio.ensure_future(search_until(ended)) for _ in range(3)]
    while not answered:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(cluster.kill, second)
    deadline = time.monotonic() + 60
    while not refused:  # the other node has no core left: nobody can take the shard over
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    ended.set()
    await asyncio.gather(*searching)
    waiting = asyncio.ensure_future(packed.check(patient))
    cluster.start_node()
    await waiting  # late, and exact
    await packed.change([7, 8])
    await packed.check(patient)


async def test_packs_are_in_the_memory_of_their_shards_and_not_of_the_matcher(
    packed: Packed, actors: RayActors
) -> None:
    spread = packed.on(actors, wait_s=60)
    await packed.check(spread)
    found = await statuses(packed, actors)
    assert os.getpid() not in {status.pid for status in found}
    # A pack lies in one shard, and the workers of the matcher were given none.
    assert sum(status.packs for status in found) == len(packed.clear)
    assert not packed.local._pool._handler.__self__._groups  # type: ignore[attr-defined]


def test_each_actor_holds_its_part_and_the_matcher_nothing(cluster: Nodes, tmp_path: Path) -> None:
    """In a matcher's process of its own: packs of 64 MB, and two actors."""
    cluster.start_node(cpus=2)
    tls, settings = cluster.settings().tls, cluster.settings()
    words = [settings.address, settings.token_file, tls.authority, tls.certificate, tls.key, tmp_path]
    command = [sys.executable, "-m", "tests.matcher.cluster.memory", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    grown = json.loads(done.stdout.splitlines()[-1])
    packs = grown["packs_bytes"]
    for actor in grown["actors"]:
        assert 0.4 * packs < actor < 0.9 * packs
    assert grown["matcher"] < 0.4 * packs


async def test_ray_writes_down_no_share_and_no_ciphertext(packed: Packed, actors: RayActors, cluster: Nodes) -> None:
    share = exponents()
    parts = packed.on(actors, wait_s=60).match(0, packed.gallery.state, sorted(packed.clear), share)
    results = [result async for part in parts for result in part]
    packs = packed.store.packs_at(NAMES[0], [0, 8])
    secret = [share.astype("<i8").tobytes(), *(r[-32:] for r in results), *(content[:32] for _, content in packs)]
    spelled = {word for one in secret for word in (one, one.hex().encode(), base64.b64encode(one)[:-4])}
    # One number of a toy is short, and found anywhere.
    spelled |= {str(share.tolist())[1:-1].encode(), repr(secret[0])[2:-1].encode()}
    written = [path for path in cluster.folder.rglob("*") if path.is_file()]
    assert any(path.suffix in (".log", ".out") and path.stat().st_size for path in written)
    assert not [path for path in written if any(word in path.read_bytes() for word in spelled)]


@pytest.mark.parametrize(
    ("authenticated", "encrypted", "setting"), [(False, True, "RAY_AUTH_MODE=token"), (True, False, "RAY_USE_TLS=1")]
)
def test_a_cluster_that_is_not_private_is_refused(authenticated: bool, encrypted: bool, setting: str) -> None:
    with nodes(authenticated=authenticated, encrypted=encrypted) as found:
        found.start_head()
        with pytest.raises(ConfigurationError) as caught:
            require_private(found.settings())
        assert setting in (caught.value.expected or "")
        report = Report()
        check_cluster(found.settings(), report)
        assert [setting in finding.remedy for finding in report.findings] == [True]
        with pytest.raises(ConfigurationError), connected(found.settings(), "a", PUBLIC_KEY, NAMES, Path("none")):
            pass


def test_a_private_cluster_is_found_private_and_another_token_is_not_let_in(cluster: Nodes, tmp_path: Path) -> None:
    report = Report()
    check_cluster(cluster.settings(), report)
    assert not report.findings and "TLS and a token" in report.looked_at[0][1]
    other = tmp_path / "token"
    other.touch(0o600)
    other.write_text("another")
    with pytest.raises(ConfigurationError, match="another token"):
        require_private(cluster.settings().model_copy(update={"token_file": other}))
    other.chmod(0o644)
    with pytest.raises(KeyFileError, match="token of the Ray cluster is open to others"):
        require_private(cluster.settings().model_copy(update={"token_file": other}))
