"""The side that is followed: what it states of its galleries, and the changes that another one lacks.

Every read of the database is a short one, so that nothing waits for a slow follower: no gallery is locked, erased
records do not stay in the write-ahead log, and a part of the answer, and one body, are all that is in memory. Contents
are read as they are at that moment, and the log after them: it names whatever was read, or something newer.

Who asks may lie: it has a bounded number of calls, each with a bounded number of places, and they are read in threads
of their own, so that whatever it asks for, nobody else waits for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any, NamedTuple, ParamSpec, TypeVar

from veilmatch.crypto.errors import (
    GalleryMismatchError,
    OverloadedError,
    PartyRefusedError,
    ProtocolError,
    UnknownGalleryError,
)
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.ground.bell import Bell, woken_within
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.certificates import Certificate, Signer, Statement
from veilmatch.server.matcher.follow.followed import Followed
from veilmatch.server.matcher.gallery.changes import Change
from veilmatch.server.matcher.gallery.disk.checks import pack_bytes, record_bytes
from veilmatch.server.transport.channels import Context, caller
from veilmatch.server.transport.limits import CHUNK_BYTES
from veilmatch.server.transport.status import retried, streaming

#: How soon a follower hears of a change: for so long those are waited for that come right after it.
LOOK_S = 0.05
#: It hears something at least as often, so that it knows when nobody is there any more.
KEEPALIVE_S = 5.0
#: Of a part, beside the contents: names, numbers, and what protobuf adds.
_SMALL_BYTES = 64
#: Contents of one call, and places whatever their size: each may be a read of its own.
CALL_BYTES, CALL_PLACES = 16 << 20, 4096
#: Calls of Changes that one peer may have at once, and the threads for all: as many as two peers may have.
CHANGES_AT_ONCE, _THREADS = 2, 4
#: Calls of Watch that one peer may have: its daemon's, and `gallery status` of a few operators.
WATCHES_AT_ONCE = 4
#: When a peer that has too many may ask again.
_RETRY_S = 1.0

_P = ParamSpec("_P")
_T = TypeVar("_T")


class AtOnce(NamedTuple):
    """How many packs, or else templates, may be asked for in one call."""

    packs: int
    templates: int

    @staticmethod
    def of(parameters: ParameterSet, size: int = CALL_BYTES) -> AtOnce:
        """Return the numbers for contents of `size` bytes; at least one each."""
        each = pack_bytes(parameters), record_bytes(parameters)
        return AtOnce(*(max(1, min(CALL_PLACES, size // one)) for one in each))


@dataclass(eq=False)
class _Watch:
    """A call of Watch. woken: there may be something to say, or it is to end. is_outdone: newer ones took its place."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    is_outdone: bool = False


class _Watches:
    """Calls of Watch of one peer. calls: the newest, in order; one that is none of them any more is outdone.

    turn: held while something is signed for one of them. alive: how many have not ended.
    """

    def __init__(self) -> None:
        self.calls: list[_Watch] = []
        self.turn = asyncio.Lock()
        self.alive = 0


class FollowedServicer(rpc.MatcherPeerServicer):
    """Watch and Changes of matcher.proto.

    followed: returns the galleries that are here. Who may call is the door's to say: other organisations' matchers.
    """

    def __init__(self, server: Self, followed: Callable[[], Iterable[Followed]]) -> None:
        self.server = server
        self._followed = followed
        self._is_stopping = False
        self._stopping = Bell()
        self._calls = Counter[str]()
        self._watches = defaultdict[str, _Watches](_Watches)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="changes")

    def stop(self) -> None:
        """End every Watch: it would go on for ever, and the daemon would wait for it when it stops."""
        self._is_stopping = True
        self._stopping.ring()

    @streaming
    @retried
    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.GalleryNews]:
        """See matcher.proto."""
        asked = {(one.gallery, one.key_id) for one in request.galleries}
        loop, peer = asyncio.get_running_loop(), _name(context)
        told: dict[tuple[str, bytes], tuple[Any, float]] = {}
        watched = [one for one in self._followed() if (one.scope.gallery, one.scope.key_id) in asked]
        with self._watched(peer) as (watches, call), ExitStack() as bells:
            for bell in (self._stopping, *(one.gallery.changed for one in watched)):
                bells.enter_context(bell.heard_by(call.woken))
            while not self._is_stopping:
                # First: what changes from here on wakes again.
                call.woken.clear()
                for one in watched:
                    key = one.scope.gallery, one.scope.key_id
                    if one.signer is None:
                        continue
                    self._require_among_last(call, peer)
                    before, at_s = told.get(key, (None, 0.0))
                    state, unmet = one.gallery.state, sorted(one.gallery.unmet)
                    # A promise alone is no news: each of a pair hears of it from the other.
                    now = state.sequence, state.accepted, unmet
                    if now == before and loop.time() - at_s < KEEPALIVE_S:
                        continue
                    told[key] = now, loop.time()
                    # One at a time for each peer, however many calls it begins: it takes a thread, and a signature.
                    async with watches.turn:
                        self._require_among_last(call, peer)
                        news = await asyncio.to_thread(_news, one, one.signer, state, unmet)
                    yield news
                self._require_among_last(call, peer)
                due_s = min((at_s for _, at_s in told.values()), default=loop.time()) + KEEPALIVE_S
                if await woken_within(call.woken, due_s - loop.time()) and not self._is_stopping:
                    # A change is several states, one soon after the other: whoever follows hears of the last one.
                    await asyncio.sleep(LOOK_S)

    @streaming
    async def Changes(self, request: pb.ChangesRequest, context: Context) -> AsyncIterator[pb.ChangePart]:
        """See matcher.proto."""
        with self._counted(_name(context)) as peer:
            followed = self._find(request.gallery)
            _check_places(request, AtOnce.of(followed.parameters), peer)
            async for part in self._changes(followed, request):
                yield part

    async def _changes(self, followed: Followed, request: pb.ChangesRequest) -> AsyncIterator[pb.ChangePart]:
        state = followed.gallery.state
        sequence, chain = request.sequence, request.chain
        if sequence > state.sequence:
            # This side is the one that is behind.
            yield _head(state.sequence, state.chain)
            return
        if (here := await self._read(_chain_at, followed, sequence)) != chain:
            raise GalleryMismatchError(
                "the two matchers do not hold the same gallery",
                got=f"sequence {sequence}, chain {chain.hex()[:8]}",
                expected=f"sequence {sequence}, chain {here.hex()[:8]} at {self.server.name}",
            )
        reads = _contents(followed, request)
        while (parts := await self._read(next, reads, None)) is not None:
            for part in parts:
                yield part
        pieces = Pieces()
        while changes := await self._read(followed.store.changes_after, followed.name, sequence, 1):
            (change,) = changes
            sequence, chain = change.sequence, Certificate.decode(change.certificate).vote.chain
            for part in pieces.add(change):
                yield part
        if pieces.waiting.log:
            yield pieces.waiting
        yield _head(sequence, chain)

    @contextmanager
    def _watched(self, peer: str) -> Iterator[tuple[_Watches, _Watch]]:
        """Count a Watch of this peer while the body runs; give it, and those of the peer that there are.

        The newest ones count: of a peer that was restarted the dead ones may still be there, and keep it out of none.
        """
        watches, call = self._watches[peer], _Watch()
        watches.calls.append(call)
        for oldest in watches.calls[:-WATCHES_AT_ONCE]:
            oldest.is_outdone = True
            oldest.woken.set()
        del watches.calls[:-WATCHES_AT_ONCE]
        watches.alive += 1
        try:
            yield watches, call
        finally:
            if call in watches.calls:
                watches.calls.remove(call)
            watches.alive -= 1
            if not watches.alive:
                self._watches.pop(peer, None)

    def _require_among_last(self, call: _Watch, peer: str) -> None:
        """Raise OverloadedError, naming the peer, if it has begun as many newer calls of Watch as it may have."""
        if call.is_outdone:
            raise OverloadedError(
                f"{peer} watches {self.server.name} more often at once than it may, and newer calls go on",
                got=WATCHES_AT_ONCE + 1, expected=f"at most {WATCHES_AT_ONCE}", party=peer, retry_after_s=_RETRY_S,
            )  # fmt: skip

    @contextmanager
    def _counted(self, peer: str) -> Iterator[str]:
        """Count a call of this peer while the body runs. Raises OverloadedError if it has as many as it may."""
        if self._calls[peer] >= CHANGES_AT_ONCE:
            raise OverloadedError(
                f"{self.server.name} sends no more changes to {peer} at once",
                got=self._calls[peer] + 1, expected=f"at most {CHANGES_AT_ONCE}", party=self.server.name,
                retry_after_s=_RETRY_S,
            )  # fmt: skip
        self._calls[peer] += 1
        try:
            yield peer
        finally:
            self._calls[peer] -= 1
            if not self._calls[peer]:
                del self._calls[peer]

    async def _read(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do one short read in a thread of those that are for this alone."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*args, **kwargs))

    def _find(self, gallery: pb.WatchedGallery) -> Followed:
        here = list(self._followed())
        for one in here:
            if (one.scope.gallery, one.scope.key_id) == (gallery.gallery, gallery.key_id):
                return one
        expected = ", ".join(one.name for one in here)
        raise UnknownGalleryError("no such gallery here", got=gallery.gallery[:60], expected=expected)


def _news(one: Followed, signer: Signer, state: GalleryState, unmet: list[Party]) -> pb.GalleryNews:
    statement = Statement(signer.party, state).signed(one.scope, signer)
    accused = sorted({proof.party for proof in one.store.proofs(one.name)})
    return pb.GalleryNews(
        gallery=one.to_wire(), statement=statement.encode(), accused=accused, restored=bool(unmet), unmet=unmet
    )


class Pieces:
    """Bodies cut into parts of CHUNK_BYTES, small ones together. waiting: the part that is not full yet."""

    def __init__(self) -> None:
        self.waiting = pb.ChangePart()
        self._size = 0

    def add(self, change: Change) -> Iterator[pb.ChangePart]:
        """Take a change; yield the parts that are full."""
        at = 0
        while True:
            room = CHUNK_BYTES - self._size - len(change.certificate) - _SMALL_BYTES
            if room <= 0:
                yield self.waiting
                self.waiting, self._size = pb.ChangePart(), 0
                continue
            piece, at = change.body[at : at + room], at + room
            is_last = at >= len(change.body)
            certificate = change.certificate if is_last else b""
            self.waiting.log.append(pb.LogPart(sequence=change.sequence, body=piece, certificate=certificate))
            self._size += len(piece) + len(certificate) + _SMALL_BYTES
            if is_last:
                return


def _contents(followed: Followed, request: pb.ChangesRequest) -> Iterator[list[pb.ChangePart]]:
    """Yield, after every read of the database, the parts that are full: of what is asked for and is there."""
    name, store = followed.name, followed.store
    at_once = max(1, CHUNK_BYTES // (pack_bytes(followed.parameters) + _SMALL_BYTES))
    for start in range(0, len(request.packs), at_once):
        found = store.packs_at(name, request.packs[start : start + at_once])
        packs = [pb.PackContent(pack=number, data=data) for number, data in found]
        yield [pb.ChangePart(packs=packs)] if packs else []
    part, size = pb.ChangePart(), 0
    for pack, places in groupby(request.templates, key=lambda place: place.pack):
        full = []
        for slot, subject, data, terms in store.templates_at(name, pack, [place.slot for place in places]):
            if size >= CHUNK_BYTES:
                full.append(part)
                part, size = pb.ChangePart(), 0
            place = pb.GalleryPlace(pack=pack, slot=slot)
            part.templates.append(pb.TemplateContent(place=place, subject=subject, data=data, terms=terms))
            size += len(data) + len(subject) + len(terms) + _SMALL_BYTES
        yield full
    yield [part] if size else []


def _check_places(request: pb.ChangesRequest, at_once: AtOnce, peer: str) -> None:
    """Raise ProtocolError, naming the peer, unless it asks for few enough places, in order, each once."""
    for places, most in (
        (list(request.packs), at_once.packs),
        ([(place.pack, place.slot) for place in request.templates], at_once.templates),
    ):
        if len(places) > most:
            raise ProtocolError("too many contents are asked for at once", got=len(places), expected=most, party=peer)
        _check_ascending(places, peer)


def _check_ascending(places: Sequence[Any], peer: str) -> None:
    for one, following in pairwise(places):
        if following <= one:
            raise ProtocolError(
                "contents are asked for that are not ascending", got=following, expected=f"after {one}", party=peer
            )


def _name(context: Context) -> str:
    """Return who calls; those without a name, whom the door lets in nowhere but in tests, count as one."""
    try:
        return caller(context)
    except PartyRefusedError:
        return "a peer without a name"


def _chain_at(followed: Followed, sequence: int) -> bytes:
    """Return the chain value after a committed change of this side."""
    if sequence == 0:
        return followed.store.initial_chain(followed.name)
    certificate = followed.store.certificate(followed.name, sequence)
    return certificate.vote.chain if certificate is not None else b""


def _head(sequence: int, chain: bytes) -> pb.ChangePart:
    return pb.ChangePart(head=pb.GalleryHead(sequence=sequence, chain=chain))
