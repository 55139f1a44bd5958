"""The other key holder of a pair, about one request: met, waited for, and told why there will be no session.

The minus holder calls, as it speaks first, and the plus holder is called (transport/links.py). Either may fail by
itself, or refuse a request, before they have met: the other one then hears it at once, with the pairs that could serve
instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar

from veilmatch.crypto.claims import written
from veilmatch.crypto.errors import BudgetExceededError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import Party, other_party, pairs_without
from veilmatch.crypto.pair.request import Request
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.ground.own_failures import Self, own_failures
from veilmatch.server.keyholder.peers import Peers, others_of, party_name
from veilmatch.server.transport.limits import WHOLE_CALL
from veilmatch.server.transport.links import AcceptedLink, Link, Rendezvous, dialled, require_subject
from veilmatch.server.transport.sign_of_life import unless_silent

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
        # A peer's call is kept for longer than the peer waits: it can say who is missing, and who could serve instead.
        self.rendezvous: Rendezvous[pb.PairMessage] = Rendezvous(2 * timeout_s)
        #: Peers that are being told why there will be no session.
        self._refusing: set[asyncio.Task[None]] = set()

    def bring(self, matter: bytes, link: AcceptedLink[pb.PairMessage]) -> None:
        """Take in a peer's call about the subject matter of a request.

        Raises what Rendezvous.bring and require_subject raise.
        """
        require_subject(matter, link.peer)
        # The caller's name is part of the key: a peer of another pair cannot take this one's place.
        self.rendezvous.bring(link.peer.encode() + matter, link)

    @asynccontextmanager
    async def about(self, request: Request) -> AsyncIterator[Link[pb.PairMessage]]:
        """Meet the peer about a request that both were brought. Raises UnavailableError if the peer is not there."""
        peer = self._peer(request)
        matter, name, alternatives = request.subject_matter(), party_name(peer), pairs_without(peer)
        if request.pair[1] != self._party:
            coming = self.rendezvous.take(name.encode() + matter, name, alternatives, self._timeout_s)
            async with AsyncExitStack() as stack:
                yield await self._unless_silent(peer, stack.enter_async_context(coming))
            return
        first = pb.PairMessage(rendezvous=pb.PairRendezvous(subject_matter=matter))
        others = others_of(peer, self._party)
        call = self._peers.stub(peer).Pair(timeout=WHOLE_CALL * self._timeout_s)
        async with AsyncExitStack() as stack:
            # A stopped process still accepts connections, and then says nothing.
            connected = stack.enter_async_context(dialled(call, first, name, alternatives, others))
            yield await self.by_peer(peer, connected)

    async def by_peer(self, peer: Party, owed: Coroutine[Any, Any, _R], worked_s: float = 0.0) -> _R:
        """Return what waits for a peer. One that gives no sign of life counts as down, and so does one that takes much
        longer than this holder, which worked so long on the same: the matchers keep a gallery meanwhile."""
        try:
            async with asyncio.timeout(self._timeout_s + _PEER_SLOWER * worked_s):
                return await self._unless_silent(peer, owed)
        except TimeoutError:
            raise self._silent(peer) from None

    async def _unless_silent(self, peer: Party, owed: Coroutine[Any, Any, _R]) -> _R:
        try:
            return await unless_silent(owed, self._peers.gives_sign(peer))
        except TimeoutError:
            raise self._silent(peer) from None

    @staticmethod
    def _silent(peer: Party) -> UnavailableError:
        name = party_name(peer)
        return UnavailableError(f"{name} does not answer", party=name, alternatives=pairs_without(peer))

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
                refusing = asyncio.create_task(self._refuse(request, error))
                self._refusing.add(refusing)
                refusing.add_done_callback(self._refusing.discard)
            raise

    async def _refuse(self, request: Request, error: VeilmatchError) -> None:
        peer = self._peer(request)
        with suppress(VeilmatchError):
            async with self.about(request) as link:
                if request.pair[1] == self._party:
                    # A call that is cancelled before it was taken would be as if it had never come.
                    await self.by_peer(peer, link.send(pb.PairMessage(ended=written(error))))
                    await self.by_peer(peer, link.receive())
                raise error

    def _peer(self, request: Request) -> Party:
        return other_party(request.pair, self._party)

    def close(self) -> None:
        """Tell nobody anything more."""
        for refusing in self._refusing:
            refusing.cancel()
