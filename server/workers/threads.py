"""Worker threads in the place of worker processes, for arithmetic that lets go of the interpreter's lock.

All of them share one handler and what it holds (the packs of a matcher, say): there is one copy of
it, and nothing is sent through pipes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self, TypeVar

from veilmatch.crypto.errors import IntegrityError, UnavailableError, VeilmatchError
from veilmatch.server.monitoring import meters
from veilmatch.server.workers.pool import Exchange, Handler, WorkerPool

_A = TypeVar("_A")
_R = TypeVar("_R")


class Pool(Protocol):
    """What `WorkerPool` and `WorkerThreads` have in common; described there."""

    @property
    def count(self) -> int:
        """Number of workers."""

    async def call(self, worker: int, request: bytes) -> bytes:
        """Return the answer of one worker."""

    def lend(self, worker: int, work: Callable[[Exchange], None]) -> None:
        """Have `work` called with a worker for itself, in its turn."""

    async def map(self, requests: Sequence[bytes]) -> list[bytes]:
        """Return the answers to at most `count` requests, the i-th given by worker i."""

    async def wait_failed(self) -> None:
        """Return when a worker has died."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def make_pool(count: int, threads: bool, factory: Callable[..., Handler], *args: object) -> Pool:
    """Return `count` workers, threads or processes; see the two classes."""
    return WorkerThreads(count, factory, *args) if threads else WorkerPool(count, factory, *args)


class WorkerThreads:
    """`count` threads that share the handler `factory(*args)`, which must be thread-safe; a context manager.

    Raises what the factory raised if that is a VeilmatchError, IntegrityError("worker failed") for any other
    exception of it.
    """

    def __init__(self, count: int, factory: Callable[..., Handler], *args: object) -> None:
        if count < 1:
            raise ValueError("a pool needs a worker")
        with _without_text():
            self._handler = factory(*args)
        # One thread each: a worker answers in the order of the calls, as a process does.
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix=f"worker {number}") for number in range(count)]
        self._closed = False

    @property
    def count(self) -> int:
        """Number of workers."""
        return len(self._threads)

    async def call(self, worker: int, request: bytes) -> bytes:
        """Return the answer of worker number `worker`. Raises as `WorkerPool.call` does."""
        if not 0 <= worker < self.count:
            raise IndexError(f"no worker {worker} of {self.count}")
        return await asyncio.wrap_future(self._submit(worker, self._answer, request))

    def lend(self, worker: int, work: Callable[[Exchange], None]) -> None:
        """Have `work` called in the thread of a worker, in its turn. Raises as `WorkerPool.lend` does."""
        self._submit(worker, work, self._answer)

    async def map(self, requests: Sequence[bytes]) -> list[bytes]:
        """Return the answers to at most `count` requests, the i-th given by worker i. Raises as `WorkerPool.map`."""
        if len(requests) > self.count:
            raise ValueError(f"{len(requests)} requests for {self.count} workers")
        calls = [self.call(worker, request) for worker, request in enumerate(requests)]
        answers: list[bytes] = []
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            answers.append(answer)
        return answers

    async def wait_failed(self) -> None:
        """Never return: a thread does not die alone."""
        await asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """Let requests in progress end; blocks. Calls that wait and later ones raise UnavailableError."""
        self._closed = True
        for thread in self._threads:
            thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, worker: int, work: Callable[[_A], _R], argument: _A) -> Future[_R]:
        try:
            return self._threads[worker].submit(_timed, work, argument)
        except RuntimeError:  # the thread was shut down
            if not self._closed:
                raise
            raise _closed() from None

    def _answer(self, request: bytes) -> bytes:
        if self._closed:
            raise _closed()
        with _without_text():
            return self._handler(request)


def _timed(work: Callable[[_A], _R], argument: _A) -> _R:
    started = time.perf_counter()
    try:
        return work(argument)
    finally:
        meters.worked(time.perf_counter() - started)


def _closed() -> UnavailableError:
    return UnavailableError("the worker pool is closed")


@contextmanager
def _without_text() -> Iterator[None]:
    """Let no exception but a VeilmatchError out: its text may quote a secret; the name of its class does not."""
    try:
        yield
    except VeilmatchError:
        raise
    except Exception as error:
        raise IntegrityError("worker failed", got=type(error).__name__) from None
