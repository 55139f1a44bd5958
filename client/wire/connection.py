"""A client's connection to its two matchers: opened once, asked with a fresh request each time, closed once.

A channel of gRPC belongs to the event loop that it was made in, so a connection belongs to one loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from veilmatch.client.config import DeviceSettings
from veilmatch.client.wire.exchange import ask_both, with_fallback
from veilmatch.client.wire.signing import Draft
from veilmatch.client.wire.transport import Matcher, open_matchers
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys.shares import Pair
from veilmatch.protos.v1.request_pb2 import SignedRequest

_R = TypeVar("_R")
Ask = Callable[[Matcher, SignedRequest, float], Awaitable[_R]]
"""Sends a signed request to one matcher, to be answered within so many seconds."""


@dataclass(frozen=True, slots=True)
class Answered(Generic[_R]):
    """The replies of matcher a and matcher b, the request that they answer, and the pair that served it."""

    replies: tuple[_R, _R]
    request: SignedRequest
    pair: Pair


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
        self._open: tuple[Matcher, Matcher] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def open(self) -> tuple[Matcher, Matcher]:
        """Return both matchers, connecting the first time.

        Raises ConfigurationError if the settings do not allow it, after `close`, or in another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ConfigurationError("the client is closed", expected="calls inside `async with`")
        if self._open is None:
            self._open, self._loop = self._given or open_matchers(self._settings), loop
        if self._loop is not loop:
            raise ConfigurationError("the client belongs to another event loop", expected="one client a loop")
        return self._open

    async def ask(self, draft: Draft, timeout_s: float, ask: Ask[_R]) -> Answered[_R]:
        """Sign for one pair of the settings after the other until both matchers answer.

        A repeated request has a fresh nonce; the token of a mutation stays, so that it is done once.
        Errors: see exchange.ask_both and exchange.with_fallback.
        """
        matchers = self.open()

        async def attempt(pair: Pair, left_s: float, others: Sequence[Pair]) -> Answered[_R]:
            request = await asyncio.to_thread(self._sign, draft, pair)
            replies = await ask_both(matchers, lambda matcher: ask(matcher, request, left_s), left_s, others)
            return Answered(replies, request, pair)

        return await with_fallback(self._settings.pairs, attempt, timeout_s)

    async def close(self) -> None:
        """Close both connections; calls under way end. Closing twice is fine."""
        self._closed = True
        matchers, self._open = self._open, None
        for matcher in matchers or ():
            await matcher.close()
