"""Matchers that are restarted one after the other, under load: devices notice nothing but a wait."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.e2e.world import World, settle, unit
from veilmatch.client.client import Client
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.parameters import ParameterSet

TOY = ParameterSet(modulus_bits=1024)
LIMIT_S = 30.0
KNOWN, OTHER = unit(np.random.default_rng(31), 2, TOY.dimension)


@dataclass
class Load:
    """What threads of one client were answered."""

    answers: int = 0
    wrong: int = 0
    errors: list[VeilmatchError] = field(default_factory=list)
    longest_s: float = 0.0


@contextmanager
def load(calls: Callable[[], bool], threads: int) -> Iterator[Load]:
    """Call all the time, until the end of the block. calls: returns whether its answer was right."""
    seen, over = Load(), threading.Event()

    def ask() -> None:
        while not over.is_set():
            started = time.monotonic()
            try:
                seen.wrong += not calls()
                seen.answers += 1
            except VeilmatchError as error:
                seen.errors.append(error)
            seen.longest_s = max(seen.longest_s, time.monotonic() - started)

    asking = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in asking:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in asking:
            thread.join()


def verifies(client: Client) -> bool:
    both = client.verify_embedding("known", KNOWN, model="toy"), client.verify_embedding("known", OTHER, model="toy")
    return [one.decision for one in both] == [True, False]


def restart_both(world: World, end: str, seen: Load) -> None:
    """End one matcher after the other, by `stop` or `kill`, and start it again under the load that is seen."""
    for party in ("matcher-a", "matcher-b"):
        time.sleep(0.5)
        getattr(world.parties, end)(party)
        world.parties.start(party)
        world.parties.wait_ready()
        before, deadline = seen.answers, time.monotonic() + LIMIT_S
        while seen.answers < before + 8:
            assert time.monotonic() < deadline, "no answers after the restart"
            time.sleep(0.05)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_matchers_restart_under_load_without_one_error(world: World, end: str) -> None:
    with world.client(timeout_s=LIMIT_S) as client:
        client.enrol_embedding("known", KNOWN, model="toy")
        with load(lambda: verifies(client), 4) as seen:
            restart_both(world, end, seen)
        assert [str(error) for error in seen.errors] == []
        assert seen.wrong == 0 and seen.longest_s < LIMIT_S
        client.erase("known")
    settle(world)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_each_enrolment_under_restarts_is_done_once(world: World, end: str) -> None:
    names, numbers = list[str](), itertools.count()
    with world.client(timeout_s=LIMIT_S) as client:
        before = client.subjects()

        def enrols() -> bool:
            name = f"{end}-{next(numbers)}"
            names.append(name)
            return client.enrol_embedding(name, OTHER, model="toy").templates == 1

        with load(enrols, 2) as seen:
            restart_both(world, end, seen)
        assert [str(error) for error in seen.errors] == []
        assert seen.wrong == 0 and seen.answers == len(names)
        assert {entry.subject: entry.templates for entry in client.subjects()} == {
            **{entry.subject: entry.templates for entry in before},
            **dict.fromkeys(names, 1),
        }
        for name in names:
            client.erase(name)
    settle(world)
