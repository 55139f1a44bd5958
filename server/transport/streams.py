"""Reading a stream whose sender may fall silent: every wait for a message of a caller has an end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

from google.protobuf.message import Message

from veilmatch.crypto.errors import ProtocolError, UnavailableError
from veilmatch.server.transport.channels import Context
from veilmatch.server.transport.limits import SILENCE_S

M = TypeVar("M", bound=Message)
Place: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]
#: How the call that is being served gets a place to read its first message in; see door.py.
reading: ContextVar[Place] = ContextVar("veilmatch_reading", default=nullcontext)


async def next_message(context: Context, sender: str, within_s: float | None = None) -> Any:
    """Return the next message of the call, or None if no more will come.

    sender: who calls, for the error. within_s: how long it may take; SILENCE_S if not given. Raises UnavailableError if
    it takes longer. The call cannot be read from after that.
    """
    patience_s = SILENCE_S if within_s is None else max(0.0, within_s)
    try:
        async with asyncio.timeout(patience_s):
            message = await context.read()
    except TimeoutError:
        raise silent(sender, patience_s) from None
    return message if isinstance(message, Message) else None


async def first_message(context: Context, kind: type[M], content: str | None, sender: str) -> M:
    """Return the message that a call begins with. content: what it has to have; None of a kind that has no choice.

    Raises UnavailableError if there is none: a caller that gave its request up before deviates in nothing.
    ProtocolError for another one, OverloadedError if there is no place to read it in.
    """
    async with reading.get()():
        message = await next_message(context, sender)
    if not isinstance(message, kind):
        raise UnavailableError(f"{sender} left before its request was complete", party=sender, needed=sender)
    if content is not None and (found := message.WhichOneof("content")) != content:
        raise ProtocolError("another message than this call begins with", got=found, expected=content)
    return message


def silent(sender: str, patience_s: float) -> UnavailableError:
    """Return the error of a sender that did not finish in time. patience_s: how long was waited."""
    return UnavailableError(
        f"{sender} did not go on with its stream", party=sender, needed=f"a message within {patience_s:g} s"
    )
