"""Worker threads in the place of worker processes, for arithmetic that lets go of the interpreter's lock.

All of them share one handler and what it holds (the packs of a matcher, say): there is one copy of
it, and nothing is sent through pipes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self

from veilmatch.crypto.errors import IntegrityError, UnavailableError, VeilmatchError
from veilmatch.server.workers import Handler, WorkerPool


class Pool(Protocol):
    """What `WorkerPool` and `WorkerThreads` have in common; described there."""

    @property
    def count(self) -> int:
        """Number of workers."""

    async def call(self, worker: int, request: bytes) -> bytes:
        """Return the answer of one worker."""

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
    """`count` threads that share the handler `factory(*args)`, which must be thread-safe; a context manager."""

    def __init__(self, count: int, factory: Callable[..., Handler], *args: object) -> None:
        if count < 1:
            raise ValueError("a pool needs a worker")
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
        if self._closed:
            raise UnavailableError("the worker pool is closed")
        return await asyncio.wrap_future(self._threads[worker].submit(self._answer, request))

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
        """Take no more requests, drop those that wait, let those in progress end; blocks. Twice does nothing."""
        self._closed = True
        for thread in self._threads:
            thread.shutdown(wait=False, cancel_futures=True)
        for thread in self._threads:
            thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, request: bytes) -> bytes:
        try:
            return self._handler(request)
        except VeilmatchError:
            raise
        except Exception as error:
            # Its text may quote a secret; the name of its class does not.
            raise IntegrityError("worker failed", got=type(error).__name__) from None
