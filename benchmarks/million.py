"""A gallery as large as the machine bears, built by bulk enrolment, and what it costs: every answer is checked.

    python benchmarks/million.py --templates 100000 --folder DIR    builds there, or goes on where it stopped
    python benchmarks/million.py --templates 1000000 --folder DIR   with patience: an hour or more on two cores, 12 GB
    python benchmarks/million.py --templates 20000                  in a folder of temporary files
    python benchmarks/million.py --json PATH                        writes the figures as well
    nohup python benchmarks/million.py --templates 1000000 --folder DIR --json DIR/figures.json > DIR/log 2>&1 &

Six daemons over loopback and one device, on synthetic unit vectors that a seed makes anew, so that no more than one
batch of them is ever in memory; of every template the scores of three probes in clear are kept in DIR/scores, twelve
bytes. A batch is a bulk enrolment under a token of its own, and is noted before it begins and when it is done: one that
was interrupted is asked for again as it was, and counts once. One that fails because a party is missing or overloaded
is tried again. After each batch a line says how far it is, how long the rest takes, CPU time, memory and disk. Two of
the probes are near enrolled people, one is a stranger.

Then the daemons are started anew and asked: searches of both kinds, verifications, and an enrolment and an erasure
while a search is under way. An answer that is not that of the integers in clear ends the run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from daemons import cpu_seconds, memory, peak_memory, wait_until_idle
from machine import cpu

from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.client import Client
from veilmatch.client.demo.parties import fresh_passphrase, hold_ceremony
from veilmatch.crypto.errors import OverloadedError, StorageError, UnavailableError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings.choice import choose
from veilmatch.server.config import KeyHolderBudgets, MatcherBudgets
from veilmatch.server.installation.plan import config_of, folder_of
from veilmatch.server.supervisor import Supervisor, daemons_of

#: Packs of one bulk enrolment: some 30 MB with D = 128.
BATCH_PACKS = 90
THRESHOLD = 0.40
MODEL = "random"
#: Where the first two probes have somebody near, in the first batch.
NEAR = (3, 77)
TIMEOUT_S = 3600.0
#: How often a search and a change are repeated.
TIMES = 3
#: How often a batch is tried, and for how long the next attempt waits.
ATTEMPTS, PAUSE_S = 20, 30.0
#: Of gallery.db, in parts of its packs and records: what else is in a row, and what was not yet given back.
DISK_PARTS = 1.3
MATCHERS = ("matcher-a", "matcher-b", "matcher-c")
#: Whose CPU time a batch takes.
KINDS = {"device": ("device",), "matchers": MATCHERS, "keyholders": ("keyholder-a", "keyholder-b", "keyholder-c")}


class People:
    """The vectors of a gallery, batch by batch, and what they score with the probes."""

    def __init__(self, parameters: ParameterSet, folder: Path) -> None:
        self.parameters = parameters
        self.batch = BATCH_PACKS * parameters.slots
        self.probes = np.random.default_rng(7).standard_normal((3, parameters.dimension))
        self._folder = folder
        self._folder.mkdir(exist_ok=True)

    def vectors(self, number: int, count: int) -> Array:
        """Return the vectors of a batch, float64[count, D]: the same ones at every call."""
        rng = np.random.default_rng([11, number])
        vectors = rng.standard_normal((count, self.parameters.dimension))
        if not number:
            vectors[list(NEAR)] = self.probes[:2] + rng.standard_normal((2, self.parameters.dimension))
        return vectors

    def keep_scores(self, number: int, vectors: Array) -> None:
        """Keep what a batch scores with the probes."""
        probes = np.array([quantise(probe, self.parameters) for probe in self.probes])
        scores = probes @ np.array([quantise(vector, self.parameters) for vector in vectors]).T
        np.save(self._folder / f"{number:06}.npy", scores.astype(np.int32))

    def scores(self, probe: int) -> Array:
        """Return what everybody scores with a probe."""
        return np.concatenate([np.load(file)[probe] for file in sorted(self._folder.glob("*.npy"))]).astype(np.int64)


def main() -> None:
    """Build, measure, print, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=int, default=20_000, help="of the gallery (default: %(default)s)")
    parser.add_argument("--parameters", default="d128-s126-c38-l46-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the installation is, and stays (default: nowhere)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.templates <= max(NEAR):
        parser.error(f"--templates: more than {max(NEAR)}")
    with tempfile.TemporaryDirectory(prefix="veilmatch-million-") as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(folder, ParameterSet.from_name(options.parameters), options.json)
        run.build(options.templates)
        run.measure()


class Batches:
    """Which batches are enrolled: kept in a file, so that a run goes on where another one stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = json.loads(path.read_text()) if path.exists() else {}
        self.counts: list[int] = kept.get("counts", [])
        #: What each took, as far as it is known: seconds, and CPU seconds by daemon and of the device.
        self.took: list[dict[str, float]] = kept.get("took", [])
        #: How many templates the batch has that was begun last and is not done; 0 if there is none.
        self.begun: int = kept.get("begun", 0)

    @property
    def templates(self) -> int:
        """How many are enrolled."""
        return sum(self.counts)

    def begin(self, count: int) -> None:
        """Note that the next batch is about to be enrolled, with so many templates."""
        self.begun = count
        self._write()

    def end(self, took: dict[str, float]) -> None:
        """Note that it is."""
        self.counts.append(self.begun)
        self.took.append({"templates": float(self.begun), **took})
        self.begun = 0
        self._write()

    def each(self, *names: str) -> float:
        """Return what one template took of these, all together."""
        known = sum(batch["templates"] for batch in self.took)
        return sum(batch.get(name, 0.0) for batch in self.took for name in names) / max(1.0, known)

    def _write(self) -> None:
        # In one step: whatever ends the run, there is one whole file.
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({"counts": self.counts, "took": self.took, "begun": self.begun}))
        new.replace(self._path)


class Run:
    """One installation in a folder, and its figures. state.json there says which batches are enrolled."""

    def __init__(self, folder: Path, parameters: ParameterSet, report: Path | None) -> None:
        self.folder, self.directory, self._report = folder, folder / "installation", report
        self.people = People(parameters, folder / "scores")
        self.batches = Batches(folder / "state.json")
        self.figures: dict[str, Any] = {
            "cpu": cpu(), "cores": os.cpu_count(), "backend": choose().backend, "parameters": parameters.name
        }  # fmt: skip

    def say(self, **figures: Any) -> None:
        """Take in figures, print them, and write all so far."""
        self.figures |= figures
        for name, value in figures.items():
            print(f"{name.replace('_', ' ')}: {value:,.4g}" if isinstance(value, float) else f"{name}: {value}")
        sys.stdout.flush()
        if self._report:
            self._report.write_text(json.dumps(self.figures, indent=1) + "\n")

    @contextmanager
    def served(self) -> Iterator[tuple[Supervisor, Client]]:
        """Run the daemons; a client of the device."""
        passphrase = (self.folder / "passphrase").read_text()
        with Supervisor(self.directory, {"VEILMATCH_PASSPHRASE": passphrase}) as parties:
            parties.start()
            parties.wait_ready(timeout_s=TIMEOUT_S)
            with Client.from_config(self.directory / "device-1" / "device.toml") as client:
                yield parties, client

    def build(self, templates: int) -> None:
        """Enrol up to so many, from where it stopped."""
        if not self.directory.exists():
            secret = self.folder / "passphrase"
            secret.touch(mode=0o600)
            secret.write_text(fresh_passphrase())
            hold_ceremony(self.directory, self.people.parameters.name, secret.read_text())
            without_budgets(self.directory)
        batches = self.batches
        self.require_disk(templates - batches.templates)
        if batches.templates < templates or batches.begun:
            with self.served() as (parties, client):
                wait_until_idle(parties, TIMEOUT_S)
                while (done := batches.templates) < templates or batches.begun:
                    self.enrol(client, parties, batches.begun or min(self.people.batch, templates - done))
                    self.note_progress(parties, templates)
                self.say(matcher_peak_bytes_while_enrolling=peak_memory(parties.pid("matcher-a")))
        cpus = {f"enrolment_{kind}_cpu_s_each": batches.each(*names) for kind, names in KINDS.items()}
        self.say(enrolled=batches.templates, enrolment_s_each=batches.each("seconds"), **cpus)

    def enrol(self, client: Client, parties: Supervisor, count: int) -> None:
        """Enrol the next batch, of so many."""
        number, first = len(self.batches.counts), self.batches.templates
        self.batches.begin(count)
        vectors = self.people.vectors(number, count)
        names = [f"p{first + i}" for i in range(count)]
        token = hashlib.sha256(f"batch {number} of {count}".encode()).digest()[:16]
        started, before, own = time.monotonic(), cpu_seconds(parties), own_cpu_s()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                # Under the same token: what was done before is not done twice.
                client.enrol_many_embeddings(
                    zip(names, vectors, strict=True), model=MODEL, token=token, timeout_s=TIMEOUT_S
                )
                break
            except (UnavailableError, OverloadedError, StorageError) as error:
                if attempt == ATTEMPTS:
                    raise
                self.note(f"batch {number}, attempt {attempt}: {error}")
                time.sleep(PAUSE_S)
        took = {"seconds": time.monotonic() - started, "device": own_cpu_s() - own}
        took |= {party: after - before[party] for party, after in cpu_seconds(parties).items()}
        self.people.keep_scores(number, vectors)
        self.batches.end(took)

    def note_progress(self, parties: Supervisor, templates: int) -> None:
        """Say how far it is, and what it takes."""
        batches, seconds = self.batches, self.batches.each("seconds")
        done = batches.templates
        cpus = ", ".join(f"{kind} {1e3 * batches.each(*names):.2f}" for kind, names in KINDS.items())
        resident = "/".join(f"{memory(parties.pid(party)) / 1e6:,.0f}" for party in MATCHERS)
        self.note(
            f"{done:,} of {templates:,} ({done / templates:.0%}), {1e3 * seconds:.2f} ms each, "
            f"{seconds * (templates - done) / 60:,.0f} min to go; CPU ms each: {cpus}; matchers {resident} MB; "
            f"on disk {size_of(self.directory) / 1e9:.2f} GB, {shutil.disk_usage(self.folder).free / 1e9:.1f} GB free"
        )

    def note(self, line: str) -> None:
        """Print a line with the time of day: a run overnight is read in the morning."""
        print(f"{datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)

    def require_disk(self, templates: int) -> None:
        """Raise RuntimeError if so many more do not fit on the disk."""
        p = self.people.parameters
        each = p.ciphertext_bytes * (p.dimension / p.slots + p.lane_ciphertexts) * len(MATCHERS) * DISK_PARTS
        needed, free = each * templates, shutil.disk_usage(self.folder).free
        if needed > free:
            raise RuntimeError(f"{needed / 1e9:.1f} GB needed in {self.folder}, {free / 1e9:.1f} GB free")

    # -- what it costs --------------------------------------------------------------------------

    def measure(self) -> None:
        """Start the daemons anew, and ask."""
        templates = self.batches.templates
        disk = (self.directory / folder_of("matcher-a") / "data" / "gallery.db").stat().st_size
        self.say(templates=templates, disk_bytes_each=disk / templates)
        started = time.monotonic()
        with self.served() as (parties, client):
            self.say(ready_s=time.monotonic() - started)
            resident = memory(parties.pid("matcher-a"))
            self.say(matcher_bytes=resident, matcher_bytes_each=resident / templates)
            wait_until_idle(parties, TIMEOUT_S)
            self.say(first_search_s=timed(lambda: self.candidates(client, 0)))
            for name, ask in (("candidates", self.candidates), ("identify", self.identify), ("verify", self.verify)):
                times, spent = [], []
                for probe in range(len(self.people.probes)):
                    wait_until_idle(parties, TIMEOUT_S)
                    before = sum(cpu_seconds(parties).values())
                    times.append(timed(lambda ask=ask, probe=probe: ask(client, probe)))
                    # With the stock that is dealt and checked in place of what it took.
                    wait_until_idle(parties, TIMEOUT_S)
                    spent.append(sum(cpu_seconds(parties).values()) - before)
                self.say(**{f"{name}_s": statistics.median(times), f"{name}_daemons_cpu_s": statistics.median(spent)})
            self.changes(client)
            for party in ("matcher-a", "keyholder-a"):
                self.say(**{f"{party.replace('-', '_')}_peak_bytes": peak_memory(parties.pid(party))})

    def changes(self, client: Client) -> None:
        """An enrolment and an erasure, alone and while a search is under way, and that search."""
        vector = np.random.default_rng(13).standard_normal(self.people.parameters.dimension)
        for during in (False, True):
            enrolled, erased, searched, answered = [], [], [], []
            for _ in range(TIMES):
                with ThreadPoolExecutor(1) as beside:
                    search = beside.submit(timed, lambda: self.candidates(client, 0, "newcomer")) if during else None
                    if during:
                        time.sleep(0.3)
                    enrolled.append(timed(lambda: client.enrol_embedding("newcomer", vector, model=MODEL)))
                    answered.append(search is not None and search.done())
                    erased.append(timed(lambda: client.erase("newcomer")))
                    searched += [search.result()] if search is not None else []
            beside_ = "_during_a_search" if during else ""
            self.say(
                **{f"enrol{beside_}_s": statistics.median(enrolled), f"erase{beside_}_s": statistics.median(erased)}
            )
            if during:
                self.say(
                    candidates_during_changes_s=statistics.median(searched),
                    enrolments_that_a_search_ended_before=sum(answered),
                )
        self.candidates(client, 1)

    def candidates(self, client: Client, probe: int, *perhaps: str) -> None:
        """Search, and compare the answer. perhaps: who may be there at the moment."""
        found = client.candidates_embedding(
            self.people.probes[probe], model=MODEL, threshold=THRESHOLD, timeout_s=TIMEOUT_S
        )
        scores = self.people.scores(probe)
        expected = {f"p{i}" for i in np.flatnonzero(scores >= self.people.parameters.threshold(THRESHOLD))}
        wrong = set(found.subjects) - set(perhaps) != expected
        if wrong or not 0 <= found.compared - len(scores) <= len(perhaps):
            raise RuntimeError(f"probe {probe}: {sorted(found.subjects)} for {sorted(expected)}, {found.compared}")

    def identify(self, client: Client, probe: int) -> None:
        """Identify, and compare the answer."""
        found = client.identify_embedding(
            self.people.probes[probe], model=MODEL, threshold=THRESHOLD, timeout_s=TIMEOUT_S
        )
        scores = self.people.scores(probe)
        best = int(np.argmax(scores))
        expected = f"p{best}" if scores[best] >= self.people.parameters.threshold(THRESHOLD) else None
        if found.subject != expected:
            raise RuntimeError(f"probe {probe}: {found.subject} for {expected}")

    def verify(self, client: Client, probe: int) -> None:
        """Verify somebody near, or anybody, and compare the answer."""
        who = NEAR[probe] if probe < len(NEAR) else len(self.people.scores(probe)) - 1
        found = client.verify_embedding(f"p{who}", self.people.probes[probe], model=MODEL, threshold=THRESHOLD)
        if found.decision != (self.people.scores(probe)[who] >= self.people.parameters.threshold(THRESHOLD)):
            raise RuntimeError(f"probe {probe}: {found.decision} for p{who}")


def without_budgets(directory: Path) -> None:
    """Let all daemons of an installation count nothing: a benchmark is no device."""
    for party in daemons_of(directory):
        model = KeyHolderBudgets if party.startswith("keyholder") else MatcherBudgets
        config = config_of(directory, party)
        lines = ["", "[budgets]", *(f"{name} = {{}}" for name in model.model_fields), ""]
        config.write_text(config.read_text() + "\n".join(lines))


def size_of(folder: Path) -> int:
    """Return the size of all files under a folder."""
    size = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # gone meanwhile
            size += file.stat().st_size
    return size


def own_cpu_s() -> float:
    """Return the CPU seconds of this process and of children that have ended: those that encrypt."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def timed(call: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    started = time.monotonic()
    call()
    return time.monotonic() - started


if __name__ == "__main__":
    main()
