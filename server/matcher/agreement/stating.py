"""What two organisations state to each other of one gallery, and what is said when that cannot be so.

What is stated is signed, and compared with all that its organisation has signed before: whoever denies it, or has
accepted two changes under one ballot, is named, with a proof where there is one (`lies`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from veilmatch.crypto.errors import GalleryMismatchError, IntegrityError, ProtocolError, UnavailableError
from veilmatch.crypto.keys.parties import PARTIES, Party, pairs_without
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.ground.own_failures import Self, alert
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.ballots import NO_BALLOT, Ballot
from veilmatch.server.matcher.agreement.certificates import Certificate, Scope, Signer, Signers, Statement
from veilmatch.server.matcher.agreement.lies import proofs_in, says_less
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.gallery.gallery import Gallery

#: By how much the clocks of honest organisations may differ without keeping a pair of them from changing a gallery.
_CLOCKS_APART_S = 10.0
_TICK_S = 0.001
#: When to ask again while a change is not settled.
SETTLED_S = 2.0


class Voice(Protocol):
    """What one organisation states things with: its key, the public keys of all, and a clock (seconds since 1970)."""

    signer: Signer
    signers: Signers
    clock: Callable[[], float]

    def statement(self, scope: Scope, state: GalleryState, /) -> bytes:
        """Return what it states of a gallery in a state, signed."""


class Stating:
    """One gallery at both organisations, while they meet."""

    def __init__(self, voice: Voice, meeting: Meeting, gallery: Gallery) -> None:
        self._signer, self._signers, self._clock = voice.signer, voice.signers, voice.clock
        self._statement = voice.statement
        self._meeting, self._gallery = meeting, gallery
        self.me: Party = voice.signer.party
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
            statement=self._statement(gallery.scope, gallery.state),
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
            if state.accepted is not None and state.accepted.ballot > state.promised:
                raise ProtocolError(
                    f"organisation {self.other} states that it accepted in a ballot that it has not promised",
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

    def unsettled(self, what: str, party: Party, retry_after_s: float = SETTLED_S) -> UnavailableError:
        """Return the error for a gallery that cannot be served yet because of this party."""
        return UnavailableError(
            what,
            party=f"matcher-{party}",
            needed="the same state at both matchers",
            available=f"{self._gallery.state} at matcher-{self.me}; {self._theirs} at matcher-{self.other}",
            alternatives=pairs_without(party),
            retry_after_s=retry_after_s,
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
