"""A client's connections to the matchers: opened once, asked with a fresh request each time, closed once.

They belong to the process and the event loop that they are first used in: a channel of gRPC cannot be used elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from veilmatch.client.config import DeviceSettings
from veilmatch.client.wire.exchange import DEVIATIONS, ask_both, leads_elsewhere, with_fallback
from veilmatch.client.wire.features import Features
from veilmatch.client.wire.pairs.health import PairHealth
from veilmatch.client.wire.pairs.hedging import Latencies, first_answer
from veilmatch.client.wire.pairs.lookout import SILENT_S, Lookout, unless_silent
from veilmatch.client.wire.pairs.one_call import OneCall
from veilmatch.client.wire.pairs.patience import Patience
from veilmatch.client.wire.signing import Draft
from veilmatch.client.wire.told import telling
from veilmatch.client.wire.transport import Matcher, open_matchers, organisation_of
from veilmatch.crypto.errors import (
    ClientUseError,
    ConfigurationError,
    OverloadedError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PARTIES, Pair, Party, pairs_among, pairs_without
from veilmatch.crypto.requests import request_digest
from veilmatch.crypto.versions import Feature
from veilmatch.protos.v1.request_pb2 import Operation, SignedRequest

_log = logging.getLogger(__name__)
_R = TypeVar("_R")
_O = TypeVar("_O")
Ask = Callable[[Matcher, SignedRequest, float], Awaitable[_R]]
"""Sends a signed request to one matcher, to be answered within so many seconds."""
Opening = Callable[[_R, _R, Pair], _O]
"""Makes one answer of the replies of the two matchers of a pair; raises if they cannot be put together."""
#: What people and logs call a request: so many hex digits of its digest.
_REQUEST_ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Answered(Generic[_R, _O]):
    """The replies of the two matchers of a pair, in its order, what they say together, the request, and the pair."""

    replies: tuple[_R, _R]
    opened: _O
    request: SignedRequest
    pair: Pair

    @property
    def request_id(self) -> str:
        """The name of the request in the logs of all parties."""
        return request_id(self.request)


class Connection:
    """The matchers of one client.

    sign: makes a request of a draft, with a fresh nonce; called in a thread. matchers: by organisation, None for those
    of the settings.
    """

    def __init__(
        self,
        settings: DeviceSettings,
        sign: Callable[[Draft, Pair], SignedRequest],
        matchers: Mapping[Party, Matcher] | None,
    ) -> None:
        self._settings = settings
        self._sign = sign
        self._given = matchers
        if not isinstance(matchers, Mapping | None):
            raise ClientUseError(
                "matchers are given by organisation",
                got=type(matchers).__name__,
                expected='{"a": ..., "b": ..., "c": ...}',
            )
        self._parties = settings.matchers if matchers is None else matchers
        there = pairs_among(self._parties)
        self._pairs = tuple(pair for pair in settings.pairs if pair in there)
        if not self._pairs:
            raise ConfigurationError(
                "no pair can serve", got=f"matchers {_names(self._parties)}", expected=" or ".join(settings.pairs)
            )
        self._health = PairHealth()
        self._features = Features()
        self._latencies = Latencies()
        self._open: _Opened | None = None
        self._closed = False

    def open(self) -> None:
        """Connect the first time.

        Raises ConfigurationError if the settings do not allow it, ClientUseError after `close`, in another process, in
        another event loop, or in a process that was forked while a client was open.
        """
        self._opened()

    async def lacking(self, feature: Feature) -> str | None:
        """Return the name of a matcher that answers and lacks a feature; None if there is none."""
        return await self._features.lacking(self._opened().matchers.values(), feature)

    async def require(self, feature: Feature, what: str) -> None:
        """Raise VersionError if a matcher that answers lacks a feature. what: cannot be done without it."""
        await self._features.require(self._opened().matchers.values(), feature, what)

    def serving(self) -> tuple[dict[Party, Matcher], tuple[Pair, ...]]:
        """Return the matchers of the pairs that are asked, by organisation, and these pairs."""
        matchers = self._opened().matchers
        named = [party for party in PARTIES if any(party in pair for pair in self._pairs)]
        return {party: matchers[party] for party in named}, self._pairs

    def require_all(self) -> None:
        """Raise ConfigurationError unless there is a matcher of each of the three organisations."""
        if any(party not in self._parties for party in PARTIES):
            raise ConfigurationError(
                "an assured answer is one of all three pairs, and takes three matchers",
                got=f"matchers {_names(self._parties)}",
                expected="matchers a, b and c in device.toml",
            )

    async def ask(
        self,
        draft: Draft,
        timeout_s: float,
        ask: Ask[_R],
        opening: Opening[_R, _O],
        *,
        hedge: bool = False,
        silent_s: float = SILENT_S,
    ) -> Answered[_R, _O]:
        """Sign for one pair of the settings after the other until both its matchers answer.

        A repeated request has a fresh nonce; the token of a mutation stays, so that it is done once, whichever pairs
        are asked. A call makes one request more than there are pairs, at most. hedge: whether a second pair is asked
        when the first takes unusually long; for queries only, see hedging.py. silent_s: how long a matcher may give no
        sign of life before another pair is asked. Every error has the id of the request that it is about, unless it
        reached neither matcher. Errors: see exchange.ask_both, exchange.with_fallback, Patience and OneCall.
        """
        began = time.monotonic()
        usual_s = self._latencies.usual_s(draft.operation) if hedge else None
        if usual_s is None or len(self._pairs) == 1:
            answered = await self._ask(draft, timeout_s, ask, opening, self._pairs, silent_s)
        else:
            second = self._health.likely(self._pairs)[1:2]
            answered = await first_answer(
                lambda: self._ask(draft, timeout_s, ask, opening, self._pairs, silent_s),
                lambda: self._ask(
                    draft, max(began + timeout_s - time.monotonic(), 0.001), ask, opening, second, silent_s
                ),
                usual_s,
            )
        self._latencies.note(draft.operation, time.monotonic() - began)
        return answered

    async def ask_one(
        self, draft: Draft, pair: Pair, timeout_s: float, ask: Ask[_R], opening: Opening[_R, _O]
    ) -> Answered[_R, _O]:
        """Sign for this pair and no other. The rest: see `ask`."""
        return await self._ask(draft, timeout_s, ask, opening, (pair,), SILENT_S)

    async def _ask(
        self,
        draft: Draft,
        timeout_s: float,
        ask: Ask[_R],
        opening: Opening[_R, _O],
        pairs: Sequence[Pair],
        silent_s: float,
    ) -> Answered[_R, _O]:
        here = self._opened()
        used = set[Party]()
        call = OneCall(len(pairs) + 1, timeout_s, here.heard, self._health.deviated)

        async def attempt(pair: Pair, left_s: float, others: Sequence[Pair]) -> Answered[_R, _O]:
            call.begin()
            began = time.monotonic()
            used.update(organisation_of(matcher) for matcher in here.both(pair))
            with telling(draft.operation, pair) as said:
                request = await asyncio.to_thread(self._sign, draft, pair)
                said.id = request_id(request)
                matchers = here.both(pair)
                reached = any(matcher.state == "up" for matcher in matchers)

                async def one(matcher: Matcher) -> _R:
                    return await self._of_one(matcher, ask, request, left_s, others, silent_s)

                try:
                    replies = await ask_both(
                        matchers, one, left_s, others, lambda part: call.give_up(part, pair, said.id)
                    )
                    answered = Answered(replies, self._agreed(opening, replies, pair), request, pair)
                except VeilmatchError as error:
                    self._failed(error, pair, reached, request)
                    _note(draft, said.id, "pair %s did not answer: %s", pair, error.code)
                    raise
                _note(draft, said.id, "pair %s answered in %.3f s", pair, time.monotonic() - began)
                self._health.served(pair)
                return answered

        def requests_left() -> int:
            return call.left

        async def asking(left_s: float) -> Answered[_R, _O]:
            return await with_fallback(self._health.in_order(pairs), attempt, left_s, requests_left)

        return await call.run(here.patience.ask(asking, timeout_s, requests_left, pairs, used))

    async def _of_one(
        self,
        matcher: Matcher,
        ask: Ask[_R],
        request: SignedRequest,
        left_s: float,
        others: Sequence[Pair],
        silent_s: float,
    ) -> _R:
        """Return the answer of one matcher. Its errors name the pairs that do without the organisation they are about.

        others: pairs that will be tried; if one of them does without this matcher, it has to show signs of life.
        """
        party = organisation_of(matcher)
        asked = _awaited(ask(matcher, request, left_s))
        try:
            if any(party not in pair for pair in others):
                return await unless_silent(asked, matcher, silent_s)
            return await asked
        except VeilmatchError as error:
            failure = error
        if (failing := _failing(failure, matcher)) is not None and not failure.alternatives:
            failure.alternatives = tuple(pair for pair in pairs_without(failing) if pair in self._pairs)
        raise failure

    def _agreed(self, opening: Opening[_R, _O], replies: tuple[_R, _R], pair: Pair) -> _O:
        """Return what both answers say. Two that contradict each other end this call, and later ones try others first:
        or one matcher could keep a device from the honest pair for ever."""
        try:
            return opening(*replies, pair)
        except VeilmatchError:
            self._health.deviated(pair)
            raise

    def _failed(self, error: VeilmatchError, pair: Pair, reached: bool, request: SignedRequest) -> None:
        """Note what an error says about matchers and pairs. reached: whether a matcher was connected before."""
        here = self._opened()
        matchers = here.both(pair)
        # A request that went nowhere is in no log.
        if reached or any(matcher.state == "up" for matcher in matchers):
            error.request_id = request_id(request)
        if isinstance(error, OverloadedError):
            self._health.overloaded(pair)
        is_own = False
        for matcher in matchers:
            if matcher.party == error.party:
                matcher.doubt()
                if isinstance(error, UnavailableError) and not error.said_by:
                    # This end has seen it. One that is only slow is found again at once.
                    is_own = True
                    here.lookout.lose(organisation_of(matcher))
        # A key holder that was left by a matcher which restarts has not failed.
        if leads_elsewhere(error) and not is_own and all(matcher.state == "up" for matcher in matchers):
            self._health.failed(pair, error)

    async def close(self) -> None:
        """Close all connections; calls under way end. Closing twice is fine.

        In another process nothing is closed: the connections are the other one's. Raises ClientUseError in another
        event loop while the client's own one is running.
        """
        opened = self._open
        if opened is None or not opened.is_of_this_process:
            self._closed = True
        elif not opened.is_of_this_loop and opened.loop.is_running():
            raise ClientUseError("the client belongs to another event loop", expected="closed where it is used")
        else:
            self._closed, self._open = True, None
            await opened.end_background()
            for matcher in opened.matchers.values():
                await matcher.close()

    def _opened(self) -> _Opened:
        opened = self._open
        if opened is not None and not opened.is_of_this_process:
            raise ClientUseError(
                "the client belongs to another process: it was used before this one was forked",
                got=f"process {os.getpid()}",
                expected=f"process {opened.process}, or a client made after the fork",
            )
        if self._closed:
            raise ClientUseError("the client is closed", expected="calls inside `with` or `async with`")
        if opened is None:
            opened = self._open = _Opened(self._given or open_matchers(self._settings), self._health)
        if not opened.is_of_this_loop:
            raise ClientUseError("the client belongs to another event loop", expected="one client a loop")
        return opened


class _Opened:
    """The matchers, and the process and event loop that they can be used in."""

    def __init__(self, matchers: Mapping[Party, Matcher], health: PairHealth) -> None:
        self.matchers = matchers
        self.patience = Patience(matchers)
        self.lookout = Lookout(matchers, health)
        self.process = os.getpid()
        self.loop = asyncio.get_running_loop()
        #: What goes on of requests that were given up, see OneCall.
        self.heard: set[asyncio.Future[Any]] = set()

    def both(self, pair: Pair) -> tuple[Matcher, Matcher]:
        """Return the matchers of a pair: the one that leads, and the one that follows."""
        return self.matchers[_party(pair[0])], self.matchers[_party(pair[1])]

    @property
    def is_of_this_process(self) -> bool:
        return self.process == os.getpid()

    @property
    def is_of_this_loop(self) -> bool:
        return self.loop is asyncio.get_running_loop()

    async def end_background(self) -> None:
        """Cancel what goes on of requests that were given up, and who looks for lost matchers.

        In another loop both have ended with their own.
        """
        if self.is_of_this_loop:
            await self.lookout.end()
            ending = list(self.heard)
            for part in ending:
                part.cancel()
            await asyncio.gather(*ending, return_exceptions=True)


def _note(draft: Draft, name: str, what: str, *values: object) -> None:
    """Log what became of a request: never who it is about, nor what was answered, nor a text of a server's."""
    operation = Operation.Name(draft.operation).removeprefix("OPERATION_").lower()
    _log.info(f"%s: {what}, request %s", operation, *values, name, extra={"request_id": name})


def request_id(request: SignedRequest) -> str:
    """Return the name of a request: the first digits of its digest, in hex."""
    return request_digest(request.body).hex()[:_REQUEST_ID_DIGITS]


def _failing(error: VeilmatchError, matcher: Matcher) -> Party | None:
    """Return the organisation that an error is about which `matcher` answered, or which its connection ended with.

    None where another pair would be told the same, or where the error may have nothing to do with anybody's failure.
    """
    if isinstance(error, (*DEVIATIONS, OverloadedError)):
        return None
    if not error.said_by:
        # Made at this end: the connection or the matcher failed, whatever the words are.
        return organisation_of(matcher) if error.party == matcher.party else None
    # Who says when to come again is about to serve.
    if isinstance(error, UnavailableError) and error.party and error.retry_after_s is None:
        kind, _, name = error.party.partition("-")
        return next((party for party in PARTIES if party == name and kind in ("matcher", "keyholder")), None)
    return None


def _party(letter: str) -> Party:
    return next(party for party in PARTIES if party == letter)


def _names(parties: Mapping[Party, object]) -> str:
    return " and ".join(sorted(parties)) or "none"


async def _awaited(asked: Awaitable[_R]) -> _R:
    return await asked
