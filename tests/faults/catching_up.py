"""A matcher that was down catches up, and dies at the n-th message of that: started again, it becomes level."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from tests.e2e.world import unit
from tests.faults.harness import NEVER, PARAMETERS, Faults
from tests.faults.level import LEVEL_S, state_of, wait_level
from veilmatch.client.wire.signing import new_token

_OTHER = {"matcher-a": "matcher-b", "matcher-b": "matcher-c", "matcher-c": "matcher-a"}


@dataclass(frozen=True)
class CaughtUp:
    """at: the message it died at, if it was not level before. behind: changes. level_s: after the last start."""

    at: str
    died: bool
    behind: int
    level_s: float


def messages(faults: Faults, matcher: str) -> list[str]:
    """Return what a matcher receives and answers until it has caught up, in order."""
    change_without(faults, matcher)
    faults.arm(matcher, NEVER, following=True)
    faults.world.parties.start(matcher)
    wait_level(faults.world.directory, timeout_s=2 * LEVEL_S)
    faults.disarm(matcher)
    named = faults.named(matcher)
    faults.world.restart()
    return named


def kill_catching_up(faults: Faults, matcher: str, at: int) -> CaughtUp:
    """Change a gallery without a matcher, and kill that at a message of catching up; check that it becomes level."""
    names = change_without(faults, matcher)
    directory, parties = faults.world.directory, faults.world.parties
    behind = state_of(directory, _OTHER[matcher])[0] - state_of(directory, matcher)[0]
    assert behind >= 4
    faults.arm(matcher, at, following=True)
    parties.start(matcher)
    deadline = time.monotonic() + 2 * LEVEL_S
    while parties.alive(matcher) and state_of(directory, matcher) != state_of(directory, _OTHER[matcher]):
        assert time.monotonic() < deadline, "neither level nor dead"
        time.sleep(0.02)
    died = not parties.alive(matcher)
    faults.disarm(matcher)
    seen = faults.seen(matcher)
    faults.world.restart()
    level_s = wait_level(directory)
    # With whoever has caught up in front: what it serves is what the others have changed.
    with faults.client_of(matcher) as client:
        assert client.verify_embedding("known", faults.face(genuine=True), model="toy").decision
        assert not client.verify_embedding("known", faults.face(genuine=False), model="toy").decision
        subjects = {entry.subject for entry in client.subjects()}
        assert "known" in subjects and not subjects & set(names)
    return CaughtUp(seen if died else "level before", died, behind, level_s)


def change_without(faults: Faults, matcher: str) -> list[str]:
    """Enrol, enrol in bulk and erase while a matcher is down; return who was there for a moment."""
    faults.world.parties.kill(matcher)
    token = new_token()
    one, *many = unit(np.random.default_rng(list(token)), 3, PARAMETERS.dimension)
    names = [f"{token.hex()}-{i}" for i in range(3)]
    with faults.client() as client:
        client.enrol_embedding(names[0], one, model="toy")
        client.enrol_many_embeddings(list(zip(names[1:], many, strict=True)), model="toy")
        for name in names:
            client.erase(name)
    return names
