"""The stream between two servers about one request, from either end.

Two key holders of a pair, or the two matchers. One side dials (`dialled`); the other is called
(`AcceptedLink`) and waits until it has been brought the same request by its own caller (`Rendezvous`).
Whichever side fails tells the other why: the called one by the status of the call, the calling one by a last message.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message

from veilmatch.common.speaking import heard_from
from veilmatch.crypto.claims import NOBODY, Others, written
from veilmatch.crypto.errors import OverloadedError, ProtocolError, UnavailableError, VeilmatchError
from veilmatch.server.ground.request_id import About, about, now_about
from veilmatch.server.transport.limits import (
    FIRST_MESSAGE_BYTES,
    INBOX_BYTES,
    INBOX_MESSAGES,
    PEER_MESSAGE_BYTES,
    SUBJECT_BYTES,
    WAITING_LINKS,
)
from veilmatch.server.transport.status import decoded, from_metadata

#: How long the calling end goes on with a failed call, to say why: it has nothing else to wait for.
_LAST_WORD_S = 2.0
#: Calls that end with a last word.
_ending: set[asyncio.Task[None]] = set()

M = TypeVar("M", bound=Message)
L = TypeVar("L", bound="Offered")


class Link(Protocol[M]):
    """One request's stream to the peer. Both methods raise the error that ended it at the other end.

    If it ends while a message is being sent, that error may be lost: UnavailableError then.
    """

    async def send(self, message: M) -> None:
        """Send one message. Raises ProtocolError if it is larger than any that servers take."""

    async def receive(self) -> M:
        """Return the next message."""


class _DialledLink(Generic[M]):
    def __init__(self, call: Any, peer: str, alternatives: tuple[str, ...], others: Others) -> None:
        self._call, self._peer, self._alternatives, self._others = call, peer, alternatives, others

    async def send(self, message: M) -> None:
        _require_sendable(message)
        try:
            await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            raise await self._reason() from None

    async def receive(self) -> M:
        try:
            message: M = await self._call.read()
        except grpc.aio.AioRpcError:
            raise await self._reason() from None
        if not isinstance(message, Message):
            raise await self._reason()
        return message

    async def _reason(self) -> VeilmatchError:
        """Return why the call has ended."""
        code, metadata = await self._call.code(), await self._call.trailing_metadata()
        return ended_with(code, metadata, self._peer, self._alternatives, self._others)


def ended_with(code: Any, metadata: Any, peer: str, alternatives: tuple[str, ...], others: Others) -> VeilmatchError:
    """Return the error of whoever waits for a call with this status and trailing metadata; see `dialled`."""
    # If the call ends while a message is being sent, gRPC says INTERNAL and forgets what the peer said.
    unknown = code is grpc.StatusCode.INTERNAL and not metadata
    if code is not grpc.StatusCode.OK and not unknown:
        return from_metadata(code, metadata, peer, alternatives, others)
    return UnavailableError(f"{peer} ended the request", party=peer, needed=peer, alternatives=alternatives)


@asynccontextmanager
async def dialled(
    call: Any, first: M, peer: str, alternatives: tuple[str, ...] = (), others: Others = NOBODY
) -> AsyncIterator[Link[M]]:
    """The calling end: sends `first` on a fresh stream-stream call. An error here ends it, and the peer hears which.

    alternatives: pairs that could serve without the peer, for the error that says it is down. others: whom the peer
    may name in what it ends with, beside itself.
    """
    link: _DialledLink[M] = _DialledLink(call, peer, alternatives, others)
    try:
        await link.send(first)
        yield link
        await call.done_writing()
    except VeilmatchError as error:
        # A key holder hears no reason from its matcher: nothing there may follow from what a matcher says of others.
        if call.done() or "ended" not in type(first).DESCRIPTOR.fields_by_name:
            _give_up(call)
        else:
            ending = asyncio.create_task(_end_with(call, type(first)(ended=written(error, heard_from(call).features))))
            _ending.add(ending)
            ending.add_done_callback(_ending.discard)
        raise
    except BaseException:
        _give_up(call)
        raise


def _give_up(call: Any) -> None:
    """Cancel a call, and let go of it.

    A call that failed while it sent is done as Python sees it, and is not cancelled. If something of the peer was not
    read, gRPC would then keep it, and a task, for as long as the connection stays.
    """
    if not call.cancel():
        call._cython_call.cancel("given up")


async def _end_with(call: Any, last: Message) -> None:
    """Send a last message on a call and wait for its end: of a call that is cancelled the peer may read nothing."""
    with suppress(TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
        async with asyncio.timeout(_LAST_WORD_S):
            await call.write(last)
            await call.done_writing()
            await call.code()
    _give_up(call)


async def last_words() -> None:
    """Wait until what failed calls still have to say is said: for whoever ends the loop, or closes channels."""
    if _ending:
        await asyncio.wait(list(_ending))


class AcceptedLink(Generic[M]):
    """The called end: fed by the RPC handler, used by the session that takes it.

    Nothing is read before a session has it, and then only so far ahead: after that gRPC makes the peer wait.
    alternatives: pairs that could serve without the peer, for the error that says that it left. others: whom the peer
    may name in what it ends with, beside itself.
    """

    def __init__(
        self,
        context: Any,
        peer: str,
        alternatives: tuple[str, ...] = (),
        others: Others = NOBODY,
        first: M | None = None,
    ) -> None:
        #: The message that the call began with, for whoever takes the link.
        self.first = first
        self._context, self.peer, self._alternatives, self._others = context, peer, alternatives, others
        self._request: About | None = None
        self._reader: asyncio.Future[None] | None = None
        self._over = False
        #: Bounded by whoever fills it, so that None, the end, always fits.
        self._inbox: asyncio.Queue[M | None] = asyncio.Queue()
        self._held_bytes = 0
        self._room = asyncio.Event()
        self._outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody may be left to take the error, if the caller has gone.
        self._outcome.add_done_callback(lambda outcome: outcome.cancelled() or outcome.exception())

    async def send(self, message: M) -> None:
        """Send one message."""
        _require_sendable(message)
        try:
            await self._context.write(message)
        except (grpc.aio.UsageError, grpc.aio.InternalError, grpc.aio.AbortError, RuntimeError):
            raise self._gone() from None

    async def receive(self) -> M:
        """Return the next message; raises the error that the peer ended with, or UnavailableError once it is gone."""
        self.read_ahead()
        message = await self._inbox.get()
        if message is None:
            self._inbox.put_nowait(None)  # for whoever asks again
            raise self._gone()
        self._held_bytes -= message.ByteSize()
        self._room.set()
        if ended := getattr(message, "ended", b""):
            raise decoded(ended, self.peer, self._alternatives, self._others)
        return message

    def read_ahead(self) -> None:
        """Begin to read: a session has the link. Its peer may send first, and this side too."""
        if self._reader is None and not self._over:
            self._reader = asyncio.ensure_future(self._read())

    async def feed(self) -> None:
        """Keep the call until the session here has its outcome; raise that outcome's error.

        The call is then about the request that the session was about.
        """
        try:
            await asyncio.shield(self._outcome)
        finally:
            self._stop_reading()
            about(self._request)

    def end(self, error: VeilmatchError | None) -> None:
        """Tell the handler how the session ended, so that the peer learns it. What was not read is forgotten."""
        self._stop_reading()
        while not self._inbox.empty():
            self._inbox.get_nowait()
        self._inbox.put_nowait(None)
        self._held_bytes = 0
        if not self._outcome.done():
            self._request = now_about()
            if error is None:
                self._outcome.set_result(None)
            else:
                self._outcome.set_exception(error)

    def _stop_reading(self) -> None:
        """Read no more; a session that goes on without the call still has what came."""
        self._over = True
        if self._reader is not None:
            self._reader.cancel()
        self._inbox.put_nowait(None)

    async def _read(self) -> None:
        while isinstance(message := await self._context.read(), Message):
            self._inbox.put_nowait(cast(M, message))
            self._held_bytes += message.ByteSize()
            while self._inbox.qsize() >= INBOX_MESSAGES or self._held_bytes >= INBOX_BYTES:
                self._room.clear()
                await self._room.wait()
        self._inbox.put_nowait(None)

    def _gone(self) -> UnavailableError:
        return UnavailableError(
            f"{self.peer} left the request", party=self.peer, needed=self.peer, alternatives=self._alternatives
        )


class Offered(Protocol):
    """A link that a peer has opened, as far as meeting is concerned."""

    peer: str
    first: Any
    """The message that it began with."""

    def read_ahead(self) -> None:
        """Begin to read: a session has it."""

    def end(self, error: VeilmatchError | None) -> None:
        """Say how the session ended, for the peer to learn it."""


class Rendezvous(Generic[L]):
    """Where a peer's link and a request brought here, both about the same thing, find each other."""

    def __init__(self, timeout_s: float) -> None:
        """timeout_s: how long either waits for the other, unless `take` says otherwise."""
        self.timeout_s = timeout_s
        self._links: dict[bytes, asyncio.Future[L]] = {}
        #: How many of each peer's links are there.
        self._waiting: Counter[str] = Counter()
        #: What ends the links that nobody takes.
        self._expiries: dict[bytes, asyncio.TimerHandle] = {}

    def bring(self, subject: bytes, link: L) -> None:
        """Offer a link; it is ended with UnavailableError if nobody takes it in time.

        Raises OverloadedError if too many calls of the peer wait already, ProtocolError for a second one about this,
        or for one that begins with a large message: it is kept as long as the call waits.
        """
        if link.first is not None and link.first.ByteSize() > FIRST_MESSAGE_BYTES:
            raise ProtocolError(
                f"{link.peer} begins a call with a large message",
                got=link.first.ByteSize(),
                expected=f"<= {FIRST_MESSAGE_BYTES} bytes",
            )
        if (waiting := self._waiting[link.peer]) >= WAITING_LINKS:
            raise OverloadedError(
                f"{link.peer} calls about more requests than were brought here",
                got=waiting + 1,
                expected=f"at most {WAITING_LINKS} that wait",
                retry_after_s=self.timeout_s,
            )
        place = self._place(subject)
        if place.done():
            raise ProtocolError("a second call about the same request")
        place.set_result(link)
        self._waiting[link.peer] += 1

        def expire() -> None:
            self._forget(subject, place)
            link.end(UnavailableError("this server was not brought the request that its peer was brought"))

        self._expiries[subject] = asyncio.get_running_loop().call_later(self.timeout_s, expire)

    @asynccontextmanager
    async def take(
        self, subject: bytes, peer: str, alternatives: tuple[str, ...] = (), timeout_s: float | None = None
    ) -> AsyncIterator[L]:
        """Wait for the peer's call about this and use its link for the session."""
        place = self._place(subject)
        try:
            try:
                async with asyncio.timeout(timeout_s or self.timeout_s):
                    await asyncio.shield(place)
            except TimeoutError:
                raise UnavailableError(
                    f"{peer} did not call about the request", party=peer, needed=peer, alternatives=alternatives
                ) from None
            finally:
                self._forget(subject, place)
            link = place.result()
            link.read_ahead()
            yield link
        except VeilmatchError as error:
            _end(place, error)
            raise
        except BaseException:
            _end(place, UnavailableError("the request was abandoned here"))
            raise
        _end(place, None)

    def _forget(self, subject: bytes, place: asyncio.Future[L]) -> bool:
        """Return whether the place was there. It is not any more, and nothing keeps its link."""
        if self._links.get(subject) is not place:
            return False
        del self._links[subject]
        if place.done():
            self._waiting[place.result().peer] -= 1
        if (expiry := self._expiries.pop(subject, None)) is not None:
            expiry.cancel()
        return True

    def _place(self, subject: bytes) -> asyncio.Future[L]:
        return self._links.setdefault(subject, asyncio.get_running_loop().create_future())


def require_subject(subject: bytes, peer: str) -> None:
    """Raise ProtocolError unless what a peer calls about is a digest, 32 bytes."""
    if len(subject) != SUBJECT_BYTES:
        raise ProtocolError(
            f"{peer} calls about something that is not a digest",
            got=f"{len(subject)} bytes",
            expected=f"{SUBJECT_BYTES} bytes",
        )


def _require_sendable(message: Message) -> None:
    # gRPC would end the call as if the other end had failed.
    if message.ByteSize() > PEER_MESSAGE_BYTES:
        raise ProtocolError("a message too large to send", got=message.ByteSize(), expected=f"<= {PEER_MESSAGE_BYTES}")


def _end(place: asyncio.Future[Any], error: VeilmatchError | None) -> None:
    """End the link that was brought, if one was: it may have come in the moment when the wait for it ended."""
    if place.done():
        place.result().end(error)
