"""Signs of life of another daemon: whether one that owes a message is slow or gone.

A hung process keeps its connections, and a network that loses everything says nothing: both look like a message that
takes long. Whoever waits holds a gallery meanwhile, and so keeps it from a pair that could go on. So the other daemon
is asked how it is, on a connection of this side. One that says anything is slow, and waited for as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import grpc

from veilmatch.crypto.errors import UnavailableError

#: Who owes a message is asked when it has been silent for so long, again and again; and has so long for a sign.
ASK_AFTER_S, SIGN_S = 0.5, 2.0
#: Asked by its name, of the daemon as a whole.
_HEALTH, _HOW_IS_ALL = "/grpc.health.v1.Health/Check", b""

_R = TypeVar("_R")
Sign: TypeAlias = Callable[[], Awaitable[bool]]
"""Returns False if a daemon had SIGN_S for a sign of life and gave none."""


def sign_over(channel: grpc.aio.Channel) -> Sign:
    """Return what asks the daemon at the other end of a channel."""
    check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_HEALTH)

    async def gives_sign() -> bool:
        try:
            await check(_HOW_IS_ALL, timeout=SIGN_S)
        except grpc.aio.AioRpcError as error:
            # Who refuses is there. Where nobody listens connections end, and whoever waits on one is told by that.
            return error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        return True

    return gives_sign


@dataclass(frozen=True, slots=True)
class Owing:
    """Another server that owes messages.

    gives_sign: what asks it for a sign of life; None: it is waited for as long as it may take. alternatives: pairs that
    could serve without it, for the error that says it is down.
    """

    name: str
    alternatives: tuple[str, ...] = ()
    gives_sign: Sign | None = None

    async def pays(self, owed: Coroutine[Any, Any, _R], within_s: float) -> _R:
        """Return what waits for the server. A gallery may be kept meanwhile, so one that is silent is not waited for.

        Raises UnavailableError if it takes longer, or gives no sign of life.
        """
        try:
            return await unless_silent(owed, self.gives_sign, within_s)
        except TimeoutError:
            raise UnavailableError(
                f"{self.name} does not answer", party=self.name, needed=self.name, alternatives=self.alternatives
            ) from None


async def unless_silent(owed: Coroutine[Any, Any, _R], gives_sign: Sign | None, within_s: float) -> _R:
    """Return what `owed` returns, or raise its error; TimeoutError if that takes longer.

    TimeoutError as well once who owes it gives no sign of life. Costs one timer where nothing is silent: every message
    between servers is waited for like this.
    """
    async with asyncio.timeout(None) as limit:
        watch = _Watch(limit, gives_sign, within_s)
        try:
            return await owed
        finally:
            watch.end()


class _Watch:
    """Ends a wait that takes too long; and asks for signs of life meanwhile, and ends it when there is none."""

    def __init__(self, limit: asyncio.Timeout, gives_sign: Sign | None, within_s: float) -> None:
        self._limit = limit
        self._gives_sign = gives_sign
        self._loop = asyncio.get_running_loop()
        self._asking: asyncio.Task[None] | None = None
        began = self._loop.time()
        self._ends = began + within_s
        first = self._ends if gives_sign is None else min(self._ends, began + ASK_AFTER_S)
        self._timer = self._loop.call_at(first, self._late)

    def end(self) -> None:
        self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _late(self) -> None:
        self._limit.reschedule(self._ends)
        if self._gives_sign is not None and self._loop.time() < self._ends:
            self._asking = self._loop.create_task(self._until_silent(self._gives_sign))

    async def _until_silent(self, gives_sign: Sign) -> None:
        while await gives_sign():
            await asyncio.sleep(ASK_AFTER_S)
        if not self._limit.expired():
            self._limit.reschedule(self._loop.time())
