"""The other key holder of a pair, about one request: met, waited for, and told why there will be no session.

A session is about one request, or about several verifications that go together (together.py).

All sessions of a pair go over one link (transport/standing). The minus holder calls, as it speaks first, and opens
them; at the plus holder each waits until its matcher has brought the request, too (transport/links.py `Rendezvous`).
Either may fail by itself, or refuse a request, before they have met: the other one then hears it at once, with the
pairs that could serve instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

from veilmatch.crypto.errors import BudgetExceededError, ProtocolError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party, other_party, pairs_without
from veilmatch.crypto.pair.request import MAX_TOGETHER, Request
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.ground.own_failures import Self, own_failures
from veilmatch.server.ground.request_id import about_nothing
from veilmatch.server.keyholder.peers import Peers, others_of, party_name
from veilmatch.server.transport.links import Rendezvous, require_subject
from veilmatch.server.transport.renewed import Renewal
from veilmatch.server.transport.sign_of_life import Lookout, Owing
from veilmatch.server.transport.standing.ends import Called, Calling, ending
from veilmatch.server.transport.standing.kinds import PAIR
from veilmatch.server.transport.standing.link import Stream
from veilmatch.server.transport.standing.strand import OtherEnd
from veilmatch.server.transport.standing.strand import Strand as AnyStrand

#: How many times longer than here the same conversions may take at the peer.
_PEER_SLOWER = 3.0

_R = TypeVar("_R")
#: A session of two key holders.
Strand: TypeAlias = AnyStrand[pb.PairMessage, pb.PairMessage]
#: Given the session, and the digests of its requests.
Host = Callable[[Strand, Sequence[bytes]], None]


class PairLinks:
    """Where one key holder meets the other two. timeout_s: what an answer may take.

    host: takes a session about several requests that a peer has opened.
    """

    def __init__(self, party: Party, peers: Peers, timeout_s: float, host: Host) -> None:
        self._host = host
        self._party = party
        self._peers = peers
        self._timeout_s = timeout_s
        self._server = Self(party_name(party), pairs_without(party))
        self._others: dict[Party, OtherEnd] = {
            peer: OtherEnd(party_name(peer), pairs_without(peer), others_of(peer, party))
            for peer in PARTIES
            if peer != party
        }
        me = self._server.name
        self._calling = {
            peer: Calling(PAIR, me, other, partial(self._call, peer), partial(self._renewal, peer))
            for peer, other in self._others.items()
        }
        self._called = {peer: Called(PAIR, me, other, self._bring) for peer, other in self._others.items()}
        self._lookouts = {
            peer: Lookout(partial(self._gives_sign, peer), heard_at=partial(self._heard_at, peer))
            for peer in self._others
        }
        self._owing = {
            peer: Owing(other.name, other.alternatives, self._lookouts[peer].given)
            for peer, other in self._others.items()
        }
        # A peer's session is kept for longer than the peer waits: it can say who is missing, and who could serve.
        self.rendezvous: Rendezvous[Strand] = Rendezvous(2 * timeout_s)
        #: By peer, requests that this holder is about to refuse.
        self._refusing: set[tuple[str, bytes]] = set()
        #: Peers that are being told why there will be no session.
        self._tasks: set[asyncio.Task[None]] = set()

    # -- links ----------------------------------------------------------------------------------

    async def carry(self, peer: Party, stream: Stream, first: pb.PairFrames) -> None:
        """Carry the sessions that a peer opens on its call, until that ends; see Called.carry."""
        await self._called[peer].carry(stream, first)

    def _call(self, peer: Party) -> Any:
        return self._peers.stub(peer).Pair()

    def _renewal(self, peer: Party) -> Renewal:
        return self._peers.renewal(peer)

    def _bring(self, strand: Strand) -> None:
        """Take in a session that a peer has opened. Raises what Rendezvous.bring and require_subject raise."""
        assert strand.first is not None
        matters = list(strand.first.rendezvous.subject_matter)
        with own_failures(self._server):
            for matter in matters:
                require_subject(matter, strand.peer)
            if not 1 <= len(set(matters)) == len(matters) <= MAX_TOGETHER:
                raise ProtocolError(
                    f"{strand.peer} opens a session about no request, or too many",
                    got=len(matters),
                    expected=f"1..{MAX_TOGETHER}, each once",
                )
            if len(matters) > 1:
                self._host(strand, matters)
                return
            # The caller's name is part of the key: a peer of another pair cannot take this one's place.
            self.rendezvous.bring(strand.peer.encode() + matters[0], strand)

    # -- sessions -------------------------------------------------------------------------------

    @asynccontextmanager
    async def about(self, request: Request, *more: Request) -> AsyncIterator[Strand]:
        """Meet the peer about a request that both were brought. Raises UnavailableError if the peer is not there.

        more: at the minus holder, verifications of the same pair that go with it.
        """
        peer = other_party(request.pair, self._party)
        matter, other = request.subject_matter(), self._others[peer]
        if request.pair[1] != self._party:
            coming = self.rendezvous.take(other.name.encode() + matter, other.name, other.alternatives, self._timeout_s)
            async with AsyncExitStack() as stack:
                yield await self.by_peer(peer, stack.enter_async_context(coming))
            return
        link = self._calling[peer].link()
        matters = [matter, *(one.subject_matter() for one in more)]
        strand = link.open(pb.PairMessage(rendezvous=pb.PairRendezvous(subject_matter=matters)))
        async with ending(strand):
            if not link.stands:
                # A stopped process still accepts connections, and then says nothing.
                await self.by_peer(peer, link.standing())
            yield strand

    @asynccontextmanager
    async def taken(self, strand: Strand) -> AsyncIterator[None]:
        """Take part in a session that a peer has opened, and say how it has ended."""
        strand.read_ahead()
        async with ending(strand):
            yield

    def refuses(self, peer: str, matter: bytes) -> bool:
        """Whether this holder is about to refuse a request, so that it is not waited for."""
        return (peer, matter) in self._refusing

    def is_lost(self, peer: Party) -> bool:
        """Whether a peer gave no sign of life when it was asked, and none since."""
        return self._lookouts[peer].is_lost

    def require_found(self, peer: Party) -> None:
        """Raise UnavailableError if a peer is lost: one request has found out, and no other one waits for it."""
        if self.is_lost(peer):
            raise self._owing[peer].missing()

    async def by_peer(self, peer: Party, owed: Coroutine[Any, Any, _R], worked_s: float = 0.0) -> _R:
        """Return what waits for a peer. One that gives no sign of life counts as down, and so does one that takes much
        longer than this holder, which worked so long on the same: the matchers keep a gallery meanwhile."""
        return await self._owing[peer].pays(owed, self._timeout_s + _PEER_SLOWER * worked_s)

    async def _gives_sign(self, peer: Party) -> bool:
        return await self._peers.gives_sign(peer)()

    def _heard_at(self, peer: Party) -> float:
        """When a peer last said anything, on any session, by the monotonic clock."""
        return max(self._calling[peer].heard_at, self._called[peer].heard_at)

    @asynccontextmanager
    async def before_meeting(self, request: Request) -> AsyncIterator[None]:
        """Tell the peer if the body fails in what only this holder knows of: a budget, or something of its own.

        The peer may have counted less, and stands well: it would wait for this holder.
        """
        try:
            with own_failures(self._server):
                yield
        except VeilmatchError as error:
            if isinstance(error, BudgetExceededError) or error.party == self._server.name:
                task = about_nothing(self._refuse(request, error))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            raise

    async def _refuse(self, request: Request, error: VeilmatchError) -> None:
        at = party_name(other_party(request.pair, self._party)), request.subject_matter()
        self._refusing.add(at)
        try:
            with suppress(VeilmatchError):
                async with self.about(request):
                    raise error
        finally:
            self._refusing.discard(at)

    # -- the end --------------------------------------------------------------------------------

    def stop(self) -> None:
        """Take no new sessions of peers; those under way may end."""
        for called in self._called.values():
            called.stop()

    def close(self) -> None:
        """Carry nothing any more, and tell nobody anything more."""
        for task in self._tasks:
            task.cancel()
        for lookout in self._lookouts.values():
            lookout.close()
        for calling in self._calling.values():
            calling.close()
        for called in self._called.values():
            called.close()
