"""The table of settling.py, explored: two honest key holders, a third that says anything, and every order of events.

Every state that can be reached is visited: lost and late answers, crashes at every point, attempts that time out. The
third one answers each question as it likes, differently each time, and shows the decision whenever it can have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import TypeAlias

import pytest

from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.keyholder.refresh.recovery import Found, plan
from veilmatch.server.keyholder.refresh.settling import Position, Stage, Step, Word, next_step

OLD, NEW = 1, 2
Table: TypeAlias = Callable[[Party, Position, Mapping[Party, Word | None]], Step]
#: All that the third one can say.
Lies: TypeAlias = tuple[Word | None, ...]
LIES: Lies = (None, *(Word(*said) for said in product((False, True), Stage, (False, True), (False, True))))


@dataclass(frozen=True)
class Heard:
    """What the other honest one said when it was asked, which may be a while ago."""

    word: Word | None
    decided: bool


@dataclass(frozen=True)
class Holder:
    """One honest key holder: what is on its disk, then what is in its memory."""

    is_new: bool = False
    #: The next key beside the old one, or the old one beside the new one.
    beside: bool = False
    known: bool = True
    ready: bool = False
    decided: bool = False
    going_back: bool = False
    attempt: str = "may begin"
    leads: bool = False
    fit_shown: bool = False
    heard: Heard | None = None

    @property
    def stage(self) -> Stage:
        if self.attempt in ("live", "over"):
            return Stage.PREPARING
        if not self.is_new and self.beside:
            return Stage.READY if self.known and self.ready and not self.going_back else Stage.WITHDRAWN
        return Stage.USED if self.beside else Stage.NONE

    @property
    def word(self) -> Word:
        return Word(self.is_new, self.stage, self.going_back)

    @property
    def keys(self) -> set[int]:
        return {NEW if self.is_new else OLD} | ({OLD if self.is_new else NEW} if self.beside else set())

    def without_beside(self) -> Holder:
        return replace(self, beside=False, known=True, ready=False, decided=False, going_back=False)

    def closed(self) -> Holder:
        return replace(self, attempt="closed", leads=False)

    def took(self, step: Step) -> Holder:
        done = replace(self, heard=None)
        match step:
            case Step.WITHDRAW:
                return replace(done.closed(), ready=False)
            case Step.USE:
                return replace(done.closed(), is_new=True)
            case Step.DISCARD | Step.ERASE_OLD:
                return done.closed().without_beside()
            case Step.GO_BACK:
                return replace(done, is_new=False)
            case Step.STAY:
                return replace(done, going_back=False)
        return done

    def crashed(self) -> Holder:
        attempt = self.attempt if self.attempt == "may begin" else "closed"
        return replace(self, attempt=attempt, leads=False, heard=None)


Pair: TypeAlias = tuple[Holder, Holder]


@dataclass(frozen=True)
class Case:
    """Who is who. names: of the two honest ones, in order. Faults: losing what is on the disk."""

    names: tuple[Party, Party]
    liar: Party
    leader: Party
    table: Table = next_step
    loses_record: bool = False
    loses_next: bool = False

    def has_decision(self, pair: Pair) -> bool:
        """Whether the third one can show it: always, if it leads."""
        return self.leader == self.liar or any(holder.decided for holder in pair)

    def position(self, holder: Holder) -> Position:
        known = holder.known and holder.stage is not Stage.NONE
        return Position(
            holder.stage, self.leader if known else None, holder.decided, holder.attempt == "live" or holder.leads,
            holder.going_back, self.liar if holder.going_back else None,
        )  # fmt: skip

    # -- what can happen ------------------------------------------------------------------------

    def next(self, pair: Pair, *, operators: bool = False) -> Iterator[Pair]:
        """Every state that can come next."""
        for i in (0, 1):
            for changed in self.changes(i, pair, operators=operators):
                yield (changed, pair[1]) if i == 0 else (pair[0], changed)

    def changes(self, i: int, pair: Pair, *, operators: bool) -> Iterator[Holder]:
        holder, other = pair[i], pair[1 - i]
        preparing = holder.attempt in ("live", "over")
        leads = self.names[i] == self.leader
        if holder.attempt == "may begin" and holder.stage is Stage.NONE and not holder.is_new:
            yield replace(holder, attempt="live", leads=leads)
        if preparing:
            if holder.heard is None:  # these need the lock, which settling holds while it asks
                if other.attempt != "may begin":  # both make the common seed
                    yield replace(holder, beside=True)
                if holder.beside and other.fit_shown:
                    yield replace(holder, ready=True, attempt="closed")
            if holder.beside:
                yield replace(holder, fit_shown=True)
            yield replace(holder, attempt="over")
        if holder.leads:
            yield self.settled_alone(i, holder.closed())
            if holder.stage is Stage.READY and other.ready and other.stage is Stage.READY:
                yield replace(holder, decided=True, leads=False)
        yield holder.crashed()
        if self.loses_record and holder.beside:
            lost = replace(holder.crashed(), known=False, ready=False, decided=False, going_back=False)
            yield lost
        if self.loses_next and holder.beside and not holder.is_new:
            yield holder.crashed().without_beside()
        if holder.heard is None:
            if holder.stage is not Stage.NONE and not holder.leads:
                yield replace(holder, heard=Heard(other.word, other.decided))
                yield replace(holder, heard=Heard(None, False))
        else:
            yield from self.acts(i, pair)
            if operators:
                yield from self.asked_back(i, pair)

    def settled_alone(self, i: int, holder: Holder) -> Holder:
        """A leader that gives up asks nobody."""
        while (step := self.table(self.names[i], self.position(holder), {})) is not Step.WAIT:
            holder = holder.took(step)
        return holder

    def acts(self, i: int, pair: Pair, lies: Lies = LIES) -> Iterator[Holder]:
        """Take a step on what was heard, and on whatever the third one says."""
        holder = pair[i]
        assert holder.heard is not None
        for shown in {False, self.has_decision(pair)}:
            learns = holder.beside and holder.known and (shown or holder.heard.decided)
            learned = replace(holder, decided=holder.decided or learns)
            at = self.position(learned)
            for step in steps(self.table, self.names[i], at, self.names[1 - i], holder.heard.word, self.liar, lies):
                yield learned.took(step)

    def asked_back(self, i: int, pair: Pair) -> Iterator[Holder]:
        """The operator asks it to go back, without the third one."""
        holder = pair[i]
        assert holder.heard is not None
        if is_accepted(self.names[i], self.position(holder), self.names[1 - i], holder.heard.word, self.liar):
            yield replace(holder, going_back=True, heard=None)

    def reachable(self, *, operators: bool = False) -> set[Pair]:
        seen = {(Holder(), Holder())}
        todo = list(seen)
        while todo:
            for found in self.next(todo.pop(), operators=operators):
                if found not in seen:
                    seen.add(found)
                    todo.append(found)
        return seen

    # -- what must come of it --------------------------------------------------------------------

    def later(self, pair: Pair, lies: Lies = LIES, *, operators: bool = False) -> set[Pair]:
        """Where they can be once each has asked the other once more, whatever the third one says."""
        states = {pair}
        for i in (0, 1):
            states = {found for state in states for found in self.turn(i, state, lies, operators=operators)}
        return states

    def split_for_good(self, states: Iterable[Pair], *, rounds: int = 2, operators: bool = False) -> set[Pair]:
        """States in which they are in two epochs, and still so after rounds in which they hear each other."""
        found = set(split((self.restless(x), self.restless(y)) for x, y in states))
        for _ in range(rounds):
            found = {pair for before in found for pair in split(self.later(before, operators=operators))}
        return found

    @staticmethod
    def restless(holder: Holder) -> Holder:
        """Its time is over, what it was about to do is not done, and nothing new begins."""
        attempt = {"live": "over", "may begin": "closed"}.get(holder.attempt, holder.attempt)
        return replace(holder, attempt=attempt, leads=False, heard=None)

    def turn(self, i: int, pair: Pair, lies: Lies, *, operators: bool) -> Iterator[Pair]:
        holder, other = pair[i], pair[1 - i]
        asked = replace(holder, heard=Heard(other.word, other.decided))
        now = (asked, other) if i == 0 else (other, asked)
        changes = [holder] if holder.stage is Stage.NONE else [*self.acts(i, now, lies)]
        if operators and not holder.going_back:
            changes = [*self.asked_back(i, now)] or changes
        for changed in changes:
            yield (changed, other) if i == 0 else (other, changed)


@cache
def steps(
    table: Table, me: Party, at: Position, other: Party, said: Word | None, liar: Party, lies: Lies
) -> frozenset[Step]:
    """What can come of a question, over what the third one can say."""
    return frozenset(table(me, at, {other: said, liar: lie}) for lie in lies)


@cache
def is_accepted(me: Party, at: Position, other: Party, said: Word | None, liar: Party) -> bool:
    """Whether --recover --without the third one is accepted. What that one says does not count."""
    found = {other: Found(None if said is None else NEW if said.is_new else OLD, said), liar: Found(None, None)}
    try:
        plan(me, at, NEW, found, liar)
    except VeilmatchError:
        return False
    return True


LEADER_LIES = Case(("b", "c"), liar="a", leader="a")
FOLLOWER_LIES = Case(("a", "b"), liar="c", leader="a")
cases = pytest.mark.parametrize("case", [LEADER_LIES, FOLLOWER_LIES], ids=["the leader lies", "a follower lies"])
losses = pytest.mark.parametrize(
    "lost", [{"loses_record": True}, {"loses_next": True}, {"loses_record": True, "loses_next": True}]
)


def split(pairs: Iterable[Pair]) -> list[Pair]:
    return [pair for pair in pairs if pair[0].is_new != pair[1].is_new]


# -- nothing is lost ------------------------------------------------------------------------------------


@cases
def test_two_honest_holders_end_in_one_epoch_whatever_the_third_one_says(case: Case) -> None:
    states = case.reachable()
    assert len(states) > 700 and split(states)
    assert {holder.stage for pair in states for holder in pair} == set(Stage)
    assert all(x.keys & y.keys for x, y in states)
    assert not case.split_for_good(states)


@cases
def test_no_key_comes_into_use_that_the_other_honest_one_does_not_have(case: Case) -> None:
    for x, y in case.reachable():
        assert (NEW in y.keys or not x.is_new) and (NEW in x.keys or not y.is_new), (x, y)


@cases
def test_nothing_stays_unfinished_once_the_third_one_says_that_it_is_where_they_are(case: Case) -> None:
    for x, y in case.reachable():
        states = {(case.restless(x), case.restless(y))}
        for _ in range(5):
            states = {
                found
                for pair in states
                for found in case.later(pair, (Word(pair[0].is_new or pair[1].is_new, Stage.NONE),))
            }
        assert all(holder.stage is Stage.NONE for pair in states for holder in pair), (x, y)


@cases
def test_a_key_in_hand_stays_while_a_peer_still_serves_with_the_other_and_nothing_else_waits(case: Case) -> None:
    """A key that was in use: what was dealt with it may still be checked. One that never was is another matter."""
    waited = set()
    for holder in {holder for pair in case.reachable() for holder in pair}:
        for name, (one, other) in product(case.names, product(LIES, repeat=2)):
            at = case.position(holder)
            peers = [party for party in PARTIES if party != name]
            steps = [
                case.table(name, at, dict(zip(peers, words, strict=True)))
                for words in ((one, other), tuple(word and replace(word, switching=False) for word in (one, other)))
            ]
            if steps[0] is not steps[1]:
                assert steps[0] is Step.WAIT and steps[1] in (Step.ERASE_OLD, Step.DISCARD)
                assert any(word is not None and word.switching for word in (one, other))
                waited.add(steps[1])
    assert waited == {Step.ERASE_OLD, Step.DISCARD}


# -- going back -----------------------------------------------------------------------------------------


@cases
@losses
def test_what_a_machine_loses_may_split_them_and_going_back_mends_it(case: Case, lost: dict[str, bool]) -> None:
    """Both lose what they like, as often as they like, and the third one deviates: two faults at once, and more."""
    case = replace(case, **lost)
    states = case.reachable()
    assert all(x.keys & y.keys for x, y in states)
    assert case.split_for_good(states, rounds=5)
    assert not case.split_for_good(states, operators=True)


@cases
@losses
def test_an_operator_who_asks_at_any_time_loses_no_share(case: Case, lost: dict[str, bool]) -> None:
    """One asks and the other does not, or much later: going back is finished as soon as both have asked."""
    case = replace(case, **lost)
    states = case.reachable(operators=True)
    assert all(x.keys & y.keys for x, y in states)
    assert not case.split_for_good(states, operators=True)


# -- every rule is needed -------------------------------------------------------------------------------


def on_one_word(me: Party, at: Position, words: Mapping[Party, Word | None]) -> Step:
    """A next key is deleted as soon as one peer says that the old epoch stands."""
    if at.stage is Stage.WITHDRAWN and any(word is not None and word.stands for word in words.values()):
        return Step.DISCARD
    return next_step(me, at, words)


def old_key_on_one_word(me: Party, at: Position, words: Mapping[Party, Word | None]) -> Step:
    """The old key is deleted as soon as one peer says that it is in the new epoch."""
    if at.stage is Stage.USED and any(word is not None and word.stays_new for word in words.values()):
        return Step.ERASE_OLD
    return next_step(me, at, words)


def without_a_decision(me: Party, at: Position, words: Mapping[Party, Word | None]) -> Step:
    """A next key is used as soon as a peer claims to use its own."""
    if at.stage in (Stage.READY, Stage.WITHDRAWN) and any(word is not None and word.is_new for word in words.values()):
        return Step.USE
    return next_step(me, at, words)


def ready_without_withdrawing(me: Party, at: Position, words: Mapping[Party, Word | None]) -> Step:
    """The leader's word that it has given up is enough to delete a next key."""
    step = next_step(me, at, words)
    return Step.DISCARD if at.stage is Stage.READY and step is Step.WITHDRAW else step


def going_by_the_leader(me: Party, at: Position, words: Mapping[Party, Word | None]) -> Step:
    """What was withdrawn is not used any more, though the leader turns out to deviate."""
    step = next_step(me, at, words)
    return Step.WAIT if at.stage is Stage.WITHDRAWN and step is Step.USE else step


@pytest.mark.parametrize(
    ("case", "table"),
    [
        (LEADER_LIES, on_one_word),
        (LEADER_LIES, old_key_on_one_word),
        (LEADER_LIES, ready_without_withdrawing),
        (LEADER_LIES, going_by_the_leader),
        (FOLLOWER_LIES, without_a_decision),
        (FOLLOWER_LIES, old_key_on_one_word),
    ],
)
def test_without_one_of_the_rules_they_are_split_for_good(case: Case, table: Table) -> None:
    case = replace(case, table=table)
    assert case.split_for_good(case.reachable(), rounds=5)
