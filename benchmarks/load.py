"""Verifications under more load than the servers can do: devices that do not wait for each other ("open loop").

    python benchmarks/load.py                       1.75 times what they can do, for 40 s (about three minutes)
    python benchmarks/load.py --rate 25 --seconds 60
    python benchmarks/load.py --fair                beside it: one device asks 16 searches at once, another verifies
    python benchmarks/load.py --json PATH           writes the figures as well

Five daemons and all devices share this machine, so only ratios mean something. First the capacity is measured: a few
devices that wait for each answer ("closed loop"). Then requests come at a fixed rate, whatever becomes of those before:
what is answered is given as a part of the capacity of the same run, and beside it what became of the rest. Every
decision that is given is compared with that of plain integers. Budgets are raised out of the way. Uses only what
every version has, so that it can be pointed at an older checkout with its own interpreter.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import cpu
from rich.console import Console
from rich.table import Table

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.demo.parties import free_base_port
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import Supervisor

DEVICES = 8
THRESHOLD = 0.40
#: Seconds of a window in which answers are counted.
WINDOW_S = 5
#: Devices of the closed loop; more do not make the servers faster.
CLOSED = 6


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="d128-s126-c38-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument("--identities", type=int, default=1000, help="size of the gallery (default: %(default)s)")
    parser.add_argument("--rate", type=float, help="requests a second (default: 1.75 times the capacity)")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--fair", action="store_true", help="measure one device beside a greedy one as well")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures = measure(options)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Make an installation, load it, return the figures."""
    passphrase = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="veilmatch-load-") as scratch:
        directory = Path(scratch) / "installation"
        hold_ceremony(directory, options.parameters, passphrase)
        with Supervisor(directory, {"VEILMATCH_PASSPHRASE": passphrase}) as parties:
            parties.start()
            parties.wait_ready()
            return {"cpu": cpu(), "cores": os.cpu_count()} | asyncio.run(load(directory, options))


def hold_ceremony(directory: Path, parameters: str, passphrase: str) -> None:
    """Make the installation, with budgets that no load reaches."""
    veilmatch = Path(sys.executable).parent / "veilmatch"
    arguments = ["--parameters", parameters, "--base-port", str(free_base_port()), "--devices", str(DEVICES)]
    subprocess.run(
        [veilmatch, "ceremony", directory, *arguments, "--workers", "1", "--json"],
        env=os.environ | {"VEILMATCH_PASSPHRASE": passphrase},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    scopes = (
        "device_requests",
        "device_searches",
        "device_bits",
        "gallery_requests",
        "gallery_searches",
        "gallery_bits",
    )
    for party in "abc":
        with (directory / f"keyholder-{party}" / "keyholder.toml").open("a") as file:
            file.write("\n[budgets]\n" + "".join(f"{scope} = {{}}\n" for scope in scopes))
    for seat in "ab":
        with (directory / f"matcher-{seat}" / "matcher.toml").open("a") as file:
            file.write("\n[budgets]\nsubject_requests = {}\n")


class Gallery:
    """The vectors of a gallery, and what plain integers say."""

    def __init__(self, parameters: ParameterSet, identities: int) -> None:
        rng = np.random.default_rng(1)
        self.vectors = rng.standard_normal((identities, parameters.dimension))

    def probe(self, number: int) -> tuple[str, Any, bool]:
        """Return a subject, an embedding and whether it is theirs: every other request is of the right person."""
        at = number % len(self.vectors)
        genuine = number % 2 == 0
        return f"p{at}", self.vectors[at if genuine else (at + 1) % len(self.vectors)], genuine


class Asked:
    """What became of requests: when each came, how long it took, its pair or its error."""

    def __init__(self) -> None:
        self.answered: list[tuple[float, float]] = []
        self.pairs: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.wrong = 0
        self.began = time.perf_counter()

    async def ask(self, client: AsyncClient, gallery: Gallery, number: int) -> None:
        """One verification."""
        subject, vector, genuine = gallery.probe(number)
        started = time.perf_counter()
        try:
            result = await client.verify_embedding(subject, vector, model="random", threshold=THRESHOLD)
        except VeilmatchError as error:
            self.errors[error.code] += 1
        else:
            self.answered.append((started - self.began, time.perf_counter() - started))
            self.pairs[result.pair] += 1
            self.wrong += bool(result) != genuine

    def figures(self, arrived: int, seconds: float) -> dict[str, Any]:
        """Return the figures of requests that came within these seconds."""
        took = sorted(took for _, took in self.answered)
        windows = [0] * max(1, round(seconds / WINDOW_S))
        for came, _ in self.answered:
            windows[min(int(came / WINDOW_S), len(windows) - 1)] += 1
        return {
            "arrived": arrived,
            "answered": len(took),
            "answered_a_second": len(took) / (time.perf_counter() - self.began),
            "wrong": self.wrong,
            "p50_s": _quantile(took, 0.5),
            "p95_s": _quantile(took, 0.95),
            "answered_by_window": windows,
            "pairs": dict(self.pairs),
            "errors": dict(self.errors),
        }


async def load(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fill the gallery; closed loop, open loop and, if asked, one device beside a greedy one."""
    parameters = ParameterSet.from_name(options.parameters)
    gallery = Gallery(parameters, options.identities)
    async with clients(directory) as devices:
        pairs = [(f"p{i}", vector) for i, vector in enumerate(gallery.vectors)]
        await devices[0].enrol_many_embeddings(pairs, model="random", timeout_s=600.0)
        for device in devices:  # connections and tables
            await Asked().ask(device, gallery, 0)
        closed = await closed_loop(devices[:CLOSED], gallery, options.seconds / 2)
        rate = options.rate or 1.75 * closed["answered_a_second"]
        figures = {"closed": closed, "rate": rate, "open": await open_loop(devices, gallery, rate, options.seconds)}
        if options.fair:
            figures["fair"] = await fairness(devices, gallery)
    return figures


@contextlib.asynccontextmanager
async def clients(directory: Path) -> AsyncIterator[list[AsyncClient]]:
    """A client of each device."""
    async with contextlib.AsyncExitStack() as stack:
        files = [directory / f"device-{number + 1}" / "device.toml" for number in range(DEVICES)]
        yield [await stack.enter_async_context(AsyncClient.from_config(file)) for file in files]


async def closed_loop(devices: Sequence[AsyncClient], gallery: Gallery, seconds: float) -> dict[str, Any]:
    """Devices that each wait for their answer before they ask again."""
    asked, number = Asked(), 0

    async def go_on(device: AsyncClient) -> None:
        nonlocal number
        while time.perf_counter() - asked.began < seconds:
            number += 1
            await asked.ask(device, gallery, number)

    await asyncio.gather(*map(go_on, devices))
    return asked.figures(number, seconds)


async def open_loop(devices: Sequence[AsyncClient], gallery: Gallery, rate: float, seconds: float) -> dict[str, Any]:
    """Requests at a fixed rate, in turn from all devices."""
    asked, tasks = Asked(), []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, asked.began + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(asked.ask(devices[number % len(devices)], gallery, number)))
    await asyncio.gather(*tasks)
    return asked.figures(len(tasks), seconds)


async def fairness(devices: Sequence[AsyncClient], gallery: Gallery) -> dict[str, Any]:
    """How long a verification takes one device alone, and beside another that makes 16 searches at once."""
    greedy, other = devices[0], devices[1]
    alone = await closed_loop([other], gallery, 5.0)
    searching = True

    async def search() -> None:
        while searching:
            with contextlib.suppress(VeilmatchError):
                await greedy.candidates_embedding(gallery.vectors[0], model="random", threshold=THRESHOLD)

    tasks = [asyncio.create_task(search()) for _ in range(16)]
    await asyncio.sleep(2.0)
    beside = await closed_loop([other], gallery, 20.0)
    searching = False
    await asyncio.gather(*tasks)
    return {"alone": alone, "beside": beside}


def show(f: dict[str, Any]) -> None:
    """Print the table."""
    closed, opened = f["closed"], f["open"]
    capacity = closed["answered_a_second"]
    title = f"{f['cores']} cores of {f['cpu']}; {f['rate'] / capacity:.2f} times the capacity"
    table = Table("figure", "closed loop", "open loop", title=title)
    part = opened["answered_a_second"] / capacity
    rows = (
        ("requests that came", f"{closed['arrived']:,}", f"{opened['arrived']:,} ({f['rate']:.1f} a second)"),
        ("answered", f"{closed['answered']:,}", f"{opened['answered']:,}"),
        ("answered a second", f"{capacity:.1f}", f"{opened['answered_a_second']:.1f} ({100 * part:.0f}% of capacity)"),
        ("decided wrongly", str(closed["wrong"]), str(opened["wrong"])),
        ("half within", _seconds(closed["p50_s"]), _seconds(opened["p50_s"])),
        ("95% within", _seconds(closed["p95_s"]), _seconds(opened["p95_s"])),
        (f"answered, by {WINDOW_S} s of arrival", "", " ".join(map(str, opened["answered_by_window"]))),
        ("pairs", _counts(closed["pairs"]), _counts(opened["pairs"])),
        ("errors", _counts(closed["errors"]), _counts(opened["errors"])),
    )
    for row in rows:
        table.add_row(*row)
    if "fair" in f:
        alone, beside = f["fair"]["alone"], f["fair"]["beside"]
        table.add_section()
        table.add_row("one device, alone: half within", _seconds(alone["p50_s"]), "")
        text = _seconds(beside["p50_s"])
        if alone["p50_s"] and beside["p50_s"]:
            text += f" ({beside['p50_s'] / alone['p50_s']:.1f} times)"
        table.add_row("beside one with 16 searches", text, _counts(beside["errors"]))
    Console().print(table)


def _quantile(values: list[float], part: float) -> float | None:
    return values[min(int(part * len(values)), len(values) - 1)] if values else None


def _seconds(value: float | None) -> str:
    return "nobody" if value is None else f"{value:.2f} s"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


if __name__ == "__main__":
    main()
