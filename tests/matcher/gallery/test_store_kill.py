"""kill -9 at random moments: the old state or the new one, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.matcher.enrol_loop import PARAMETERS, nth
from tests.matcher.galleries import KEY_ID, Model, accept, commit, mutation, run
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.gallery.disk.store import Store

ROOT = Path(__file__).parents[3]
ROUNDS = 6


def run_until_killed(data_dir: Path, after_s: float) -> list[int]:
    """Return the numbers that were acknowledged before the kill, which comes so long after the first."""
    command = [sys.executable, "-m", "tests.matcher.enrol_loop", str(data_dir)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline()]
        time.sleep(after_s)
        process.kill()
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


def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path: Path) -> None:
    # Reported by pytest when the test fails, so that the moments can be tried again.
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}")
    moments = random.Random(seed)
    done = 0
    for _ in range(ROUNDS):
        acknowledged = run_until_killed(tmp_path, moments.uniform(0.0, 0.15))
        assert acknowledged == list(range(done, done + len(acknowledged)))
        with closing(Store(tmp_path, KEY_ID, PARAMETERS)) as store:
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
    assert done > ROUNDS


# In a program of its own, because a process with threads must not fork.
KILLED_AT_EACH_STATEMENT = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from tests.matcher.enrol_loop import PARAMETERS, nth
from tests.matcher.galleries import KEY_ID, run
from veilmatch.server.matcher.gallery.changes import by_leaf
from veilmatch.server.matcher.gallery.disk.store import Store

beside = "--beside" in sys.argv
folders = [one for one in sys.argv[2:] if one != "--beside"]

def run_until(data_dir, statements, what):
    counts = what == "run"
    store = Store(data_dir, KEY_ID, PARAMETERS)

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
        if beside:
            # As while queries go on; the hook is where the switch is waited for, and it may be killed there, too.
            store.apply("staff", changes, contents, (), lambda _: count())
            store.tidy()
        else:
            store.apply("staff", changes, contents)
    os._exit(0)

for statements, data_dir in enumerate(folders):
    if (child := os.fork()) == 0:
        run_until(Path(data_dir), statements, sys.argv[1])
    print(os.waitpid(child, 0)[1])
"""


def test_a_kill_before_any_statement_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    """The same deterministically, for an erasure: gallery n is killed before its n-th SQL statement."""
    folders = [tmp_path / str(statements) for statements in range(50)]
    with closing(Store(tmp_path / "before", KEY_ID, PARAMETERS)) as store:
        store.open_gallery("staff")
        run(store, "staff", nth(0))
        run(store, "staff", nth(1))
    for data_dir in folders:
        shutil.copytree(tmp_path / "before", data_dir)
    command = [sys.executable, "-c", KILLED_AT_EACH_STATEMENT, "run", *map(str, folders)]
    ends = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    outcomes = []
    for data_dir, end in zip(folders, ends, strict=True):
        with closing(Store(data_dir, KEY_ID, PARAMETERS)) as store:
            state = store.open_gallery("staff")
            check_against_model(store)
            outcomes.append((int(end), state.accepted is not None, state.sequence))
            if state.accepted is not None:
                commit(store, "staff")
                check_against_model(store)
            run(store, "staff", mutation(9, added=[(0, 9, "cid")], parameters=PARAMETERS))
    # Killed in the promise or in the acceptance, in the commit, after it, and not at all.
    assert list(dict.fromkeys(outcomes)) == [
        (signal.SIGKILL, False, 2),
        (signal.SIGKILL, True, 2),
        (signal.SIGKILL, False, 3),
        (0, False, 3),
    ]


@pytest.mark.parametrize("beside", [False, True])
def test_a_kill_while_several_changes_are_applied_leaves_none_or_all_of_them(tmp_path: Path, *, beside: bool) -> None:
    """The same for an organisation that catches up, in place of a change that it had accepted itself."""
    folders = [tmp_path / str(statements) for statements in range(90)]
    for folder in ("before", "ahead"):
        with closing(Store(tmp_path / folder, KEY_ID, PARAMETERS)) as store:
            store.open_gallery("staff")
            for number in range(2 if folder == "before" else 5):
                run(store, "staff", nth(number))
            if folder == "before":
                accept(store, "staff", mutation(9, added=[(0, 9, "cid")], parameters=PARAMETERS))
    for data_dir in folders:
        shutil.copytree(tmp_path / "before", data_dir)
    command = [sys.executable, "-c", KILLED_AT_EACH_STATEMENT, str(tmp_path / "ahead"), *map(str, folders)]
    command += ["--beside"] if beside else []
    ends = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    outcomes = []
    for data_dir, end in zip(folders, ends, strict=True):
        with closing(Store(data_dir, KEY_ID, PARAMETERS)) as store:
            state = store.open_gallery("staff")
            expected = Model("staff", PARAMETERS)
            for number in range(state.sequence):
                expected.commit(nth(number))
            expected.check(store)
            outcomes.append((int(end), state.accepted is not None, state.sequence))
    assert list(dict.fromkeys(outcomes)) == [
        (signal.SIGKILL, True, 2),
        (signal.SIGKILL, False, 5),
        (0, False, 5),
    ]
