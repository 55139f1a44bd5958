"""The two matchers of a pair about one request: the first of the pair leads (calls), the second follows (is called).

Both must have been brought the request by the device itself. Each says so with a rendezvous, and a second one of
the leader says that the request's turn has come: before that nothing is done for it. Both must hold the same gallery
state while they work on it: see `sitting`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

from veilmatch.crypto.digests import digest, digest_all
from veilmatch.crypto.errors import (
    CiphertextError,
    ProtocolError,
)
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.transport.limits import CHUNK_BYTES
from veilmatch.server.transport.links import Link
from veilmatch.server.transport.sign_of_life import Owing, Signs

_R = TypeVar("_R")
#: Takes a part of this side's results and the other's of the same packs.
Take = Callable[[Sequence[bytes], list[bytes]], Awaitable[None]]
#: What one pack may take at the other matcher, generously: for time-outs only.
_MATCH_S = 0.1
#: What comes in parts has to come at least this fast, in bytes a second, after what is waited for one message; and what
#: is sent has to be read at least this fast.
_SLOWEST = 1 << 20
#: Within this an honest one answers, or reads, unless something is wrong with it.
_PROMPT_S = 2.0
#: Messages that may be late because of a third one, which keeps the other matcher from its gallery or its request.
_OF_OTHERS = ("rendezvous", "begin")
#: Kinds of messages that are parts of something, and the fields that have some of it.
_PARTS = {"results": ("results",), "column": ("ciphertexts",), "changes": ("changes", "contents")}


class Meeting:
    """One request at both matchers; see `Meetings.about`."""

    def __init__(
        self,
        link: Link[pb.MatcherMessage],
        hello: pb.MatcherMessage,
        *,
        leads: bool,
        party: str,
        peer: str,
        timeout_s: float,
        alternatives: tuple[str, ...] = (),
        signs: Signs | None = None,
        stalled_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._link = link
        #: For how long this server itself has stood still, in all.
        self._stalled_s = stalled_s
        self._hello = hello
        self.leads = leads
        #: This side's name: who is to blame for what fails here.
        self.party = party
        #: Name of the other matcher of the pair, and pairs that can do without it.
        self.peer = peer
        self._alternatives = alternatives
        self._other = Owing.with_signs(peer, alternatives, signs)
        # The other matcher may have to wait for its key holder that long, and then it is the one to say so.
        self._timeout_s = 2 * timeout_s
        #: How long all that is sent may still wait for the other matcher to read it.
        self._unread_s = self._timeout_s
        #: How long the other matcher was waited for, beyond what is usual: for messages that it alone is to blame for.
        self.late_s = 0.0

    async def begin(self, patience_s: float = 0.0) -> None:
        """Leader: say that the request's turn has come. Follower: wait for that, `patience_s` beyond the usual."""
        if self.leads:
            await self._send(self._hello)
        else:
            await self._next("rendezvous", patience_s)

    async def other_has_come(self, patience_s: float) -> None:
        """Leader: wait until the other side says that it was brought the request, `patience_s` beyond the usual."""
        await self._next("rendezvous", patience_s)

    async def send(self, **content: Any) -> None:
        """Send one message: the name of its kind, and what it says. Raises UnavailableError if it is not read."""
        await self._send(pb.MatcherMessage(**content))

    async def _send(self, message: pb.MatcherMessage) -> None:
        """Send one message; the other side has to read it.

        All messages together wait as long as one is waited for, and longer by what they weigh: whoever reads nothing,
        or a little again and again, would keep the gallery held, and others from it.
        """
        clock = asyncio.get_running_loop().time
        self._unread_s += message.ByteSize() / _SLOWEST
        began, stalled_s = clock(), self._stalled_s()
        try:
            await self._other.pays(self._link.send(message), self._unread_s)
        finally:
            waited_s = clock() - began
            self._unread_s -= waited_s
            self._was_waited_for(waited_s - (self._stalled_s() - stalled_s), message.ByteSize())

    async def receive(self, kind: str, patience: float = 0.0, written: int = 0) -> Any:
        """Return what the next message says, which must be of this kind.

        patience: waits so many times longer. written: bytes that the other side writes first, which is not late then.
        """
        return getattr(await self._next(kind, patience * self._timeout_s, written), kind)

    async def parts(self, kind: str, patience_s: float = 0.0) -> AsyncGenerator[Any, None]:
        """Yield what the parts of this kind say, to the last one.

        One deadline for all of them, which goes on only with what comes: whoever sends next to nothing, again and
        again, would keep the gallery held, and others from it. Raises UnavailableError past it, ProtocolError for a
        part with nothing in it that is not the last. patience_s: what to wait beyond the usual, once.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + self._timeout_s + patience_s
        while True:
            message = await self._next(kind, until - clock() - self._timeout_s)
            part = getattr(message, kind)
            if not part.last and not any(getattr(part, name) for name in _PARTS[kind]):
                raise ProtocolError(
                    f"{self.peer} sends a part with nothing in it",
                    got=kind,
                    party=self.peer,
                    alternatives=self._alternatives,
                )
            handed = clock()
            yield part
            if part.last:
                return
            # What is done with a part here is no time of the other side.
            until += clock() - handed + message.ByteSize() / _SLOWEST

    def changes(self, patience: float) -> AsyncGenerator[pb.ChangesChunk, None]:
        """Yield the changes that the other side hands over, in parts; see `parts`. patience: as in `receive`."""
        return self.parts("changes", patience * self._timeout_s)

    @contextmanager
    def of_peer(self) -> Iterator[None]:
        """Whatever in the block is no ciphertext is what the other matcher sent: the error names it, not the device."""
        try:
            yield
        except CiphertextError as error:
            error.party, error.alternatives = self.peer, self._alternatives
            raise

    async def swap_results(
        self, session_id: bytes, made: AsyncIterator[Sequence[bytes]], count: int, size: int, take: Take
    ) -> None:
        """Exchange R of the same `count` packs, `size` bytes each, as they are made.

        take: is awaited with each part of what this side has made and the other matcher's of the same packs, in order.
        """
        mine: asyncio.Queue[Sequence[bytes] | None] = asyncio.Queue()
        # It reads as it makes its own.
        self._unread_s += _MATCH_S * count
        await _at_once(
            self._send_results(session_id, made, count, mine),
            self._take_results(session_id, mine, count, size, take),
        )

    async def _send_results(
        self, session_id: bytes, made: AsyncIterator[Sequence[bytes]], count: int, mine: asyncio.Queue[Any]
    ) -> None:
        try:
            left = count
            async for part in made:
                left -= len(part)
                mine.put_nowait(part)
                step = max(1, CHUNK_BYTES // max(1, len(part[0])))
                for start in range(0, len(part), step):
                    chunk = pb.ResultChunk(
                        session_id=session_id,
                        results=b"".join(part[start : start + step]),
                        last=not left and start + step >= len(part),
                    )
                    await self._send(pb.MatcherMessage(results=chunk))
        finally:
            mine.put_nowait(None)  # there is no more, whatever the reason

    async def _take_results(
        self, session_id: bytes, mine: asyncio.Queue[Any], count: int, size: int, take: Take
    ) -> None:
        received = bytearray()
        async with aclosing(self.parts("results", _MATCH_S * count)) as chunks:
            while (part := await mine.get()) is not None:
                count -= len(part)
                needed = len(part) * size
                # With the last part to the end: the other side may not send more than that.
                while len(received) < needed or (not count and len(received) == needed):
                    if (chunk := await anext(chunks, None)) is None:
                        break
                    if chunk.session_id != session_id:
                        raise ProtocolError("the two matchers are in different sessions")
                    received += chunk.results
                theirs = _split(bytes(received[:needed] if count else received), len(part), size)
                del received[:needed]
                await take(part, theirs)

    async def swap_columns(self, session_id: bytes, mine: bytes, patience_s: float = 0.0) -> bytes:
        """Exchange contributions of equal size; both commit to theirs first, so that none can depend on the other.

        patience_s: what the other side may take longer for its part.
        """
        role, other = ("lead", "follow") if self.leads else ("follow", "lead")
        promise = pb.Commitment(session_id=session_id, digest=_commitment(session_id, role, mine))
        await self._send(pb.MatcherMessage(commitment=promise))
        promised = (await self._next("commitment", patience_s)).commitment
        theirs = await _at_once(self._send_column(mine), self._receive_column(len(mine)))
        if len(theirs) != len(mine) or promised.session_id != session_id:
            raise ProtocolError("the other matcher's part does not fit", got=len(theirs), expected=len(mine))
        if promised.digest != _commitment(session_id, other, theirs):
            raise ProtocolError("the other matcher sent another part than it committed to")
        return theirs

    async def _send_column(self, mine: bytes) -> None:
        for start in range(0, len(mine), CHUNK_BYTES):
            chunk = pb.ColumnChunk(ciphertexts=mine[start : start + CHUNK_BYTES], last=start + CHUNK_BYTES >= len(mine))
            await self._send(pb.MatcherMessage(column=chunk))

    async def _receive_column(self, size: int) -> bytes:
        received = bytearray()
        async with aclosing(self.parts("column")) as chunks:
            async for chunk in chunks:
                received += chunk.ciphertexts
                if len(received) > size:
                    break
        return bytes(received)

    async def _next(self, kind: str, patience_s: float = 0.0, work: int = 0) -> pb.MatcherMessage:
        """Return the next message, of this kind. patience_s: what to wait beyond the usual. work: see `receive`."""
        clock = asyncio.get_running_loop().time
        began, stalled_s, size = clock(), self._stalled_s(), work
        try:
            message = await self._other.says(self._link.receive(), self._timeout_s + patience_s)
            size += message.ByteSize()
        finally:
            if kind not in _OF_OTHERS:
                self._was_waited_for(clock() - began - (self._stalled_s() - stalled_s), size)
        if message.WhichOneof("content") != kind:
            raise ProtocolError(
                "another message from the other matcher", got=message.WhichOneof("content"), expected=kind
            )
        return message

    def _was_waited_for(self, waited_s: float, size: int) -> None:
        """Note for how long it was waited for, and what it had to do: to send, to read or to write so many bytes.

        waited_s: without the time in which this server stood still. Who says that it has too much to do, at once, is
        not late: that is an OverloadedError, and ends the request.
        """
        self.late_s += max(0.0, waited_s - _PROMPT_S - size / _SLOWEST)


async def _at_once(sending: Coroutine[Any, Any, None], receiving: Coroutine[Any, Any, _R]) -> _R:
    """Return what is received while this side sends: were both to send first, both might wait for the other to read."""
    sent = asyncio.ensure_future(sending)
    try:
        received = await receiving
        await sent
        return received
    finally:
        sent.cancel()
        await asyncio.gather(sent, return_exceptions=True)


def _commitment(session_id: bytes, role: str, data: bytes) -> bytes:
    return digest("column commitment", session_id, role, digest_all("column", [data]))


def _split(data: bytes, count: int, size: int) -> list[bytes]:
    if len(data) != count * size:
        raise ProtocolError("the other matcher's results do not fit", got=len(data), expected=count * size)
    return [data[i : i + size] for i in range(0, len(data), size)]
