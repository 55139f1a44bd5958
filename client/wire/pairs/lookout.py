"""Signs of life of matchers: whether one that does not answer is slow or gone, and when one that was gone is back.

A hung process keeps its connections, and a network that loses everything says nothing: both look like a long answer.
So while a matcher owes an answer, and another pair could give one, it is asked how it is, over the same connection.
One that says anything is slow, and waited for as long as the call lasts. One that says nothing for two seconds is left
for another pair (`unless_silent`).

It is remembered as lost from then on, and so is one that cannot be reached. In the background it is asked until it
answers, often at first and then less (`Lookout`): calls meanwhile begin with the pairs without it, and wait for
nothing. A task of the client's event loop does that, one for each matcher that is lost, and it ends with the client.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import weakref
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from veilmatch.client.wire.pairs.health import PairHealth
from veilmatch.client.wire.statuses import silent
from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.keys.parties import Party

#: A matcher that owes an answer is left for another pair after so long without a sign of life.
SILENT_S = 1.8
#: While packs are sent to it the question may wait behind them, and longer on a narrow line: the line that is reckoned
#: with, 1 Mbit/s, and the longest.
NARROW_BYTES_PER_S = 125_000
LONGEST_SILENT_S = 15.0
#: A matcher is asked how it is when it has been silent for so long: later than most answers of busy servers come, and
#: soon enough for a sign of life.
ASK_AFTER_S = 0.8
#: How often the time is looked at while a sign of life is waited for, and how much of it one look can add: while this
#: process is halted, nobody is silent.
_TICK_S, _LONGEST_TICK_S = 0.1, 0.3
#: How long a lost matcher has for a sign of life.
SIGN_S = 2.0
#: Between two questions to a lost matcher: at first, at most, and at most when it has been lost for long.
FIRST_PAUSE_S, LONGEST_PAUSE_S, RARE_PAUSE_S = 0.1, 2.0, 30.0
LONG_S = 300.0

_log = logging.getLogger(__name__)
_R = TypeVar("_R")
_chance = random.SystemRandom()


def silent_while_sent_s(sent_bytes: int) -> float:
    """Return after how long without a sign of life a matcher is left for another pair while so much is sent to it."""
    return min(SILENT_S + sent_bytes / NARROW_BYTES_PER_S, LONGEST_SILENT_S)


async def unless_silent(asked: Coroutine[Any, Any, _R], matcher: Matcher, silent_s: float) -> _R:
    """Return what `asked` returns, or raise its error, or UnavailableError once `matcher` shows no sign of life.

    Costs one timer where an answer comes soon: every request waits like this, twice.
    """
    limit = asyncio.timeout(None)
    try:
        async with limit:
            watch = _Watch(limit, matcher, silent_s)
            try:
                return await asked
            finally:
                await watch.end()
    except TimeoutError:
        if not limit.expired():
            raise
    raise silent(matcher.party)


class _Watch:
    """Asks a matcher for signs of life once its answer is late, and ends the wait for it when there are none."""

    def __init__(self, limit: asyncio.Timeout, matcher: Matcher, silent_s: float) -> None:
        self._limit, self._matcher, self._silent_s = limit, matcher, silent_s
        self._ask_after_s = min(ASK_AFTER_S, silent_s / 2)
        self._loop = asyncio.get_running_loop()
        self._asking: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(self._ask_after_s, self._late)

    async def end(self) -> None:
        """Ask no more."""
        self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _late(self) -> None:
        self._asking = self._loop.create_task(self._until_silent())

    async def _until_silent(self) -> None:
        # However long that took by the clock: the timer of a process that was halted comes late.
        quiet_s = self._ask_after_s
        while quiet_s < self._silent_s:
            is_there, took_s = await self._sign(self._silent_s - quiet_s)
            if is_there:
                await asyncio.sleep(self._ask_after_s)
                quiet_s = self._ask_after_s
            else:
                quiet_s += took_s
        self._limit.reschedule(self._loop.time())

    async def _sign(self, within_s: float) -> tuple[bool, float]:
        """Ask once; return whether there was a sign of life, and for how long there was none. At least a tick."""
        sign = asyncio.ensure_future(self._matcher.alive(self._silent_s))
        took_s = 0.0
        try:
            while took_s < within_s:
                looked = time.monotonic()
                await (asyncio.sleep(_TICK_S) if sign.done() else asyncio.wait({sign}, timeout=_TICK_S))
                took_s += min(time.monotonic() - looked, _LONGEST_TICK_S)
                if sign.done() and (_is_true(sign) or took_s >= _TICK_S):
                    break
            return _is_true(sign), took_s
        finally:
            sign.cancel()
            await asyncio.gather(sign, return_exceptions=True)


def _is_true(sign: asyncio.Future[bool]) -> bool:
    return sign.done() and not sign.cancelled() and sign.exception() is None and sign.result()


class Lookout:
    """Looks for the matchers that one client has lost. Used in one event loop."""

    def __init__(self, matchers: Mapping[Party, Matcher], health: PairHealth) -> None:
        self._matchers = matchers
        self._health = health
        self._looking: dict[Party, asyncio.Task[None]] = {}

    def lose(self, party: Party) -> None:
        """Note that the matcher of an organisation is lost, and look for it until it gives a sign of life."""
        self._health.lost(party)
        if party not in self._looking:
            _log.info("matcher-%s is lost: calls begin with the pairs without it", party)
            # Whoever forgets a client without closing it ends this as well.
            looking = _look_for(self._matchers[party], party, weakref.ref(self))
            self._looking[party] = asyncio.ensure_future(looking)

    def found(self, party: Party) -> None:
        """Note that it is there again."""
        self._health.found(party)
        if self._looking.pop(party, None) is not None:
            _log.info("matcher-%s gives a sign of life", party)

    async def end(self) -> None:
        """Look for nobody any more."""
        ending = list(self._looking.values())
        self._looking = {}
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)


async def _look_for(matcher: Matcher, party: Party, whose: weakref.ref[Lookout]) -> None:
    began, pause_s = time.monotonic(), FIRST_PAUSE_S
    while whose() is not None:
        try:
            is_there = await matcher.alive(SIGN_S)
        except Exception:  # of a matcher that somebody else has written: no sign of life
            is_there = False
        if is_there:
            if (lookout := whose()) is not None:
                lookout.found(party)
            return
        # What was silent on an old connection may answer on a new one.
        matcher.doubt()
        await asyncio.sleep(pause_s * _chance.uniform(0.75, 1.25))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S if time.monotonic() - began < LONG_S else RARE_PAUSE_S)
