"""Which verifications go together: those that wait, in turns of their devices, up to a bound.

Without any event loop: together.py has that.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, Protocol, TypeVar

from veilmatch.crypto.pair.request import MAX_TOGETHER, Part

#: Ciphertexts of a session of several: 16 verifications of one template at D = 128, so that none waits long for others.
MOST_CIPHERTEXTS = 128


class Waits(Protocol):
    """A verification that waits. owner: the device that asks."""

    @property
    def owner(self) -> str:
        """The device that asks."""

    @property
    def part(self) -> Part:
        """What it brings into a session."""


_W = TypeVar("_W", bound=Waits)


class Waiting(Generic[_W]):
    """Verifications that wait for a session."""

    def __init__(self) -> None:
        #: By device, whose turn is next first.
        self._owners: OrderedDict[str, deque[_W]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._owners)

    def put(self, one: _W) -> None:
        """Have one wait, behind the others of its device."""
        self._owners.setdefault(one.owner, deque()).append(one)

    def drop(self, one: _W) -> None:
        """Forget one, if it waits."""
        of_owner = self._owners.get(one.owner, deque())
        if one in of_owner:
            of_owner.remove(one)
            if not of_owner:
                del self._owners[one.owner]

    def take(self) -> list[_W]:
        """Return what goes next, one of each device in turn; one alone may be larger than several together."""
        taken: list[_W] = []
        room = MOST_CIPHERTEXTS
        while self._owners and len(taken) < MAX_TOGETHER:
            owner, of_owner = next(iter(self._owners.items()))
            size = len(of_owner[0].part.ciphertexts)
            if taken and size > room:
                break
            taken.append(of_owner.popleft())
            room -= size
            self._owners.move_to_end(owner)
            if not of_owner:
                del self._owners[owner]
        return taken
