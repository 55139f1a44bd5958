"""An event loop in a thread of its own, and a caller that waits for it: what stands under the synchronous client.

Callbacks of a call run in the thread of its caller, which has nothing to do but wait: a callback may use the client.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import os
import queue
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from veilmatch.crypto.errors import ClientUseError, UnavailableError

_R = TypeVar("_R")
_serving: contextvars.ContextVar[object] = contextvars.ContextVar("veilmatch_serving", default=None)


class LoopThread:
    """Starts with its first call, and belongs to the process of that call. Any number of threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Not this object: a context that holds it would keep the loop of a client that nobody closes.
        self._mark = object()
        self._process: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self, call: Coroutine[Any, Any, _R]) -> Future[_R]:
        """Return the future of a coroutine that runs in the loop.

        Raises ClientUseError after `close`, in another process, and within a call of its own, which it would wait for.
        """
        try:
            self._require_here()
            with self._lock:
                if self._closed:
                    raise ClientUseError("the client is closed", expected="calls inside `with`")
                loop = self._loop = self._loop or self._started()
                # So that threads which the call starts are known as its own.
                context = contextvars.copy_context()
                context.run(_serving.set, self._mark)
                return context.run(asyncio.run_coroutine_threadsafe, call, loop)
        except BaseException:
            call.close()
            raise

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """End all calls, run `last`, and end the thread. Closing twice is fine; in a child nothing is done.

        Raises ClientUseError within a call of its own.
        """
        if self._process not in (None, os.getpid()):
            return
        self._require_here()
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(_shut_down(last), self._loop).result()
            self._abandoned()
            self._thread.join()

    def _require_here(self) -> None:
        # Before the lock: in a child it may be held by a thread that is not there.
        if self._process is None:
            self._process = os.getpid()
        if self._process != os.getpid():
            raise ClientUseError(
                "the client belongs to another process: it was used before this one was forked",
                got=f"process {os.getpid()}",
                expected=f"process {self._process}, or a client made after the fork",
            )
        if _serving.get() is self._mark or threading.current_thread() is self._thread:
            raise ClientUseError(
                "the client was called from within a call of its own, which it would wait for",
                expected="a call from elsewhere, such as the callbacks progress and skipped",
            )

    def _started(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(_without_poller_noise)
        self._thread = threading.Thread(target=_run, args=(loop,), name="veilmatch-client", daemon=True)
        self._thread.start()
        # For a client that nobody closes. At the end of the interpreter a daemon thread ends by itself.
        self._abandoned = weakref.finalize(self, _abandon, loop, os.getpid())
        self._abandoned.atexit = False
        return loop


class Caller:
    """The thread that waits for one call, and meanwhile runs the callbacks of that call."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[Future[object], Callable[[], object]] | None] = queue.SimpleQueue()

    def relayed(self, callback: Callable[..., object]) -> Callable[..., Coroutine[Any, Any, None]]:
        """Return what the call is given in place of a callback: it waits until the waiting thread has run it."""

        async def relayed(*values: object) -> None:
            ran: Future[object] = Future()
            self._asked.put((ran, functools.partial(callback, *values)))
            answer = await asyncio.wrap_future(ran)
            if inspect.isawaitable(answer):
                await answer

        return relayed

    def wait(self, call: Future[_R]) -> _R:
        """Return the result of the call. Its error is raised here; whatever else ends the wait cancels it."""
        try:
            call.add_done_callback(lambda _: self._asked.put(None))
            while (asked := self._asked.get()) is not None:
                self._run(*asked)
            return call.result()
        except CancelledError:
            # Only `close` cancels, from another thread.
            raise UnavailableError("the client was closed during the call") from None
        except BaseException:
            call.cancel()
            raise

    def _run(self, ran: Future[object], callback: Callable[[], object]) -> None:
        if not ran.set_running_or_notify_cancel():
            return
        try:
            ran.set_result(callback())
        except Exception as error:
            ran.set_exception(error)


async def _shut_down(last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await last()
    await asyncio.get_running_loop().shutdown_default_executor()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _abandon(loop: asyncio.AbstractEventLoop, process: int) -> None:
    """Let the thread end by itself; never in a child, where there is none and the loop's sockets are the parent's."""
    if os.getpid() == process:
        loop.call_soon_threadsafe(loop.stop)


def _without_poller_noise(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Event loops of one process share gRPC's poller: all are woken, and all but one then report EAGAIN.

    Harmless (grpc/grpc issue 25364), but it would look like an error of the caller's.
    """
    if "PollerCompletionQueue" not in context.get("message", ""):
        loop.default_exception_handler(context)
