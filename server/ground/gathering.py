"""Gathered writes: what comes while a write goes on waits, and all of it is written together by the next one.

    gathered = Gathered("ledger", write)
    gathered.put(item).result()               # in a thread
    await asyncio.wrap_future(gathered.put(item))

One thread writes. It takes whatever waits as soon as it is free: there is no timer, and what comes while nothing is
being written waits for nobody. So a disk that takes long to sync makes batches larger, and not the queue longer.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from veilmatch.crypto.errors import StorageError, VeilmatchError
from veilmatch.server.ground.own_failures import alike
from veilmatch.server.monitoring import meters

_Item = TypeVar("_Item")
#: What became of one item: None, or why it was refused.
Outcome = Exception | None


class Gathered(Generic[_Item]):
    """Writes items in batches, in the order in which they came. Used from several threads.

    write: writes a batch durably and returns the outcome of each item, so that one is refused without the others. What
    it raises instead is true of all of them: none was written.
    """

    def __init__(self, name: str, write: Callable[[Sequence[_Item]], Sequence[Outcome]]) -> None:
        self._name = name
        self._write = write
        self._lock = threading.Lock()
        self._waiting: list[tuple[_Item, Future[None]]] = []
        self._writing = self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    def put(self, item: _Item) -> Future[None]:
        """Have an item written; the future is done once it is durable, or has the error that refused it.

        A future that is cancelled before its turn is not written. Raises StorageError after `close`.
        """
        future: Future[None] = Future()
        with self._lock:
            if self._closed:
                raise StorageError(
                    f"nothing is written to the {self._name} any more", needed="a server that runs", available="stopped"
                )
            if not self._writing:
                self._thread.submit(self._write_what_waits)
                self._writing = True
            self._waiting.append((item, future))
        return future

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._lock:
            self._closed = True
        self._thread.shutdown()

    def _write_what_waits(self) -> None:
        while True:
            with self._lock:
                waiting, self._waiting = self._waiting, []
                if not waiting:
                    self._writing = False
                    return
            batch = [(item, future) for item, future in waiting if future.set_running_or_notify_cancel()]
            if not batch:
                continue
            for (_, future), outcome in zip(batch, self._outcomes([item for item, _ in batch]), strict=True):
                if outcome is None:
                    future.set_result(None)
                else:
                    future.set_exception(outcome)

    def _outcomes(self, items: Sequence[_Item]) -> Sequence[Outcome]:
        started = time.perf_counter()
        try:
            outcomes = self._write(items)
        except Exception as error:
            return [error, *(_again(error) for _ in items[1:])]
        meters.synced(self._name, len(items), time.perf_counter() - started)
        return outcomes


def _again(error: Exception) -> Exception:
    """Return the same error for another one who waits: it says later whose request it ended."""
    if not isinstance(error, VeilmatchError):
        return error
    return alike(error, copy.copy(error).with_traceback(error.__traceback__))
