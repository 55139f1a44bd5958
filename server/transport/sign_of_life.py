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
    """Return what `owed` returns, or raise its error, or TimeoutError once who owes it gives no sign of life."""
    waiting = asyncio.ensure_future(owed)
    sign: asyncio.Future[bool] | None = None
    try:
        while True:
            await asyncio.wait({waiting}, timeout=ASK_AFTER_S)
            if not waiting.done():
                sign = asyncio.ensure_future(gives_sign())
                await asyncio.wait({waiting, sign}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            if sign is not None and not sign.result():
                raise TimeoutError
    finally:
        asked = [task for task in (waiting, sign) if task is not None]
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
