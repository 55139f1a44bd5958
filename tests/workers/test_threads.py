"""Worker threads keep the contract of worker processes: order, parallelism, typed errors, and the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.matcher.handlers import ERRORS, make_echo, make_handler, make_nothing, request
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, UnavailableError, VeilmatchError
from veilmatch.server.workers.pool import Handler, WorkerPool
from veilmatch.server.workers.threads import WorkerThreads, make_pool

WAIT_S = 10


@pytest.fixture
def pool() -> Iterator[WorkerThreads]:
    with WorkerThreads(2, make_handler, "w") as pool:
        yield pool


class Gate:
    """A handler that says when it is entered and returns when it is let go."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Semaphore(0), threading.Event()
        self.seen: list[bytes] = []

    def __call__(self, request: bytes) -> bytes:
        self.seen.append(request)
        self.entered.release()
        assert self.open.wait(WAIT_S)
        return request

    async def wait_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=WAIT_S)


def make_meeting(count: int) -> Handler:
    """Requests are answered when `count` of them are in progress at once."""
    barrier = threading.Barrier(count)

    def meet(request: bytes) -> bytes:
        barrier.wait(WAIT_S)
        return threading.current_thread().name.encode()

    return meet


# -- requests and answers ---------------------------------------------------------------------


async def test_a_worker_answers_in_the_order_of_the_calls(pool: WorkerThreads) -> None:
    answers = await asyncio.gather(*(pool.call(0, request("count", i)) for i in range(50)))
    assert answers == [f"w{i}:{1 + i}".encode() for i in range(50)]


async def test_two_workers_work_side_by_side_each_in_its_thread() -> None:
    with WorkerThreads(2, make_meeting, 2) as pool:
        names = await pool.map([b"", b""])
        assert [name.split(b"_")[0] for name in names] == [b"worker 0", b"worker 1"]
        assert await asyncio.gather(pool.call(1, b""), pool.call(0, b"")) == names[::-1]


async def test_map_gives_request_i_to_worker_i_and_takes_fewer(pool: WorkerThreads) -> None:
    assert await pool.map([]) == []
    assert await pool.map([request("count", "one")]) == [b"wone:1"]


async def test_the_event_loop_goes_on_while_a_worker_is_busy() -> None:
    gate = Gate()
    with WorkerThreads(1, lambda: gate) as pool:
        running = asyncio.create_task(pool.call(0, b"long"))
        await gate.wait_entered()
        gate.open.set()  # by the event loop: it would never be set if the call blocked it
        assert await running == b"long"


async def test_more_requests_than_workers_are_a_mistake(pool: WorkerThreads) -> None:
    with pytest.raises(ValueError, match="3 requests for 2 workers"):
        await pool.map([request("count")] * 3)
    for worker in (-1, 2):
        with pytest.raises(IndexError):
            await pool.call(worker, request("count"))


@pytest.mark.parametrize("count", [0, -1])
def test_a_pool_needs_a_worker(count: int) -> None:
    with pytest.raises(ValueError, match="needs a worker"):
        WorkerThreads(count, make_echo)


async def test_a_call_cancelled_while_it_waits_is_never_made() -> None:
    gate = Gate()
    with WorkerThreads(1, lambda: gate) as pool:
        running, waiting = (asyncio.create_task(pool.call(0, data)) for data in (b"first", b"second"))
        await gate.wait_entered()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.open.set()
        assert await running == b"first"
        assert await pool.call(0, b"third") == b"third"
    assert gate.seen == [b"first", b"third"]


async def test_a_call_cancelled_while_it_runs_does_not_shift_the_answers() -> None:
    gate = Gate()
    with WorkerThreads(1, lambda: gate) as pool:
        running = asyncio.create_task(pool.call(0, b"first"))
        await gate.wait_entered()
        running.cancel()
        gate.open.set()
        assert await pool.call(0, b"second") == b"second"
    assert gate.seen == [b"first", b"second"]


async def test_all_workers_share_one_handler(pool: WorkerThreads) -> None:
    await pool.call(0, request("count"))
    assert await pool.call(1, request("count", "x")) == b"wx:2"


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ERRORS, ids=bytes.decode)
async def test_a_typed_error_arrives_with_its_fields(pool: WorkerThreads, name: bytes) -> None:
    with pytest.raises(VeilmatchError) as caught:
        await pool.call(0, request("raise", name.decode()))
    assert type(caught.value) is type(ERRORS[name])
    assert caught.value.fields() == ERRORS[name].fields()


async def test_any_other_exception_arrives_without_its_text(pool: WorkerThreads) -> None:
    with pytest.raises(IntegrityError) as caught:
        await pool.call(0, request("fail", "hunter2"))
    assert caught.value.message == "worker failed"
    assert caught.value.got == "RuntimeError"
    assert "hunter2" not in repr(caught.value.fields()) + str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert (await pool.call(0, request("count", "alive"))).startswith(b"walive:")


async def test_map_raises_the_error_of_the_lowest_worker(pool: WorkerThreads) -> None:
    with pytest.raises(IntegrityError):
        await pool.map([request("fail"), request("raise", "mismatch")])


async def test_map_waits_for_all_even_if_one_has_failed() -> None:
    gate = Gate()

    def handle(data: bytes) -> bytes:
        if data == b"fail":
            raise ZeroDivisionError
        return gate(data)

    with WorkerThreads(2, lambda: handle) as pool:
        mapped = asyncio.create_task(pool.map([b"fail", b"slow"]))
        await gate.wait_entered()
        with pytest.raises(IntegrityError):
            await pool.call(0, b"fail")  # worker 0 has answered what came before, too
        assert not mapped.done()
        gate.open.set()
        with pytest.raises(IntegrityError, match="ZeroDivisionError"):
            await mapped


@pytest.mark.parametrize(("kind", "error"), [("typed", ConfigurationError), ("untyped", IntegrityError)])
def test_a_factory_that_fails_fails_the_pool(kind: str, error: type[VeilmatchError]) -> None:
    before = threading.active_count()
    with pytest.raises(error) as caught:
        WorkerThreads(2, make_nothing, kind)
    assert "42" not in str(caught.value)
    assert threading.active_count() == before


# -- the end ----------------------------------------------------------------------------------


async def test_closing_lets_the_request_in_progress_finish_and_refuses_the_rest() -> None:
    gate = Gate()
    pool = WorkerThreads(1, lambda: gate)
    failed = asyncio.create_task(pool.wait_failed())
    running, waiting = (asyncio.create_task(pool.call(0, data)) for data in (b"first", b"second"))
    await gate.wait_entered()
    closing = asyncio.create_task(asyncio.to_thread(pool.close))
    while not pool._closed:
        await asyncio.sleep(0.001)
    assert not closing.done()
    gate.open.set()
    await closing
    assert await running == b"first"
    for call in (waiting, pool.call(0, b"third"), pool.map([b"fourth"])):
        with pytest.raises(UnavailableError, match="closed"):
            await call
    assert gate.seen == [b"first"]
    pool.close()
    await asyncio.sleep(0)
    assert not failed.done()
    failed.cancel()


async def test_no_thread_is_left_after_the_context() -> None:
    before = set(threading.enumerate())
    with WorkerThreads(3, make_echo) as pool:
        assert pool.count == 3
        await pool.map([b"ab"] * 3)
        assert len(set(threading.enumerate()) - before) == 3
    assert not set(threading.enumerate()) - before


def test_make_pool_makes_the_kind_that_is_asked_for() -> None:
    for threads, kind in ((True, WorkerThreads), (False, WorkerPool)):
        with make_pool(1, threads, make_echo) as pool:
            assert type(pool) is kind
            with ThreadPoolExecutor(1) as other:
                assert other.submit(asyncio.run, pool.call(0, b"abc")).result(WAIT_S) == b"cba"
