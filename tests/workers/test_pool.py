"""The worker pool: order, parallelism, typed errors, dead workers, and ends of every kind."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.matcher.handlers import ERRORS, make_echo, make_handler, make_nothing, request
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, UnavailableError, VeilmatchError
from veilmatch.server.workers import pool as workers
from veilmatch.server.workers.pool import WorkerPool

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    """For the tests that leave all workers alive."""
    with WorkerPool(2, make_handler, "w") as pool:
        yield pool


async def pids_of(pool: WorkerPool) -> list[int]:
    return [int(answer) for answer in await pool.map([request("pid")] * pool.count)]


def is_alive(pid: int) -> bool:
    """Return whether the process still runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_dead(pids: list[int], within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(map(is_alive, pids))


# -- requests and answers ---------------------------------------------------------------------


async def test_a_worker_answers_in_the_order_of_the_calls(pool: WorkerPool) -> None:
    first = int((await pool.call(0, request("count", "x"))).rpartition(b":")[2])
    answers = await asyncio.gather(*(pool.call(0, request("count", i)) for i in range(50)))
    assert answers == [f"w{i}:{first + 1 + i}".encode() for i in range(50)]


async def test_map_gives_request_i_to_worker_i(pool: WorkerPool) -> None:
    pids = await pids_of(pool)
    assert len({os.getpid(), *pids}) == 3
    assert [int(await pool.call(i, request("pid"))) for i in range(2)] == pids
    assert await pool.map([request("pid")]) == [str(pids[0]).encode()]
    assert await pool.map([]) == []


async def test_more_requests_than_workers_are_a_mistake(pool: WorkerPool) -> None:
    with pytest.raises(ValueError, match="3 requests for 2 workers"):
        await pool.map([request("pid")] * 3)
    for worker in (-1, 2):
        with pytest.raises(IndexError):
            await pool.call(worker, request("pid"))


async def test_workers_work_at_the_same_time_and_the_event_loop_goes_on(pool: WorkerPool, tmp_path: Path) -> None:
    """Each of the two waits until both have begun, which the event loop sees and tells them."""
    here, go_on = [tmp_path / "0", tmp_path / "1"], tmp_path / "go on"
    meeting = asyncio.create_task(pool.map([request("meet", [str(path), str(go_on)]) for path in here]))
    try:
        async with asyncio.timeout(30):
            while not all(path.exists() for path in here):
                await asyncio.sleep(0.01)
    finally:
        go_on.touch()
    assert await meeting == [b"met"] * 2


async def test_a_call_cancelled_while_it_waits_is_never_sent(pool: WorkerPool) -> None:
    before = int((await pool.call(1, request("count", 0))).rpartition(b":")[2])
    running = asyncio.create_task(pool.call(1, request("sleep", 0.2)))
    waiting = asyncio.create_task(pool.call(1, request("count", 1)))
    await asyncio.sleep(0.05)
    waiting.cancel()
    assert await running == b"slept"
    assert await pool.call(1, request("count", 2)) == f"w2:{before + 2}".encode()
    assert waiting.cancelled()


async def test_a_call_cancelled_while_it_runs_does_not_shift_the_answers(pool: WorkerPool) -> None:
    running = asyncio.create_task(pool.call(0, request("sleep", 0.2)))
    await asyncio.sleep(0.05)
    running.cancel()
    assert (await pool.call(0, request("count", "after"))).startswith(b"wafter:")


async def test_the_threads_of_blas_are_one_each(pool: WorkerPool) -> None:
    threads = json.loads(await pool.call(0, request("threads")))
    assert threads.items() >= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}.items()


def test_the_environment_of_the_parent_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    before = dict(os.environ)
    WorkerPool(1, make_echo).close()
    assert dict(os.environ) == before


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ERRORS, ids=bytes.decode)
async def test_a_typed_error_arrives_with_its_fields(pool: WorkerPool, name: bytes) -> None:
    with pytest.raises(VeilmatchError) as caught:
        await pool.call(0, request("raise", name.decode()))
    assert type(caught.value) is type(ERRORS[name])
    assert caught.value.fields() == ERRORS[name].fields()


async def test_any_other_exception_arrives_without_its_text(pool: WorkerPool) -> None:
    with pytest.raises(IntegrityError) as caught:
        await pool.call(0, request("fail", "hunter2"))
    assert caught.value.message == "worker failed"
    assert caught.value.got == "RuntimeError"
    assert "hunter2" not in repr(caught.value.fields())
    assert (await pool.call(0, request("count", "alive"))).startswith(b"walive:")


async def test_map_raises_the_error_of_the_lowest_worker_after_all_have_answered(pool: WorkerPool) -> None:
    with pytest.raises(IntegrityError):
        await pool.map([request("fail"), request("raise", "mismatch")])
    started = time.monotonic()
    with pytest.raises(IntegrityError):
        await pool.map([request("fail"), request("sleep", 0.2)])
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(
    ("kind", "error"),
    [("typed", ConfigurationError), ("untyped", IntegrityError), ("die", UnavailableError)],
)
def test_a_factory_that_fails_fails_the_pool(kind: str, error: type[VeilmatchError]) -> None:
    others = set(multiprocessing.active_children())
    with pytest.raises(error) as caught:
        WorkerPool(2, make_nothing, kind)
    assert "42" not in str(caught.value)
    assert set(multiprocessing.active_children()) == others


def test_a_factory_that_never_returns_fails_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "START_TIMEOUT_S", 0.5)
    with pytest.raises(UnavailableError, match="does not start"):
        WorkerPool(1, make_nothing, "hang")


# -- bytes and nothing but bytes --------------------------------------------------------------


WITHOUT_PICKLE = """
import asyncio, os
from tests.matcher.handlers import forbid_pickle, make_echo_without_pickle
from veilmatch.server.workers.pool import WorkerPool

async def main(pool):
    secret = os.urandom(1000)
    assert await pool.call(0, secret) == secret[::-1]
    assert await pool.map([secret, secret]) == [secret[::-1]] * 2

if __name__ == "__main__":
    with WorkerPool(2, make_echo_without_pickle) as pool:
        forbid_pickle()
        asyncio.run(main(pool))
    print("passed")
"""


def test_a_secret_never_passes_through_pickle(tmp_path: Path) -> None:
    """Pickle is forbidden in the parent and in the workers once they are started."""
    assert run_program(tmp_path, WITHOUT_PICKLE) == ["passed"]


async def test_what_is_sent_is_never_given_to_the_pickling_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    plain = Connection.send_bytes

    def send_bytes(self: Connection, data: bytes) -> None:
        sent.append(data)
        plain(self, data)

    monkeypatch.setattr(Connection, "send_bytes", send_bytes)
    with WorkerPool(1, make_echo) as pool:
        assert await pool.call(0, b"share") == b"erahs"
    assert sent == [b"share"]


async def test_tens_of_megabytes_go_both_ways() -> None:
    data = os.urandom(1 << 20) * 32
    with WorkerPool(1, make_echo) as pool:
        assert await pool.call(0, data) == data[::-1]
        assert await pool.call(0, b"") == b""


# -- dead workers -----------------------------------------------------------------------------


async def test_calls_to_a_worker_that_dies_are_unavailable_and_the_failure_is_reported() -> None:
    with WorkerPool(2, make_handler) as pool:
        failed = [asyncio.create_task(pool.wait_failed()) for _ in range(3)]
        await asyncio.sleep(0.05)
        failed[0].cancel()
        await asyncio.sleep(0.05)
        assert not failed[1].done()
        calls = [pool.call(0, request("die")), *(pool.call(0, request("count", i)) for i in range(3))]
        errors = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
        assert [type(error) for error in errors] == [UnavailableError] * 4
        await asyncio.wait_for(asyncio.gather(*failed[1:]), 5)
        await asyncio.wait_for(pool.wait_failed(), 5)
        with pytest.raises(UnavailableError):
            await pool.call(0, request("count"))
        with pytest.raises(UnavailableError):
            await pool.map([request("count")] * 2)
        assert await pool.call(1, request("count", "other")) == b"other:2"
    assert failed[0].cancelled()


async def test_the_death_of_an_idle_worker_is_reported() -> None:
    with WorkerPool(2, make_handler) as pool:
        pids = await pids_of(pool)
        failed = asyncio.create_task(pool.wait_failed())
        await asyncio.sleep(0.05)
        assert not failed.done()
        os.kill(pids[1], signal.SIGKILL)
        await asyncio.wait_for(failed, 5)
        with pytest.raises(UnavailableError, match="died"):
            await pool.call(1, request("count"))


async def test_signals_to_the_whole_group_leave_workers_alive(pool: WorkerPool) -> None:
    for pid in await pids_of(pool):
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGHUP)
    await pool.map([request("sleep", 0.1)] * 2)


# -- the end ----------------------------------------------------------------------------------


async def test_closing_lets_the_request_in_progress_finish_and_refuses_the_rest() -> None:
    pool = WorkerPool(1, make_handler)
    pids = await pids_of(pool)
    failed = asyncio.create_task(pool.wait_failed())
    running = asyncio.create_task(pool.call(0, request("sleep", 0.3)))
    waiting = asyncio.create_task(pool.call(0, request("count")))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(pool.close)
    assert wait_dead(pids, 0)
    assert await running == b"slept"
    for call in (waiting, pool.call(0, request("count"))):
        with pytest.raises(UnavailableError, match="closed"):
            await call
    pool.close()
    await asyncio.sleep(0.05)
    assert not failed.done()
    failed.cancel()


async def test_closing_kills_what_takes_too_long() -> None:
    pool = WorkerPool(1, make_handler)
    pids = await pids_of(pool)
    running = asyncio.create_task(pool.call(0, request("sleep", 60)))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    await asyncio.to_thread(pool.close, 0.2)
    assert time.monotonic() - started < 2
    assert wait_dead(pids, 0)
    with pytest.raises(UnavailableError, match="closed"):
        await running


PARENT = """
import asyncio, os, signal, sys, time
from tests.matcher.handlers import make_handler, request
from veilmatch.server.workers.pool import WorkerPool

async def main(pool):
    pids = await pool.map([request("pid")] * 2)
    busy = asyncio.create_task(pool.call(1, request("sleep", {sleep_s})))
    await asyncio.sleep(0.1)
    print(*map(int, pids), flush=True)
    {end}

if __name__ == "__main__":
    asyncio.run(main(WorkerPool(2, make_handler)))
"""


def run_program(folder: Path, text: str) -> list[str]:
    """Return the words that a main module prints, which spawned workers import again."""
    program = folder / "program.py"
    program.write_text(text)
    result = subprocess.run(
        [sys.executable, program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=20,
        text=True,
    )
    return result.stdout.split()


@pytest.mark.parametrize(
    ("end", "sleep_s"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 60),
        ("os._exit(0)", 60),
        ("sys.exit(0)", 0.5),  # a pool that nobody closes gives its workers the usual grace
    ],
    ids=["killed", "without cleaning up", "not closed"],
)
def test_workers_end_with_their_parent_even_when_busy(tmp_path: Path, end: str, sleep_s: float) -> None:
    pids = [int(word) for word in run_program(tmp_path, PARENT.format(end=end, sleep_s=sleep_s))]
    assert len(pids) == 2
    assert wait_dead(pids)
