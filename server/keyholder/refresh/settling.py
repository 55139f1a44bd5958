"""What a key holder does next with the refresh that it has in hand: a table, without any I/O.

What it goes by is where it stands itself and what its two peers say of the same refresh. One of the three may say
anything, to each of the others something else; the other two still end in one epoch.

                what leads on from it
    PREPARING   WITHDRAWN if its time is over or the leader has given up
    READY       USED with the leader's decision, whoever shows it. WITHDRAWN if the leader itself says that it is in the
                old epoch and has nothing in hand: it can never decide any more. Else it waits, and the old epoch serves
    WITHDRAWN   nothing, if both peers say that they are in the old epoch and would not use their next keys either.
                With the leader's decision see below
    USED        nothing, if both peers say that they are in the new epoch

"In an epoch" is what a restart would serve with. For a moment a peer may still be switching: serving with the key that
it has left. Nothing is deleted then, so whoever has nothing in hand knows that all that is honest serves in its epoch,
and whoever deals keeps its dealing seed as long as blocks of it are being checked.

A key is deleted where "nothing" stands, and nowhere else: the next one or the old one, on the word of **both** peers.
One of them is honest, and its word stays true: a holder that was WITHDRAWN or has nothing becomes READY in this refresh
never again. So at any time there is an epoch of which both honest ones have the key.

**The leader deviates.** Both others are honest. The decision cannot be made up (crypto/keys/refreshing.py), and an
honest leader shows it only once all three were READY, and does not deny it then. So whoever sees it while it is not
READY itself has the proof that the leader deviates, and from then on goes by the word of the third holder alone: it
uses its next key if that one is in the new epoch, and deletes it if that one would not use its own. A holder that is
READY shares its next key with a third one that has kept its own, so either there is one that uses it, and the other
follows, or none does. Whatever the leader told each of them is wiped out as soon as the two reach each other.

**A follower deviates.** The leader is honest and decides once. If it has decided, the other follower is READY, the
leader's word never makes it WITHDRAWN, and it uses its key as soon as it is shown the decision. If it has not, nobody
can show one, and no honest holder uses a next key.

What one deviating holder can do is to say nothing, or to say for ever that it is not done: then a file beside the key
stays, no other refresh begins, and the honest pair serves on, in one epoch.

**Going back** (`veilmatch keyholder refresh --recover`) is what operators ask for where that does not help, because a
machine has lost what it should remember. It never deletes anything: the old key comes back, and the new one waits,
WITHDRAWN. A holder goes back once every peer that counts is going back too, or is in the old epoch with nothing in
hand. It stays if one of them has deleted its old key. tests/keyholder/refresh/test_settling.py explores all of this.
docs/security-argument.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from veilmatch.crypto.keys.parties import PARTIES, Party


class Stage(Enum):
    """How far a key holder is with a refresh; see keyholder.proto."""

    NONE = auto()
    PREPARING = auto()
    READY = auto()
    WITHDRAWN = auto()
    USED = auto()


class Step(Enum):
    """What is done next."""

    WAIT = auto()
    #: Close what is under way, and do not use the next key on the leader's decision any more.
    WITHDRAW = auto()
    #: Use the next key; the one before is kept.
    USE = auto()
    #: Delete the next key.
    DISCARD = auto()
    #: Delete the key of the epoch before.
    ERASE_OLD = auto()
    #: Use the key of the epoch before again; the newer one is kept.
    GO_BACK = auto()
    #: Do not go back after all.
    STAY = auto()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a key holder stands with the refresh in hand.

    leader: None if this holder no longer knows who led it. decided: the leader's decision is known here. under_way: it
    is led here and not decided, or the time for preparing it is not over. going_back, without: see the module.
    """

    stage: Stage
    leader: Party | None = None
    decided: bool = False
    under_way: bool = False
    going_back: bool = False
    without: Party | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """What a peer says of the refresh in hand here: whether it is in the epoch that this makes, and how far it is."""

    is_new: bool
    stage: Stage
    going_back: bool = False
    #: It still serves with the key of the other epoch.
    switching: bool = False

    @property
    def stands(self) -> bool:
        """Whether the old epoch stands there, and the next key, if there is one, would not be used."""
        return not self.is_new and self.stage in (Stage.NONE, Stage.WITHDRAWN)

    @property
    def comes_back(self) -> bool:
        """Whether it is going back, or has nothing to go back from."""
        return self.going_back or (not self.is_new and self.stage is Stage.NONE)

    @property
    def cannot_come_back(self) -> bool:
        """Whether it is in the new epoch, and has deleted the key of the one before."""
        return self.is_new and self.stage is not Stage.USED

    @property
    def stays_new(self) -> bool:
        """Whether it is in the new epoch, and not going back."""
        return self.is_new and not self.going_back


def next_step(me: Party, at: Position, words: Mapping[Party, Word | None]) -> Step:
    """Return what the holder `me` does next. words: of its peers; None from one that says nothing of this refresh."""
    peers = {peer: words.get(peer) for peer in PARTIES if peer != me}
    match at.stage:
        case Stage.NONE:
            return Step.WAIT
        case Stage.PREPARING:
            over = not at.under_way or at.decided or _gave_up(at, peers)
            return Step.WITHDRAW if over else Step.WAIT
        case Stage.READY:
            return _ready(me, at, peers)
        case Stage.WITHDRAWN:
            return _withdrawn(me, at, peers)
        case Stage.USED:
            return _used(at, peers)


def _gave_up(at: Position, peers: Mapping[Party, Word | None]) -> bool:
    """Whether the leader itself says that it has not used its next key and never will."""
    word = peers.get(at.leader) if at.leader else None
    return word is not None and word.stands


def _ready(me: Party, at: Position, peers: Mapping[Party, Word | None]) -> Step:
    if at.decided:
        return Step.USE
    if at.leader == me:
        # The decision was never written down, so nobody has it or will have it.
        return Step.WAIT if at.under_way else Step.DISCARD
    return Step.WITHDRAW if _gave_up(at, peers) else Step.WAIT


def _withdrawn(me: Party, at: Position, peers: Mapping[Party, Word | None]) -> Step:
    if all(word is not None and word.stands and not word.switching for word in peers.values()):
        return Step.DISCARD
    if at.going_back:
        return Step.WAIT
    if at.leader is None:
        # Which of the two could deviate as the leader is not known: both have to say so.
        return Step.USE if all(word is not None and word.stays_new for word in peers.values()) else Step.WAIT
    if at.leader == me:
        return Step.DISCARD
    if at.decided:
        third = next(word for peer, word in peers.items() if peer != at.leader)
        if third is not None and third.stays_new:
            return Step.USE
        if third is not None and third.stands:
            return Step.DISCARD
    return Step.WAIT


def _used(at: Position, peers: Mapping[Party, Word | None]) -> Step:
    if not at.going_back:
        done = all(word is not None and word.stays_new and not word.switching for word in peers.values())
        return Step.ERASE_OLD if done else Step.WAIT
    counted = [word for peer, word in peers.items() if peer != at.without]
    if any(word is not None and word.cannot_come_back for word in counted):
        return Step.STAY
    return Step.GO_BACK if all(word is not None and word.comes_back for word in counted) else Step.WAIT
