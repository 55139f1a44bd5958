"""A nonce is served once: by this process, by the one that comes after it, and by any number of threads."""

from __future__ import annotations

import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.transport.ledgers import ReplayLog
from veilmatch.crypto.digests import NONCE_BYTES
from veilmatch.crypto.errors import RequestExpiredError, RequestReplayedError

ROOT = Path(__file__).parents[2]
NOW_S = 1_700_000_000.0
#: Expired nonces are kept this much longer, for clocks that are set back.
MARGIN_S = 3600


@contextmanager
def replay_log(data_dir: Path, now: Callable[[], float] = lambda: NOW_S) -> Iterator[ReplayLog]:
    log = ReplayLog(data_dir, now)
    try:
        yield log
    finally:
        log.close()


def nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


def in_ms(seconds: float) -> int:
    """That many seconds from NOW_S."""
    return int((NOW_S + seconds) * 1000)


def kept(data_dir: Path) -> set[bytes]:
    with closing(sqlite3.connect(data_dir / "ledger.db")) as connection:
        return {row[0] for row in connection.execute("SELECT nonce FROM nonces")}


def refuses(log: ReplayLog, seen: bytes) -> None:
    with pytest.raises(RequestReplayedError):
        log.register(seen, in_ms(60))


def test_a_fresh_nonce_is_taken_and_the_same_again_is_refused(tmp_path: Path) -> None:
    first, second = nonce(), nonce()
    with replay_log(tmp_path) as log:
        log.register(first, in_ms(60))
        refuses(log, first)
        log.register(second, in_ms(60))
        refuses(log, second)
        refuses(log, first)


def test_a_replay_with_another_expiry_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    seen = nonce()
    with replay_log(tmp_path) as log:
        log.register(seen, in_ms(60))
        with pytest.raises(RequestReplayedError):
            log.register(seen, in_ms(600))
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        assert connection.execute("SELECT nonce, expires_at_ms FROM nonces").fetchall() == [(seen, in_ms(60))]


def test_a_replay_is_refused_after_the_log_was_opened_again(tmp_path: Path) -> None:
    seen = nonce()
    with replay_log(tmp_path) as log:
        log.register(seen, in_ms(60))
    with replay_log(tmp_path) as log:
        refuses(log, seen)


def test_a_replay_is_refused_after_the_process_that_served_it_was_killed(tmp_path: Path) -> None:
    seen, expires_at_ms = nonce(), int((time.time() + 60) * 1000)
    arguments = [str(tmp_path), seen.hex(), str(expires_at_ms)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.transport.replay_loop", *arguments], stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"registered\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    with replay_log(tmp_path, time.time) as log:
        refuses(log, seen)
        log.register(nonce(), expires_at_ms)


def test_two_logs_of_different_servers_know_nothing_of_each_other(tmp_path: Path) -> None:
    seen = nonce()
    with replay_log(tmp_path / "matcher-a") as one, replay_log(tmp_path / "matcher-b") as other:
        one.register(seen, in_ms(60))
        other.register(seen, in_ms(60))


@pytest.mark.parametrize("logs", [1, 2], ids=["one log", "two logs of one file"])
def test_of_many_threads_with_one_nonce_exactly_one_is_admitted(tmp_path: Path, logs: int) -> None:
    threads, rounds = 8, [nonce() for _ in range(10)]
    together = threading.Barrier(threads)

    def race(log: ReplayLog) -> list[bool]:
        admitted = []
        for raced in rounds:
            together.wait(timeout=10)
            try:
                log.register(raced, in_ms(60))
                admitted.append(True)
            except RequestReplayedError:
                admitted.append(False)
        return admitted

    opened = [ReplayLog(tmp_path, lambda: NOW_S) for _ in range(logs)]
    with ThreadPoolExecutor(threads) as pool:
        outcomes = list(pool.map(race, [opened[i % logs] for i in range(threads)]))
    for log in opened:
        log.close()
    assert [sum(outcome) for outcome in zip(*outcomes, strict=True)] == [1] * len(rounds)
    assert kept(tmp_path) == set(rounds)


# -- pruning ---------------------------------------------------------------------------------------


def test_opening_forgets_what_expired_long_ago_and_nothing_else(tmp_path: Path) -> None:
    ages_s = (-MARGIN_S - 1, -MARGIN_S + 1, 0, 60)
    nonces = [nonce() for _ in ages_s]
    with replay_log(tmp_path, lambda: NOW_S - 2 * MARGIN_S) as log:
        for seen, age_s in zip(nonces, ages_s, strict=True):
            log.register(seen, in_ms(age_s))
    assert kept(tmp_path) == set(nonces)
    with replay_log(tmp_path) as log:
        log.register(newest := nonce(), in_ms(60))
        assert kept(tmp_path) == {*nonces[1:], newest}
        for seen in nonces[1:]:
            refuses(log, seen)


def test_a_log_that_stays_open_does_not_grow_for_ever(tmp_path: Path) -> None:
    clock = [NOW_S]
    with replay_log(tmp_path, lambda: clock[0]) as log:
        for _ in range(10):
            log.register(nonce(), in_ms(60))
        clock[0] += 60 + MARGIN_S + 1
        later = {nonce() for _ in range(300)}
        for fresh in later:
            log.register(fresh, in_ms(60 + MARGIN_S + 60))
    assert kept(tmp_path) == later


# -- clocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reopened", [False, True], ids=["same process", "after a restart"])
def test_a_nonce_is_not_taken_again_after_a_clock_that_ran_ahead_was_set_back(tmp_path: Path, reopened: bool) -> None:
    clock, served = [NOW_S], nonce()
    with ExitStack() as stack:
        log = stack.enter_context(replay_log(tmp_path, lambda: clock[0]))
        log.register(served, in_ms(60))
        clock[0] += 86400
        for _ in range(300):
            log.register(nonce(), in_ms(86400 + 60))
        assert served not in kept(tmp_path), "it was forgotten"
        clock[0] = NOW_S
        if reopened:
            log = stack.enter_context(replay_log(tmp_path, lambda: clock[0]))
        for _ in range(2):
            with pytest.raises(RequestExpiredError, match="set back"):
                log.register(served, in_ms(60))
        assert served not in kept(tmp_path), "a refused request leaves nothing behind"


def test_what_had_not_expired_when_the_clock_was_set_back_is_served_once(tmp_path: Path) -> None:
    clock = [NOW_S + 86400]
    with replay_log(tmp_path, lambda: clock[0]) as log:
        log.register(nonce(), in_ms(86400 + 60))
        clock[0] = NOW_S
        with pytest.raises(RequestExpiredError):
            log.register(nonce(), in_ms(86400 - MARGIN_S - 1))
        log.register(fresh := nonce(), in_ms(86400 - MARGIN_S))
        refuses(log, fresh)


def test_a_clock_that_is_set_back_less_than_the_margin_costs_no_request(tmp_path: Path) -> None:
    clock = [NOW_S + MARGIN_S]
    with replay_log(tmp_path, lambda: clock[0]) as log:
        log.register(nonce(), in_ms(MARGIN_S + 60))
        clock[0] = NOW_S
        log.register(nonce(), in_ms(60))


def test_a_later_pruning_with_a_clock_that_was_set_back_takes_nothing_back(tmp_path: Path) -> None:
    clock, served = [NOW_S], nonce()
    with replay_log(tmp_path, lambda: clock[0]) as log:
        log.register(served, in_ms(60))
    clock[0] += 86400
    with replay_log(tmp_path, lambda: clock[0]) as log:
        log.register(nonce(), in_ms(86400 + 60))
    clock[0] = NOW_S
    with replay_log(tmp_path, lambda: clock[0]) as log:
        for _ in range(300):
            log.register(nonce(), in_ms(86400))
        with pytest.raises(RequestExpiredError):
            log.register(served, in_ms(60))
