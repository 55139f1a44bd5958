"""Worker processes for the arithmetic of a server: one request in, one answer out, all of them bytes.

    with WorkerPool(4, make_handler, "d128-s126-c38-l46-n3072") as pool:
        answers = await pool.map([request_0, request_1, request_2, request_3])

A handler keeps state in its process (the packs of a matcher, the share of a key holder), so requests
are addressed to a worker and answered in order. Requests and answers are never pickled: they carry
keys, shares and probes, and travel as they are over a pipe that no other process holds.

Make the pool before gRPC starts: its threads do not survive in a new process, and a worker is
started by *spawn*, which imports the main module again (keep it importable without side effects).
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import connection as mp_connection
from multiprocessing import get_context, parent_process
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from veilmatch.crypto.errors import IntegrityError, UnavailableError, VeilmatchError
from veilmatch.server.monitoring import meters

Handler = Callable[[bytes], bytes]
#: Has a worker answer one request; raises what `WorkerPool.call` raises.
Exchange = Callable[[bytes], bytes]

#: A factory that has not returned after this long never will.
START_TIMEOUT_S = 120.0
#: How long `close` lets a request in progress finish before it kills its worker.
CLOSE_GRACE_S = 5.0

_ANSWER, _ERROR = b"a", b"e"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

_Connection = mp_connection.Connection


class WorkerPool:
    """`count` processes, each with its own handler `factory(*args)`; a context manager.

    factory: a function at the top level of a module; args: picklable, and nothing secret, for they
    are pickled. The constructor returns when every handler is made. Raises what a factory raised if
    that is a VeilmatchError, IntegrityError("worker failed") for any other exception of it, and
    UnavailableError if a worker dies or is not ready after START_TIMEOUT_S.

    Workers ignore SIGINT, SIGTERM and SIGHUP, which a supervisor or a terminal sends to the whole
    group: the parent decides when they end. They end with the parent, however it ends.
    """

    def __init__(self, count: int, factory: Callable[..., Handler], *args: object) -> None:
        if count < 1:
            raise ValueError("a pool needs a worker")
        self._closing = threading.Lock()
        self._closed = False
        self._failed: Future[None] = Future()
        self._watch = threading.Thread(target=self._watch_workers, name="worker watch", daemon=True)
        self._watch_ends, self._end_watch = mp_connection.Pipe(duplex=False)
        with _one_thread_each():
            self._workers = [_Worker(number, factory, args) for number in range(count)]
        # Before multiprocessing's own exit handler, which would wait for the workers for ever.
        atexit.register(self.close)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            for worker in self._workers:
                worker.wait_ready(deadline)
        except BaseException:
            self.close(grace_s=0)
            raise
        self._watch.start()
        for worker in self._workers:
            worker.thread.start()

    @property
    def count(self) -> int:
        """Number of workers, dead ones included."""
        return len(self._workers)

    async def call(self, worker: int, request: bytes) -> bytes:
        """Return the answer of worker number `worker` (0 .. count - 1) to `request`.

        Any number may wait; a worker takes them in the order of the calls. A call that is cancelled
        while it waits is never sent. Raises the handler's VeilmatchError; IntegrityError("worker
        failed") for any other exception of it; UnavailableError if the worker is dead or dies, or
        the pool is closed.
        """
        if not 0 <= worker < self.count:
            raise IndexError(f"no worker {worker} of {self.count}")
        return await asyncio.wrap_future(self._workers[worker].submit(request))

    def lend(self, worker: int, work: Callable[[Exchange], None]) -> None:
        """Have `work` called with a worker for itself, in its turn among the calls of that worker.

        work: runs in the thread that alone uses the worker, and must not raise. Raises UnavailableError if the pool is
        closed.
        """
        self._workers[worker].lend(work)

    async def map(self, requests: Sequence[bytes]) -> list[bytes]:
        """Return the answers to at most `count` requests, the i-th given by worker i.

        Every worker has answered when this returns or raises. If several fail, the error of the
        lowest one is raised; see `call`.
        """
        if len(requests) > self.count:
            raise ValueError(f"{len(requests)} requests for {self.count} workers")
        calls = [
            asyncio.wrap_future(worker.submit(request))
            for worker, request in zip(self._workers, requests, strict=False)
        ]
        answers: list[bytes] = []
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            answers.append(answer)
        return answers

    async def wait_failed(self) -> None:
        """Return when a worker has died although the pool is not closed. The daemon then exits non-zero.

        Its state is lost and a new process would have to be given keys again, so workers are never
        replaced; the supervisor starts the daemon anew.
        """
        # A future for this waiter alone: cancelling a wait cancels the future that is waited for.
        mine: Future[None] = Future()
        self._failed.add_done_callback(lambda _: _set_unless_cancelled(mine))
        await asyncio.wrap_future(mine)

    def close(self, grace_s: float = CLOSE_GRACE_S) -> None:
        """End all workers; blocks. A request in progress may take `grace_s` more seconds, then it is killed.

        Calls that wait raise UnavailableError, and so do later ones. Closing twice does nothing.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        self._end_watch.close()
        if self._watch.is_alive():
            self._watch.join()
        self._watch_ends.close()
        for worker in self._workers:
            worker.stop()
        deadline = time.monotonic() + grace_s
        for worker in self._workers:
            worker.end(deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _watch_workers(self) -> None:
        sentinels = [worker.sentinel for worker in self._workers]
        if self._watch_ends not in mp_connection.wait([*sentinels, self._watch_ends]):
            self._failed.set_result(None)


class _Worker:
    """The parent's side of one worker: its process, the pipe, and the thread that alone uses the pipe."""

    def __init__(self, number: int, factory: Callable[..., Handler], args: tuple[object, ...]) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._submitting = threading.Lock()
        self._stopped = False
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, factory, args), name=f"veilmatch worker {number}", daemon=True
        )
        self._process.start()
        theirs.close()  # or the death of the worker would not be the end of the pipe
        self.thread = threading.Thread(target=self._exchange_all, name=f"worker {number}", daemon=True)

    @property
    def sentinel(self) -> int:
        """Becomes readable when the process has ended."""
        return self._process.sentinel

    def wait_ready(self, deadline: float) -> None:
        """Return when the handler is made; called before the thread starts."""
        try:
            if not self._pipe.poll(max(0.0, deadline - time.monotonic())):
                raise UnavailableError("a worker does not start")
            self._receive()
        except (EOFError, OSError):
            raise _dead() from None

    def submit(self, request: bytes) -> Future[bytes]:
        answer: Future[bytes] = Future()
        try:
            self._put(partial(self._answer, request, answer))
        except UnavailableError as error:
            answer.set_exception(error)
        return answer

    def lend(self, work: Callable[[Exchange], None]) -> None:
        self._put(partial(work, self._exchange))

    def _put(self, work: Callable[[], None]) -> None:
        with self._submitting:
            if self._stopped:
                raise _closed()
            self._queue.put(work)

    def stop(self) -> None:
        """Take no more requests and let the process end after the one in progress."""
        with self._submitting:
            self._stopped = True
        self._queue.put(None)

    def end(self, deadline: float) -> None:
        """Wait for the process until `deadline`, then kill it."""
        if self.thread.ident is None:  # never started: closing the pipe is left to us
            self._pipe.close()
        self._process.join(max(0.0, deadline - time.monotonic()))
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        if self.thread.ident is not None:
            self.thread.join()
        self._process.close()

    def _exchange_all(self) -> None:
        while (work := self._queue.get()) is not None:
            started = time.perf_counter()
            work()
            meters.worked(time.perf_counter() - started)
            del work  # the next one may be hours away
        self._pipe.close()

    def _answer(self, request: bytes, answer: Future[bytes]) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            answer.set_result(self._exchange(request))
        except BaseException as error:
            answer.set_exception(error)

    def _exchange(self, request: bytes) -> bytes:
        if self._stopped:
            raise _closed()
        try:
            self._pipe.send_bytes(request)
            return self._receive()
        except (EOFError, OSError):
            raise (_closed() if self._stopped else _dead()) from None

    def _receive(self) -> bytes:
        kind = self._pipe.recv_bytes()
        body = self._pipe.recv_bytes()
        if kind == _ERROR:
            raise VeilmatchError.from_fields(json.loads(body))
        return body


def _set_unless_cancelled(event: Future[None]) -> None:
    if event.set_running_or_notify_cancel():
        event.set_result(None)


def _dead() -> UnavailableError:
    return UnavailableError("a worker process has died")


def _closed() -> UnavailableError:
    return UnavailableError("the worker pool is closed")


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes started meanwhile use one thread each in OpenMP and BLAS: the pool is the parallelism.

    Through the environment, because these libraries read it when they are first imported.
    """
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# -- in the worker ----------------------------------------------------------------------------


def _serve(pipe: _Connection, factory: Callable[..., Handler], args: tuple[Any, ...]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        handler = factory(*args)
    except Exception as error:
        with suppress(OSError):
            _send(pipe, _ERROR, _describe(error))
        return
    try:
        _send(pipe, _ANSWER, b"")
        while True:
            _answer(pipe, handler)
    except (EOFError, OSError):
        return  # the end of the pipe is the end of the parent, or its wish
    except BaseException as error:
        # multiprocessing would print its text.
        sys.excepthook(type(error), error, error.__traceback__)
        os._exit(1)


def _answer(pipe: _Connection, handler: Handler) -> None:
    """Serve one request. A function of its own, so that no request or answer outlives it."""
    request = pipe.recv_bytes()
    try:
        kind, body = _ANSWER, handler(request)
    except Exception as error:
        kind, body = _ERROR, _describe(error)
    _send(pipe, kind, body)


def _send(pipe: _Connection, kind: bytes, body: bytes) -> None:
    # In two messages: putting the kind before the body would copy tens of MB.
    pipe.send_bytes(kind)
    pipe.send_bytes(body)


def _describe(error: Exception) -> bytes:
    """The text of an unforeseen exception may quote a secret; the name of its class does not."""
    if not isinstance(error, VeilmatchError):
        error = IntegrityError("worker failed", got=type(error).__name__)
    return json.dumps(error.fields()).encode()


def _die_with_parent() -> None:
    """A handler in the middle of a long request does not look at its pipe."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
