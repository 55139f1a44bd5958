"""A standing link: the one stream between two servers that carries many sessions (kinds.py).

A stream of gRPC costs more to open and to end than a verification has to say, and every message on it some 0.2 ms of
either side. So there is one stream, and what is ready at the same moment goes in one message. One end calls, at its
first session, and again at the next one after the link was lost (ends.py).

- Sessions have numbers, which the calling end counts. A frame belongs to the session of its number at this link, hence
  to the peer whose certificate the link has; a number means nothing at another link.
- A session that fails ends alone, and so does one that is refused. Whoever loses the link loses its sessions, at once.
- They take turns, a message each; what is large goes in small pieces. How much may wait of one is
  strand.py's matter. Whoever says more, or nothing that a link has, deviates, and the link ends.
- There are at most SESSIONS of them: what is opened beyond is refused. Whoever does not hear how its sessions ended is
  not heard any further, and whoever hears nothing for SILENCE_S loses the link.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Generic, Protocol

from veilmatch.crypto.claims import Others
from veilmatch.crypto.errors import OverloadedError, ProtocolError, UnavailableError, VeilmatchError
from veilmatch.crypto.versions import UNSAID, Hello
from veilmatch.server.transport.limits import CALLS_OF_PEER, SILENCE_S
from veilmatch.server.transport.standing.kinds import H, Kind, S
from veilmatch.server.transport.standing.strand import OtherEnd, Strand, Why

#: As many as calls of one server.
SESSIONS = CALLS_OF_PEER
#: What goes in one message, and the last of it beyond: the others wait for that long.
_TOGETHER_BYTES = 1 << 20
#: And how many frames: whoever takes a message does nothing else meanwhile, and a session is opened in a few bytes, but
#: refused in 0.1 ms. Of so many, what a message costs by itself is little for each.
TOGETHER_FRAMES = 64
#: Sessions may have so much to send at once, those that are over included.
_UNSENT = 2 * SESSIONS
#: What nobody waits for goes with what is sent next, or after this.
_LATEST_S = 1.0


class Stream(Protocol):
    """What gRPC gives either end of a call."""

    async def read(self) -> Any:
        """Return the next message, or something else at the end."""

    async def write(self, message: Any, /) -> None:
        """Return when the message has gone, and the next one may."""


class StandingLink(Generic[S, H]):
    """One end of a link. server: the name of this end, for errors.

    offer: takes in a session that the other end has opened, or raises why not; None: it may open none. theirs: what the
    other end speaks, as far as it has said so.
    """

    def __init__(
        self, kind: Kind[S, H], server: str, other: OtherEnd, offer: Callable[[Strand[S, H]], None] | None = None,
        theirs: Callable[[], Hello] = lambda: UNSAID,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.theirs = theirs
        self.server, self._other, self._offer = server, other, offer
        self._strands: dict[int, Strand[S, H]] = {}
        #: Of the same other end, and ending: the two have the places of one.
        self.before: StandingLink[S, H] | None = None
        #: The number of the newest session.
        self._newest = 0
        #: Those with something to send, each once, in turn.
        self._ready: deque[Strand[S, H]] = deque()
        self._in_ready: set[Strand[S, H]] = set()
        self._wake = asyncio.Event()
        #: Some of it has gone.
        self._gone = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None
        self._why: Why | None = None
        self._stands = asyncio.Event()
        self._stopping = False
        self._reading: asyncio.Future[None] | None = None
        #: When something came last, by `time.monotonic`.
        self.heard_at = float("-inf")

    @property
    def is_lost(self) -> bool:
        """Whether nothing goes over it any more."""
        return self._why is not None

    @property
    def stands(self) -> bool:
        """Whether something has gone over it, and it is not lost."""
        return self._stands.is_set() and self._why is None

    async def standing(self) -> None:
        """Wait until it stands. Raises why it does not."""
        await self._stands.wait()
        if self._why is not None:
            raise self._why()

    def open(self, first: S, others: Others | None = None) -> Strand[S, H]:
        """Open a session with this message. others: whom the other end may name, if that is of this session alone."""
        other = self._other if others is None else replace(self._other, others=others)
        self._newest += 1
        strand: Strand[S, H] = Strand(self, self._newest, other)
        if self._why is not None or len(self._ready) > _UNSENT:
            strand.lose(self._why or self._unread)
            return strand
        self._strands[self._newest] = strand
        strand.put(first)
        return strand

    async def carry(self, stream: Stream, first: Any = None) -> None:
        """Carry sessions until the other end is done or `close` is called; `first` has come already.

        Raises ProtocolError if the other end deviates, UnavailableError if it does not read, and what reading raises.
        `lose` is the caller's to say.
        """
        self._reading = asyncio.ensure_future(self._read(stream, first))
        writing = asyncio.ensure_future(self._write(stream))
        both = {self._reading, writing}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        if not self._reading.cancelled():
            self._reading.result()
        if not writing.cancelled() and isinstance(error := writing.exception(), VeilmatchError):
            raise error

    def lose(self, why: Why) -> None:
        """Say why nothing goes over the link any more: every session on it ends, here."""
        if self._why is None:
            self._why = why
        if self._later is not None:
            self._later.cancel()
        self._stands.set()
        for strand in list(self._strands.values()):
            strand.lose(why)
        self._strands.clear()

    def stop(self) -> None:
        """Take no new sessions, and close the link after the last one."""
        self._stopping = True
        self._wake.set()

    def close(self) -> None:
        """Carry nothing any more."""
        if self._reading is not None:
            self._reading.cancel()

    # -- for sessions ---------------------------------------------------------------------------

    def queue(self, strand: Strand[S, H], *, soon: bool) -> None:
        """See Carrier."""
        if strand not in self._in_ready:
            self._ready.append(strand)
            self._in_ready.add(strand)
        if soon:
            self._wake.set()
        elif self._later is None and not self._wake.is_set():
            self._later = asyncio.get_running_loop().call_later(_LATEST_S, self._wake.set)

    def forget(self, strand: Strand[S, H]) -> None:
        """See Carrier."""
        if self._strands.get(strand.number) is strand:
            del self._strands[strand.number]
        if self._stopping:
            self._wake.set()

    # -- sending --------------------------------------------------------------------------------

    async def _write(self, stream: Stream) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._later is not None:
                self._later.cancel()
                self._later = None
            while self._ready:
                await self._gets(stream.write(self._together()))
                self._stands.set()
                self._gone.set()
            if self._stopping and not self._strands:
                return

    async def _gets(self, message: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(SILENCE_S):
                await message
        except TimeoutError:
            raise self._unread() from None

    def _unread(self) -> VeilmatchError:
        return UnavailableError(
            f"{self._other.name} does not read what is sent to it",
            party=self._other.name, needed=self._other.name, alternatives=self._other.alternatives,
        )  # fmt: skip

    def _together(self) -> Any:
        """Return what is ready, a message of each session in turn."""
        frames, size = self.kind.says_frames(), 0
        while self._ready and size < _TOGETHER_BYTES and len(frames.frame) < TOGETHER_FRAMES:
            strand = self._ready.popleft()
            more_bytes, more = strand.next_frame(frames)
            size += more_bytes
            if more:
                self._ready.append(strand)
            else:
                self._in_ready.discard(strand)
        return frames

    # -- hearing --------------------------------------------------------------------------------

    async def _read(self, stream: Stream, first: Any) -> None:
        frames: Any = first if first is not None else await stream.read()
        while isinstance(frames, self.kind.hears_frames):
            self.heard_at = time.monotonic()
            self._take(frames)
            while len(self._ready) > _UNSENT:
                self._gone.clear()
                self._wake.set()
                await self._gone.wait()
            frames = await stream.read()

    def _take(self, frames: Any) -> None:
        if not 1 <= (count := len(frames.frame)) <= TOGETHER_FRAMES:
            raise ProtocolError("not a message of a link", got=f"{count} frames", expected=f"1..{TOGETHER_FRAMES}")
        for frame in frames.frame:
            strand = self._strands.get(frame.session)
            if strand is not None:
                strand.take(frame)
            elif frame.session > self._newest:
                self._opened(frame)
            # else one that has ended here

    def _opened(self, frame: Any) -> None:
        if self._offer is None or frame.session != self._newest + 1:
            raise ProtocolError(f"{self._other.name} says something of a session that nobody opened")
        opens = self.kind.opens
        if (found := frame.message.WhichOneof("content")) != opens:
            raise ProtocolError("another message than a session begins with", got=found, expected=opens)
        # A copy: a message that is part of another keeps all of that in memory.
        first, size = self.kind.hears(**{opens: getattr(frame.message, opens)}), frame.message.ByteSize()
        if first.ByteSize() != size:
            raise ProtocolError("more than a session begins with", got=size, expected=first.ByteSize())
        self._newest = frame.session
        strand = Strand(self, frame.session, self._other, first)
        try:
            self._require_place()
            self._strands[frame.session] = strand
            self._offer(strand)
        except VeilmatchError as error:
            strand.refuse(error)
        if frame.over:
            strand.left()

    def _require_place(self) -> None:
        if self._stopping:
            raise UnavailableError(f"{self.server} is stopping", party=self.server, needed=self.server)
        before = self.before
        if before is not None and len(self._strands) + len(before._strands) >= SESSIONS:
            before.lose(self._other.left)
            before.close()
        if len(self._strands) >= SESSIONS:
            raise OverloadedError(
                f"{self.server} takes no more sessions of {self._other.name} at once",
                got=SESSIONS + 1, expected=f"at most {SESSIONS}", party=self.server, retry_after_s=1.0,
            )  # fmt: skip
