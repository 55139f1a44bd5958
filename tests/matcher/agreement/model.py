"""A model of the agreement, explored exhaustively: three acceptors, two numbers, every order, loss, crash and restart.

The rules are those of `acceptor.py`, called, not written again. What the model adds is the world around them. Any two
organisations that are idle may open a sitting; each side of it takes its durable steps in order, whenever it has the
message of the other side that the step waits for. At any moment a side may leave: it crashed, or its messages were
lost. What it wrote and sent stays, what it knew is gone. The other side may go on with what it has been sent, as long
as it likes, while whoever left sits with somebody else. Chain values are histories in clear: b"uv".

A `Variant` takes one rule out, to see that the exploration finds what goes wrong then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from veilmatch.crypto.keys.parties import PAIRS, PARTIES
from veilmatch.server.matcher.agreement.acceptor import (
    CatchUp,
    Finish,
    GalleryState,
    Parted,
    Ready,
    accept,
    ballot_of,
    commit,
    next_step,
    promise,
)
from veilmatch.server.matcher.agreement.ballots import Ballot

NUMBERS = 2
VALUES = (b"u", b"v")
#: Steps of a side: what it has written, and so has sent.
BEGUN, CAUGHT_UP, PROMISED, ACCEPTED = range(4)
LEFT = -1


@dataclass(frozen=True)
class Variant:
    """The protocol with a rule taken out; as it stands, none is."""

    promises_are_durable: bool = True
    both_promise_first: bool = True
    highest_is_finished: bool = True
    ballots_rise: bool = True
    waits_for_both: bool = True
    accepted_is_durable: bool = True


class ViolationError(Exception):
    """Something that must not be."""


class Plan(NamedTuple):
    """What a sitting does, as both sides see it from the states that they have swapped."""

    behind: int | None
    base: tuple[int, bytes]
    ballot: Ballot
    promises: bool
    chain: bytes | None
    chosen: bool


class Sitting(NamedTuple):
    pair: str
    value: bytes
    began: tuple[GalleryState, GalleryState]
    at: tuple[int, int]
    sent: tuple[int, int]


class World(NamedTuple):
    """acceptors: what is on their disks. votes: all acceptances ever signed, (number, ballot, chain, party)."""

    acceptors: tuple[GalleryState, ...]
    sittings: tuple[Sitting, ...]
    votes: frozenset[tuple[int, Ballot, bytes, str]]
    opened: int


START = World((GalleryState(0, b""),) * len(PARTIES), (), frozenset(), 0)


@lru_cache(None)
def plan(began: tuple[GalleryState, GalleryState], pair: str, value: bytes, variant: Variant) -> Plan:
    first, second = began
    behind = None
    step = next_step(first, second)
    if isinstance(step, CatchUp):
        behind = 0 if step.first else 1
        ahead = began[1 - behind]
        caught_up = commit(began[behind], ahead.sequence, ahead.chain)
        first, second = (caught_up, ahead) if behind == 0 else (ahead, caught_up)
        step = next_step(first, second)
    if isinstance(step, Parted):
        raise ViolationError("histories have parted")
    ballot = ballot_of(first, second, pair)
    if not variant.ballots_rise:
        ballot = Ballot(1, pair)
    base, promises = (first.sequence, first.chain), not (first.promised == second.promised == ballot)
    if isinstance(step, Finish) and variant.highest_is_finished:
        if step.chosen:
            return Plan(behind, base, step.accepted.ballot, False, step.accepted.chain, True)
        return Plan(behind, base, ballot, promises, step.accepted.chain, False)
    assert isinstance(step, Ready) or not variant.highest_is_finished
    fresh = first.chain + value if first.sequence < NUMBERS else None
    return Plan(behind, base, ballot, promises and fresh is not None, fresh, False)


def following(world: World, sittings: int, variant: Variant) -> list[World]:
    """Return every world that one step leads to. sittings: how many are opened at most. Raises ViolationError."""
    found = []
    busy = {p for s in world.sittings for p, at in zip(s.pair, s.at, strict=True) if at != LEFT}
    for pair in PAIRS:
        if world.opened < sittings and not busy & set(pair):
            began = tuple(world.acceptors[PARTIES.index(p)] for p in pair)
            read_is_current(world, began, plan(began, pair, VALUES[0], variant))  # type: ignore[arg-type]
            # The two values are alike until one of them is in the world.
            for value in VALUES if world.opened else VALUES[:1]:
                sitting = Sitting(pair, value, began, (BEGUN, BEGUN), (BEGUN, BEGUN))  # type: ignore[arg-type]
                found.append(world._replace(sittings=(*world.sittings, sitting), opened=world.opened + 1))
    for place, sitting in enumerate(world.sittings):
        for side in (0, 1):
            if sitting.at[side] != LEFT:
                found += moves(world, place, sitting, side, variant)
    return [canonical(each) for each in found]


def moves(world: World, place: int, sitting: Sitting, side: int, variant: Variant) -> list[World]:
    """Return what one side of a sitting may do next: its step, if it has what that waits for, or leave."""
    state = world.acceptors[PARTIES.index(sitting.pair[side])]
    worlds = []
    if (step := step_of(state, sitting, side, variant)) is not None:
        to, after, vote = step
        votes = world.votes | {vote} if vote is not None else world.votes
        worlds.append(moved(world, place, sitting, side, to, after, votes))
    left = moved(world, place, sitting, side, LEFT, forgotten(state, sitting, side, variant), world.votes)
    other = sitting.pair[1 - side]
    theirs = left.acceptors[PARTIES.index(other)]
    if sitting.at[1 - side] != LEFT and step_of(theirs, sitting, 1 - side, variant) is None:
        # Nobody will send what the other side waits for: it may as well leave, too.
        one = left.sittings[place]
        left = moved(left, place, one, 1 - side, LEFT, forgotten(theirs, one, 1 - side, variant), left.votes)
    return [*worlds, left]


def step_of(
    state: GalleryState, sitting: Sitting, side: int, variant: Variant
) -> tuple[int, GalleryState, tuple[int, Ballot, bytes, str] | None] | None:
    """Return where the next step of a side leads, what it writes and what it signs; None if it has to wait."""
    todo = plan(sitting.began, sitting.pair, sitting.value, variant)
    at, heard, number = sitting.at[side], sitting.sent[1 - side], todo.base[0] + 1
    if at == BEGUN and todo.behind == side:
        return CAUGHT_UP, commit(state, *todo.base), None
    if todo.chain is None:
        return None
    if at < PROMISED and todo.promises:
        return PROMISED, promise(state, todo.ballot), None
    if at < ACCEPTED and not todo.chosen:
        if heard < PROMISED and todo.promises and variant.both_promise_first:
            return None
        vote = (number, todo.ballot, todo.chain, sitting.pair[side])
        return ACCEPTED, accept(state, todo.ballot, todo.chain), vote
    if heard < ACCEPTED and not todo.chosen and variant.waits_for_both:
        return None
    return LEFT, commit(state, number, todo.chain, todo.ballot), None


def forgotten(state: GalleryState, sitting: Sitting, side: int, variant: Variant) -> GalleryState:
    """Return what a crash leaves of a state: all of it, unless a variant keeps something in memory only."""
    before = sitting.began[side]
    if not variant.accepted_is_durable and state.sequence == before.sequence:
        return replace(state, accepted=before.accepted)
    if not variant.promises_are_durable and state.accepted == before.accepted:
        return replace(state, promised=before.promised)
    return state


def moved(
    world: World, place: int, sitting: Sitting, side: int, to: int, state: GalleryState, votes: frozenset[object]
) -> World:
    at, sent = list(sitting.at), list(sitting.sent)
    at[side], sent[side] = to, max(to, sent[side])
    one = sitting._replace(at=tuple(at), sent=tuple(sent))  # type: ignore[arg-type]
    acceptors = list(world.acceptors)
    acceptors[PARTIES.index(sitting.pair[side])] = state
    sittings = (*world.sittings[:place], one, *world.sittings[place + 1 :])
    return World(tuple(acceptors), tuple(s for s in sittings if s.at != (LEFT, LEFT)), votes, world.opened)  # type: ignore[arg-type]


def canonical(world: World) -> World:
    """Return the world with its sittings in one order."""
    sittings = world.sittings
    if len(sittings) > 1:
        sittings = tuple(sorted(sittings, key=lambda s: (s.pair, s.value, s.at, s.sent, repr(s.began))))
    return world._replace(sittings=sittings)


# -- what must hold --------------------------------------------------------------------------------


def certified(world: World) -> dict[int, set[bytes]]:
    """Return, for each number, the chain values that have a certificate: two organisations under one ballot."""
    found: dict[int, set[bytes]] = {}
    for number, ballot, chain, party in world.votes:
        other = next(p for p in ballot.pair if p != party)
        if (number, ballot, chain, other) in world.votes:
            found.setdefault(number, set()).add(chain)
    return found


def check(world: World) -> None:
    """Raise ViolationError unless every number has one certificate, and what is committed anywhere has it."""
    certificates = certified(world)
    for number, chains in certificates.items():
        if len(chains) > 1:
            raise ViolationError(f"number {number} has two certificates")
    for state in world.acceptors:
        for number in range(1, state.sequence + 1):
            if certificates.get(number) != {state.chain[:number]}:
                raise ViolationError(f"number {number} is committed without its certificate")
        if state.accepted is not None and state.promised < state.accepted.ballot:
            raise ViolationError("something was accepted that was not promised")


def read_is_current(world: World, began: tuple[GalleryState, GalleryState], todo: Plan) -> None:
    """Raise ViolationError if two that meet would serve although a change that was acknowledged is missing."""
    acknowledged = max(state.sequence for state in world.acceptors)
    at = todo.base[0] + (todo.chain is not None and todo.chain[:-1] == todo.base[1] and is_finishing(began, todo))
    if at < acknowledged:
        raise ViolationError("an acknowledged change is lost to whoever asks next")


def is_finishing(began: tuple[GalleryState, GalleryState], todo: Plan) -> bool:
    return any(state.accepted is not None and state.accepted.chain == todo.chain for state in began)


def can_go_on(acceptors: tuple[GalleryState, ...], variant: Variant) -> None:
    """Raise ViolationError unless any two, with the third down, get a new change through in two sittings."""
    for pair in PAIRS:
        states = [acceptors[PARTIES.index(p)] for p in pair]
        before = max(state.sequence for state in states)
        for _ in range(2):
            todo = plan((states[0], states[1]), pair, VALUES[0], variant)
            for side in (0, 1):
                if todo.behind == side:
                    states[side] = commit(states[side], *todo.base)
                if todo.chain is None:
                    continue
                if not todo.chosen:
                    states[side] = accept(promise(states[side], todo.ballot), todo.ballot, todo.chain)
                states[side] = commit(states[side], todo.base[0] + 1, todo.chain, todo.ballot)
        same = states[0].chain == states[1].chain and states[0].accepted is states[1].accepted is None
        if not same or states[0].sequence < min(NUMBERS, before + 1):
            raise ViolationError(f"pair {pair} cannot go on")


def explore(sittings: int, variant: Variant) -> int:
    """Go through every world with at most so many sittings; return how many there are. Raises ViolationError."""
    seen, waiting, on_disk = {START}, [START], set()
    while waiting:
        world = waiting.pop()
        check(world)
        if world.acceptors not in on_disk:
            on_disk.add(world.acceptors)
            can_go_on(world.acceptors, variant)
        for each in following(world, sittings, variant):
            if each not in seen:
                seen.add(each)
                waiting.append(each)
    return len(seen)
