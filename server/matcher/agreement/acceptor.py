"""The agreement of three organisations on each change of a gallery, without any I/O: single-decree Paxos per number.

docs/protocol.md; L. Lamport, "Paxos made simple", 2001. Every organisation is an acceptor and every pair a quorum.
What an organisation holds of a gallery is its `GalleryState`; a transition here returns the state that it writes, in
one durable transaction, before it says anything of it. Two that meet compare their states with `next_step`, which
gives both the same answer. The tests explore this very code exhaustively (tests/matcher/agreement/model.py).

The rules, in the order in which a pair goes by them, both galleries held:

1. They hold the same committed changes; whoever is behind catches up first.
2. If either has accepted a change for the next number, the one of the highest ballot is finished first.
3. Both have promised, durably, the ballot that they use. One that both promised before is used again: its pair is the
   only one that may, and what was accepted under it is there to be seen.
4. Both accept under it, durably; what both accepted under one ballot is committed for ever.

Where one of the three lies, a change that the two honest ones have both accepted under one ballot stays, too: nobody
accepts without proposals of two under the very ballot (`sitting`), and `commit` takes no certificate of a lower one in
its place. docs/protocol.md has the argument; the tests explore it (tests/matcher/agreement/liar_model.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from veilmatch.crypto.errors import GalleryMismatchError, IntegrityError
from veilmatch.server.matcher.agreement.ballots import NO_BALLOT, Ballot


@dataclass(frozen=True, slots=True)
class Accepted:
    """A change for the next number that was accepted under a ballot: the chain value that it leads to."""

    ballot: Ballot
    chain: bytes


@dataclass(frozen=True, slots=True)
class GalleryState:
    """What an organisation holds of a gallery.

    sequence, chain: of the last committed change. promised: no ballot below it is accepted any more, for no number.
    accepted: for number sequence + 1.
    """

    sequence: int
    chain: bytes
    promised: Ballot = NO_BALLOT
    accepted: Accepted | None = None

    def __str__(self) -> str:
        text = f"sequence {self.sequence}, chain {self.chain.hex()[:8]}"
        if self.accepted is not None:
            text += f", accepted {self.accepted.chain.hex()[:8]} in ballot {self.accepted.ballot}"
        return text


@dataclass(frozen=True, slots=True)
class CatchUp:
    """One of the two is behind by so many changes, and takes them from the other. first: whether it is the first."""

    first: bool
    missing: int


@dataclass(frozen=True, slots=True)
class Finish:
    """This change was accepted and is not known to be committed: it is finished before anything else.

    by_first, by_second: who accepted this change, under whatever ballot, and so holds what it brings. chosen: both did
    under this ballot.
    """

    accepted: Accepted
    by_first: bool
    by_second: bool
    chosen: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """Both hold the same, and nothing is open."""


@dataclass(frozen=True, slots=True)
class Parted:
    """Their histories differ, or one ballot has two changes: no crash explains it, somebody has lied."""


Step = CatchUp | Finish | Ready | Parted


def next_step(first: GalleryState, second: GalleryState) -> Step:
    """Return what two organisations that meet do next; both hold their galleries."""
    if first.sequence != second.sequence:
        return CatchUp(first.sequence < second.sequence, abs(first.sequence - second.sequence))
    if first.chain != second.chain:
        return Parted()
    both = [state.accepted for state in (first, second) if state.accepted is not None]
    if not both:
        return Ready()
    highest = max(both, key=lambda accepted: accepted.ballot)
    if any(one.ballot == highest.ballot and one.chain != highest.chain for one in both):
        return Parted()
    by_first, by_second = (
        state.accepted is not None and state.accepted.chain == highest.chain for state in (first, second)
    )
    return Finish(highest, by_first, by_second, chosen=first.accepted == second.accepted)


def ballot_of(first: GalleryState, second: GalleryState, pair: str) -> Ballot:
    """Return the ballot that the pair in these states uses: both have promised it, or have to promise it now."""
    if first.promised == second.promised and first.promised.pair == pair:
        return first.promised
    return Ballot(max(first.promised.round, second.promised.round) + 1, pair)


def promise(state: GalleryState, ballot: Ballot) -> GalleryState:
    """Return the state in which no lower ballot is accepted. Raises IntegrityError if a higher one was promised."""
    if ballot < state.promised:
        raise IntegrityError("a higher ballot was promised", got=str(ballot), expected=str(state.promised))
    return replace(state, promised=ballot)


def accept(state: GalleryState, ballot: Ballot, chain: bytes) -> GalleryState:
    """Return the state in which the change that leads to `chain` is accepted for the next number.

    Raises IntegrityError if this very ballot was not promised, or if another change was accepted under it.
    """
    if ballot != state.promised:
        raise IntegrityError("another ballot was promised", got=str(ballot), expected=str(state.promised))
    if state.accepted is not None and state.accepted.ballot == ballot and state.accepted.chain != chain:
        raise IntegrityError("another change was accepted in this ballot", got=str(ballot))
    return replace(state, accepted=Accepted(ballot, chain))


def commit(state: GalleryState, sequence: int, chain: bytes, ballot: Ballot = NO_BALLOT) -> GalleryState:
    """Return the state after change number `sequence`, which a certificate says is committed, leading to `chain`.

    For what was accepted, and for changes that the organisation had no part in. What was accepted for an earlier
    number is forgotten. ballot: of the certificate; no lower one is any use, so it is promised. Raises IntegrityError
    if it is committed here already; GalleryMismatchError if another change was accepted here for that number, under a
    higher ballot: what had been chosen below that would have been accepted under it, unless somebody has lied. It may
    be chosen itself, and whoever took the other one would take that back.
    """
    if sequence <= state.sequence:
        raise IntegrityError("a change that is committed already", got=sequence, expected=state.sequence + 1)
    accepted = state.accepted
    is_another = accepted is not None and sequence == state.sequence + 1 and chain != accepted.chain
    if accepted is not None and is_another and NO_BALLOT < ballot < accepted.ballot:
        raise GalleryMismatchError(
            "a change has a certificate of a lower ballot than another one was accepted in here",
            got=f"{chain.hex()[:8]} in ballot {ballot}",
            expected=f"{accepted.chain.hex()[:8]} in ballot {accepted.ballot}",
        )
    return GalleryState(sequence, chain, max(state.promised, ballot))


def denies(state: GalleryState, sequence: int, accepted: Accepted) -> bool:
    """Return whether who is in `state` denies that it accepted this for number `sequence`, as it once signed."""
    if state.promised < accepted.ballot or state.sequence < sequence - 1:
        return True
    if state.sequence >= sequence:
        return False
    # A later ballot may have replaced it; an earlier one, or nothing, cannot have.
    return state.accepted is None or state.accepted.ballot < accepted.ballot or contradicts(state.accepted, accepted)


def contradicts(one: Accepted, other: Accepted) -> bool:
    """Return whether these two, of one number and one organisation, are two changes under one ballot."""
    return one.ballot == other.ballot and one.chain != other.chain


def is_lie(state: GalleryState, sequence: int, accepted: Accepted) -> bool:
    """Return whether nobody honest ever is in `state` and accepts this for number `sequence`, whichever came first.

    Who has promised a higher ballot and holds nothing of it has either dropped it, or accepts it against its promise.
    """
    if state.sequence >= sequence:
        return False
    at_that = state.sequence == sequence - 1 and state.accepted is not None
    if at_that and state.accepted is not None and contradicts(state.accepted, accepted):
        return True
    dropped = not at_that or state.accepted is None or state.accepted.ballot < accepted.ballot
    return dropped and state.promised > accepted.ballot
