"""Changes on their way from one organisation to the other within a meeting: in chunks, contents after bodies.

For a few changes. Whoever is further behind than that is brought up in the background, and no request waits for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Protocol

from veilmatch.crypto.errors import ProtocolError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.gallery.body import BODY_BYTES_MAX, Body
from veilmatch.server.matcher.gallery.changes import Change, Content
from veilmatch.server.transport.limits import CHUNK_BYTES

#: Changes, and bytes of contents, that are handed over within a meeting; a bulk enrolment may be larger.
MEETING_CHANGES = 64
MEETING_BYTES = 64 << 20
#: What is taken in at most: what is being finished may be as large as a bulk enrolment.
_MOST_BYTES = 1 << 30
#: The first chunk may have to wait for the disk of the other one.
_PATIENCE = 6.0


#: See `take_over`.
Look = Callable[[Sequence[Change]], Iterable[Body]]


class Carrier(Protocol):
    """What hands messages over; `meeting.Meeting`."""

    async def send(self, *, changes: pb.ChangesChunk) -> None:
        """Send one message."""

    def changes(self, patience: float) -> AsyncGenerator[pb.ChangesChunk, None]:
        """Yield what the other side hands over, to the last part, within a time that grows with what comes."""


async def hand_over(to: Carrier, changes: Sequence[Change], contents: Iterable[Content]) -> None:
    """Send changes and their contents."""
    for chunk in chunks(changes, contents):
        await to.send(changes=chunk)


async def take_over(sender: Carrier, most: int, look: Look) -> tuple[list[Change], dict[bytes, Content]]:
    """Receive what the other side hands over: up to `most` changes, and contents by the leaves that they have.

    look: is called, in a thread, when all changes are there and before any content is taken in: it raises if they are
    not what they should be, and returns what they say. A content that none of them brings is a ProtocolError: the
    gallery is held, and nobody is to be kept busy with what was made up.
    """
    taking = Taking(most)
    async with aclosing(sender.changes(_PATIENCE)) as chunks:
        async for chunk in chunks:
            taking.take(chunk)
            # In a thread, with its hashes: others are served meanwhile.
            await asyncio.to_thread(taking.take_contents, chunk, look)
    return taking.changes, taking.contents


def chunks(changes: Sequence[Change], contents: Iterable[Content]) -> Iterator[pb.ChangesChunk]:
    """Yield messages of about CHUNK_BYTES: the changes, then the contents; the last one says so."""
    chunk, size = pb.ChangesChunk(), 0
    for sequence, body, certificate in changes:
        pieces = [body[at : at + CHUNK_BYTES] for at in range(0, len(body), CHUNK_BYTES)]
        for number, piece in enumerate(pieces, start=1):
            if size and size + len(piece) > CHUNK_BYTES:
                yield chunk
                chunk, size = pb.ChangesChunk(), 0
            more = number < len(pieces)
            chunk.changes.add(sequence=sequence, body=piece, certificate=b"" if more else certificate, more=more)
            size += len(piece)
    for content in contents:
        if size and size + len(content.data) > CHUNK_BYTES:
            yield chunk
            chunk, size = pb.ChangesChunk(), 0
        chunk.contents.add(subject=content.subject, data=content.data, terms=content.terms)
        size += len(content.data) + len(content.terms)
    chunk.last = True
    yield chunk


class Taking:
    """What has come of `chunks` so far. most: how many changes may come, and most_bytes all in all."""

    def __init__(self, most: int = MEETING_CHANGES, most_bytes: int = _MOST_BYTES) -> None:
        self.changes: list[Change] = []
        self.contents: dict[bytes, Content] = {}
        #: How often each leaf is named by changes, and was not taken in yet; None before all changes are there.
        self._wanted: Counter[bytes] | None = None
        #: Number and beginning of a body of which more comes; each piece costs what it weighs.
        self._begun: tuple[int, bytearray] | None = None
        self._most = most
        self._most_bytes, self._bytes = most_bytes, 0

    def take(self, chunk: pb.ChangesChunk) -> None:
        """Take in the changes of a message. Raises ProtocolError if there is too much of it.

        All in all, of one body, or of changes.
        """
        self._bytes += chunk.ByteSize()
        if self._bytes > self._most_bytes:
            raise ProtocolError("more changes than are handed over at once", expected=f"<= {self._most_bytes} bytes")
        if chunk.changes and self._wanted is not None:
            raise ProtocolError("a change after the contents", got=chunk.changes[0].sequence)
        for change in chunk.changes:
            sequence, begun = self._begun or (change.sequence, bytearray())
            if change.sequence != sequence:
                raise ProtocolError("the body of a change that ends in another one", got=change.sequence)
            begun += change.body
            if len(begun) > BODY_BYTES_MAX:
                raise ProtocolError("a change that is too large", got=len(begun), expected=f"<= {BODY_BYTES_MAX} bytes")
            if change.more:
                self._begun = (sequence, begun)
                continue
            self.changes.append(Change(sequence, bytes(begun), change.certificate))
            self._begun = None
            if len(self.changes) > self._most:
                raise ProtocolError("more changes than are handed over at once", expected=f"<= {self._most}")
        if (chunk.last or chunk.contents) and self._begun is not None:
            raise ProtocolError("the body of a change that does not end")

    def take_contents(self, chunk: pb.ChangesChunk, look: Look) -> None:
        """Take in the contents of a message whose changes were taken in; see `take_over`. Raises what `look` raises."""
        if self._wanted is None:
            if not (chunk.contents or chunk.last):
                return
            if not self.changes:
                raise ProtocolError("no changes are handed over", expected="at least one")
            self._wanted = Counter(leaf for body in look(self.changes) for leaf in _leaves(body))
        for one in chunk.contents:
            content = Content(one.subject, one.data, one.terms)
            leaf = content.leaf
            if not self._wanted[leaf]:
                raise ProtocolError("a content that no change brings, or more often than once")
            self._wanted[leaf] -= 1
            self.contents[leaf] = content


def _leaves(body: Body) -> Iterator[bytes]:
    yield from (leaf for _, leaf in body.packs)
    yield from (at.leaf for at in body.added)
