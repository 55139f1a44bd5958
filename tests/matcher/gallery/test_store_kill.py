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

from tests.matcher.enrol_loop import PARAMETERS, nth
from tests.matcher.galleries import KEY_ID, Model, mutation, run
from veilmatch.server.matcher.gallery.store import Store

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
    """The first `sequence` mutations, no more and no less, and the pending one whole or not at all."""
    state = store.state("staff")
    expected = Model("staff", PARAMETERS)
    for number in range(state.sequence):
        expected.commit(nth(number))
    expected.check(store)
    if state.pending_chain is not None:
        expected.commit(nth(state.sequence))
        assert state.pending_chain == expected.chain()


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
            if state.pending_chain is not None:
                if moments.random() < 0.5:
                    store.discard("staff")
                else:
                    store.commit("staff", state.pending_chain)
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
from veilmatch.server.matcher.gallery.store import Store

def run_until(data_dir, statements):
    store = Store(data_dir, KEY_ID, PARAMETERS)

    @event.listens_for(Engine, "before_cursor_execute")
    def count(*_):
        nonlocal statements
        statements -= 1
        if statements < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    run(store, "staff", nth(2))
    os._exit(0)

for statements, data_dir in enumerate(sys.argv[1:]):
    if (child := os.fork()) == 0:
        run_until(Path(data_dir), statements)
    print(os.waitpid(child, 0)[1])
"""


def test_a_kill_before_any_statement_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    """The same deterministically, for an erasure: gallery n is killed before its n-th SQL statement."""
    folders = [tmp_path / str(statements) for statements in range(35)]
    with closing(Store(tmp_path / "before", KEY_ID, PARAMETERS)) as store:
        store.open_gallery("staff")
        run(store, "staff", nth(0))
        run(store, "staff", nth(1))
    for data_dir in folders:
        shutil.copytree(tmp_path / "before", data_dir)
    command = [sys.executable, "-c", KILLED_AT_EACH_STATEMENT, *map(str, folders)]
    ends = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    outcomes = []
    for data_dir, end in zip(folders, ends, strict=True):
        with closing(Store(data_dir, KEY_ID, PARAMETERS)) as store:
            state = store.open_gallery("staff")
            check_against_model(store)
            outcomes.append((int(end), state.pending_chain is not None, state.sequence))
            if state.pending_chain is not None:
                store.commit("staff", state.pending_chain)
                check_against_model(store)
            run(store, "staff", mutation(9, added=[(0, 9, "cid")], parameters=PARAMETERS))
    # Killed in the first transaction, in the second, after it, and not at all.
    assert list(dict.fromkeys(outcomes)) == [
        (signal.SIGKILL, False, 2),
        (signal.SIGKILL, True, 2),
        (signal.SIGKILL, False, 3),
        (0, False, 3),
    ]
