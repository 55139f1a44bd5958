"""Two organisations at one gallery, for one request: they come to hold the same, and change it together.

docs/protocol.md; the rules are those of `acceptor`. Whoever is behind catches up from the other, if it is only a few
changes, and what was accepted and is not known to be committed is finished, before anything is served. While a gallery
is served from it is held, by both, in the order of the pair: so no three of them wait for each other in a circle.

A change takes one swap of proposals and one of acceptances, and two durable writes at each side. A ballot that both
have promised before serves again; otherwise a swap of promises and one write go before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from veilmatch.crypto.errors import GalleryMismatchError, ProtocolError
from veilmatch.crypto.gallery_change import ACCEPTANCE, next_chain
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement import acceptor
from veilmatch.server.matcher.agreement.acceptor import CatchUp, Finish, Parted, Ready, next_step
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import PROPOSAL, Certificate, Statement, Vote
from veilmatch.server.matcher.agreement.handing_over import MEETING_BYTES, MEETING_CHANGES, hand_over, take_over
from veilmatch.server.matcher.agreement.stating import Stating
from veilmatch.server.matcher.gallery.body import Body, digest_of
from veilmatch.server.matcher.gallery.changes import Change, check_changes, contents_of, mutation_of
from veilmatch.server.matcher.gallery.mutation import Mutation

#: A change may have to wait for others, and tens of megabytes for the disk: so many times longer than a query.
PATIENCE = 6.0


class Sitting(Stating):
    """One gallery at both organisations, while both hold it; use `agreement.Agreement`."""

    # -- until both hold the same ------------------------------------------------------------

    def is_ready(self) -> bool:
        """Return whether both hold the same, and nothing is open."""
        gallery = self._gallery
        restored = bool(gallery.unmet) or self._restored
        return not restored and isinstance(next_step(gallery.state, self._theirs), Ready)

    async def settle(self) -> None:
        """Bring whoever is behind up to the other, and finish what is open. Hold the gallery exclusively."""
        too_old = False
        while True:
            match next_step(self._gallery.state, self._theirs):
                case Parted():
                    raise self._parted()
                case CatchUp(first=behind, missing=missing):
                    await self._catch_up(missing, i_am_behind=behind)
                    too_old |= bool(self._gallery.unmet) if behind else self._restored
                case Finish() as finish:
                    self._require_all_known()
                    await self._finish(finish)
                case Ready():
                    break
        await self._readmit(too_old=too_old)

    async def _catch_up(self, missing: int, *, i_am_behind: bool) -> None:
        gallery, theirs = self._gallery, self._theirs
        behind = self.me if i_am_behind else self.other
        too_far = self.unsettled(f"matcher-{behind} is {missing} changes of the gallery behind, and catches up", behind)
        if missing > MEETING_CHANGES:
            raise too_far
        if i_am_behind:
            with self._blamed():

                def led_to(changes: Sequence[Change]) -> Sequence[Body]:
                    reached = check_changes(gallery.state, changes, gallery.scope, self._signers)
                    if (reached.sequence, reached.chain) != (theirs.sequence, theirs.chain):
                        raise ProtocolError("the changes do not lead to the stated one", got=reached, expected=theirs)
                    return [Body.decode(change.body) for change in changes]

                try:
                    changes, contents = await take_over(self._meeting, missing, led_to)
                except GalleryMismatchError as error:
                    self._alert(error)
                    raise
            with self._own_failures(), self._blamed():
                await gallery.apply(changes, contents, self._heard)
            return
        if theirs.sequence:
            at_that = await gallery.certificate(theirs.sequence)
            chain = at_that.vote.chain if at_that is not None else b""
        else:
            chain = gallery.initial_chain
        if chain != theirs.chain:
            raise self._parted()
        changes = await gallery.changes_after(theirs.sequence, missing)
        after = theirs.sequence
        if (
            theirs.accepted is not None
            and Certificate.decode(changes[0].certificate).vote.chain == theirs.accepted.chain
        ):
            after += 1  # It has the contents of the first one.
        if await gallery.bytes_after(after) + sum(len(change.body) for change in changes) > MEETING_BYTES:
            raise too_far
        await hand_over(self._meeting, changes, await gallery.contents_after(after))
        ballot = max(Certificate.decode(change.certificate).vote.ballot for change in changes)
        self._theirs = acceptor.commit(theirs, gallery.state.sequence, gallery.state.chain, ballot)

    async def _finish(self, finish: Finish) -> None:
        """Commit a change that one of the two has accepted, or both have."""
        gallery = self._gallery
        mutation = await self._share(finish)
        if finish.chosen:
            await self._commit(mutation, finish.accepted.ballot)
            return
        ballot = await self._promised()
        # Proposed anew: what was accepted under a ballot is shown by proposals under that ballot, and no other.
        await self._accept(mutation, await self._propose(mutation, ballot), ballot)
        await self._commit(mutation, ballot)
        assert gallery.state.chain == finish.accepted.chain

    async def _share(self, finish: Finish) -> Mutation:
        """Return the change that is finished; who holds it hands it over, with its proposals, if the other does not."""
        gallery, sequence = self._gallery, self._gallery.state.sequence + 1
        if finish.by_first:
            with self._own_failures():
                mutation, origin = await gallery.accepted()
            if not finish.by_second:
                change = Change(sequence, mutation.body.encode(), origin.encode())
                await hand_over(self._meeting, [change], contents_of(mutation))
            return mutation
        found: list[Body] = []

        def proposed(changes: Sequence[Change]) -> Sequence[Body]:
            ((_, body, certificate),) = changes
            origin = Certificate.decode(certificate)
            if origin.vote != Vote(sequence, finish.accepted.chain, finish.accepted.ballot):
                # Under another ballot, too: one that lies would put a change that was given up above one that counts.
                raise ProtocolError("the proposals are not those of what was accepted", got=str(origin.vote.ballot))
            # Two organisations have made it: what one alone says that it has accepted is nobody's change.
            origin.check(gallery.scope, self._signers, PROPOSAL)
            # Only what two have signed is read.
            if next_chain(gallery.state.chain, sequence, digest_of(body)) != origin.vote.chain:
                raise ProtocolError("the proposals are those of another change", got=sequence)
            found.append(Body.decode(body))
            return found

        with self._blamed():
            _, contents = await take_over(self._meeting, 1, proposed)
            return await asyncio.to_thread(mutation_of, found[0], contents)

    def _require_all_known(self) -> None:
        """Raise UnavailableError if this organisation was restored, and does not know what it said to the third one.

        It may have accepted another change with that one, under a higher ballot. The other two finish what is open.
        """
        if self._gallery.unmet - {self.other}:
            raise self.unsettled(
                f"matcher-{self.me} was restored, and finishes nothing before it has met the others", self.me
            )

    async def _readmit(self, *, too_old: bool) -> None:
        """After one of the two was restored from an old copy: it has caught up with the other now.

        too_old: not before it stated what it is in. That is not kept: with a promise that somebody else has brought it
        to, it would deny what it is then seen to have accepted before it was restored.
        """
        gallery = self._gallery
        restored = [party for party, is_so in ((self.me, bool(gallery.unmet)), (self.other, self._restored)) if is_so]
        if not restored:
            return
        if too_old:
            raise self.unsettled(f"matcher-{restored[0]} was restored, and has caught up first", restored[0])
        if self._restored:
            await self._hear_again(self._heard[0])
        if gallery.unmet:
            await gallery.met(self.other, max(self._known, self._theirs.promised))
        if gallery.unmet or self._restored:
            # Who was restored meets the others, too; then it states so.
            raise self.unsettled(f"matcher-{restored[0]} was restored, and has still to meet the others", restored[0])
        raise self.unsettled(f"matcher-{self.me} was restored, and takes part from now on", self.me)

    async def _hear_again(self, statement: Statement) -> None:
        """Keep what one that says that it was restored states now, unless a higher promise of it is kept.

        That it was restored nobody has signed, so it takes back no promise: it hears of it here, and states no lower
        one once it takes part again. What it had accepted may be lost with its database, and would be a lie then.
        """
        kept = self._gallery.heard.get(statement.party)
        if kept is None or kept.state.accepted is not None or kept.state.promised <= statement.state.promised:
            await self._gallery.hear_again(statement)

    # -- a change --------------------------------------------------------------------------

    async def commit(self, mutation: Mutation) -> bytes:
        """Change the gallery, which both hold as the same, by what both have made; return the chain value.

        When this returns the change is committed: both have accepted it durably, and this side has its certificate.
        Raises GalleryMismatchError if the two have made different changes: then neither has accepted one. If the other
        one is lost on the way, whoever meets next finishes the change, or it was accepted nowhere.
        """
        ballot = await self._promised()
        origin = await self._propose(mutation, ballot)
        await self._accept(mutation, origin, ballot)
        await self._commit(mutation, ballot)
        return self._gallery.state.chain

    async def _promised(self) -> Ballot:
        """Return the ballot of this sitting, which both have promised durably."""
        gallery, theirs = self._gallery, self._theirs
        ballot = acceptor.ballot_of(gallery.state, theirs, self.pair)
        if gallery.state.promised == theirs.promised == ballot:
            return ballot
        with self._own_failures():
            await gallery.promise(ballot, self._heard)
        await self._meeting.send(promised=self.stated())
        await self.hear(await self._meeting.receive("promised", PATIENCE))
        expected = acceptor.promise(theirs, ballot)
        if self._theirs != expected:
            raise self._mismatch(f"organisation {self.other} states another promise", self.other)
        return ballot

    async def _propose(self, mutation: Mutation, ballot: Ballot) -> Certificate:
        """Return the signatures of both over the change that both have made."""
        vote = self._vote(mutation, ballot)
        mine = vote.sign(PROPOSAL, self._gallery.scope, self._signer)
        await self._meeting.send(proposed=pb.GalleryVote(vote=vote.encode(), signature=mine))
        theirs: pb.GalleryVote = await self._meeting.receive("proposed", PATIENCE, mutation.size)
        if theirs.vote != vote.encode():
            raise GalleryMismatchError("the two matchers made different changes of the gallery")
        return self._certificate(vote, PROPOSAL, mine, theirs.signature)

    async def _accept(self, mutation: Mutation, origin: Certificate, ballot: Ballot) -> None:
        with self._own_failures():
            await self._gallery.accept(mutation, origin, ballot, self._heard)

    async def _commit(self, mutation: Mutation, ballot: Ballot) -> None:
        """Swap acceptances of what both have accepted under this ballot, and commit it with its certificate."""
        gallery, theirs_before = self._gallery, self._theirs
        vote = self._vote(mutation, ballot)
        mine = vote.sign(ACCEPTANCE, gallery.scope, self._signer)
        await self._meeting.send(accepted=pb.GalleryVote(vote=vote.encode(), signature=mine))
        theirs: pb.GalleryVote = await self._meeting.receive("accepted", PATIENCE, mutation.size)
        with self._blamed():
            if theirs.vote != vote.encode():
                raise ProtocolError("another change was accepted than the one proposed")
        certificate = self._certificate(vote, ACCEPTANCE, mine, theirs.signature)
        with self._own_failures():
            await gallery.commit(mutation, certificate)
        self._theirs = acceptor.commit(theirs_before, vote.sequence, vote.chain, vote.ballot)

    def _vote(self, mutation: Mutation, ballot: Ballot) -> Vote:
        state = self._gallery.state
        return Vote(state.sequence + 1, next_chain(state.chain, state.sequence + 1, mutation.digest()), ballot)

    def _certificate(self, vote: Vote, context: str, mine: bytes, theirs: bytes) -> Certificate:
        with self._blamed():
            if not vote.is_signed(context, self._gallery.scope, self.other, self._signers, theirs):
                raise ProtocolError(f"organisation {self.other} has not signed the change")
        return Certificate.of(vote, {self.me: mine, self.other: theirs})
