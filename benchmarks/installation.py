"""An installation to measure on, and a gallery of which plain integers say what must be answered.

Budgets are raised out of the way: a benchmark asks more than any device may. Uses only what every version has, so that
a benchmark can be run with the interpreter of an older installation (`against.py`).
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.demo.parties import free_base_port
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import KeyHolderBudgets, MatcherBudgets
from veilmatch.server.installation.plan import folder_of

THRESHOLD = 0.40
MODEL = "random"
#: What a device can ask; "assured" is an assured `verify`.
QUERIES = ("verify", "assured", "candidates", "identify")
CHANGES = ("enrol", "erase")


@contextmanager
def installed(parameters: str, devices: int = 1) -> Iterator[tuple[Path, dict[str, str]]]:
    """Hold a ceremony in a temporary folder; gives the installation's folder and the environment of its daemons."""
    environment = {"VEILMATCH_PASSPHRASE": secrets.token_urlsafe(24)}
    with tempfile.TemporaryDirectory(prefix="veilmatch-bench-") as scratch:
        directory = Path(scratch) / "installation"
        hold_ceremony(directory, parameters, environment["VEILMATCH_PASSPHRASE"], devices)
        yield directory, environment


def hold_ceremony(
    directory: Path, parameters: str, passphrase: str, devices: int = 8, base_port: int | None = None
) -> None:
    """Make the installation, with budgets that no benchmark reaches. base_port: a free one unless said."""
    veilmatch = Path(sys.executable).parent / "veilmatch"
    # Six daemons share this machine's cores, and two organisations serve a request.
    workers = max(1, (os.cpu_count() or 1) // 2)
    subprocess.run(
        [
            veilmatch, "ceremony", "local", directory, "--parameters", parameters,
            "--base-port", str(free_base_port() if base_port is None else base_port),
            "--devices", str(devices), "--workers", str(workers), "--json",
            # Sets with small moduli, of tests.
            *(["--allow-unsafe"] if ParameterSet.from_name(parameters).modulus_bits < 2048 else []),
        ],
        env=os.environ | {"VEILMATCH_PASSPHRASE": passphrase},
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for kind, budgets in (("keyholder", KeyHolderBudgets), ("matcher", MatcherBudgets)):
        for party in "abc":
            with (directory / folder_of(f"{kind}-{party}") / f"{kind}.toml").open("a") as file:
                file.write("\n[budgets]\n" + "".join(f"{scope} = {{}}\n" for scope in budgets.model_fields))


class Gallery:
    """The vectors of a gallery, and what plain integers say. Of numbered probes every other one is of somebody."""

    def __init__(self, parameters: ParameterSet, identities: int) -> None:
        self.parameters = parameters
        self.vectors = np.random.default_rng(1).standard_normal((identities, parameters.dimension))

    @cached_property
    def templates(self) -> Any:
        """int64[identities, D]: what was enrolled, as integers."""
        return np.array([quantise(vector, self.parameters) for vector in self.vectors])

    @cached_property
    def threshold(self) -> int:
        """The threshold as the integer that scores are compared with."""
        return int(self.parameters.threshold(THRESHOLD))

    def named(self) -> list[tuple[str, Any]]:
        """Return everybody, for a bulk enrolment: `p0`, `p1`, ..."""
        return [(f"p{i}", vector) for i, vector in enumerate(self.vectors)]

    def probe(self, number: int) -> tuple[str, Any, bool]:
        """Return a subject, an embedding and whether it is theirs."""
        at = number % len(self.vectors)
        vector = self.vectors[at if number % 2 == 0 else (at + 1) % len(self.vectors)]
        return f"p{at}", vector, self.score(self.templates[at], vector) >= self.threshold

    def searched(self, number: int) -> Any:
        """Return an embedding to search for: of somebody, or of a stranger."""
        if number % 2 == 0:
            return self.vectors[number % len(self.vectors)]
        return newcomer(f"stranger {number % 1000}", self.parameters)

    def score(self, templates: Any, vector: Any) -> Any:
        """Return the integer scores of an embedding with templates."""
        return templates @ quantise(vector, self.parameters)

    def is_right(self, operation: str, vector: Any, found: Iterable[str]) -> bool:
        """Return whether a search found what it had to: "candidates" all that match, "identify" the best of them.

        Newcomers may have been enrolled meanwhile: one that is found has to match.
        """
        subjects = list(found)
        joined = [subject for subject in subjects if not subject.startswith("p")]
        theirs = [int(self.score(quantise(newcomer(s, self.parameters), self.parameters), vector)) for s in joined]
        scores = self.score(self.templates, vector)
        expected = [f"p{i}" for i in np.flatnonzero(scores >= self.threshold)]
        if operation == "identify" and expected:
            best = int(scores.max())
            if joined:
                return min(theirs) >= best
            expected = [f"p{int(scores.argmax())}"]
        return [s for s in subjects if s not in joined] == expected and all(s >= self.threshold for s in theirs)


def newcomer(name: str, parameters: ParameterSet) -> Any:
    """Return the embedding of somebody who is not in a gallery from the start: always the same for a name."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(parameters.dimension)


async def ask(client: AsyncClient, operation: str, gallery: Gallery, number: int, who: str = "") -> bool:
    """Do what a device does, and return whether the answer is that of plain integers.

    number: of the probe, for a query. who: the newcomer to enrol or erase. Raises VeilmatchErrors of the client.
    """
    match operation:
        case "verify" | "assured":
            subject, vector, genuine = gallery.probe(number)
            more: dict[str, Any] = {"assured": True} if operation == "assured" else {}
            found = await client.verify_embedding(subject, vector, model=MODEL, threshold=THRESHOLD, **more)
            return found.decision == genuine
        case "candidates":
            vector = gallery.searched(number)
            several = await client.candidates_embedding(vector, model=MODEL, threshold=THRESHOLD)
            return gallery.is_right(operation, vector, several.subjects)
        case "identify":
            vector = gallery.searched(number)
            best = await client.identify_embedding(vector, model=MODEL, threshold=THRESHOLD)
            return gallery.is_right(operation, vector, [best.subject] if best.subject else [])
        case "enrol":
            return (await client.enrol_embedding(who, newcomer(who, gallery.parameters), model=MODEL)).templates == 1
        case "erase":
            return (await client.erase(who)).templates == 1
    raise ValueError(f"no operation {operation}")
