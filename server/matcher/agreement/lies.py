"""Lies about changes, found in what organisations have signed: two things that no honest one signs both. Pure.

Two changes under one ballot are a *fork*. A *denial* is a statement with a higher promise that leaves out a change
which the same organisation accepted: it dropped it, or accepted it against its promise. Both are proofs, whichever of
the two was signed first, and are kept. What only looks like a lie, because it may be of an earlier time, is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.matcher.agreement.acceptor import Accepted, GalleryState, contradicts, denies, is_lie
from veilmatch.server.matcher.agreement.certificates import Certificate, Statement

#: A statement, or a vote of a certificate: whose, what it says was accepted for which number, the state, and all of it.
_Signed = tuple[int, Accepted, bytes]


@dataclass(frozen=True, slots=True)
class Proof:
    """That `party` has lied. what: "fork" or "denial"; first, second: a statement and a certificate, or two alike."""

    party: Party
    what: str
    first: bytes = field(repr=False)
    second: bytes = field(repr=False)


def proofs_in(statements: Iterable[Statement], certificates: Iterable[Certificate]) -> Iterator[Proof]:
    """Yield what these prove, all of them with right signatures and about one gallery."""
    statements, certificates = list(statements), list(certificates)
    for party in PARTIES:
        own = [statement for statement in statements if statement.party == party]
        accepted = [signed for statement in own for signed in _accepted(statement)]
        accepted += [
            (c.vote.sequence, Accepted(c.vote.ballot, c.vote.chain), c.encode())
            for c in certificates
            if party in c.vote.ballot.pair
        ]
        for (one, first, data), (other, second, more) in combinations(accepted, 2):
            if one == other and contradicts(first, second):
                yield Proof(party, "fork", data, more)
        for statement in own:
            for sequence, vote, data in accepted:
                forks = any(n == sequence and contradicts(at, vote) for n, at, _ in _accepted(statement))
                if not forks and is_lie(statement.state, sequence, vote):
                    yield Proof(party, "denial", statement.encode(), data)


def says_less(state: GalleryState, earlier: Statement | None, certificate: Certificate | None) -> bool:
    """Return whether who is in `state` now denies an earlier statement, or its vote in a certificate.

    Whoever was restored from an old copy does so without knowing.
    """
    if certificate is not None:
        vote = certificate.vote
        if denies(state, vote.sequence, Accepted(vote.ballot, vote.chain)):
            return True
    if earlier is None:
        return False
    before = earlier.state
    if state.promised < before.promised or state.sequence < before.sequence:
        return True
    if state.sequence == before.sequence and state.chain != before.chain:
        return True
    return before.accepted is not None and denies(state, before.sequence + 1, before.accepted)


def _accepted(statement: Statement) -> list[_Signed]:
    state = statement.state
    return [] if state.accepted is None else [(state.sequence + 1, state.accepted, statement.encode())]
