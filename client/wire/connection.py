"""A client's connection to its two matchers: opened once, asked with a fresh request each time, closed once.

It belongs to the process and to the event loop that it is first used in: a channel of gRPC cannot be used elsewhere.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from veilmatch.client.config import DeviceSettings
from veilmatch.client.wire.exchange import ask_both, leads_elsewhere, with_fallback
from veilmatch.client.wire.health import PairHealth
from veilmatch.client.wire.one_call import OneCall
from veilmatch.client.wire.patience import Patience
from veilmatch.client.wire.signing import Draft
from veilmatch.client.wire.transport import Matcher, open_matchers
from veilmatch.crypto.errors import ClientUseError, VeilmatchError
from veilmatch.crypto.keys.shares import Pair
from veilmatch.crypto.requests import request_digest
from veilmatch.protos.v1.request_pb2 import SignedRequest

_R = TypeVar("_R")
_O = TypeVar("_O")
Ask = Callable[[Matcher, SignedRequest, float], Awaitable[_R]]
"""Sends a signed request to one matcher, to be answered within so many seconds."""
Opening = Callable[[_R, _R], _O]
"""Makes one answer of the replies of matcher a and matcher b; raises if they cannot be put together."""
#: What people and logs call a request: so many hex digits of its digest.
_REQUEST_ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Answered(Generic[_R, _O]):
    """The replies of matcher a and matcher b, what they say together, the request, and the pair that served it."""

    replies: tuple[_R, _R]
    opened: _O
    request: SignedRequest
    pair: Pair

    @property
    def request_id(self) -> str:
        """The name of the request in the logs of all parties."""
        return request_id(self.request)


class Connection:
    """Both matchers of one client.

    sign: makes a request of a draft, with a fresh nonce; called in a thread. matchers: None for those of the settings.
    """

    def __init__(
        self,
        settings: DeviceSettings,
        sign: Callable[[Draft, Pair], SignedRequest],
        matchers: tuple[Matcher, Matcher] | None,
    ) -> None:
        self._settings = settings
        self._sign = sign
        self._given = matchers
        self._health = PairHealth()
        self._open: _Opened | None = None
        self._closed = False

    def open(self) -> None:
        """Connect the first time.

        Raises ConfigurationError if the settings do not allow it, ClientUseError after `close`, in another process, in
        another event loop, or in a process that was forked while a client was open.
        """
        self._opened()

    async def ask(self, draft: Draft, timeout_s: float, ask: Ask[_R], opening: Opening[_R, _O]) -> Answered[_R, _O]:
        """Sign for one pair of the settings after the other until both matchers answer.

        A repeated request has a fresh nonce; the token of a mutation stays, so that it is done once. A call makes one
        request more than there are pairs, at most. Every error has the id of the request that it is about, unless it
        reached neither matcher. Errors: see exchange.ask_both, exchange.with_fallback, Patience and OneCall.
        """
        here = self._opened()
        matchers, pairs = here.matchers, self._settings.pairs
        call = OneCall(len(pairs) + 1, timeout_s, here.heard, self._health.deviated)

        async def attempt(pair: Pair, left_s: float, others: Sequence[Pair]) -> Answered[_R, _O]:
            call.begin()
            request = await asyncio.to_thread(self._sign, draft, pair)
            reached = any(matcher.state == "up" for matcher in matchers)
            try:
                replies = await ask_both(
                    matchers,
                    lambda matcher: ask(matcher, request, left_s),
                    left_s,
                    others,
                    lambda part: call.give_up(part, pair, request_id(request)),
                )
                answered = Answered(replies, opening(*replies), request, pair)
            except VeilmatchError as error:
                # A request that went nowhere is in no log.
                if reached or any(matcher.state == "up" for matcher in matchers):
                    error.request_id = request_id(request)
                for matcher in matchers:
                    if matcher.party == error.party:
                        matcher.doubt()
                # A key holder that was left by a matcher which restarts has not failed.
                if leads_elsewhere(error) and all(matcher.state == "up" for matcher in matchers):
                    self._health.failed(pair, error)
                raise
            self._health.served(pair)
            return answered

        def requests_left() -> int:
            return call.left

        async def asking(left_s: float) -> Answered[_R, _O]:
            return await with_fallback(self._health.in_order(pairs), attempt, left_s, requests_left)

        return await call.run(here.patience.ask(asking, timeout_s, requests_left))

    async def close(self) -> None:
        """Close both connections; calls under way end. Closing twice is fine.

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
            await opened.end_heard()
            for matcher in opened.matchers:
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
            opened = self._open = _Opened(self._given or open_matchers(self._settings))
        if not opened.is_of_this_loop:
            raise ClientUseError("the client belongs to another event loop", expected="one client a loop")
        return opened


class _Opened:
    """Two matchers, and the process and event loop that they can be used in."""

    def __init__(self, matchers: tuple[Matcher, Matcher]) -> None:
        self.matchers = matchers
        self.patience = Patience(matchers)
        self.process = os.getpid()
        self.loop = asyncio.get_running_loop()
        #: What goes on of requests that were given up, see OneCall.
        self.heard: set[asyncio.Future[Any]] = set()

    @property
    def is_of_this_process(self) -> bool:
        return self.process == os.getpid()

    @property
    def is_of_this_loop(self) -> bool:
        return self.loop is asyncio.get_running_loop()

    async def end_heard(self) -> None:
        """Cancel what goes on of requests that were given up; in another loop it has ended with its own."""
        if self.is_of_this_loop:
            ending = list(self.heard)
            for part in ending:
                part.cancel()
            await asyncio.gather(*ending, return_exceptions=True)


def request_id(request: SignedRequest) -> str:
    """Return the name of a request: the first digits of its digest, in hex."""
    return request_digest(request.body).hex()[:_REQUEST_ID_DIGITS]
