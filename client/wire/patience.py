"""What a call waits for within its time: matchers that restart, and servers that are busy.

A restart of a matcher is no error of a call that has time to wait for it: the request is signed again, with a fresh
nonce, once the matcher can be reached. That is safe for all requests: a query changes nothing, and a change keeps its
token, so that it is done once. It is waited for while a call's time lasts, counted from when it was found to be gone:
calls that come later, to a matcher that stays away, fail at once. That it is gone only the transport is believed: no
error that a server sends makes a call wait for a restart, except that of a peer which has not found it again.

A server that takes no more requests, or key holders that are just refreshing their shares, say when to ask again. A
call asks once more if that fits into its time, after one to two times the wait. That cannot make overload worse: a
refused request costs the servers next to nothing, each call asks twice at most, and the second time it comes later and
spread out, where it would have come back at once from a caller who has nothing but the error.

All of this ends with the requests that the call may make, see one_call.py.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.errors import OverloadedError, UnavailableError, VeilmatchError

#: Before a request is repeated to a matcher that is there again: its peer has to find it as well. The longest before
#: the last request of a call.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.3, 1.0
#: A new connection in place of a silent one is made in so long, or the matcher hangs.
NEW_CONNECTION_S = 1.0

_R = TypeVar("_R")
_chance = random.SystemRandom()


class Patience:
    """How one client waits for its two matchers. Used in one event loop."""

    def __init__(self, matchers: tuple[Matcher, Matcher], now: Callable[[], float] = time.monotonic) -> None:
        self._matchers = matchers
        self._now = now
        #: Never before both have answered: an address may be wrong.
        self._were_there = False
        self._gone_since = float("-inf")
        self._lost = frozenset[str]()

    async def ask(
        self, attempt: Callable[[float], Awaitable[_R]], timeout_s: float, requests_left: Callable[[], int]
    ) -> _R:
        """Return what `attempt` returns, made again where waiting helps.

        attempt: given the seconds that are left. requests_left: of the call, see OneCall.
        """
        ends = self._now() + timeout_s
        pause_s, was_refused = FIRST_PAUSE_S, False
        while True:
            try:
                answer = await attempt(ends - self._now())
                self._were_there = True
                return answer
            except (OverloadedError, UnavailableError) as error:
                if requests_left() <= 0:
                    raise
                if error.retry_after_s is not None:
                    wait_s = max(error.retry_after_s, FIRST_PAUSE_S) * _chance.uniform(1.0, 2.0)
                    if was_refused or self._now() + wait_s >= ends:
                        raise
                    was_refused = True
                else:
                    wait_s = (LONGEST_PAUSE_S if requests_left() == 1 else pause_s) * _chance.uniform(1.0, 2.0)
                    wait_s = min(wait_s, (ends - self._now()) / 2)
                    if not self._may_restart(error) or not await self._are_back(ends, timeout_s, wait_s):
                        raise
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            await asyncio.sleep(wait_s)

    def _may_restart(self, error: VeilmatchError) -> bool:
        """Return whether the transport has lost a matcher that this error may be about."""
        gone = {matcher.party for matcher in self._matchers if matcher.state != "up"}
        if gone and self._were_there:
            self._were_there, self._gone_since, self._lost = False, self._now(), frozenset(gone)
        return type(error) is UnavailableError and bool(gone or error.party in self._lost)

    async def _are_back(self, ends: float, timeout_s: float, wait_s: float) -> bool:
        """Return whether the matchers were gone and are there again, with more than wait_s of the time left."""
        gone = [matcher for matcher in self._matchers if matcher.state != "up"]
        until = min(ends, self._gone_since + timeout_s) - wait_s
        for matcher in gone:
            left_s = until - self._now()
            if left_s <= 0 or not await matcher.connect(
                min(left_s, NEW_CONNECTION_S) if matcher.state == "new" else left_s
            ):
                return False
        return self._now() < until
