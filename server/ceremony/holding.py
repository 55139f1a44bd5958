"""The session of a ceremony over its calls: what it says is sent, what it awaits is given to it, until it has ended.

Its arithmetic runs in a thread, so that calls stay alive. It takes no decision: what has to hold is the session's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from veilmatch.crypto.ceremony.session import Session
from veilmatch.crypto.errors import ProtocolError
from veilmatch.server.ceremony.links import Links, Sent

_T = TypeVar("_T")


async def hold(
    session: Session[_T], links: Links, sent: Sent, named: Callable[[], Awaitable[None]] | None = None
) -> _T:
    """Hold a session and return what came of it for this party. sent: told after each round how many bytes were sent.

    named: awaited once the session has its name and seeds, before anything is said that rests on them. Raises the error
    that ends the session here, or at a peer, as far as it says; UnavailableError if one leaves or falls silent. Nothing
    of the session may be used then.
    """
    messages = await asyncio.to_thread(session.start)
    number = 0
    while not session.finished:
        received = await links.exchanged(messages, session.awaited, session.name, number)
        messages = await asyncio.to_thread(session.resume, received)
        number += 1
        if named is not None and session.seed_digests:
            await named()
            named = None
        sent(links.sent_bytes)
    if session.result is None:
        raise ProtocolError("a ceremony that ended without a result")
    return session.result
