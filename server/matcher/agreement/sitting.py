"""Two organisations at one gallery, for one request: they come to hold the same, and change it together.

docs/protocol.md; the rules are those of `acceptor`. Whoever is behind catches up from the other, if it is only a few
changes, and what was accepted and is not known to be committed is finished, before anything is served. While a gallery
is served from it is held, by both, in the order of the pair: so no three of them wait for each other in a circle.

A change takes one swap of proposals and one of acceptances, and two durable writes at each side. A ballot that both
have promised before serves again; otherwise a swap of promises and one write go before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from veilmatch.crypto.errors import (
    GalleryMismatchError,
    IntegrityError,
    ProtocolError,
    UnavailableError,
)
from veilmatch.crypto.keys.parties import PARTIES, Party, pairs_without
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.ground.finishing import to_the_end
from veilmatch.server.ground.own_failures import Self, alert
from veilmatch.server.matcher.agreement import acceptor
from veilmatch.server.matcher.agreement.acceptor import CatchUp, Finish, GalleryState, Parted, Ready, next_step
from veilmatch.server.matcher.agreement.ballots import NO_BALLOT, Ballot
from veilmatch.server.matcher.agreement.certificates import (
    ACCEPTANCE,
    PROPOSAL,
    Certificate,
    Signer,
    Signers,
    Statement,
    Vote,
)
from veilmatch.server.matcher.agreement.handing_over import MEETING_BYTES, MEETING_CHANGES, hand_over, take_over
from veilmatch.server.matcher.agreement.lies import proofs_in, says_less
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.gallery.body import Body, digest_of
from veilmatch.server.matcher.gallery.changes import Change, check_changes, contents_of, mutation_of
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import Mutation, next_chain

#: Meetings about a read in which something is settled first; more only if others change the gallery in between.
_ATTEMPTS = 4
#: A change may have to wait for others, and tens of megabytes for the disk: so many times longer than a query.
_PATIENCE = 6.0
#: By how much the clocks of honest organisations may differ without keeping a pair of them from changing a gallery.
_CLOCKS_APART_S = 10.0
_TICK_S = 0.001
#: When to ask again while a change is not settled.
_SETTLED_S = 2.0


class Agreement:
    """What one organisation agrees with: its key, the public keys of all, and a clock (seconds since 1970)."""

    def __init__(self, signer: Signer, signers: Signers, clock: Callable[[], float] = time.time) -> None:
        self.signer = signer
        self.signers = signers
        self.clock = clock

    @asynccontextmanager
    async def reading(self, meeting: Meeting, gallery: Gallery) -> AsyncIterator[None]:
        """Hold the gallery shared while both organisations hold the same, with nothing open.

        Raises UnavailableError, naming who is too far behind; GalleryMismatchError, an alert, if no crash explains what
        the other one states, naming it if that is sure; IntegrityError for what it hands over if that is not right.
        """
        for _ in range(_ATTEMPTS):
            async with self._met(meeting, gallery, alone=False) as sitting:
                if sitting.is_ready():
                    yield
                    return
            async with self._met(meeting, gallery, alone=True) as sitting:
                await to_the_end(sitting.settle())
        raise UnavailableError(
            "changes of the gallery by other pairs left no time to read it", retry_after_s=_SETTLED_S
        )

    @asynccontextmanager
    async def changing(self, meeting: Meeting, gallery: Gallery) -> AsyncIterator[Sitting]:
        """Hold the gallery exclusively while both hold the same, with nothing open; what comes may change it.

        Raises as `reading` does.
        """
        async with self._met(meeting, gallery, alone=True) as sitting:
            await to_the_end(sitting.settle())
            yield sitting

    @asynccontextmanager
    async def _met(self, meeting: Meeting, gallery: Gallery, *, alone: bool) -> AsyncIterator[Sitting]:
        """Hold the gallery and swap what both state of it; who leads holds it first."""
        sitting = Sitting(self, meeting, gallery)
        if alone and gallery.lock.is_preparing:
            # The other one would wait with its gallery held, and keep the third one from it.
            raise sitting.unsettled(f"matcher-{sitting.me} is behind, and takes in what it has missed", sitting.me)
        hold = gallery.lock.exclusive() if alone else gallery.lock.shared()
        if gallery.is_stale:
            async with gallery.lock.exclusive():
                await gallery.refresh()
        theirs = None if meeting.leads else await meeting.receive("begin", _PATIENCE)
        if alone and gallery.lock.is_preparing:  # since a moment ago
            raise sitting.unsettled(f"matcher-{sitting.me} is behind, and takes in what it has missed", sitting.me)
        async with hold:
            if gallery.is_stale:  # since a moment ago
                raise sitting.unsettled(f"matcher-{sitting.me} has to read its gallery again", sitting.me)
            await meeting.send(begin=sitting.stated())
            await sitting.hear(theirs if theirs is not None else await meeting.receive("begin"), alone=alone)
            yield sitting


class Sitting:
    """One gallery at both organisations, while both hold it; use `Agreement`."""

    def __init__(self, agreement: Agreement, meeting: Meeting, gallery: Gallery) -> None:
        self._signer, self._signers, self._clock = agreement.signer, agreement.signers, agreement.clock
        self._meeting, self._gallery = meeting, gallery
        self.me: Party = agreement.signer.party
        self.other: Party = next(party for party in PARTIES if meeting.peer == f"matcher-{party}")
        self.pair = "".join(sorted((self.me, self.other)))
        self._theirs = GalleryState(0, b"")
        #: Their last statement, to be kept with the next write.
        self._heard: list[Statement] = []
        self._restored = False
        self._known = NO_BALLOT

    # -- what both state --------------------------------------------------------------------

    def stated(self) -> pb.GalleryMeeting:
        """Return what this organisation states."""
        gallery = self._gallery
        return pb.GalleryMeeting(
            gallery=gallery.name,
            key_id=gallery.key_id,
            statement=Statement(self.me, gallery.state).signed(gallery.scope, self._signer).encode(),
            certificate=gallery.head.encode() if gallery.head is not None else b"",
            known_ballot=self._known_ballot().encode(),
            restored=bool(gallery.unmet),
        )

    async def hear(self, wire: pb.GalleryMeeting, *, alone: bool = True) -> None:
        """Take in what the other organisation states, and compare it with all that it has signed before.

        alone: whether the gallery is held exclusively. Only then something is promised because of it.
        """
        gallery = self._gallery
        if (wire.gallery, wire.key_id) != (gallery.name, gallery.key_id):
            raise ProtocolError("the other matcher is at another gallery", got=wire.gallery[:60], expected=gallery.name)
        with self._blamed():
            statement = Statement.decode(wire.statement)
            if statement.party != self.other:
                raise ProtocolError("a statement of another organisation", got=statement.party, expected=self.other)
            statement.check(gallery.scope, self._signers)
            head = Certificate.decode(wire.certificate) if wire.certificate else None
            state = statement.state
            known = Ballot.decode(wire.known_ballot)
            if alone:
                await self._await_timely(state.promised, known, *([state.accepted.ballot] if state.accepted else []))
            if state.accepted is not None and self.other not in state.accepted.ballot.pair:
                # Promised it may have: a certificate of the other two brings their ballot with it.
                raise ProtocolError(
                    f"organisation {self.other} states that it accepted in a ballot that it has no part in",
                    got=str(state.accepted.ballot),
                )
            if head is not None and head != gallery.head:
                head.check(gallery.scope, self._signers)
            stated = (head.vote.sequence, head.vote.chain) if head is not None else (0, gallery.initial_chain)
            if stated != (state.sequence, state.chain):
                raise ProtocolError("the certificate is not that of the stated change", got=stated[0])
        self._theirs, self._heard = state, [statement]
        self._restored, self._known = wire.restored, known
        if wire.restored:
            restored = self._mismatch(
                f"organisation {self.other} says that it was restored from an old copy; do its operators know?",
                self.other,
            )
            self._alert(restored)
        await self._find_lies(statement, head)

    async def _await_timely(self, *stated: Ballot) -> None:
        """Raise ProtocolError if the other one states a ballot that nobody has come to; nothing is written then.

        A liar can push an honest one up to the bound by its clock, over and over. Where that is a little ahead of the
        clock here, the bound here is reached in a moment: until then nobody pushes on, as both galleries are held.
        """
        early_s = max(ballot.early_s(self._clock()) for ballot in stated)
        if 0 < early_s <= _CLOCKS_APART_S:
            await asyncio.sleep(early_s + _TICK_S)
        for ballot in stated:
            ballot.require_timely(self.other, self._clock())

    async def _find_lies(self, statement: Statement, head: Certificate | None) -> None:
        """Keep what proves that somebody has lied; raise GalleryMismatchError if it is who is here."""
        gallery = self._gallery
        certificates = [*dict.fromkeys([*gallery.votes.values(), *([head] if head is not None else [])])]
        for proof in proofs_in([*gallery.heard.values(), statement], certificates):
            if proof.party == self.me:
                continue
            # Who was restored denies without knowing, but accepts no second change under a ballot.
            if self._restored and proof.party == self.other and proof.what != "fork":
                continue
            await gallery.keep_proof(proof)
            lied = self._mismatch(f"organisation {proof.party} has lied about the gallery: {proof.what}", proof.party)
            self._alert(lied)
            if proof.party == self.other:
                raise lied
        if not self._restored and says_less(
            statement.state, gallery.heard.get(self.other), gallery.votes.get(self.other)
        ):
            denied = self._mismatch(
                f"organisation {self.other} denies what it has signed of the gallery: it lies, or was restored from an "
                "old copy and does not say so",
                self.other,
            )
            self._alert(denied)
            raise denied

    def _known_ballot(self) -> Ballot:
        """Return the highest ballot that the other one is known here to have promised."""
        heard, vote = self._gallery.heard.get(self.other), self._gallery.votes.get(self.other)
        return max(heard.state.promised if heard else NO_BALLOT, vote.vote.ballot if vote else NO_BALLOT)

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
                changes, contents = await take_over(self._meeting)
                # In a thread, with its hashes: others are served meanwhile.
                reached = await asyncio.to_thread(check_changes, gallery.state, changes, gallery.scope, self._signers)
                if (reached.sequence, reached.chain) != (theirs.sequence, theirs.chain):
                    raise ProtocolError("the changes do not lead to the stated one", got=reached, expected=theirs)
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
        if await gallery.bytes_after(after) > MEETING_BYTES:
            raise too_far
        await hand_over(self._meeting, changes, await gallery.contents_after(after))
        ballot = max(Certificate.decode(change.certificate).vote.ballot for change in changes)
        self._theirs = acceptor.commit(theirs, gallery.state.sequence, gallery.state.chain, ballot)

    async def _finish(self, finish: Finish) -> None:
        """Commit a change that one of the two has accepted, or both have."""
        gallery = self._gallery
        mutation, origin = await self._share(finish)
        if finish.chosen:
            await self._commit(mutation, finish.accepted.ballot)
            return
        ballot = await self._promised()
        await self._accept(mutation, origin, ballot)
        await self._commit(mutation, ballot)
        assert gallery.state.chain == finish.accepted.chain

    async def _share(self, finish: Finish) -> tuple[Mutation, Certificate]:
        """Return the change that is finished and its proposals; who holds it hands it over if the other does not."""
        gallery, sequence = self._gallery, self._gallery.state.sequence + 1
        if finish.by_first:
            with self._own_failures():
                mutation, origin = await gallery.accepted()
            if not finish.by_second:
                change = Change(sequence, mutation.body.encode(), origin.encode())
                await hand_over(self._meeting, [change], contents_of(mutation))
            return mutation, origin
        with self._blamed():
            changes, contents = await take_over(self._meeting)
            if len(changes) != 1:
                raise ProtocolError("one change was expected", got=len(changes))
            origin = Certificate.decode(changes[0].certificate)
            if (origin.vote.sequence, origin.vote.chain) != (sequence, finish.accepted.chain):
                raise ProtocolError("another change than the one that was accepted", got=origin.vote.sequence)
            # Two organisations have made it: what one alone says that it has accepted is nobody's change.
            origin.check(gallery.scope, self._signers, PROPOSAL)
            # Only what two have signed is read, and in a thread.
            before, body = gallery.state.chain, changes[0].body
            if next_chain(before, sequence, await asyncio.to_thread(digest_of, body)) != origin.vote.chain:
                raise ProtocolError("the proposals are those of another change", got=sequence)
            return await asyncio.to_thread(lambda: mutation_of(Body.decode(body), contents)), origin

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
        await self.hear(await self._meeting.receive("promised", _PATIENCE))
        expected = acceptor.promise(theirs, ballot)
        if self._theirs != expected:
            raise self._mismatch(f"organisation {self.other} states another promise", self.other)
        return ballot

    async def _propose(self, mutation: Mutation, ballot: Ballot) -> Certificate:
        """Return the signatures of both over the change that both have made."""
        vote = self._vote(mutation, ballot)
        mine = vote.sign(PROPOSAL, self._gallery.scope, self._signer)
        await self._meeting.send(proposed=pb.GalleryVote(vote=vote.encode(), signature=mine))
        theirs: pb.GalleryVote = await self._meeting.receive("proposed", _PATIENCE)
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
        theirs: pb.GalleryVote = await self._meeting.receive("accepted", _PATIENCE)
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

    # -- what goes wrong -----------------------------------------------------------------------

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Let what is not right in what the other one sent be blamed on it."""
        try:
            yield
        except IntegrityError as error:
            if error.party is None and not error.said_by:
                error.party, error.alternatives = f"matcher-{self.other}", pairs_without(self.other)
            raise

    @contextmanager
    def _own_failures(self) -> Iterator[None]:
        """Let what the database cannot do be blamed on this matcher: the device hears it from whoever is first."""
        try:
            yield
        except UnavailableError as error:
            if error.party is None:
                error.party, error.alternatives = f"matcher-{self.me}", pairs_without(self.me)
            raise

    def unsettled(self, what: str, party: Party) -> UnavailableError:
        """Return the error for a gallery that cannot be served yet because of this party."""
        return UnavailableError(
            what,
            party=f"matcher-{party}",
            needed="the same state at both matchers",
            available=f"{self._gallery.state} at matcher-{self.me}; {self._theirs} at matcher-{self.other}",
            alternatives=pairs_without(party),
            retry_after_s=_SETTLED_S,
        )

    def _mismatch(self, what: str, party: Party | None) -> GalleryMismatchError:
        return GalleryMismatchError(
            what,
            got=f"{self._theirs} at matcher-{self.other}",
            expected=f"{self._gallery.state} at matcher-{self.me}",
            party=f"matcher-{party}" if party is not None else None,
            alternatives=pairs_without(party) if party is not None else (),
        )

    def _parted(self) -> GalleryMismatchError:
        parted = self._mismatch("the two matchers do not hold the same gallery", None)
        self._alert(parted)
        return parted

    def _alert(self, error: GalleryMismatchError) -> None:
        """Log it as an alert, once for the same two states."""
        name = self._gallery.name
        alert(error, Self(f"matcher-{self.me}"), name, error.got, error.expected, gallery=name)
