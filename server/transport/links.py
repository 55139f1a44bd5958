"""The stream between two servers about one request, from either end.

Two key holders of a pair, or the two matchers. One side dials (`dialled`); the other is called
(`AcceptedLink`) and waits until it has been brought the same request by its own caller (`Rendezvous`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message

from veilmatch.crypto.errors import ProtocolError, UnavailableError, VeilmatchError
from veilmatch.server.transport.limits import PEER_MESSAGE_BYTES
from veilmatch.server.transport.request_id import About, about, now_about
from veilmatch.server.transport.status import from_metadata

M = TypeVar("M", bound=Message)


class Link(Protocol[M]):
    """One request's stream to the peer. Both methods raise the error that ended it at the other end.

    If it ends while a message is being sent, that error may be lost: UnavailableError then.
    """

    async def send(self, message: M) -> None:
        """Send one message. Raises ProtocolError if it is larger than any that servers take."""

    async def receive(self) -> M:
        """Return the next message."""


class _DialledLink(Generic[M]):
    def __init__(self, call: Any, peer: str, alternatives: tuple[str, ...]) -> None:
        self._call, self._peer, self._alternatives = call, peer, alternatives

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
        # If the call ends while a message is being sent, gRPC says INTERNAL and forgets what the peer said.
        unknown = code is grpc.StatusCode.INTERNAL and not metadata
        if code is not grpc.StatusCode.OK and not unknown:
            return from_metadata(code, metadata, self._peer, self._alternatives)
        return UnavailableError(
            f"{self._peer} ended the request", party=self._peer, needed=self._peer, alternatives=self._alternatives
        )


@asynccontextmanager
async def dialled(call: Any, first: M, peer: str, alternatives: tuple[str, ...] = ()) -> AsyncIterator[Link[M]]:
    """The calling end: sends `first` on a fresh stream-stream call. The call is cancelled if the request fails here.

    alternatives: pairs that could serve without the peer, for the error that says it is down.
    """
    link: _DialledLink[M] = _DialledLink(call, peer, alternatives)
    try:
        await link.send(first)
        yield link
        await call.done_writing()
    except BaseException:
        call.cancel()
        raise


class AcceptedLink(Generic[M]):
    """The called end: fed by the RPC handler, used by the session that takes it."""

    def __init__(self, context: Any, peer: str) -> None:
        self._context, self._peer = context, peer
        self._request: About | None = None
        self._inbox: asyncio.Queue[M | None] = asyncio.Queue()
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
        """Return the next message; raises UnavailableError once the peer is gone."""
        message = await self._inbox.get()
        if message is None:
            self._inbox.put_nowait(None)  # for whoever asks again
            raise self._gone()
        return message

    async def feed(self) -> None:
        """Read the stream into the inbox until the session here has its outcome; raise that outcome's error.

        The call is then about the request that the session was about.
        """
        reader = asyncio.ensure_future(self._read())
        try:
            await asyncio.shield(self._outcome)
        finally:
            reader.cancel()
            self._inbox.put_nowait(None)
            about(self._request)

    def end(self, error: VeilmatchError | None) -> None:
        """Tell the handler how the session ended, so that the peer learns it."""
        if not self._outcome.done():
            self._request = now_about()
            if error is None:
                self._outcome.set_result(None)
            else:
                self._outcome.set_exception(error)

    async def _read(self) -> None:
        while isinstance(message := await self._context.read(), Message):
            self._inbox.put_nowait(cast(M, message))
        self._inbox.put_nowait(None)

    def _gone(self) -> UnavailableError:
        return UnavailableError(f"{self._peer} left the request", party=self._peer, needed=self._peer)


class Rendezvous(Generic[M]):
    """Where a peer's call and a request brought here, both about the same thing, find each other."""

    def __init__(self, timeout_s: float) -> None:
        """timeout_s: how long either waits for the other, unless `take` says otherwise."""
        self._timeout_s = timeout_s
        self._links: dict[bytes, asyncio.Future[AcceptedLink[M]]] = {}

    def bring(self, subject: bytes, link: AcceptedLink[M]) -> None:
        """Offer a link; it is ended with UnavailableError if nobody takes it in time."""
        place = self._place(subject)
        if place.done():
            raise ProtocolError("a second call about the same request")
        place.set_result(link)

        def expire() -> None:
            if self._links.get(subject) is place:
                del self._links[subject]
                link.end(UnavailableError("this server was not brought the request that its peer was brought"))

        asyncio.get_running_loop().call_later(self._timeout_s, expire)

    @asynccontextmanager
    async def called(self, subject: bytes, peer: str, timeout_s: float) -> AsyncIterator[None]:
        """Wait for the peer's call about this and leave it for `take`: until then nothing needs doing here.

        An error in the body ends the call with it, so that the peer learns it. Raises UnavailableError if there is
        no call in time.
        """
        place = self._place(subject)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(place)
        except BaseException as error:
            if not place.done() and self._links.get(subject) is place:
                del self._links[subject]
            if isinstance(error, TimeoutError):
                raise UnavailableError(f"{peer} did not call about the request", party=peer, needed=peer) from None
            raise
        try:
            yield
        except BaseException as error:
            if self._links.get(subject) is place:
                del self._links[subject]
                abandoned = UnavailableError("the request was abandoned here")
                _end(place, error if isinstance(error, VeilmatchError) else abandoned)
            raise

    @asynccontextmanager
    async def take(
        self, subject: bytes, peer: str, alternatives: tuple[str, ...] = (), timeout_s: float | None = None
    ) -> AsyncIterator[Link[M]]:
        """Wait for the peer's call about this and use its link for the session."""
        place = self._place(subject)
        try:
            try:
                async with asyncio.timeout(timeout_s or self._timeout_s):
                    await asyncio.shield(place)
            except TimeoutError:
                raise UnavailableError(
                    f"{peer} did not call about the request", party=peer, needed=peer, alternatives=alternatives
                ) from None
            finally:
                if self._links.get(subject) is place:
                    del self._links[subject]
            yield place.result()
        except VeilmatchError as error:
            _end(place, error)
            raise
        except BaseException:
            _end(place, UnavailableError("the request was abandoned here"))
            raise
        _end(place, None)

    def _place(self, subject: bytes) -> asyncio.Future[AcceptedLink[M]]:
        return self._links.setdefault(subject, asyncio.get_running_loop().create_future())


def first_of(message: object, kind: type[M], content: str, caller: str) -> M:
    """Return the message that a stream has begun with, which has to have this content.

    Raises UnavailableError if there is none: a caller that gave its request up before deviates in nothing.
    ProtocolError for another one.
    """
    if not isinstance(message, kind):
        raise UnavailableError(f"{caller} left before its request was complete", party=caller, needed=caller)
    if (found := message.WhichOneof("content")) != content:
        raise ProtocolError(f"a call that does not begin with its {content}", got=found, expected=content)
    return message


def _require_sendable(message: Message) -> None:
    # gRPC would end the call as if the other end had failed.
    if message.ByteSize() > PEER_MESSAGE_BYTES:
        raise ProtocolError("a message too large to send", got=message.ByteSize(), expected=f"<= {PEER_MESSAGE_BYTES}")


def _end(place: asyncio.Future[AcceptedLink[M]], error: VeilmatchError | None) -> None:
    """End the link that was brought, if one was: it may have come in the moment when the wait for it ended."""
    if place.done():
        place.result().end(error)
