"""Organisation b tries to take back a change that the honest a and c have both accepted: by what it says of ballots.

In the way of "Paxos made simple" an acceptor that says of a ballot what is not true can have a chosen value replaced:
whoever finishes believes the highest ballot. So a claim counts with the proposals of two under that very ballot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.matcher.agreement.organisations import Line, Organisation, Outcome, agreed, check, nth, sit, three
from tests.matcher.galleries import ORGANISATIONS, mutation
from veilmatch.crypto.errors import GalleryMismatchError, IntegrityError, ProtocolError, VeilmatchError
from veilmatch.crypto.gallery_change import ACCEPTANCE, next_chain
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.acceptor import Accepted, GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import PROPOSAL, Certificate, Statement, Vote
from veilmatch.server.matcher.agreement.handing_over import chunks
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.gallery.changes import Change, by_leaf, contents_of
from veilmatch.server.matcher.gallery.mutation import Mutation

#: Made by a and b, and given up: only b has both signatures.
GIVEN_UP = mutation(22, added=[(0, 1, "of the liar")])


class Drops(Line):
    """Loses every message of one kind on its way to one side, which hears no more then. seen: those of that side."""

    def __init__(self, kind: str, to: int = 0) -> None:
        super().__init__()
        self._kind, self._to = kind, to
        self.seen: list[pb.MatcherMessage] = []

    def put(self, side: int, message: pb.MatcherMessage | None) -> None:
        if message is not None and message.WhichOneof("content") == self._kind:
            if side == self._to:
                self.seen.append(message)
            else:
                message = None
        super().put(side, message)


class Liar:
    """b at a meeting, message by message; `side` of a line."""

    def __init__(self, me: Organisation, other: Organisation) -> None:
        self.me, self.scope, self.other = me, me.gallery.scope, other
        self.line = Line()
        self.link = self.line.end(1)

    async def state(self, state: GalleryState, kind: str = "begin", head: Certificate | None = None) -> None:
        """State this, whatever is true."""
        statement = Statement("b", state).signed(self.scope, ORGANISATIONS["b"]).encode()
        head = head or self.me.gallery.head
        said = pb.GalleryMeeting(
            gallery="staff", key_id=self.scope.key_id, statement=statement, certificate=head.encode() if head else b""
        )
        await self.link.send(pb.MatcherMessage(**{kind: said}))

    async def hand_over(self, change: Mutation, origin: Certificate) -> None:
        handed = Change(origin.vote.sequence, change.body.encode(), origin.encode())
        for chunk in chunks([handed], contents_of(change)):
            await self.link.send(pb.MatcherMessage(changes=chunk))

    async def vote(self, kind: str, context: str, vote: Vote) -> None:
        signature = vote.sign(context, self.scope, ORGANISATIONS["b"])
        await self.link.send(pb.MatcherMessage(**{kind: pb.GalleryVote(vote=vote.encode(), signature=signature)}))

    async def plays(self, script: Callable[[Liar], Awaitable[None]]) -> Outcome:
        """Let the honest one change the gallery with b, which plays its script; return what it came to."""
        meeting = Meeting(
            self.line.end(0), pb.MatcherMessage(), leads=self.other.party < "b",
            party=f"matcher-{self.other.party}", peer="matcher-b", timeout_s=2.0,
        )  # fmt: skip

        async def honest() -> Outcome:
            try:
                async with self.other.agreement.changing(meeting, self.other.gallery):
                    return self.other.gallery.state.chain
            except VeilmatchError as error:
                return error
            finally:
                self.line.put(0, None)

        async def lies() -> None:
            with suppress(VeilmatchError):  # the honest one has left
                await script(self)

        outcome, _ = await asyncio.gather(honest(), lies())
        return outcome


async def accepted_by_a_committed_by_c(orgs: dict[str, Organisation]) -> None:
    """Change 2, of a and c: the last message to a is lost, so that c commits it, and a does not know."""
    one, two = await sit(orgs["a"], orgs["c"], nth(2), Drops("accepted"))
    assert isinstance(one, VeilmatchError) and isinstance(two, bytes)
    accepted = orgs["a"].gallery.state.accepted
    assert accepted is not None and accepted.chain == two


async def proposals_of_a_and_b(orgs: dict[str, Organisation]) -> Certificate:
    """Return the proposals of a change that a signed and never accepted: b says nothing more."""
    line = Drops("proposed")
    await sit(orgs["a"], orgs["b"], GIVEN_UP, line)
    assert orgs["a"].gallery.state.accepted is None
    proposed = line.seen[0].proposed
    vote = Vote.decode(proposed.vote)
    mine = vote.sign(PROPOSAL, orgs["b"].gallery.scope, ORGANISATIONS["b"])
    return Certificate.of(vote, {"a": proposed.signature, "b": mine})


@pytest.mark.parametrize("pair", ["ab", "bc"])
async def test_what_the_honest_two_have_accepted_is_not_replaced_by_a_claim_of_a_higher_ballot(
    tmp_path: Path, pair: str
) -> None:
    orgs = await three(tmp_path)
    a, b, c = orgs["a"], orgs["b"], orgs["c"]
    await agreed(a, b, nth(1))
    await agreed(a, c)
    origin = await proposals_of_a_and_b(orgs)
    await accepted_by_a_committed_by_c(orgs)
    state = b.gallery.state
    claimed = Ballot(a.gallery.state.promised.round + 5, pair)

    async def lies(liar: Liar) -> None:
        state_of_b = GalleryState(1, a.gallery.state.chain, claimed, Accepted(claimed, origin.vote.chain))
        await liar.state(state_of_b)
        await liar.hand_over(GIVEN_UP, origin)
        ballot = Ballot(claimed.round + 1, "ab")
        await liar.state(GalleryState(1, state_of_b.chain, ballot, state_of_b.accepted), "promised")
        vote = Vote(2, origin.vote.chain, ballot)
        await liar.vote("accepted", ACCEPTANCE, vote)

    assert state.sequence == 1
    outcome = await Liar(b, a).plays(lies)
    assert isinstance(outcome, IntegrityError) and outcome.party == "matcher-b"
    await agreed(a, c)
    for organisation in (a, c):
        check(organisation, nth(1), nth(2))


async def test_what_was_not_promised_was_not_accepted(tmp_path: Path) -> None:
    """Otherwise the next ballot, which is above all that were promised, might be below the one that is claimed."""
    orgs = await three(tmp_path)
    a, b = orgs["a"], orgs["b"]
    await agreed(a, b, nth(1))
    before, claimed = a.gallery.state, Ballot(50, "bc")

    async def lies(liar: Liar) -> None:
        await liar.state(GalleryState(1, before.chain, before.promised, Accepted(claimed, b"?" * 32)))

    outcome = await Liar(b, a).plays(lies)
    assert isinstance(outcome, ProtocolError)
    assert (outcome.party, "not promised" in outcome.message) == ("matcher-b", True)
    assert a.store.state("staff") == before


@pytest.mark.parametrize("in_a_meeting", [True, False])
async def test_a_certificate_of_a_lower_ballot_does_not_replace_what_the_honest_two_have_accepted(
    tmp_path: Path, in_a_meeting: bool
) -> None:
    """b has kept an acceptance of a, which gave way since; c has accepted the other change, and a has committed it."""
    orgs = await three(tmp_path)
    a, b, c = orgs["a"], orgs["b"], orgs["c"]
    await agreed(a, b, nth(1))
    await agreed(a, c)
    before, scope, first = c.gallery.state, c.gallery.scope, c.gallery.state.promised.round + 1
    # b has a accept one change, and then another one, which c has proposed with it under a higher ballot.
    low = Vote(2, next_chain(before.chain, 2, GIVEN_UP.digest()), Ballot(first, "ab"))
    high = Vote(2, next_chain(before.chain, 2, nth(2).digest()), Ballot(first + 1, "ab"))
    for vote, change in ((low, GIVEN_UP), (high, nth(2))):
        await a.gallery.promise(vote.ballot)
        proposals = Certificate.signed(vote, scope, ORGANISATIONS["a"], ORGANISATIONS["b"], context=PROPOSAL)
        await a.gallery.accept(change, proposals, vote.ballot)
    one, two = await sit(a, c, nth(2), Drops("accepted", to=1))
    assert isinstance(one, bytes) and isinstance(two, VeilmatchError)
    assert c.gallery.state.accepted is not None
    kept = Certificate.signed(low, scope, ORGANISATIONS["a"], ORGANISATIONS["b"])
    handed = Change(2, GIVEN_UP.body.encode(), kept.encode())

    async def lies(liar: Liar) -> None:
        await liar.state(GalleryState(2, low.chain, low.ballot), head=kept)
        await liar.hand_over(GIVEN_UP, kept)

    if in_a_meeting:
        outcome = await Liar(b, c).plays(lies)
        assert isinstance(outcome, GalleryMismatchError) and outcome.party is None
    else:
        with pytest.raises(GalleryMismatchError):
            await c.gallery.apply([handed], by_leaf(contents_of(GIVEN_UP)))
        await c.gallery.refresh()
    await agreed(a, c)
    for organisation in (a, c):
        check(organisation, nth(1), nth(2))
