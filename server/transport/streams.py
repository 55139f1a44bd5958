"""Reading a stream whose sender may fall silent: every wait for a message of a caller has an end."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.message import Message

from veilmatch.crypto.errors import UnavailableError
from veilmatch.server.transport.channels import Context
from veilmatch.server.transport.limits import SILENCE_S


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


def silent(sender: str, patience_s: float) -> UnavailableError:
    """Return the error of a sender that did not finish in time. patience_s: how long was waited."""
    return UnavailableError(
        f"{sender} did not go on with its stream", party=sender, needed=f"a message within {patience_s:g} s"
    )
