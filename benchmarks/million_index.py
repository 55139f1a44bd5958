"""What a matcher keeps of a large gallery beside its packs, and what devices are told of it: times and bytes.

    python benchmarks/million_index.py                       1,000,000 templates, no ciphertexts
    python benchmarks/million_index.py --templates 10000000
    python benchmarks/million_index.py --json PATH           writes the figures as well

Of the index: how long what a request asks of it takes, on the event loop or in a thread. Of the labels: the messages of
the whole list and of a difference, as bytes, and how long a device takes to make its list of two of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import cpu
from rich.console import Console
from rich.table import Table

from veilmatch.client.wire.labels import Labels, agreed_labels
from veilmatch.crypto.parameters import DEFAULT
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.gallery.index import SlotIndex
from veilmatch.server.matcher.gallery.labels import Listed
from veilmatch.server.matcher.query.matching import Matched, in_parts, tell

TIMES = 7
CHAINS = bytes(32), bytes(31) + b"\1"


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=int, default=1_000_000, help="of the gallery (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures = {"cpu": cpu(), "cores": os.cpu_count(), "templates": options.templates}
    index, loaded = load(options.templates)
    figures |= loaded | of_index(index) | asyncio.run(of_labels(index))
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,.6g}" if isinstance(value, float | int) else str(value))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def load(templates: int) -> tuple[SlotIndex, dict[str, Any]]:
    """Return the index of a full gallery, and what it took to make it."""
    slots, before = DEFAULT.slots, memory()
    started = time.perf_counter()
    listed = ((*divmod(place, slots), f"person-{place}") for place in range(templates))
    index = SlotIndex.load(slots, -(-templates // slots), listed)
    seconds = time.perf_counter() - started
    return index, {"load_s": seconds, "peak_bytes_each": (memory() - before) / templates}


def of_index(index: SlotIndex) -> dict[str, Any]:
    """Return how long each question and change takes, in microseconds: those of one subject, then those of all."""
    subject, place = "person-1234", divmod(1234, index.slots)

    def change() -> None:
        (free,) = index.allocate(1)
        index.add("newcomer", *free)
        index.remove(*free)

    def empty_and_fill() -> None:
        index.remove(*place)
        assert index.allocate(1) == [place]
        index.add(subject, *place)

    steps: dict[str, Callable[[], object]] = {
        "require_us": lambda: index.require(subject),
        "allocate_us": lambda: index.allocate(1), "allocate_32_us": lambda: index.allocate(32),
        "enrol_us": change, "erase_us": empty_and_fill,
        "asked_in_a_thread_us": index.asked, "places_in_a_thread_us": index.places,
        "subjects_in_a_thread_us": index.subjects,
    }  # fmt: skip
    return {name: 1e6 * median_s(step) for name, step in steps.items()}


async def of_labels(index: SlotIndex) -> dict[str, Any]:
    """Return the size of what a device is told, and how long it takes to make a list of two answers."""
    places = index.places()
    whole = [part async for part in in_parts(Matched(pb.MatchReply(sequence=1, chain=CHAINS[0]), places))]
    sizes = [part.ByteSize() for part in whole]
    told = whole[0]
    for part in whole[1:]:
        told.labels.extend(part.labels)
    known = agreed_labels(told, told, "ab", Labels())
    reply = pb.MatchReply(sequence=2, chain=CHAINS[1])
    tell(reply, Listed(None, [(1234, "newcomer"), (2345, "")]))
    return {
        "whole_list_bytes": sum(sizes), "whole_list_messages": len(sizes), "largest_message_bytes": max(sizes),
        "difference_of_two_bytes": reply.ByteSize(),
        "device_whole_list_ms": 1e3 * median_s(lambda: agreed_labels(told, told, "ab", Labels())),
        "device_difference_ms": 1e3 * median_s(lambda: agreed_labels(reply, reply, "ab", known).subjects),
    }  # fmt: skip


def median_s(step: Callable[[], object]) -> float:
    """Return how many seconds a step takes."""
    times = []
    for _ in range(TIMES):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def memory() -> int:
    """Return the most bytes that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
