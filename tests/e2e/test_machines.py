"""What is wrong with the machine of one party: its disk, its clock, the order in which it comes up.

What the device saw, what the operator saw, and that nothing is lost: rows of docs/faults.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.world import ENVIRONMENT, EVERYBODY, World, hold_ceremony, settle, supervised, unit, veilmatch
from tests.faults.level import wait_level
from tests.monitoring.conftest import scraped, value
from veilmatch.crypto.errors import AuditLogError, ConfigurationError, StorageError, WrongClockError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import Supervisor

TOY = ParameterSet(modulus_bits=1024)
FACES = unit(np.random.default_rng(31), 2, TOY.dimension)
#: Whose data is on a small disk of its own.
ON_SMALL_DISKS = ("keyholder-b", "matcher-b")
_DISK_BYTES = 24 << 20


class Disk:
    """A small disk at a folder. Its file system becomes read-only when its medium fails, as most are mounted."""

    def __init__(self, folder: Path, image: Path) -> None:
        """image: what it is in truth. Skips the test where no disk can be made; what fails later fails the test."""
        self._folder, self._image = folder, image
        with image.open("wb") as file:
            file.truncate(_DISK_BYTES)
        try:
            _run("mkfs.ext4", "-q", "-m", "0", image)
            self._mount()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a disk of its own needs a program or a right that this process lacks: {error}")
        folder.chmod(0o700)

    def change(self, how: str) -> None:
        """Mount it as "ro" or "rw"; nobody writes to it."""
        _run("mount", "-o", f"remount,{how}", self._folder)

    def fail(self) -> None:
        """Have the kernel find an error of the medium."""
        number = self._folder.stat().st_dev
        device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
        # The kernel's own switch for tests of file systems.
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("a test")
        with pytest.raises(OSError, match="Read-only"):
            (self._folder / "tried").touch()

    def repair(self) -> None:
        """Look for what is wrong with it and put that right; nobody uses it."""
        self.remove()
        _run("e2fsck", "-fy", self._image)
        self._mount()

    def remove(self) -> None:
        """Take it away."""
        _run("umount", "--lazy", self._folder)

    def _mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", self._image, self._folder)


def _run(*words: object) -> None:
    """Run a program of the system. Raises OSError or CalledProcessError."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    # Of e2fsck, 1: what was wrong is put right.
    if done.returncode != 0 and (words[0], done.returncode) != ("e2fsck", 1):
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def disks() -> dict[str, Disk]:
    """Those of the parties that have their data on one of their own."""
    return {}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, disks: dict[str, Disk]) -> Iterator[World]:
    """An installation of which organisation B keeps its data on small disks."""
    folder = tmp_path_factory.mktemp("machines")
    directory = folder / "installation"
    hold_ceremony(directory, TOY)
    with supervised(directory, ENVIRONMENT) as parties:
        made = World(directory, TOY, parties)
        try:
            for party in ON_SMALL_DISKS:
                data = made.folder(party) / "data"
                data.mkdir(mode=0o700, exist_ok=True)
                disks[party] = Disk(data, folder / f"{party}.disk")
            parties.start()
            parties.wait_ready()
            settle(made)
            with made.client() as client:
                client.enrol_embedding("ann", FACES[0], model="toy")
            yield made
        finally:
            parties.stop()
            for disk in disks.values():
                disk.remove()


@contextmanager
def full_disk(world: World, party: str) -> Iterator[None]:
    """Leave not one byte on the disk of a party."""
    filler = world.folder(party) / "data" / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    try:
        yield
    finally:
        filler.unlink()


class Alerts:
    """The lines at level error that a party writes from here on."""

    def __init__(self, world: World, party: str) -> None:
        self._world, self._party, self._before = world, party, len(world.log(party))

    def read(self) -> list[dict[str, Any]]:
        lines = map(json.loads, self._world.log(self._party)[self._before :].splitlines())
        return [line for line in lines if line["level"] == "error"]


def told(world: World, party: str) -> dict[str, str]:
    """What `veilmatch status` at a party says is wrong, by whose fault it is."""
    done = veilmatch("status", "--config", str(world.parties.config(party)), "--json")
    return {one["party"]: one["what"] for one in json.loads(done.stdout)["troubles"]}


def eventually(holds: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def serves(world: World, pair: str) -> None:
    """Check that a pair decides right, both ways."""
    with world.client(pairs=[pair]) as client:
        assert client.verify_embedding("ann", FACES[0], model="toy").decision
        assert not client.verify_embedding("ann", FACES[1], model="toy").decision


@pytest.mark.parametrize("party", ON_SMALL_DISKS)
def test_a_full_disk_is_said_by_its_party_and_another_pair_serves(world: World, party: str) -> None:
    alerts = Alerts(world, party)
    with full_disk(world, party):
        with world.client() as client:
            assert client.verify_embedding("ann", FACES[0], model="toy").pair == "ac"
            client.enrol_embedding("ben", FACES[1], model="toy")
        with world.client(pairs=["ab"]) as client, pytest.raises((StorageError, AuditLogError)) as caught:
            client.verify_embedding("ann", FACES[0], model="toy")
        assert (caught.value.party, caught.value.alternatives) == (party, ("ac",))
        assert {line["event"] for line in alerts.read()} == {"alert"}
        assert {line.get("failed") for line in alerts.read()} == {party}, alerts.read()
        assert value(scraped(world, party), "veilmatch_disk_free_bytes") == 0
        # What each party says, and what it is told of others.
        for beside in (party, f"matcher-{'b' if party.startswith('key') else 'a'}"):
            eventually(lambda beside=beside: "its disk is full" in told(world, beside).get(party, ""))  # type: ignore[misc]
        eventually(lambda: value(scraped(world, party), "veilmatch_ready") == 0)
    # With room again it goes on by itself, and what was acknowledged meanwhile reaches it.
    eventually(lambda: value(scraped(world, party), "veilmatch_disk_free_bytes") > 0)
    serves(world, "ab")
    wait_level(world.directory)
    with world.client(pairs=["bc"]) as client:
        assert client.verify_embedding("ben", FACES[1], model="toy").decision
        client.erase("ben")


@pytest.mark.parametrize("party", ON_SMALL_DISKS)
def test_a_disk_that_is_read_only_at_the_start_stops_its_party_alone(
    world: World, party: str, disks: dict[str, Disk]
) -> None:
    world.parties.stop(party)
    disks[party].change("ro")
    try:
        done = veilmatch(party.split("-")[0], "--config", str(world.parties.config(party)))
        last = json.loads(done.stderr.splitlines()[-1])
        assert (last["event"], last["level"], last["error"]["code"]) == ("did not start", "error", "configuration")
        assert done.returncode == 3 and "Read-only file system" in last["error"]["got"]
        with world.client() as client:
            assert client.verify_embedding("ann", FACES[0], model="toy").pair == "ac"
    finally:
        disks[party].change("rw")
    world.restart()
    serves(world, "ab")


@pytest.mark.parametrize("party", ON_SMALL_DISKS)
def test_a_disk_that_turns_read_only_in_use_is_said_by_its_party_and_another_pair_serves(
    world: World, party: str, disks: dict[str, Disk]
) -> None:
    with world.client(pairs=["ab"]) as client:
        client.enrol_embedding("eve", FACES[1], model="toy")
    alerts = Alerts(world, party)
    disks[party].fail()
    try:
        with world.client() as client:
            assert client.verify_embedding("ann", FACES[0], model="toy").pair == "ac"
            client.enrol_embedding("ben", FACES[1], model="toy")
        with world.client(pairs=["ab"]) as client, pytest.raises((StorageError, AuditLogError)) as caught:
            client.verify_embedding("ann", FACES[0], model="toy")
        assert (caught.value.party, caught.value.alternatives) == (party, ("ac",))
        assert {(line["event"], line.get("failed")) for line in alerts.read()} == {("alert", party)}, alerts.read()
        eventually(lambda: "its disk" in told(world, party).get(party, ""))
        eventually(lambda: value(scraped(world, party), "veilmatch_ready") == 0)
    finally:
        world.parties.stop(party)
        disks[party].repair()
    # What it had acknowledged is on the disk, and what was acknowledged without it reaches it.
    world.restart()
    serves(world, "ab")
    wait_level(world.directory)
    with world.client(pairs=["bc"]) as client:
        for name in ("eve", "ben"):
            assert client.verify_embedding(name, FACES[1], model="toy").decision
            client.erase(name)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What makes a clock wrong, compiled."""
    made = tmp_path_factory.mktemp("clock") / "wrong_clock.so"
    source = Path(__file__).with_name("wrong_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", made, source], check=True)
    return made


def with_clock(library: Path, off_s: int) -> dict[str, str]:
    return ENVIRONMENT | {"LD_PRELOAD": str(library), "WRONG_CLOCK_S": str(off_s)}


#: Certificates of a new installation began five minutes ago.
@pytest.mark.parametrize(("party", "off_s"), [("keyholder-b", 600), ("keyholder-b", -240), ("matcher-b", 600)])
def test_a_clock_that_is_minutes_wrong_is_said_of_its_party(
    world: World, party: str, off_s: int, library: Path
) -> None:
    world.parties.stop(party)
    with Supervisor(world.directory, with_clock(library, off_s)) as parties:
        parties.start(party)
        parties.wait_ready()
        alerts = Alerts(world, party)
        with world.client() as client:
            assert client.verify_embedding("ann", FACES[0], model="toy").pair == "ac"
        with world.client(pairs=["ab"]) as client, pytest.raises(WrongClockError) as caught:
            client.verify_embedding("ann", FACES[0], model="toy")
        assert caught.value.party == party
        assert [(line["event"], line["code"]) for line in alerts.read()] == [("alert", "wrong_clock")]
        key = "veilmatch_peer_clock_difference_seconds", (("peer", party),)
        beside = party.replace("-b", "-a")
        eventually(lambda: abs(scraped(world, beside).get(key, 0.0) - off_s) < 5)
        parties.stop(party)
    world.restart()
    serves(world, "ab")


def test_a_clock_from_before_the_certificates_is_what_a_daemon_does_not_start_for(world: World, library: Path) -> None:
    world.parties.stop("matcher-b")
    with Supervisor(world.directory, with_clock(library, -86_400)) as parties:
        parties.start("matcher-b")
        with pytest.raises(ConfigurationError, match="not valid yet; check this machine's clock"):
            parties.wait_ready()
    world.restart()


def test_in_whatever_order_they_start_they_find_each_other(world: World) -> None:
    assert set(world.parties.stop().values()) == {0}
    rng = np.random.default_rng()
    order = [str(party) for party in rng.permutation(EVERYBODY)]
    for party in order:
        world.parties.start(party)
        world.parties.wait_ready()
    settle(world)
    for pair in ("ab", "ac", "bc"):
        serves(world, pair)
