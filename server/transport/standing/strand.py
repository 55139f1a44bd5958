"""One session's end of a standing link (link.py): what it says and hears, how far ahead, and how it ends.

Sessions share a stream, so none may fill it: each end says how much it takes of a session in all (`room`), and the
other says no more. At first that is little, as much as gRPC would hold of a call that nobody reads: a session that was
brought to one key holder alone costs the other no more. Whoever takes part in it makes more room, when it is needed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol

from google.protobuf.message import Message

from veilmatch.crypto.claims import CLAIM_BYTES, Others, written
from veilmatch.crypto.errors import ProtocolError, UnavailableError, VeilmatchError
from veilmatch.crypto.versions import Hello
from veilmatch.server.monitoring import calls
from veilmatch.server.transport.limits import INBOX_BYTES, WINDOW_BYTES
from veilmatch.server.transport.standing.kinds import H, Kind, S
from veilmatch.server.transport.status import decoded, log_refused_session

#: The largest message of a session, so that no other waits long for it.
MESSAGE_BYTES = 1 << 15
#: What a message counts for at least: its object.
_LEAST_BYTES = 1 << 10
#: More room is made while there is less left than this: the largest message always has some.
_LOW_BYTES = MESSAGE_BYTES
#: What may wait here to be sent.
_QUEUED_BYTES = 1 << 18

#: Makes the error that a session ends with; each has one of its own.
Why = Callable[[], VeilmatchError]


@dataclass(frozen=True, slots=True)
class OtherEnd:
    """The server at the other end of a link. alternatives: pairs that could serve without it.

    others: whom it may name in what it ends with, beside itself.
    """

    name: str
    alternatives: tuple[str, ...]
    others: Others

    def said(self, ended: bytes) -> VeilmatchError:
        """Return the error that it has said it ended a session with."""
        return decoded(ended, self.name, self.alternatives, self.others)

    def left(self) -> VeilmatchError:
        """Return the error of a session that it has left without a word."""
        return UnavailableError(
            f"{self.name} left the request", party=self.name, needed=self.name, alternatives=self.alternatives
        )


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A frame that is to be sent. size: what it takes of the room at the other end."""

    message: Message | None = None
    size: int = 0
    room: int = 0
    over: bool = False


class Carrier(Protocol[S, H]):
    """The link, as a session sees it. server: the name of this end. theirs: what the other end is known to speak."""

    kind: Kind[S, H]
    server: str
    theirs: Callable[[], Hello]

    def queue(self, strand: Strand[S, H], *, soon: bool) -> None:
        """Send what the session has to say: `soon`, or with whatever goes next."""

    def forget(self, strand: Strand[S, H]) -> None:
        """Hear nothing for the session any more."""


class Strand(Generic[S, H]):
    """See the module. Used by one task, as a Link is.

    number: of the session. first: the message that it was opened with at the other end; None if this end opened it.
    """

    def __init__(self, carrier: Carrier[S, H], number: int, other: OtherEnd, first: H | None = None) -> None:
        self.number, self.first, self.peer = number, first, other.name
        self._carrier, self._other = carrier, other
        self._news = asyncio.Event()
        #: Set once there is nothing more to come or to be sent.
        self._why: Why | None = None
        self._left = False
        self._out: deque[_Outgoing] = deque()
        self._queued_bytes = 0
        #: How much was sent in all, and may be.
        self._sent_bytes, self._may_send_bytes = 0, WINDOW_BYTES
        #: As bytes: a message that is parsed may take a hundred times as much as what it counts for.
        self._in: deque[tuple[bytes, int]] = deque()
        #: How much has come in all and may come, and how much of it was not asked for yet.
        self._came_bytes = 0 if first is None else _size(first)
        self._may_come_bytes, self._held_bytes = WINDOW_BYTES, 0
        self._is_taken = first is None
        self._was_offered = True
        self._when_over: Callable[[], object] | None = None

    # -- for the session ------------------------------------------------------------------------

    def put(self, message: S) -> bool:
        """Send one message if there is room for it; return whether there was. Raises as `send`."""
        size = _size(message)
        if self._why is not None:
            raise self._why()
        if self._sent_bytes + size > self._may_send_bytes or self._queued_bytes >= _QUEUED_BYTES:
            return False
        self._sent_bytes += size
        self._queued_bytes += size
        self._say(_Outgoing(message, size))
        return True

    async def send(self, message: S) -> None:
        """Send one message. Raises ProtocolError if it is larger than MESSAGE_BYTES, or what ended the session."""
        while not self.put(message):
            await self._wait()

    def at_hand(self) -> H | None:
        """Return the next message if it has come, else None. Raises what ended the session at the other end."""
        if self._in:
            data, size = self._in.popleft()
            self._held_bytes -= size
            self._make_room()
            return self._carrier.kind.hears.FromString(data)
        if self._why is not None:
            raise self._why()
        return None

    async def receive(self) -> H:
        """Return the next message. Raises what ended the session at the other end."""
        while (message := self.at_hand()) is None:
            await self._wait()
        return message

    def when_over(self, tell: Callable[[], object]) -> None:
        """Have `tell` called when the other end is done with the session before this one is, or the link is lost."""
        self._when_over = tell
        if self._why is not None:
            tell()

    def read_ahead(self) -> None:
        """Take part: more than a little may come from now on."""
        self._is_taken = True
        self._make_room()

    def end(self, error: VeilmatchError | None) -> None:
        """Be done with the session, and say why it has failed. What was not received is forgotten."""
        if error is not None and not self._is_taken:
            self._refused(error)
        kind, last = self._carrier.kind, None
        if error is not None and kind.says_why:
            last = kind.says(ended=written(error, self._carrier.theirs().features))
        # Nobody waits for the word that a session has gone well: the other end has its own.
        self._leave(last, soon=error is not None)

    def refuse(self, error: VeilmatchError) -> None:
        """Be done with a session that nobody here was offered, and say why."""
        self._was_offered = False
        self.end(error)

    def abandon(self) -> None:
        """Leave the session without a word."""
        self._leave(None, soon=True)

    def _leave(self, last: S | None, *, soon: bool) -> None:
        if self._left:
            return
        self._left = True
        self._in.clear()
        self._carrier.forget(self)
        if self._why is None:
            self._say(_Outgoing(last, over=True), soon=soon)
            self._why = self._other.left
        self._news.set()

    def _say(self, outgoing: _Outgoing, *, soon: bool = True) -> None:
        self._out.append(outgoing)
        self._carrier.queue(self, soon=soon)

    def _make_room(self) -> None:
        asked_for = self._came_bytes - self._held_bytes
        low = self._may_come_bytes - self._came_bytes < _LOW_BYTES
        if not low or not self._is_taken or self._why is not None:
            return
        # Not for less than a large message: whoever reads slowly would say so again and again.
        if asked_for + INBOX_BYTES - self._may_come_bytes >= _LOW_BYTES:
            self._may_come_bytes = asked_for + INBOX_BYTES
            self._say(_Outgoing(room=self._may_come_bytes))

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _refused(self, error: VeilmatchError) -> None:
        """Log why nobody here took the session. Of one that was taken, the call of its matcher says so."""
        kind = self._carrier.kind
        log_refused_session(error, kind.method, self.peer, self._carrier.server)
        if not (self._was_offered and kind.each_a_call):
            calls.session_refused(kind.method, error.code)

    # -- for the link ---------------------------------------------------------------------------

    def next_frame(self, frames: Any) -> tuple[int, bool]:
        """Add the next of what is to be sent; return its size, and whether there is more."""
        one = self._out.popleft()
        frames.frame.add(session=self.number, message=one.message, room=one.room, over=one.over)
        if self._queued_bytes >= _QUEUED_BYTES:
            self._news.set()
        self._queued_bytes -= one.size
        return one.size, bool(self._out)

    def take(self, frame: Any) -> None:
        """Take in what the other end has sent. Raises ProtocolError if it says more than there is room for."""
        if frame.room > self._may_send_bytes:
            self._may_send_bytes = frame.room
        if frame.HasField("message") and self._why is None:
            if ended := getattr(frame.message, "ended", b""):
                # One byte too many makes it one that cannot be read, however long it is.
                self._is_done(partial(self._other.said, ended[: CLAIM_BYTES + 1]))
            else:
                self._came(frame.message.SerializeToString())
        if frame.over:
            self.left()
        self._news.set()

    def left(self) -> None:
        """The other end has left the session."""
        self._is_done(self._other.left)

    def _came(self, data: bytes) -> None:
        size = _counted(len(data))
        self._came_bytes += size
        self._held_bytes += size
        if self._came_bytes > self._may_come_bytes:
            raise ProtocolError(
                f"{self.peer} says more of a session than there is room for",
                got=self._came_bytes,
                expected=f"<= {self._may_come_bytes} bytes",
            )
        self._in.append((data, size))
        self._make_room()

    def lose(self, why: Why) -> None:
        """The link is lost: what has come stays."""
        self._is_done(why)

    def _is_done(self, why: Why) -> None:
        if self._why is None:
            self._why = why
            if self._when_over is not None:
                self._when_over()
        self._news.set()


def _size(message: Message) -> int:
    return _counted(message.ByteSize())


def _counted(size: int) -> int:
    """Return what a message of this size counts for. Raises ProtocolError if no session has one so large."""
    if size > MESSAGE_BYTES:
        raise ProtocolError("a message too large for a session", got=size, expected=f"<= {MESSAGE_BYTES}")
    return max(size, _LEAST_BYTES)
