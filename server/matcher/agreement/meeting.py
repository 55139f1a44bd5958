"""The two matchers about one request: matcher a leads (calls), matcher b follows (is called).

Both must have been brought the request by the device itself. Each says so with a rendezvous, and a second one of
matcher a says that the request's turn has come: before that nothing is done for it. Both must hold the same gallery
state while they work on it. What a crash left pending is settled here first (reconcile.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import grpc

from veilmatch.crypto.claims import KEY_HOLDERS, Others
from veilmatch.crypto.digests import digest, digest_all
from veilmatch.crypto.errors import (
    GalleryMismatchError,
    ProtocolError,
    RequestExpiredError,
    UnavailableError,
    VeilmatchError,
    WrongClockError,
)
from veilmatch.crypto.keys.shares import Seat
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.matcher.agreement.reconcile import reconcile, unsettled
from veilmatch.server.matcher.gallery.gallery import Gallery, state_from_wire
from veilmatch.server.transport.finishing import to_the_end
from veilmatch.server.transport.limits import CHUNK_BYTES, WHOLE_CALL
from veilmatch.server.transport.links import Link, Rendezvous, dialled
from veilmatch.server.transport.own_failures import Self, alert
from veilmatch.server.transport.status import from_rpc

#: A crash leaves at most one mutation to settle, so the second comparison must succeed.
_ATTEMPTS = 2

#: What one pack may take at the other matcher, generously: for time-outs only.
_MATCH_S = 0.1
#: A change may have to wait for others, and tens of megabytes for the disk.
_CHANGE_PATIENCE = 6

#: Whom one matcher may name to the other: the key holders that serve it.
OTHERS = Others(partners=KEY_HOLDERS)

Hold = Callable[[], AbstractAsyncContextManager[None]]


class Meeting:
    """One request at both matchers; see `Meetings.about`."""

    def __init__(
        self,
        link: Link[pb.MatcherMessage],
        hello: pb.MatcherMessage,
        *,
        leads: bool,
        peer: str,
        timeout_s: float,
    ) -> None:
        self._link = link
        self._hello = hello
        self.leads = leads
        #: This side's name: who is to blame for what fails here.
        self.party = "matcher-a" if leads else "matcher-b"
        self._peer = peer
        # The other matcher may have to wait for its key holder that long, and then it is the one to say so.
        self._timeout_s = 2 * timeout_s

    async def begin(self, patience_s: float = 0.0) -> None:
        """Leader: say that the request's turn has come. Follower: wait for that, `patience_s` beyond the usual."""
        if self.leads:
            await self._link.send(self._hello)
        else:
            await self._next("rendezvous", patience_s)

    async def swap_states(self, mine: Callable[[], pb.GalleryState], kind: str) -> pb.GalleryState:
        """Exchange gallery states; the leader's goes first. Used for begin, prepared and committed."""
        if self.leads:
            await self.send_state(mine(), kind)
            return await self.receive_state(kind)
        theirs = await self.receive_state(kind)
        await self.send_state(mine(), kind)
        return theirs

    async def send_state(self, state: pb.GalleryState, kind: str) -> None:
        """Send a gallery state alone."""
        await self._link.send(pb.MatcherMessage(**{kind: state}))  # type: ignore[arg-type]

    async def receive_state(self, kind: str) -> pb.GalleryState:
        """Receive a gallery state alone."""
        # The leader says "begin" when it has got hold of its gallery, and "prepared" when a change is on its disk.
        patience_s = 0.0 if kind == "begin" and self.leads else _CHANGE_PATIENCE * self._timeout_s
        return getattr(await self._next(kind, patience_s), kind)  # type: ignore[no-any-return]

    async def swap_results(self, session_id: bytes, results: Sequence[bytes]) -> list[bytes]:
        """Exchange R of the same packs; returns the other matcher's, in order."""
        theirs = await _at_once(self._send_results(session_id, results), self._receive_results(session_id, results))
        return _split(theirs, len(results), len(results[0]))

    async def _send_results(self, session_id: bytes, results: Sequence[bytes]) -> None:
        step = max(1, CHUNK_BYTES // max(1, len(results[0])))
        for start in range(0, len(results), step):
            chunk = pb.ResultChunk(
                session_id=session_id,
                results=b"".join(results[start : start + step]),
                last=start + step >= len(results),
            )
            await self._link.send(pb.MatcherMessage(results=chunk))

    async def _receive_results(self, session_id: bytes, mine: Sequence[bytes]) -> bytes:
        received = bytearray()
        while True:
            chunk = (await self._next("results", _MATCH_S * len(mine))).results
            if chunk.session_id != session_id:
                raise ProtocolError("the two matchers are in different sessions")
            received += chunk.results
            if chunk.last or len(received) > len(mine) * len(mine[0]):
                return bytes(received)

    async def swap_columns(self, session_id: bytes, mine: bytes, patience_s: float = 0.0) -> bytes:
        """Exchange contributions of equal size; both commit to theirs first, so that none can depend on the other.

        patience_s: what the other side may take longer for its part.
        """
        role, other = ("lead", "follow") if self.leads else ("follow", "lead")
        promise = pb.Commitment(session_id=session_id, digest=_commitment(session_id, role, mine))
        await self._link.send(pb.MatcherMessage(commitment=promise))
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
            await self._link.send(pb.MatcherMessage(column=chunk))

    async def _receive_column(self, size: int) -> bytes:
        received = bytearray()
        while True:
            chunk = (await self._next("column")).column
            received += chunk.ciphertexts
            if chunk.last or len(received) > size:
                return bytes(received)

    async def _next(self, kind: str, patience_s: float = 0.0) -> pb.MatcherMessage:
        """Return the next message, of this kind. patience_s: what to wait beyond the usual."""
        try:
            async with asyncio.timeout(self._timeout_s + patience_s):
                message = await self._link.receive()
        except TimeoutError:
            raise UnavailableError(f"{self._peer} does not answer", party=self._peer, needed=self._peer) from None
        if message.WhichOneof("content") != kind:
            raise ProtocolError(
                "another message from the other matcher", got=message.WhichOneof("content"), expected=kind
            )
        return message


class Meetings:
    """Where this matcher meets the other one."""

    def __init__(self, seat: Seat, stub: rpc.MatcherPeerAsyncStub, timeout_s: float) -> None:
        self.rendezvous: Rendezvous[pb.MatcherMessage] = Rendezvous(6 * timeout_s)
        self.me, self.peer = f"matcher-{seat}", f"matcher-{'b' if seat == 'a' else 'a'}"
        self.leads = seat == "a"
        self._stub = stub
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def about(self, request_digest: bytes, patience: float = 1.0) -> AsyncIterator[Meeting]:
        """Meet about a request that both were brought, and begin it. patience: multiplies the time to wait."""
        async with self.met(request_digest, patience) as meeting:
            await meeting.begin()
            yield meeting

    @asynccontextmanager
    async def met(self, request_digest: bytes, patience: float = 1.0) -> AsyncIterator[Meeting]:
        """Meet about a request that both were brought; nothing is done for it before `Meeting.begin`.

        patience: multiplies the time to wait for the other. An error in the body is told to the other matcher.
        """
        hello = pb.MatcherMessage(rendezvous=pb.Rendezvous(request_digest=request_digest))
        wait_s = self._timeout_s * patience
        if self.leads:
            async with AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(wait_s):
                        call = dialled(
                            self._stub.Exchange(timeout=WHOLE_CALL * wait_s), hello, self.peer, others=OTHERS
                        )
                        link = await stack.enter_async_context(call)
                        meeting = Meeting(link, hello, leads=True, peer=self.peer, timeout_s=self._timeout_s)
                        await meeting._next("rendezvous", wait_s)
                except TimeoutError:
                    raise UnavailableError(
                        f"{self.peer} was not brought the request, or does not answer",
                        party=self.peer,
                        needed=self.peer,
                    ) from None
                yield meeting
        else:
            async with self.rendezvous.take(request_digest, self.peer, (), wait_s) as link:
                await link.send(hello)
                yield Meeting(link, hello, leads=False, peer=self.peer, timeout_s=self._timeout_s)

    async def compare_clocks(self, request_digest: bytes, refused: RequestExpiredError) -> None:
        """Raise WrongClockError if the other matcher takes a request that is far from right by the clock of this one.

        The other one is told. What a device has dated wrong both refuse, and then nothing is wrong with either clock.
        """
        details = refused.fields() | {"code": WrongClockError.code, "party": self.me}
        wrong = VeilmatchError.from_fields(details)
        hello = pb.MatcherMessage(rendezvous=pb.Rendezvous(request_digest=request_digest, refused=True))
        try:
            if not self.leads:
                async with self.rendezvous.take(request_digest, self.peer, (), self._timeout_s) as link:
                    raise refused if link.first is None or link.first.rendezvous.refused else wrong
            async with asyncio.timeout(self._timeout_s):
                call = self._stub.Exchange(timeout=WHOLE_CALL * self._timeout_s)
                async with dialled(call, hello, self.peer, others=OTHERS) as link:
                    if (await link.receive()).WhichOneof("content") == "rendezvous":
                        raise wrong
        except (TimeoutError, VeilmatchError) as error:
            if error is wrong:
                raise

    @asynccontextmanager
    async def agreed(self, meeting: Meeting, gallery: Gallery, hold: Hold) -> AsyncIterator[None]:
        """Hold the gallery's lock while both matchers are in the same state, with nothing pending.

        hold: gallery.lock.shared or .exclusive. Raises GalleryMismatchError, an alert, if they cannot be: no crash
        explains their states; UnavailableError, naming a matcher, if what one left pending is not settled in time.
        """
        theirs = gallery.state
        for _ in range(_ATTEMPTS):
            if meeting.leads:
                async with hold():
                    theirs = state_from_wire(await meeting.swap_states(gallery.to_wire, "begin"))
                    if _settled(gallery, theirs):
                        yield
                        return
            else:
                theirs = state_from_wire(await meeting.receive_state("begin"))
                async with hold():
                    await meeting.send_state(gallery.to_wire(), "begin")
                    if _settled(gallery, theirs):
                        yield
                        return
            with self._watched(gallery):
                reconcile(gallery.state, theirs, self.me, self.peer)  # raises if they have parted for good
            if meeting.leads:
                await to_the_end(self.settle(gallery))
        raise unsettled(gallery.state, theirs, self.me, self.peer)

    async def settle(self, gallery: Gallery) -> None:
        """Leader: settle with the follower what a crash left pending, both galleries locked."""
        async with gallery.lock.exclusive():
            try:
                theirs = await self._stub.Reconcile(gallery.to_wire(), timeout=WHOLE_CALL * self._timeout_s)
            except grpc.aio.AioRpcError as error:
                raise from_rpc(error, self.peer, others=OTHERS) from None
            with self._watched(gallery):
                await gallery.reconcile(state_from_wire(theirs), self.me, self.peer)

    async def answer_reconcile(self, gallery: Gallery, theirs: pb.GalleryState) -> pb.GalleryState:
        """Follower's part of `settle`: answer with the state before acting on it."""
        async with gallery.lock.exclusive():
            before = gallery.to_wire()
            with self._watched(gallery):
                await gallery.reconcile(state_from_wire(theirs), self.me, self.peer)
            return before

    @contextmanager
    def _watched(self, gallery: Gallery) -> Iterator[None]:
        """Log galleries that have parted for good as an alert, once for the same two states."""
        try:
            yield
        except GalleryMismatchError as error:
            alert(error, Self(self.me), gallery.name, error.got, error.expected, gallery=gallery.name)
            raise


async def _at_once(sending: Coroutine[Any, Any, None], receiving: Coroutine[Any, Any, bytes]) -> bytes:
    """Return what is received while this side sends: were both to send first, both might wait for the other to read."""
    sent = asyncio.ensure_future(sending)
    try:
        received = await receiving
        await sent
        return received
    finally:
        sent.cancel()
        await asyncio.gather(sent, return_exceptions=True)


def _settled(gallery: Gallery, theirs: object) -> bool:
    return gallery.state == theirs and gallery.state.pending_chain is None


def _commitment(session_id: bytes, role: str, data: bytes) -> bytes:
    return digest("column commitment", session_id, role, digest_all("column", [data]))


def _split(data: bytes, count: int, size: int) -> list[bytes]:
    if len(data) != count * size:
        raise ProtocolError("the other matcher's results do not fit", got=len(data), expected=count * size)
    return [data[i : i + size] for i in range(0, len(data), size)]
