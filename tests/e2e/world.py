"""A whole installation for a test: ceremony by command line, five real processes, a device's client."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import KeyHolderBudgets, MatcherBudgets
from veilmatch.server.supervisor import Supervisor

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
    return subprocess.run(
        [sys.executable, "-m", "veilmatch", *arguments],
        env=os.environ | ENVIRONMENT | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


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


def hold_ceremony(directory: Path, parameters: ParameterSet, devices: int = 1) -> dict[str, object]:
    """Make an installation by `veilmatch ceremony`, without budgets and lowest thresholds: tests are no people."""
    done = veilmatch(
        "ceremony", str(directory), "--parameters", parameters.name, "--allow-unsafe", "--workers", "1",
        "--devices", str(devices), "--lowest", "0", "--base-port", str(base_port()), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for party in EVERYBODY:
        set_budgets(directory, party)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def set_budgets(directory: Path, party: str, **limits: dict[str, int]) -> None:
    """Write [budgets] of a party; what is not named has no limit. It counts from the next start on."""
    config = directory / party / f"{party.split('-')[0]}.toml"
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
        return (self.directory / party / "log.jsonl").read_text()


@contextmanager
def running(directory: Path, parameters: ParameterSet, devices: int = 1) -> Iterator[World]:
    """Hold a ceremony and run all five daemons until the end."""
    hold_ceremony(directory, parameters, devices)
    with Supervisor(directory, ENVIRONMENT) as parties:
        parties.start()
        parties.wait_ready()
        world = World(directory, parameters, parties)
        settle(world)
        yield world


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


KEY_HOLDERS = ("keyholder-a", "keyholder-b", "keyholder-c")
EVERYBODY = (*KEY_HOLDERS, "matcher-a", "matcher-b")


def settle(world: World, timeout_s: float = 30.0) -> None:
    """Wait until every key holder has stock for both its pairs and the daemons have found each other again."""
    deadline = time.monotonic() + timeout_s
    while not all(_stocked(world.log(party)) for party in KEY_HOLDERS):
        assert time.monotonic() < deadline, "the key holders are not stocked"
        time.sleep(0.05)
    time.sleep(0.4)


def _stocked(log: str) -> bool:
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    starts = [i for i, event in enumerate(events) if event["event"] == "serving"]
    since = events[starts[-1] :] if starts else []
    return len({event["pair"] for event in since if event["event"] == "stocked"}) == 2
