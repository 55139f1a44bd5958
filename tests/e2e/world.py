"""A whole installation for a test: ceremony by command line, six real processes, a device's client."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.nursery import Nursery, nursery
from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import KeyHolderBudgets, KeyHolderSettings, MatcherBudgets
from veilmatch.server.installation.plan import config_of, folder_of
from veilmatch.server.supervisor import Supervisor, daemons_of

PASSPHRASE = "a passphrase for tests"
#: Little stock: checking a full one would take more of a short-lived installation's time than its requests. Refreshes
#: follow each other as fast as they can.
ENVIRONMENT = {
    "VEILMATCH_PASSPHRASE": PASSPHRASE,
    "VEILMATCH_STOCK_TRIPLES": "1024",
    "VEILMATCH_STOCK_BYTES": str(2 << 17),
    "VEILMATCH_STOCK_PRODUCTS": str(2 << 14),
    "VEILMATCH_REFRESH_INTERVAL_S": "0.001",
}


def veilmatch(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would."""
    return by(nursery(), *arguments, **environment)


def by(there: Nursery, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line of the code that a nursery has imported."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        environment = os.environ | ENVIRONMENT | environment
        process = there.fork(arguments, environment, stdout, stderr, stdin=subprocess.DEVNULL)
        try:
            status = process.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(arguments, status, stdout.read().decode(), stderr.read().decode())


Run = Callable[..., subprocess.CompletedProcess[str]]


def supervised(directory: Path, environment: Mapping[str, str]) -> Supervisor:
    """Return a supervisor of an installation whose daemons need not import everything again."""
    return Supervisor(directory, environment, launch=lambda words, given, log: nursery().fork(words, given, log, log))


#: Each holds a base port of this process, and keeps it from all others: no daemon listens at the base port itself.
_RESERVED: list[socket.socket] = []


def base_port() -> int:
    """Return a base port that no other test has, of whatever process, for as long as this process runs.

    The demonstration takes multiples of a hundred: these are the others. Below the ports of outgoing connections.
    """
    bases = [base for base in range(7400, 32000, 20) if base % 100]
    first = secrets.randbelow(len(bases))
    for base in bases[first:] + bases[:first]:
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", base))
        except OSError:
            holder.close()
        else:
            _RESERVED.append(holder)
            return base
    raise AssertionError("no free ports on this machine")


def hold_ceremony(
    directory: Path, parameters: ParameterSet, devices: int = 1, *options: str, run: Run = veilmatch
) -> dict[str, object]:
    """Make an installation by `veilmatch ceremony`, without budgets and lowest thresholds: tests are no people."""
    done = run(
        "ceremony", "local", str(directory), "--parameters", parameters.name, "--allow-unsafe", "--workers", "1",
        "--devices", str(devices), "--lowest", "0", "--base-port", str(base_port()), "--json", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for party in daemons_of(directory):
        set_budgets(directory, party)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def set_budgets(directory: Path, party: str, **limits: dict[str, int]) -> None:
    """Write [budgets] of a party; what is not named has no limit. It counts from the next start on."""
    config = config_of(directory, party)
    model = KeyHolderBudgets if party in KEY_HOLDERS else MatcherBudgets
    chosen = {name: limits.get(name, {}) for name in model.model_fields}
    lines = [f"{n} = {{{', '.join(f'{w} = {x}' for w, x in of.items())}}}" for n, of in chosen.items()]
    text = config.read_text().split("\n[budgets]\n")[0]
    config.write_text("\n".join([text, "[budgets]", *lines, ""]))


@dataclass
class World:
    """A running installation and its first device."""

    directory: Path
    parameters: ParameterSet
    parties: Supervisor

    @property
    def device_config(self) -> Path:
        return self.directory / "device-1" / "device.toml"

    def settings(self, **changes: object) -> DeviceSettings:
        return DeviceSettings.load(self.device_config).model_copy(update=changes)

    def client(self, **changes: object) -> Client:
        return Client(self.settings(**changes))

    def restart(self) -> None:
        """Start whatever is down and wait until all is as before."""
        self.parties.start()
        self.parties.wait_ready()
        settle(self)

    def log(self, party: str) -> str:
        return (self.folder(party) / "log.jsonl").read_text()

    def folder(self, party: str) -> Path:
        """Return the folder of a daemon."""
        return self.directory / folder_of(party)


@contextmanager
def running(directory: Path, parameters: ParameterSet, devices: int = 1, *options: str) -> Iterator[World]:
    """Hold a ceremony and run all its daemons, six unless options say otherwise, until the end."""
    hold_ceremony(directory, parameters, devices, *options)
    with supervised(directory, ENVIRONMENT) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory, parameters, parties)
        settle(world)
        yield world


def device(world: World, name: str, *options: str) -> Path:
    """Give the installation another device; return its configuration. options: of `veilmatch device issue`."""
    done = veilmatch("device", "issue", str(world.directory), name, *options, "--json")
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["directory"]) / "device.toml"


def unit(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """Random unit vectors, float64[count, D]."""
    vectors = rng.standard_normal((count, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def near(rng: np.random.Generator, vector: np.ndarray, noise: float) -> np.ndarray:
    """A vector in the direction of another one, blurred: what a second photo of a person looks like."""
    return vector + noise * unit(rng, 1, len(vector))[0]


def integers(vectors: np.ndarray, parameters: ParameterSet) -> Array:
    """Quantise like the device."""
    from veilmatch.client.capture.quantiser import quantise

    return np.array([quantise(vector, parameters) for vector in np.atleast_2d(vectors)])


def written(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield each file below a folder, and what is in it; a running daemon may remove one meanwhile."""
    for file in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError):
            if file.is_file():
                yield file, file.read_bytes()


def asked_days_ago(database: Path, days: int, subjects: Iterable[str]) -> None:
    """Have these subjects last asked for so many days earlier, as one organisation notes it; its matcher is stopped."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for subject in subjects:
            noted = connection.execute(
                "UPDATE templates SET asked_day = asked_day - ? WHERE subject = ?", (days, subject)
            )
            assert noted.rowcount > 0, subject


KEY_HOLDERS = ("keyholder-a", "keyholder-b", "keyholder-c")
MATCHERS = ("matcher-a", "matcher-b", "matcher-c")
EVERYBODY = (*KEY_HOLDERS, *MATCHERS)


@contextmanager
def stopped(world: World, party: str) -> Iterator[None]:
    """Stop a party and its workers where they are, and let them go on at the end."""
    pid = world.parties.pid(party)
    os.killpg(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(pid, signal.SIGCONT)


def settle(world: World, timeout_s: float = 90.0) -> None:
    """Wait until every key holder has stock for its pairs, and has no more of it checked.

    A dealer that died in the middle of a check keeps the checks of its pair waiting for some seconds.
    """
    deadline = time.monotonic() + timeout_s
    pairs = {party: KeyHolderSettings.load(world.parties.config(party)).pairs for party in KEY_HOLDERS}
    wanted = {
        party: {("stocked", pair) for pair in pairs[party]}
        | {("stock complete", pair) for pair in pairs[party] if pair[0] == party[-1]}
        for party in KEY_HOLDERS
    }
    while not all(_stock_events(world.log(party)) >= wanted[party] for party in KEY_HOLDERS):
        assert time.monotonic() < deadline, "the key holders are not stocked"
        time.sleep(0.05)
    time.sleep(0.4)


def _stock_events(log: str) -> set[tuple[str, str]]:
    """What a key holder has said of its stocks since it serves."""
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    starts = [i for i, event in enumerate(events) if event["event"] == "serving"]
    since = events[starts[-1] :] if starts else []
    return {(event["event"], event["pair"]) for event in since if event["event"] in ("stocked", "stock complete")}
