"""What the two holders of a pair say to each other, by turns: messages that follow one another travel together.

A session sends as soon as it can and receives as late as it can (crypto/pair/exchange.py), so what it sends in a row is
all that it can say for now. It is held back until the session waits: for the peer, for work or for its matcher.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from veilmatch.crypto.pair.messages import Envelope
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.session.pair_link import Strand
from veilmatch.server.keyholder.wire import (
    PACK_BYTES,
    TURN_BYTES,
    TURN_MESSAGES,
    Joined,
    in_pieces,
    payload_bytes,
    turn_from_wire,
    turn_to_wire,
)

#: A turn that has reached this size is over.
_FULL_BYTES = 4 << 20


class Turns:
    """What the two holders say, by turns: messages that follow one another travel together."""

    def __init__(
        self, by_peer: Callable[[Coroutine[Any, Any, Any], float], Coroutine[Any, Any, Any]], strand: Strand
    ) -> None:
        """by_peer: waits for what the peer owes, given how long this holder has worked on the same."""
        self._by_peer = by_peer
        self._strand = strand
        self._said: list[Envelope] = []
        self._said_bytes = 0
        self._heard: deque[Envelope] = deque()
        self._worked_s = 0.0
        self._most_bytes = TURN_BYTES

    def expect(self, packs: int) -> None:
        """Let the peer say as much in a turn as the results of so many packs take."""
        self._most_bytes = TURN_BYTES + PACK_BYTES * packs

    async def say(self, envelope: Envelope) -> None:
        """Say something in this turn. What is large does not wait for its end."""
        self._said.append(envelope)
        self._said_bytes += payload_bytes(envelope)
        if self._said_bytes >= _FULL_BYTES or len(self._said) == TURN_MESSAGES:
            await self.flush()

    async def flush(self) -> None:
        """Let go what was said."""
        if self._said:
            turn, self._said, self._said_bytes = turn_to_wire(self._said), [], 0
            for piece in in_pieces(turn):
                if not self._strand.put(piece):
                    await self._by_peer(self._strand.send(piece), self._worked_s)

    async def hear(self) -> Envelope:
        """Return the next message of the peer."""
        if not self._heard:
            await self.flush()
            self._heard.extend(turn_from_wire(await self._turn()))
        return self._heard.popleft()

    async def _turn(self) -> pb.PairMessage:
        joined = Joined(self._most_bytes)
        while True:
            message = self._strand.at_hand()
            if message is None:
                message = await self._by_peer(self._strand.receive(), self._worked_s)
            if (turn := joined.take(message)) is not None:
                return turn

    @asynccontextmanager
    async def working(self, since: float | None = None) -> AsyncIterator[None]:
        """Work in the block, on something that the peer works on as well; it hears first what was said.

        since: when that was begun, on the monotonic clock, if it was before.
        """
        await self.flush()
        started = time.monotonic() if since is None else since
        yield
        self._worked_s = time.monotonic() - started


@contextmanager
def ending(task: asyncio.Future[Any]) -> Iterator[None]:
    """Nobody may be left to take the outcome of a task after the block."""
    try:
        yield
    finally:
        task.cancel()
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
