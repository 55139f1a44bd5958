"""What a call waits for within its time: matchers that restart, and servers that are busy.

A restart of a matcher is no error of a call that has time to wait for it: the request is signed again, with a fresh
nonce, once the matcher can be reached. That is safe for all requests: a query changes nothing, and a change keeps its
token, so that it is done once. It is waited for while a call's time lasts, counted from when it was found to be gone:
calls that come later, to a matcher that stays away, fail at once. That it is gone only the transport is believed: no
error that a server sends makes a call wait for a restart, except that of a peer which has not found it again. Where a
pair has neither of them gone and one of its matchers is the last to have failed, it is asked again after a pause.

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
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.errors import OverloadedError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import Pair, Party

#: Before a request is repeated to a matcher that is there again: its peer has to find it as well. The longest before
#: the last request of a call.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.3, 1.0
#: A new connection in place of a silent one is made in so long, or the matcher hangs.
NEW_CONNECTION_S = 1.0

_R = TypeVar("_R")
_chance = random.SystemRandom()


class Patience:
    """How one client waits for its matchers. Used in one event loop."""

    def __init__(self, matchers: Mapping[Party, Matcher], now: Callable[[], float] = time.monotonic) -> None:
        self._matchers = matchers
        self._now = now
        #: Who has answered since it was last found to be gone; before that, an address may be wrong.
        self._were_there = set[Party]()
        self._gone_since = float("-inf")
        self._lost = frozenset[Party]()

    async def ask(
        self,
        attempt: Callable[[float], Awaitable[_R]],
        timeout_s: float,
        requests_left: Callable[[], int],
        pairs: Sequence[Pair],
        used: Collection[Party],
    ) -> _R:
        """Return what `attempt` returns, made again where waiting helps.

        attempt: given the seconds that are left. requests_left: of the call, see OneCall. pairs: that it may try. used:
        the organisations that it has tried, as it goes on; nobody waits for others.
        """
        ends = self._now() + timeout_s
        pause_s, was_refused = FIRST_PAUSE_S, False
        while True:
            try:
                answer = await attempt(ends - self._now())
                self._were_there.update(party for party in used if self._matchers[party].state == "up")
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
                    gone = {party for party in used if self._matchers[party].state != "up"}
                    if not self._may_restart(error, gone):
                        raise
                    until = min(ends, self._gone_since + timeout_s) - wait_s
                    again = _failed_at_one_that_is_there(error, gone, pairs) or await self._is_back(pairs, gone, until)
                    if not again or self._now() >= until:
                        raise
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            await asyncio.sleep(wait_s)

    def _may_restart(self, error: VeilmatchError, gone: set[Party]) -> bool:
        """Return whether the transport has lost a matcher that this error may be about."""
        if found := gone & self._were_there:
            self._were_there -= found
            self._gone_since, self._lost = self._now(), frozenset(found)
        is_lost = any(error.party == f"matcher-{party}" for party in self._lost)
        return type(error) is UnavailableError and (bool(gone) or is_lost)

    async def _is_back(self, pairs: Sequence[Pair], gone: set[Party], until: float) -> bool:
        """Return whether a pair that lacked a matcher has both before it is late."""
        lacking = [pair for pair in pairs if gone & set(pair)]
        if not lacking:  # of whom has been lost, nobody is missing now
            return True
        waiting = [asyncio.ensure_future(self._connects(gone & set(pair), until)) for pair in lacking]
        try:
            for first in asyncio.as_completed(waiting):
                if await first:
                    return True
            return False
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _connects(self, parties: Collection[str], until: float) -> bool:
        for party, matcher in self._matchers.items():
            left_s = until - self._now()
            if party in parties and (
                left_s <= 0
                or not await matcher.connect(min(left_s, NEW_CONNECTION_S) if matcher.state == "new" else left_s)
            ):
                return False
        return True


def _failed_at_one_that_is_there(error: VeilmatchError, gone: set[Party], pairs: Sequence[Pair]) -> bool:
    """Return whether a matcher that can be reached has failed, in a pair that lacks none: that may soon be over."""
    whole = {f"matcher-{party}" for pair in pairs if not gone & set(pair) for party in pair}
    return error.party in whole
