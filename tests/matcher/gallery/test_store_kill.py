"""kill -9 at random moments: the old state or the new one, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.matcher.enrol_loop import PARAMETERS, argument, nth
from tests.matcher.galleries import KEY_ID, Model, accept, commit, mutation, run
from tests.storage.backends import Backend
from tests.storage.postgres import PostgresServer
from veilmatch.server.config import GalleriesIn
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.gallery.disk.store import Store

ROOT = Path(__file__).parents[3]
ROUNDS = 6


def run_until_killed(where: GalleriesIn, after_s: float, server: PostgresServer | None = None) -> list[int]:
    """Return the numbers that were acknowledged before the kill, which comes so long after the first.

    server: it is killed, and not the matcher.
    """
    command = [sys.executable, "-m", "tests.matcher.enrol_loop", argument(where)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline()]
        time.sleep(after_s)
        server.kill() if server is not None else process.kill()
        acknowledged += process.stdout.readlines()
    return [int(line) for line in acknowledged if line.endswith("\n")]


def check_against_model(store: Store) -> None:
    """The first `sequence` mutations, no more and no less, and the accepted one whole or not at all."""
    state = store.state("staff")
    expected = Model("staff", PARAMETERS)
    for number in range(state.sequence):
        expected.commit(nth(number))
    expected.check(store)
    if state.accepted is not None:
        expected.commit(nth(state.sequence))
        assert state.accepted.chain == expected.chain()


def test_nothing_acknowledged_is_lost_by_a_kill(where: GalleriesIn) -> None:
    survives_kills(where)


def survives_kills(where: GalleriesIn, server: PostgresServer | None = None) -> None:
    """Kill a matcher that changes a gallery, or its server, and look at what is there; several times."""
    # Reported by pytest when the test fails, so that the moments can be tried again.
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    moments = random.Random(seed)
    # A server is asked for each statement, so that a change takes longer.
    done, longest_s = 0, 0.15 if isinstance(where, Path) else 1.0
    for _ in range(ROUNDS):
        acknowledged = run_until_killed(where, moments.uniform(0.0, longest_s), server)
        if server is not None:
            server.start()
        assert acknowledged == list(range(done, done + len(acknowledged)))
        with closing(Store(where, KEY_ID, PARAMETERS)) as store:
            state = store.open_gallery("staff")
            for number in acknowledged:
                entry = store.find_token("staff", nth(number).token)
                assert entry is not None
                assert entry.sequence == number + 1
            # At most one more than acknowledged: committed, but killed before it could say so.
            assert state.sequence - (acknowledged[-1] + 1) in (0, 1)
            check_against_model(store)
            if state.accepted is not None:
                if moments.random() < 0.5:
                    accept(store, "staff", nth(state.sequence), Ballot(state.promised.round + 1, "ab"))
                commit(store, "staff")
                check_against_model(store)
            done = store.state("staff").sequence
    assert done >= ROUNDS


# In a program of its own, because a process with threads must not fork.
KILLED_AT_EACH_STATEMENT = """
import os, signal, sys
from pathlib import Path
import psycopg, sqlalchemy.dialects.postgresql.psycopg  # here, once, and not in each child
from sqlalchemy import event
from sqlalchemy.engine import Engine
from tests.matcher.enrol_loop import PARAMETERS, nth, place_of
from tests.matcher.galleries import KEY_ID, run
from veilmatch.server.matcher.gallery.changes import by_leaf
from veilmatch.server.matcher.gallery.disk.store import Store

what, beside, first, step, *places = sys.argv[1:]

def run_until(place, statements):
    counts = what == "run"
    store = Store(place, KEY_ID, PARAMETERS)

    @event.listens_for(Engine, "before_cursor_execute")
    def count(*_):
        nonlocal statements
        statements -= counts
        if statements < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if what == "run":
        run(store, "staff", nth(2))
    else:
        ahead = Store(Path(what), KEY_ID, PARAMETERS)
        changes, contents = ahead.changes_after("staff", 2), by_leaf(ahead.contents_after("staff", 2))
        counts = True
        if beside == "True":
            # As while queries go on; the hook is where the switch is waited for, and it may be killed there, too.
            store.apply("staff", changes, contents, (), lambda _: count())
            store.tidy()
        else:
            store.apply("staff", changes, contents)
    os._exit(0)

for number, place in enumerate(places):
    if (child := os.fork()) == 0:
        run_until(place_of(place), int(first) + number * int(step))
    print(os.waitpid(child, 0)[1])
"""


def killed_at_each_statement(
    backend: Backend, what: str, statements: int, *, beside: bool = False
) -> Iterator[tuple[GalleriesIn, int]]:
    """Yield copies of a place, and how a matcher ended that was killed there before its n-th SQL statement; it does
    `what` (see above). The last ones did not come so far, and ended well.

    statements: some more than it takes. A copy of a database takes its time: there some twelve are chosen, by chance.
    """
    step = 1 if isinstance(backend.where, Path) else statements // 12
    first = random.randrange(step)
    print(f"from statement {first}, each {step}")
    ends = ["-"]
    while "0" not in ends:
        places = [backend.copy(f"killed-{first + number * step}") for number in range(statements // step)]
        command = [sys.executable, "-c", KILLED_AT_EACH_STATEMENT, what, str(beside), str(first), str(step)]
        command += map(argument, places)
        ends = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
        yield from zip(places, map(int, ends), strict=True)
        first += len(places) * step


def test_a_kill_before_any_statement_leaves_the_old_or_the_new_state(backend: Backend) -> None:
    """The same deterministically, for an erasure."""
    with closing(Store(backend.where, KEY_ID, PARAMETERS)) as store:
        store.open_gallery("staff")
        run(store, "staff", nth(0))
        run(store, "staff", nth(1))
    outcomes = []
    for place, end in killed_at_each_statement(backend, "run", 50):
        with closing(Store(place, KEY_ID, PARAMETERS)) as store:
            state = store.open_gallery("staff")
            check_against_model(store)
            outcomes.append((end, state.accepted is not None, state.sequence))
            if state.accepted is not None:
                commit(store, "staff")
                check_against_model(store)
            run(store, "staff", mutation(9, added=[(0, 9, "cid")], parameters=PARAMETERS))
    # Killed in the promise or in the acceptance, in the commit, after it, and not at all.
    expected = [(signal.SIGKILL, False, 2), (signal.SIGKILL, True, 2), (signal.SIGKILL, False, 3), (0, False, 3)]
    found = list(dict.fromkeys(outcomes))
    # Of those that chance has chosen none need lie after the commit.
    assert found == expected or (backend.server is not None and found == [*expected[:2], expected[3]])


@pytest.mark.parametrize("beside", [False, True])
def test_a_kill_while_several_changes_are_applied_leaves_none_or_all_of_them(
    backend: Backend, tmp_path: Path, *, beside: bool
) -> None:
    """The same for an organisation that catches up, in place of a change that it had accepted itself."""
    for place, changes in ((backend.where, 2), (tmp_path / "ahead", 5)):
        with closing(Store(place, KEY_ID, PARAMETERS)) as store:
            store.open_gallery("staff")
            for number in range(changes):
                run(store, "staff", nth(number))
            if changes == 2:
                accept(store, "staff", mutation(9, added=[(0, 9, "cid")], parameters=PARAMETERS))
    outcomes = []
    for place, end in killed_at_each_statement(backend, str(tmp_path / "ahead"), 90, beside=beside):
        with closing(Store(place, KEY_ID, PARAMETERS)) as store:
            state = store.open_gallery("staff")
            expected = Model("staff", PARAMETERS)
            for number in range(state.sequence):
                expected.commit(nth(number))
            expected.check(store)
            outcomes.append((end, state.accepted is not None, state.sequence))
    found = list(dict.fromkeys(outcomes))
    assert found[0] == (signal.SIGKILL, True, 2) and found[-1] == (0, False, 5)
    assert found[1:-1] == [(signal.SIGKILL, False, 5)] or (backend.server is not None and not found[1:-1])
