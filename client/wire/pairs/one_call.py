"""One call of an application: how many requests it makes, and what is still said about those that it gave up.

An error may lead a call to make another request: with the next pair, after a restart, or when a server is less busy. A
server that deviates could use that. It would say something harmless before the other matcher has found it out, and the
answer to the next request would hide what it did. So the other matcher's part in a request that was given up goes on
beside the next one, as long as the call may take. If it says that somebody deviates, the call raises that; if the call
has ended meanwhile, it is logged, and counts against the pair.

It could also make a call go on asking, and use up budgets at honest parties. So one count bounds the requests of a
call, whatever they are made for.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from veilmatch.client.wire.exchange import DEVIATIONS
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.keys.parties import Pair

_log = logging.getLogger(__name__)
_R = TypeVar("_R")


class OneCall:
    """Made in the event loop of the call. left: how many requests it may still make."""

    def __init__(
        self, requests: int, timeout_s: float, heard: set[asyncio.Future[Any]], late: Callable[[Pair], None]
    ) -> None:
        """heard: of the client, gets what goes on, so that it can be cancelled. late: told the pair of a deviation that
        is reported when the call has ended."""
        self.left = requests
        self._loop = asyncio.get_running_loop()
        self._ends = time.monotonic() + timeout_s
        self._heard = heard
        self._late = late
        self._own: set[asyncio.Future[Any]] = set()
        #: What goes on of the latest request. It is heard to its end only if another request follows.
        self._latest: list[asyncio.Future[Any]] = []
        self._deviation: asyncio.Future[VeilmatchError] = self._loop.create_future()
        self._is_over = False

    def begin(self) -> None:
        """Count a request; the one before is given up for it."""
        self.left -= 1
        self._latest = []

    def give_up(self, part: asyncio.Future[Any], pair: Pair, request_id: str) -> None:
        """Let one matcher's part in the latest request go on: the other one has ended with an error."""
        self._latest.append(part)
        self._own.add(part)
        self._heard.add(part)
        ends = self._loop.call_later(max(0.0, self._ends - time.monotonic()), part.cancel)
        part.add_done_callback(functools.partial(self._hear, pair, request_id, ends))

    async def run(self, asking: Coroutine[Any, Any, _R]) -> _R:
        """Return what `asking` returns. Raises its error, or that of a deviation that is reported before it ends.

        After an error, nothing of the latest request goes on; after a deviation or a cancellation, nothing at all.
        """
        answer, error = await self._outcome(asking)
        # Raised here, where the tasks are gone: an error that is kept must not keep connections open (processes.py).
        if error is not None:
            raise error
        return answer[0]

    async def _outcome(self, asking: Coroutine[Any, Any, _R]) -> tuple[list[_R], BaseException | None]:
        task = asyncio.ensure_future(asking)
        has_ended = False
        try:
            await asyncio.wait((task, self._deviation), return_when=asyncio.FIRST_COMPLETED)
            if self._deviation.done():
                return [], self._deviation.result()
            error = task.exception()
            has_ended = True
            return ([task.result()], None) if error is None else ([], error)
        finally:
            self._is_over = True
            ending = [task, *(self._latest if has_ended else self._own)]
            for part in ending:
                part.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            # What has ended keeps its calls: see `run`.
            self._latest = []

    def _hear(self, pair: Pair, request_id: str, ends: asyncio.TimerHandle, part: asyncio.Future[Any]) -> None:
        ends.cancel()
        self._own.discard(part)
        self._heard.discard(part)
        error = None if part.cancelled() else part.exception()
        if not isinstance(error, DEVIATIONS):
            return
        error.request_id = request_id
        if not self._is_over:
            if not self._deviation.done():
                self._deviation.set_result(error)
            return
        _log.warning(
            "deviation in request %s with pair %s, which was given up: %s",
            request_id, pair, error, extra={"request_id": request_id},
        )  # fmt: skip
        self._late(pair)
