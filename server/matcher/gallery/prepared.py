"""Changes that are written beside what is served, and what takes the place of that when they are committed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from veilmatch.server.matcher.agreement.certificates import Certificate
from veilmatch.server.matcher.gallery.body import Body
from veilmatch.server.matcher.gallery.changes import Change
from veilmatch.server.matcher.gallery.disk.pending import Pending
from veilmatch.server.matcher.gallery.index import SlotIndex

#: Changes of up to so many templates are made in the index that is there, which takes some milliseconds; for more a new
#: one of the whole gallery is made before the switch.
FEW = 1 << 12

Place = tuple[int, int]


@dataclass(frozen=True)
class Prepared:
    """What takes the place of what is known. index: a new one, or None if bodies are to be placed in that which is
    there. packs: numbers of those that are others then, ascending."""

    pending: Pending
    bodies: Sequence[Body]
    index: SlotIndex | None
    packs: list[int]
    head: Certificate

    @staticmethod
    def of(slots: int, pending: Pending, changes: Sequence[Change], few: Sequence[Body] | None) -> Prepared:
        """Return it after these changes. few: what `few_bodies` returned."""
        index = None
        if pending.templates is not None:
            index = SlotIndex.load(slots, pending.pack_count, pending.templates, pending.retired)
        # One at a time: the bodies of all may be large together.
        bodies = few if few is not None else (Body.decode(change.body) for change in changes)
        packs = {number for body in bodies for number, _ in body.packs}
        return Prepared(pending, few or (), index, sorted(packs), Certificate.decode(changes[-1].certificate))


def few_bodies(changes: Sequence[Change]) -> list[Body] | None:
    """Return the bodies of changes, None if they touch too many templates for the index that is there."""
    bodies, touched = [], 0
    for change in changes:
        bodies.append(Body.decode(change.body))
        touched += len(bodies[-1].added) + len(bodies[-1].removed)
        if touched > FEW:
            return None
    return bodies


def places_of(bodies: Sequence[Body]) -> set[Place]:
    """Return the places that changes fill or empty."""
    return {at[:2] for body in bodies for at in body.added} | {at for body in bodies for at in body.removed}


class Go:
    """Told to a thread that waits for it: to go on, or to give up."""

    def __init__(self) -> None:
        self._said: Future[None] = Future()

    def give(self) -> None:
        """Let it go on."""
        self._said.set_result(None)

    def give_up(self) -> None:
        """Let `wait` raise, unless it was told before to go on."""
        self._said.cancel()

    def wait(self) -> None:
        """Return when it may go on. Raises CancelledError of `concurrent.futures` if it is to give up."""
        self._said.result()
