"""A matcher that was down catches up, and it or one of the others dies, or hangs, at the n-th message of that.

The two that are left serve and become level; whoever was struck does so when it is started again, or goes on.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.e2e.world import MATCHERS, unit
from tests.faults.harness import NEVER, PARAMETERS, Faults
from tests.faults.level import LEVEL_S, state_of, wait_level
from veilmatch.client.wire.signing import new_token

#: A daemon that has read that it is armed has counted its message by then, however busy the machine.
_IN_BETWEEN_S = 0.3


@dataclass(frozen=True)
class CaughtUp:
    """at: message of the fault, if it was not level before. behind: changes. level_s: after all were there again."""

    at: str
    struck: bool
    behind: int
    level_s: float


def messages(faults: Faults, matcher: str, party: str = "") -> list[str]:
    """Return what a matcher receives and answers until it has caught up, or another party meanwhile; in order."""
    change_without(faults, matcher)
    faults.arm(party or matcher, NEVER, following=True)
    faults.world.parties.start(matcher)
    wait_level(faults.world.directory, timeout_s=2 * LEVEL_S)
    faults.disarm(party or matcher)
    named = faults.named(party or matcher)
    faults.world.restart()
    return named


def kill_catching_up(faults: Faults, matcher: str, at: int, party: str = "") -> CaughtUp:
    """Change a gallery without a matcher, and kill it, or another, at a message of catching up; check that all do."""
    return _strike(faults, matcher, party or matcher, at, signal.SIGKILL)


def stop_catching_up(faults: Faults, matcher: str, at: int, party: str = "") -> CaughtUp:
    """The same, but it hangs at that message, and goes on when the others have been looked at."""
    return _strike(faults, matcher, party or matcher, at, signal.SIGSTOP)


def _strike(faults: Faults, matcher: str, party: str, at: int, how: signal.Signals) -> CaughtUp:
    names = change_without(faults, matcher)
    directory, parties = faults.world.directory, faults.world.parties
    left = [other for other in MATCHERS if other not in (matcher, party)]
    behind = state_of(directory, left[0])[0] - state_of(directory, matcher)[0]
    assert behind >= 4
    faults.arm(party, at, how=how, following=True)
    parties.start(matcher)
    deadline = time.monotonic() + 2 * LEVEL_S
    while not (struck := _struck(faults, party, how)) and not _level(directory, matcher, left[0]):
        assert time.monotonic() < deadline, "neither level nor struck"
        time.sleep(0.02)
    faults.disarm(party)
    time.sleep(_IN_BETWEEN_S)
    seen = faults.seen(party)
    if not struck and seen and int(seen.split()[0]) == at:
        # All were level at that moment, and it was about to be struck.
        while not _struck(faults, party, how):
            assert time.monotonic() < deadline, "it counted its message, and goes on"
            time.sleep(0.02)
        struck = True
    try:
        if struck:
            # Two are left, of which one may still have to catch up: from the other, by itself.
            wait_level(directory, {matcher, *left} - {party}, timeout_s=2 * LEVEL_S)
            if how == signal.SIGSTOP:
                _served_without(faults, party)
    finally:
        if how == signal.SIGSTOP:
            os.killpg(parties.pid(party), signal.SIGCONT)
    faults.world.restart()
    level_s = wait_level(directory)
    # With whoever has caught up in front: what it serves is what the others have changed.
    with faults.client_of(matcher) as client:
        assert client.verify_embedding("known", faults.face(genuine=True), model="toy").decision
        assert not client.verify_embedding("known", faults.face(genuine=False), model="toy").decision
        subjects = {entry.subject for entry in client.subjects()}
        assert "known" in subjects and not subjects & set(names)
    return CaughtUp(seen if struck else "level before", struck, behind, level_s)


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


def _served_without(faults: Faults, party: str) -> None:
    """Check that an enrolment, an answer and an erasure need nobody who hangs."""
    name = new_token().hex()
    with faults.client() as client:
        client.enrol_embedding(name, faults.face(genuine=False), model="toy")
        assert client.verify_embedding(name, faults.face(genuine=False), model="toy").decision
        assert not client.verify_embedding("known", faults.face(genuine=False), model="toy").decision
        assert client.erase(name).templates == 1


def _level(directory: Path, one: str, other: str) -> bool:
    return state_of(directory, one) == state_of(directory, other)


def _struck(faults: Faults, party: str, how: signal.Signals) -> bool:
    if how == signal.SIGKILL:
        return not faults.world.parties.alive(party)
    state = Path(f"/proc/{faults.world.parties.pid(party)}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"
