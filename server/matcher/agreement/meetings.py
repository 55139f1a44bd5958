"""Where a matcher meets the others about requests: one place for each pair that it is in; see `meeting`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from veilmatch.crypto.claims import Others
from veilmatch.crypto.errors import (
    RequestExpiredError,
    UnavailableError,
    VeilmatchError,
    WrongClockError,
)
from veilmatch.crypto.keys.parties import Pair, Party, dealer_of, other_party, pairs_among, pairs_without
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.ground.own_failures import Self, own_failures
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.agreement.pieces import InPieces, MeetStrand
from veilmatch.server.transport.limits import WHOLE_CALL
from veilmatch.server.transport.links import AcceptedLink, Link, Rendezvous, dialled, require_subject
from veilmatch.server.transport.renewed import Renewal
from veilmatch.server.transport.sign_of_life import Signs
from veilmatch.server.transport.standing.ends import Called, Calling, Renewed, ending
from veilmatch.server.transport.standing.kinds import MEET
from veilmatch.server.transport.standing.link import Stream
from veilmatch.server.transport.standing.strand import OtherEnd


def matcher_name(party: Party) -> str:
    """Return the name in a matcher's certificate."""
    return f"matcher-{party}"


def others_of(pair: Pair) -> Others:
    """Return whom one matcher of a pair may name to the other: the key holders of both, and as missing their dealer."""
    return Others(tuple(f"keyholder-{party}" for party in pair), (f"keyholder-{dealer_of(pair)}",))


class Meetings:
    """Where this matcher meets the others, one for each pair that it is in.

    party: of this matcher. stubs: the other matchers, by letter. signs: their signs of life, for while they owe a
    message. stalled_s: for how long this server has stood still, in all. renewed: of calls of them, see Calling.
    Requests of pairs that are not among `pairs` are not for this matcher: whoever calls with one has to refuse it
    before.
    """

    def __init__(
        self,
        party: Party,
        stubs: Mapping[Party, rpc.MatcherPeerAsyncStub],
        timeout_s: float,
        signs: Mapping[Party, Signs] | None = None,
        stalled_s: Callable[[], float] = lambda: 0.0,
        renewed: Mapping[Party, Renewed] | None = None,
    ) -> None:
        self.rendezvous: Rendezvous[AcceptedLink[pb.MatcherMessage] | InPieces] = Rendezvous(6 * timeout_s)
        self.party: Party = party
        self.me = matcher_name(party)
        self._stubs = stubs
        self._signs = signs or {}
        self._timeout_s = timeout_s
        self._stalled_s = stalled_s
        served = pairs_among((party, *stubs))
        #: The pairs that this matcher serves, and the matchers that it meets, by name.
        self.pairs = tuple(pair for pair in served if party in pair)
        self.peers = tuple(map(matcher_name, stubs))
        #: Those of them that call this one.
        self.leaders = tuple(self._peer(pair) for pair in self.pairs if pair[0] != party)
        #: This matcher, for its own errors.
        self.server = Self(self.me, tuple(pair for pair in pairs_without(party) if pair in served), served)
        others = {
            pair: OtherEnd(self._peer(pair), self.without(self._peer(pair)), others_of(pair)) for pair in self.pairs
        }
        #: The links that verifications go over, by the pair that leads and by the name of who leads.
        self._calling = {
            pair: Calling(
                MEET,
                self.me,
                others[pair],
                partial(self._call_link, pair),
                (renewed or {}).get(other_party(pair, party), Renewal),
            )
            for pair in self.pairs
            if self.leads(pair)
        }
        self._called = {
            others[pair].name: Called(MEET, self.me, others[pair], self._bring)
            for pair in self.pairs
            if not self.leads(pair)
        }

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

    async def carry(self, peer: str, stream: Stream, first: pb.MatcherFrames) -> None:
        """Carry the verifications that a leader opens on its call, until that ends; see Called.carry."""
        await self._called[peer].carry(stream, first)

    def _call_link(self, pair: Pair) -> Any:
        return self._stub(self._peer(pair)).Meet()

    def _bring(self, strand: MeetStrand) -> None:
        assert strand.first is not None
        with own_failures(self.server):
            self.bring(strand.first.rendezvous.request_digest, InPieces(strand))

    def stop(self) -> None:
        """Take no new verifications on links; those under way may end."""
        for called in self._called.values():
            called.stop()

    def close(self) -> None:
        """Carry nothing on links any more."""
        for calling in self._calling.values():
            calling.close()
        for called in self._called.values():
            called.close()

    def bring(self, request_digest: bytes, link: AcceptedLink[pb.MatcherMessage] | InPieces) -> None:
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
    async def met(
        self, request_digest: bytes, pair: Pair, patience: float = 1.0, *, on_link: bool = False
    ) -> AsyncIterator[Meeting]:
        """Meet about a request of a pair that both were brought; nothing is done for it before `Meeting.begin`.

        patience: multiplies the time to wait for the other. on_link: about a request of few words, which goes over the
        link that all such share; the leader says so. An error in the body is told to the other matcher.
        """
        hello = pb.MatcherMessage(rendezvous=pb.Rendezvous(request_digest=request_digest))
        wait_s, peer, leads = self._timeout_s * patience, self._peer(pair), self.leads(pair)
        alternatives = self.without(peer)

        def meeting_at(link: Link[pb.MatcherMessage]) -> Meeting:
            return Meeting(
                link, hello, leads=leads, party=self.me, peer=peer, timeout_s=self._timeout_s,
                alternatives=alternatives, signs=self._signs.get(other_party(pair, self.party)),
                stalled_s=self._stalled_s,
            )  # fmt: skip

        if leads:
            async with AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(wait_s):
                        call = self._open(pair, hello) if on_link else self._call(pair, hello, wait_s)
                        meeting = meeting_at(await stack.enter_async_context(call))
                        await meeting.other_has_come(wait_s)
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

    @asynccontextmanager
    async def _open(self, pair: Pair, hello: pb.MatcherMessage) -> AsyncIterator[Link[pb.MatcherMessage]]:
        link = self._calling[pair].link()
        strand = link.open(hello)
        async with ending(strand):
            if not link.stands:
                await link.standing()
            yield InPieces(strand)

    def _peer(self, pair: Pair) -> str:
        return matcher_name(other_party(pair, self.party))

    def _stub(self, peer: str) -> rpc.MatcherPeerAsyncStub:
        return next(stub for party, stub in self._stubs.items() if matcher_name(party) == peer)
