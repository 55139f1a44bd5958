"""Signs of life of another daemon: whether one that owes a message is slow or gone.

A hung process keeps its connections, and a network that loses everything says nothing: both look like a message that
takes long. Whoever waits holds a gallery meanwhile, and so keeps it from a pair that could go on. So the other daemon
is asked how it is, on a connection of this side. One that says anything is slow, and waited for as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

import grpc

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


async def unless_silent(owed: Coroutine[Any, Any, _R], gives_sign: Sign) -> _R:
    """Return what `owed` returns, or raise its error, or TimeoutError once who owes it gives no sign of life.

    Costs a timer where nothing is silent: every message between servers is waited for like this.
    """
    async with asyncio.timeout(None) as limit:
        watch = _Watch(limit, gives_sign)
        try:
            return await owed
        finally:
            watch.end()


class _Watch:
    """Asks for signs of life until there is none, and ends the wait then."""

    def __init__(self, limit: asyncio.Timeout, gives_sign: Sign) -> None:
        self._limit = limit
        self._gives_sign = gives_sign
        self._loop = asyncio.get_running_loop()
        self._asking: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(ASK_AFTER_S, self._ask)

    def end(self) -> None:
        self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _ask(self) -> None:
        self._asking = self._loop.create_task(self._until_silent())

    async def _until_silent(self) -> None:
        while await self._gives_sign():
            await asyncio.sleep(ASK_AFTER_S)
        self._limit.reschedule(self._loop.time())
