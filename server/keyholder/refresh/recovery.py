"""`veilmatch keyholder refresh --recover`: whether a key holder may go back to the epoch before, and what that means.

For operators of two organisations whose pair is in two epochs, or whose third one has led them into an epoch in which
it does not deal, or waits for a decision that does not come. Run at each of the two, it brings both to the old epoch,
and to the stock that they had there; run at the third later, that one too. What it does, and when, is in settling.py;
nothing is deleted by it, and no file is touched before the other one is known to come along.

It is refused where it could lose the only share that somebody can still work with: if there is no old key here, or if
a peer has deleted its own. The word of a peer that the operator names (`--without`) is shown and does not count: one
that deviates could prevent it for ever. The operators of the two honest organisations have agreed which one that is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from veilmatch.crypto.errors import KeyMismatchError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import Party
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.peers import party_name
from veilmatch.server.keyholder.refresh.settling import Position, Stage, Word


@dataclass(frozen=True, slots=True)
class Found:
    """What was found at a peer. epoch: None if it could not be reached. word: None if that says nothing of the refresh
    in hand here, because the peer is in another epoch altogether, say."""

    epoch: int | None
    word: Word | None
    error: str = ""

    @staticmethod
    def of(answer: pb.RefreshState | BaseException, word_of: Callable[[pb.RefreshState], Word | None]) -> Found:
        """Return what a peer's answer, or the error in its place, says."""
        if isinstance(answer, pb.RefreshState):
            return Found(answer.epoch, word_of(answer))
        return Found(None, None, answer.message if isinstance(answer, VeilmatchError) else type(answer).__name__)

    def __str__(self) -> str:
        """Say it to an operator."""
        if self.epoch is None:
            return self.error
        if self.word is None:
            return f"epoch {self.epoch}"
        how_far = {
            Stage.NONE: "nothing unfinished",
            Stage.PREPARING: "takes part in a refresh",
            Stage.READY: "a next share waits for the decision",
            Stage.WITHDRAWN: "a next share is kept and not used",
            Stage.USED: f"the share of epoch {self.epoch - 1} is kept",
        }[self.word.stage]
        return f"epoch {self.epoch}, {how_far}" + (", is going back" if self.word.going_back else "")


def plan(me: Party, at: Position, new_epoch: int, found: Mapping[Party, Found], without: Party | None) -> str:
    """Return what this key holder is going to do, in a sentence. new_epoch: the one that the refresh in hand makes.

    Raises UnavailableError if a peer that counts cannot be reached, or a refresh is under way; KeyMismatchError if
    there is nothing to go back from, or if going back could lose the only share that works.
    """
    counted = {peer: one for peer, one in found.items() if peer != without}
    for peer, one in counted.items():
        if one.epoch is None:
            raise UnavailableError(
                f"{party_name(peer)} cannot be reached", party=party_name(peer), available=one.error,
                needed=f"its word, or --without {party_name(peer)}",
            )  # fmt: skip
    if at.stage is Stage.NONE:
        raise KeyMismatchError(
            f"{party_name(me)} has nothing to go back from", got=f"epoch {new_epoch - 1}, nothing unfinished",
            expected=_where(found),
        )  # fmt: skip
    if at.under_way or _is_led(at, counted):
        leader = party_name(at.leader) if at.leader else party_name(me)
        raise UnavailableError("a refresh is under way", party=leader, needed="its end")
    for peer, one in counted.items():
        if one.word is None:
            raise KeyMismatchError(
                f"{party_name(peer)} has shares of another epoch: it needs its newest key file back",
                got=f"epoch {one.epoch}", expected=f"epoch {new_epoch - 1} or {new_epoch}",
            )  # fmt: skip
        if one.word.cannot_come_back:
            raise KeyMismatchError(
                f"going back could lose the only share that works: {party_name(peer)} has deleted its old one",
                got=f"epoch {one.epoch} at {party_name(peer)}",
                expected=f"a peer that has its share of epoch {new_epoch - 1}",
            )
    words = {peer: one.word for peer, one in counted.items() if one.word is not None}
    until = f"until both peers have said that they are in epoch {new_epoch - 1}"
    if at.stage is not Stage.USED:
        return (
            f"stays in epoch {new_epoch - 1}. share.key.next, of epoch {new_epoch}, is not used, whatever is decided "
            f"about it, and is kept {until}."
        )
    if without is None and not at.going_back and all(word.stays_new for word in words.values()):
        raise KeyMismatchError(
            f"{party_name(me)} has nothing to go back from: the others are in its epoch", got=f"epoch {new_epoch}"
        )
    late = " and ".join(party_name(peer) for peer, word in words.items() if not word.comes_back)
    return (
        f"goes back from epoch {new_epoch} to epoch {new_epoch - 1}: share.key.old takes the place of share.key, which "
        f"is kept as share.key.next {until}."
        + (f" Not before {late} is asked to go back as well: run the same command there." if late else "")
    )


def _is_led(at: Position, counted: Mapping[Party, Found]) -> bool:
    """Whether the leader says that it has not decided yet."""
    leader = counted.get(at.leader) if at.leader else None
    if leader is None or leader.word is None or leader.word.is_new or leader.word.going_back:
        return False
    return leader.word.stage in (Stage.PREPARING, Stage.READY)


def _where(found: Mapping[Party, Found]) -> str | None:
    """Say where the command would do something."""
    able = [peer for peer, one in found.items() if one.word is not None and one.word.stage is not Stage.NONE]
    return f"the command at {' and '.join(map(party_name, able))}" if able else None
