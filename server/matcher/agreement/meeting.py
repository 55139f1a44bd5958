"""The two matchers of a pair about one request: the first of the pair leads (calls), the second follows (is called).

Both must have been brought the request by the device itself. Each says so with a rendezvous, and a second one of
the leader says that the request's turn has come: before that nothing is done for it. Both must hold the same gallery
state while they work on it: see `sitting`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from typing import Any, TypeVar

from veilmatch.crypto.claims import Others
from veilmatch.crypto.digests import digest, digest_all
from veilmatch.crypto.errors import (
    CiphertextError,
    ProtocolError,
    RequestExpiredError,
    UnavailableError,
    VeilmatchError,
    WrongClockError,
)
from veilmatch.crypto.keys.parties import Pair, Party, dealer_of, other_party, pairs_among, pairs_without
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.transport.limits import CHUNK_BYTES, WHOLE_CALL
from veilmatch.server.transport.links import AcceptedLink, Link, Rendezvous, dialled, require_subject
from veilmatch.server.transport.sign_of_life import Owing, Sign

_R = TypeVar("_R")
#: Takes a part of this side's results and the other's of the same packs.
Take = Callable[[Sequence[bytes], list[bytes]], Awaitable[None]]
#: What one pack may take at the other matcher, generously: for time-outs only.
_MATCH_S = 0.1
#: What comes in parts has to come at least this fast, in bytes a second, after what is waited for one message.
_SLOWEST = 1 << 20
#: Kinds of messages that are parts of something, and the fields that have some of it.
_PARTS = {"results": ("results",), "column": ("ciphertexts",), "changes": ("changes", "contents")}


def matcher_name(party: Party) -> str:
    """Return the name in a matcher's certificate."""
    return f"matcher-{party}"


def others_of(pair: Pair) -> Others:
    """Return whom one matcher of a pair may name to the other: the key holders of both, and as missing their dealer."""
    return Others(tuple(f"keyholder-{party}" for party in pair), (f"keyholder-{dealer_of(pair)}",))


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
        gives_sign: Sign | None = None,
    ) -> None:
        self._link = link
        self._hello = hello
        self.leads = leads
        #: This side's name: who is to blame for what fails here.
        self.party = party
        #: Name of the other matcher of the pair, and pairs that can do without it.
        self.peer = peer
        self._alternatives = alternatives
        self._other = Owing(peer, alternatives, gives_sign)
        # The other matcher may have to wait for its key holder that long, and then it is the one to say so.
        self._timeout_s = 2 * timeout_s

    async def begin(self, patience_s: float = 0.0) -> None:
        """Leader: say that the request's turn has come. Follower: wait for that, `patience_s` beyond the usual."""
        if self.leads:
            await self._link.send(self._hello)
        else:
            await self._next("rendezvous", patience_s)

    async def send(self, **content: Any) -> None:
        """Send one message: the name of its kind, and what it says."""
        await self._link.send(pb.MatcherMessage(**content))

    async def receive(self, kind: str, patience: float = 0.0) -> Any:
        """Return what the next message says, which must be of this kind. patience: waits so many times longer."""
        return getattr(await self._next(kind, patience * self._timeout_s), kind)

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
                    await self._link.send(pb.MatcherMessage(results=chunk))
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
        async with aclosing(self.parts("column")) as chunks:
            async for chunk in chunks:
                received += chunk.ciphertexts
                if len(received) > size:
                    break
        return bytes(received)

    async def _next(self, kind: str, patience_s: float = 0.0) -> pb.MatcherMessage:
        """Return the next message, of this kind. patience_s: what to wait beyond the usual."""
        message = await self._other.pays(self._link.receive(), self._timeout_s + patience_s)
        if message.WhichOneof("content") != kind:
            raise ProtocolError(
                "another message from the other matcher", got=message.WhichOneof("content"), expected=kind
            )
        return message


class Meetings:
    """Where this matcher meets the others, one for each pair that it is in.

    party: of this matcher. stubs: the other matchers, by letter. signs: what asks them for a sign of life while they
    owe a message. Requests of pairs that are not among `pairs` are not for this matcher: whoever calls with one has to
    refuse it before.
    """

    def __init__(
        self,
        party: Party,
        stubs: Mapping[Party, rpc.MatcherPeerAsyncStub],
        timeout_s: float,
        signs: Mapping[Party, Sign] | None = None,
    ) -> None:
        self.rendezvous: Rendezvous[AcceptedLink[pb.MatcherMessage]] = Rendezvous(6 * timeout_s)
        self.party: Party = party
        self.me = matcher_name(party)
        self._stubs = stubs
        self._signs = signs or {}
        self._timeout_s = timeout_s
        served = pairs_among((party, *stubs))
        #: The pairs that this matcher serves, and the matchers that it meets, by name.
        self.pairs = tuple(pair for pair in served if party in pair)
        self.peers = tuple(map(matcher_name, stubs))
        #: Those of them that call this one.
        self.leaders = tuple(self._peer(pair) for pair in self.pairs if pair[0] != party)
        #: This matcher, for its own errors.
        self.server = Self(self.me, tuple(pair for pair in pairs_without(party) if pair in served), served)

    def leads(self, pair: Pair) -> bool:
        """Return whether this matcher leads requests of a pair."""
        return pair in self.pairs and pair[0] == self.party

    def pair_with(self, peer: str) -> Pair:
        """Return the pair of this matcher and another one, by its name."""
        return next(pair for pair in self.pairs if self._peer(pair) == peer)

    def without(self, peer: str) -> tuple[str, ...]:
        """Return the pairs that serve while another matcher is down."""
        down = next(party for party in self._stubs if matcher_name(party) == peer)
        return tuple(pair for pair in pairs_without(down) if pair in self.server.pairs)

    def bring(self, request_digest: bytes, link: AcceptedLink[pb.MatcherMessage]) -> None:
        """Take in the call of a leader about a request. Raises what Rendezvous.bring and require_subject raise."""
        require_subject(request_digest, link.peer)
        # The caller's name is part of the key: a matcher of another pair cannot take this one's place.
        self.rendezvous.bring(link.peer.encode() + request_digest, link)

    @asynccontextmanager
    async def about(self, request_digest: bytes, pair: Pair, patience: float = 1.0) -> AsyncIterator[Meeting]:
        """Meet about a request that both were brought, and begin it. patience: multiplies the time to wait."""
        async with self.met(request_digest, pair, patience) as meeting:
            await meeting.begin()
            yield meeting

    @asynccontextmanager
    async def met(self, request_digest: bytes, pair: Pair, patience: float = 1.0) -> AsyncIterator[Meeting]:
        """Meet about a request of a pair that both were brought; nothing is done for it before `Meeting.begin`.

        patience: multiplies the time to wait for the other. An error in the body is told to the other matcher.
        """
        hello = pb.MatcherMessage(rendezvous=pb.Rendezvous(request_digest=request_digest))
        wait_s, peer, leads = self._timeout_s * patience, self._peer(pair), self.leads(pair)
        alternatives = self.without(peer)

        def meeting_at(link: Link[pb.MatcherMessage]) -> Meeting:
            return Meeting(
                link, hello, leads=leads, party=self.me, peer=peer, timeout_s=self._timeout_s,
                alternatives=alternatives, gives_sign=self._signs.get(other_party(pair, self.party)),
            )  # fmt: skip

        if leads:
            async with AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(wait_s):
                        meeting = meeting_at(await stack.enter_async_context(self._call(pair, hello, wait_s)))
                        await meeting._next("rendezvous", wait_s)
                except TimeoutError:
                    raise UnavailableError(
                        f"{peer} was not brought the request, or does not answer",
                        party=peer,
                        needed=peer,
                        alternatives=alternatives,
                    ) from None
                yield meeting
        else:
            async with self.rendezvous.take(peer.encode() + request_digest, peer, alternatives, wait_s) as link:
                await link.send(hello)
                yield meeting_at(link)

    async def compare_clocks(self, request_digest: bytes, pair: Pair, refused: RequestExpiredError) -> None:
        """Raise WrongClockError if the other matcher takes a request that is far from right by the clock of this one.

        The other one is told. What a device has dated wrong both refuse, and then nothing is wrong with either clock.
        """
        own = {"code": WrongClockError.code, "party": self.me, "alternatives": list(self.server.without)}
        wrong, peer = VeilmatchError.from_fields(refused.fields() | own), self._peer(pair)
        hello = pb.MatcherMessage(rendezvous=pb.Rendezvous(request_digest=request_digest, refused=True))
        try:
            if not self.leads(pair):
                async with self.rendezvous.take(
                    peer.encode() + request_digest, peer, self.without(peer), self._timeout_s
                ) as link:
                    raise refused if link.first is None or link.first.rendezvous.refused else wrong
            async with asyncio.timeout(self._timeout_s):
                async with self._call(pair, hello, self._timeout_s) as link:
                    if (await link.receive()).WhichOneof("content") == "rendezvous":
                        raise wrong
        except (TimeoutError, VeilmatchError) as error:
            if error is wrong:
                raise

    def _call(
        self, pair: Pair, hello: pb.MatcherMessage, wait_s: float
    ) -> AbstractAsyncContextManager[Link[pb.MatcherMessage]]:
        peer = self._peer(pair)
        call = self._stub(peer).Exchange(timeout=WHOLE_CALL * wait_s)
        return dialled(call, hello, peer, self.without(peer), others_of(pair))

    def _peer(self, pair: Pair) -> str:
        return matcher_name(other_party(pair, self.party))

    def _stub(self, peer: str) -> rpc.MatcherPeerAsyncStub:
        return next(stub for party, stub in self._stubs.items() if matcher_name(party) == peer)


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
