"""The other key holder of a pair, about one request: met, waited for, and told why there will be no session.

All sessions of a pair go over one link (standing_link.py). The minus holder calls, as it speaks first, and opens them;
at the plus holder each waits until its matcher has brought the request, too (transport/links.py `Rendezvous`). Either
may fail by itself, or refuse a request, before they have met: the other one then hears it at once, with the pairs that
could serve instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

import grpc

from veilmatch.crypto.errors import BudgetExceededError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party, other_party, pairs_without
from veilmatch.crypto.pair.request import Request
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.ground.own_failures import Self, own_failures
from veilmatch.server.keyholder.peers import Peers, others_of, party_name
from veilmatch.server.keyholder.session.standing_link import StandingLink, Stream
from veilmatch.server.keyholder.session.strand import OtherEnd, Strand, Why
from veilmatch.server.transport import sign_of_life
from veilmatch.server.transport.links import Rendezvous, ended_with, require_subject
from veilmatch.server.transport.sign_of_life import Owing

#: How many times longer than here the same conversions may take at the peer.
_PEER_SLOWER = 3.0

_R = TypeVar("_R")


class PairLinks:
    """Where one key holder meets the other two. timeout_s: what an answer may take."""

    def __init__(self, party: Party, peers: Peers, timeout_s: float) -> None:
        self._party = party
        self._peers = peers
        self._timeout_s = timeout_s
        self._server = Self(party_name(party), pairs_without(party))
        self._others: dict[Party, OtherEnd] = {
            peer: OtherEnd(party_name(peer), pairs_without(peer), others_of(peer, party))
            for peer in PARTIES
            if peer != party
        }
        self._owing = {
            peer: Owing(other.name, other.alternatives, partial(self._gives_sign, peer))
            for peer, other in self._others.items()
        }
        # A peer's session is kept for longer than the peer waits: it can say who is missing, and who could serve.
        self.rendezvous: Rendezvous[Strand] = Rendezvous(2 * timeout_s)
        #: Links that this holder has called for, and that it was called for.
        self._calls: dict[Party, StandingLink] = {}
        self._called: dict[Party, StandingLink] = {}
        #: What keeps the former, and peers that are being told why there will be no session.
        self._tasks: set[asyncio.Task[None]] = set()

    # -- links ----------------------------------------------------------------------------------

    async def carry(self, peer: Party, stream: Stream, first: pb.PairFrames) -> None:
        """Carry the sessions that a peer opens on its call, until that ends; `first` has come on it.

        Its newest call is its link: an honest peer has lost the one before. Raises ProtocolError if it deviates.
        """
        link = StandingLink(self._server.name, self._others[peer], self._bring)
        if (before := self._called.get(peer)) is not None:
            before.close()
        self._called[peer] = link
        try:
            await link.carry(stream, first)
        finally:
            link.lose(self._others[peer].left)
            if self._called.get(peer) is link:
                del self._called[peer]

    def _bring(self, strand: Strand) -> None:
        """Take in a session that a peer has opened. Raises what Rendezvous.bring and require_subject raise."""
        assert strand.first is not None
        matter = strand.first.rendezvous.subject_matter
        with own_failures(self._server):
            require_subject(matter, strand.peer)
            # The caller's name is part of the key: a peer of another pair cannot take this one's place.
            self.rendezvous.bring(strand.peer.encode() + matter, strand)

    def _link_to(self, peer: Party) -> StandingLink:
        """Return the link to a peer, called for if there is none."""
        link = self._calls.get(peer)
        if link is None or link.is_lost:
            link = self._calls[peer] = StandingLink(self._server.name, self._others[peer])
            # It outlives the request that it was called for.
            self._do(self._keep(link, peer))
        return link

    async def _keep(self, link: StandingLink, peer: Party) -> None:
        """Call a peer, and carry sessions on that call until it ends."""
        other, call = self._others[peer], self._peers.stub(peer).Pair()
        why: Why = other.left
        try:
            await link.carry(call)
            call.cancel()
            why = partial(_ended_with, other, await call.code(), await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            why = partial(_ended_with, other, error.code(), error.trailing_metadata())
        except VeilmatchError as error:
            why = partial(VeilmatchError.from_fields, error.fields())
        finally:
            link.lose(why)
            call.cancel()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- sessions -------------------------------------------------------------------------------

    @asynccontextmanager
    async def about(self, request: Request) -> AsyncIterator[Strand]:
        """Meet the peer about a request that both were brought. Raises UnavailableError if the peer is not there."""
        peer = other_party(request.pair, self._party)
        matter, other = request.subject_matter(), self._others[peer]
        if request.pair[1] != self._party:
            coming = self.rendezvous.take(other.name.encode() + matter, other.name, other.alternatives, self._timeout_s)
            async with AsyncExitStack() as stack:
                yield await self.by_peer(peer, stack.enter_async_context(coming))
            return
        link = self._link_to(peer)
        strand = link.open(pb.PairMessage(rendezvous=pb.PairRendezvous(subject_matter=matter)))
        try:
            if not link.stands:
                # A stopped process still accepts connections, and then says nothing.
                await self.by_peer(peer, link.standing())
            yield strand
        except VeilmatchError as error:
            strand.end(error)
            raise
        except BaseException:
            strand.abandon()
            raise
        strand.end(None)

    async def by_peer(self, peer: Party, owed: Coroutine[Any, Any, _R], worked_s: float = 0.0) -> _R:
        """Return what waits for a peer. One that gives no sign of life counts as down, and so does one that takes much
        longer than this holder, which worked so long on the same: the matchers keep a gallery meanwhile."""
        return await self._owing[peer].pays(owed, self._timeout_s + _PEER_SLOWER * worked_s)

    async def _gives_sign(self, peer: Party) -> bool:
        """Whether a peer has said anything lately, on any session, or does so when it is asked."""
        now = time.monotonic()
        links = (self._calls.get(peer), self._called.get(peer))
        if any(link is not None and now - link.heard_at < sign_of_life.ASK_AFTER_S for link in links):
            return True
        return await self._peers.gives_sign(peer)()

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
                self._do(self._refuse(request, error))
            raise

    async def _refuse(self, request: Request, error: VeilmatchError) -> None:
        with suppress(VeilmatchError):
            async with self.about(request):
                raise error

    # -- the end --------------------------------------------------------------------------------

    def stop(self) -> None:
        """Take no new sessions of peers; those under way may end."""
        for link in self._called.values():
            link.stop()

    def close(self) -> None:
        """Carry nothing any more, and tell nobody anything more."""
        for task in self._tasks:
            task.cancel()
        for link in self._called.values():
            link.close()


def _ended_with(other: OtherEnd, code: Any, metadata: Any) -> VeilmatchError:
    return ended_with(code, metadata, other.name, other.alternatives, other.others)
