"""A model of the agreement with a liar, explored exhaustively: a and c are honest, b states and signs what it likes.

The rules are those of `acceptor.py`, called. Of the sitting the model keeps what a liar can use: an organisation
accepts under a ballot with proposals of two under it, and a claim that something was accepted counts with them. b can
state any change that is committed, any promise up to a bound, and anything as accepted that it can show; it leaves
whenever it likes, and keeps what the honest two have signed for it. a and c sit with each other, too: each of them may
leave, or lose what the other sends, after any of its steps. Changes are histories in clear, as in `model.py`.

`explore` raises ViolationError if anybody honest has committed, or goes on with, another change than one which a and c
have both accepted under one ballot. That b has two histories certified, with each of them one, is none of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from tests.matcher.agreement.model import ViolationError
from veilmatch.crypto.errors import GalleryMismatchError
from veilmatch.server.matcher.agreement.acceptor import (
    Accepted,
    CatchUp,
    Finish,
    GalleryState,
    Parted,
    accept,
    ballot_of,
    commit,
    next_step,
    promise,
)
from veilmatch.server.matcher.agreement.ballots import NO_BALLOT, Ballot

HONEST = ("a", "c")
VALUES = (b"u", b"v")
#: One number: what happens to it is what counts.
NUMBER = 1


@dataclass(frozen=True)
class Variant:
    """The protocol with a rule taken out; as it stands, none is."""

    claims_are_shown: bool = True
    lower_certificates_are_refused: bool = True


class Signed(NamedTuple):
    """Whose signature, under which ballot and over which change."""

    ballot: Ballot
    chain: bytes
    party: str


class World(NamedTuple):
    """states: of a and c, on their disks. proposals, votes: all that they ever signed. sitting: of a and c, if any."""

    states: tuple[GalleryState, GalleryState]
    proposals: frozenset[Signed] = frozenset()
    votes: frozenset[Signed] = frozenset()
    sitting: tuple[Ballot, bytes, tuple[int, int], bool] | None = None
    sittings: int = 0


START = World((GalleryState(0, b""), GalleryState(0, b"")))
#: Steps of a side in a sitting of a and c.
BEGUN, PROMISED, PROPOSED, ACCEPTED, LEFT = range(5)


def explore(sittings: int, rounds: int, variant: Variant) -> int:
    """Go through every world with at most so many sittings; return how many there are. Raises ViolationError."""
    seen, waiting = {START}, [START]
    while waiting:
        world = waiting.pop()
        check(world)
        for each in following(world, sittings, rounds, variant):
            if each not in seen:
                seen.add(each)
                waiting.append(each)
    return len(seen)


def check(world: World) -> None:
    """Raise ViolationError unless what the honest two have accepted under one ballot stays."""
    both = {signed.chain for signed in world.votes if signed.ballot.pair == "ac" and both_signed(world, signed)}
    if len(both) > 1:
        raise ViolationError("the honest two have agreed on two changes of one number")
    for state in world.states:
        if both and state.sequence >= NUMBER and state.chain not in both:
            raise ViolationError("what the honest two have agreed on was taken back")


def both_signed(world: World, signed: Signed) -> bool:
    return all(signed._replace(party=party) in world.votes for party in HONEST)


def following(world: World, sittings: int, rounds: int, variant: Variant) -> Iterator[World]:
    if world.sitting is not None:
        yield from honest_steps(world)
    if world.sittings == sittings:
        return
    more = world._replace(sittings=world.sittings + 1)
    for side, party in enumerate(HONEST):
        if world.sitting is None or world.sitting[2][side] == LEFT:
            yield from with_liar(more, side, party, rounds, variant)
    if world.sitting is None:
        yield from begun(more, variant)


# -- a and c ---------------------------------------------------------------------------------------


def begun(world: World, variant: Variant) -> Iterator[World]:
    first, second = world.states
    step = next_step(first, second)
    if isinstance(step, CatchUp):
        behind = 0 if step.first else 1
        ahead = world.states[1 - behind]
        after = caught_up(world, world.states[behind], ahead.chain, variant)
        if after is not None:
            yield stepped(world, behind, after)
    elif not isinstance(step, Parted) and first.sequence < NUMBER:
        ballot = ballot_of(first, second, "ac")
        if isinstance(step, Finish):
            at = (PROPOSED, PROPOSED) if step.chosen else (BEGUN, BEGUN)
            ballot = step.accepted.ballot if step.chosen else ballot
            yield world._replace(sitting=(ballot, step.accepted.chain, at, step.chosen))
        else:
            for value in fresh(world):
                yield world._replace(sitting=(ballot, value, (BEGUN, BEGUN), False))


def honest_steps(world: World) -> Iterator[World]:
    assert world.sitting is not None
    ballot, chain, at, chosen = world.sitting
    for side, party in enumerate(HONEST):
        here, there, state = at[side], at[1 - side], world.states[side]
        if here == LEFT:
            continue
        signed, to, after, proposals, votes = (
            Signed(ballot, chain, party),
            here + 1,
            state,
            world.proposals,
            world.votes,
        )
        if here == BEGUN:
            after = promise(state, ballot)
        elif here == PROMISED and there >= PROMISED:
            proposals |= {signed}
        elif here == PROPOSED and (there >= PROPOSED or chosen):
            after = state if chosen else accept(state, ballot, chain)
            votes |= {signed}
        elif here == ACCEPTED and signed._replace(party=HONEST[1 - side]) in votes:
            after = commit(state, NUMBER, chain, ballot)
        else:
            to = LEFT
        for reached in {to, LEFT}:
            places = (reached, there) if side == 0 else (there, reached)
            sitting = None if places == (LEFT, LEFT) else (ballot, chain, places, chosen)
            kept = reached == LEFT and to != LEFT
            # It leaves before the step, or takes it.
            yield (
                world._replace(sitting=sitting)
                if kept
                else stepped(world._replace(sitting=sitting, proposals=proposals, votes=votes), side, after)
            )


# -- with b ----------------------------------------------------------------------------------------


def with_liar(world: World, side: int, party: str, rounds: int, variant: Variant) -> Iterator[World]:
    """Yield what an honest one comes to with b, which stops after any step."""
    state, pair = world.states[side], "".join(sorted(party + "b"))
    if state.sequence >= NUMBER:
        return
    for chain in VALUES:
        if (after := caught_up(world, state, chain, variant)) is not None:
            yield stepped(world, side, after)
    # Of others only the round counts.
    for promised in dict.fromkeys([state.promised, *(Ballot(n, "bc") for n in range(1, rounds + 1))]):
        for accepted in claims(world, party, promised, rounds, variant):
            yield from sat(world, side, GalleryState(0, b"", promised, accepted), pair, rounds)


def claims(world: World, to: str, promised: Ballot, rounds: int, variant: Variant) -> Iterator[Accepted | None]:
    """Yield what b can say that it has accepted, to `to`."""
    yield None
    for number, pair, chain in product(range(1, rounds + 1), ("ab", "bc"), VALUES):
        ballot = Ballot(number, pair)
        other = pair.replace("b", "")
        shown = Signed(ballot, chain, other) in world.proposals
        if not variant.claims_are_shown:
            shown = any(signed.chain == chain for signed in world.proposals)
        if shown and ballot <= promised:
            yield Accepted(ballot, chain)


def sat(world: World, side: int, theirs: GalleryState, pair: str, rounds: int) -> Iterator[World]:
    state, party = world.states[side], HONEST[side]
    step = next_step(state, theirs)
    if isinstance(step, Parted):
        return
    if isinstance(step, Finish) and step.chosen:
        signed = Signed(step.accepted.ballot, step.accepted.chain, party)
        voted = world._replace(votes=world.votes | {signed})
        yield voted
        yield stepped(voted, side, commit(state, NUMBER, signed.chain, signed.ballot))
        return
    ballot = ballot_of(state, theirs, pair)
    if ballot.round > rounds:
        return
    # Where it stops before it has signed, b has only less to show.
    promised = stepped(world, side, promise(state, ballot))
    for chain in (step.accepted.chain,) if isinstance(step, Finish) else fresh(world):
        signed = Signed(ballot, chain, party)
        proposed = promised._replace(proposals=world.proposals | {signed})
        yield proposed
        now = proposed.states[side]
        if now.accepted is not None and now.accepted.ballot == ballot and now.accepted.chain != chain:
            continue
        after = accept(now, ballot, chain)
        voted = stepped(proposed, side, after)._replace(votes=world.votes | {signed})
        yield voted
        yield stepped(voted, side, commit(after, NUMBER, chain, ballot))


def caught_up(world: World, state: GalleryState, chain: bytes, variant: Variant) -> GalleryState | None:
    """Return the state of who is shown a certificate of this change, the lowest there is; None if there is none."""
    ballots = [
        signed.ballot
        for signed in world.votes
        if signed.chain == chain and ("b" in signed.ballot.pair or both_signed(world, signed))
    ]
    if not ballots:
        return None
    try:
        return commit(state, NUMBER, chain, min(ballots) if variant.lower_certificates_are_refused else NO_BALLOT)
    except GalleryMismatchError:
        return None


def fresh(world: World) -> tuple[bytes, ...]:
    """Return the changes that may be made: the two are alike until one of them is in the world."""
    return VALUES if world.proposals else VALUES[:1]


def stepped(world: World, side: int, state: GalleryState) -> World:
    states = (state, world.states[1]) if side == 0 else (world.states[0], state)
    return world._replace(states=states)
