"""Where two organisations come to hold the same gallery for one request, to read it or to change it; see `sitting`.

Who leads the meeting holds its gallery first, and then the other one does: so no three of them wait for each other.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import lru_cache
from weakref import WeakKeyDictionary

from veilmatch.crypto.errors import UnavailableError
from veilmatch.server.ground.finishing import to_the_end
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.certificates import Scope, Signer, Signers, Statement
from veilmatch.server.matcher.agreement.lending import Lending
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.agreement.sitting import PATIENCE, Sitting
from veilmatch.server.matcher.agreement.stating import SETTLED_S
from veilmatch.server.matcher.gallery.gallery import Gallery

#: Meetings about a read in which something is settled first; more only if others change the gallery in between.
_ATTEMPTS = 4
#: For a few changes that are just taken in is waited, and not for many.
_PREPARED_S = 0.8
#: Of so many states what is stated of them is kept: the newest of each gallery are asked for.
_STATEMENTS = 64


class Agreement:
    """What one organisation agrees with: its key, the public keys of all, and a clock (seconds since 1970)."""

    def __init__(self, signer: Signer, signers: Signers, clock: Callable[[], float] = time.time) -> None:
        self.signer = signer
        self.signers = signers
        self.clock = clock
        self._lendings = WeakKeyDictionary[Gallery, Lending]()
        #: What it states of a gallery in a state, signed; the same in every request until that changes.
        self.statement = lru_cache(maxsize=_STATEMENTS)(self._statement)

    def _statement(self, scope: Scope, state: GalleryState) -> bytes:
        return Statement(self.signer.party, state).signed(scope, self.signer).encode()

    @asynccontextmanager
    async def reading(self, meeting: Meeting, gallery: Gallery) -> AsyncIterator[None]:
        """Hold the gallery shared while both organisations hold the same, with nothing open.

        Raises UnavailableError, naming who is too far behind; GalleryMismatchError, an alert, if no crash explains what
        the other one states, naming it if that is sure; IntegrityError for what it hands over if that is not right.
        """
        for _ in range(_ATTEMPTS):
            async with self._met(meeting, gallery, alone=False) as sitting:
                if sitting.is_ready():
                    yield
                    return
            async with self._met(meeting, gallery, alone=True) as sitting:
                await to_the_end(sitting.settle())
        raise UnavailableError("changes of the gallery by other pairs left no time to read it", retry_after_s=SETTLED_S)

    @asynccontextmanager
    async def changing(self, meeting: Meeting, gallery: Gallery) -> AsyncIterator[Sitting]:
        """Hold the gallery exclusively while both hold the same, with nothing open; what comes may change it.

        Raises as `reading` does.
        """
        async with self._met(meeting, gallery, alone=True) as sitting:
            await to_the_end(sitting.settle())
            yield sitting

    @asynccontextmanager
    async def _met(self, meeting: Meeting, gallery: Gallery, *, alone: bool) -> AsyncIterator[Sitting]:
        """Hold the gallery and swap what both state of it; who leads holds it first."""
        sitting, lending = Sitting(self, meeting, gallery), self._lendings.setdefault(gallery, Lending())
        if alone and not await gallery.lock.prepared(_PREPARED_S):
            # The other one would wait with its gallery held, and keep the third one from it.
            raise sitting.unsettled(f"matcher-{sitting.me} is behind, and takes in what it has missed", sitting.me)
        if gallery.is_stale:
            async with gallery.lock.exclusive():
                await gallery.refresh()
        theirs = None if meeting.leads else await meeting.receive("begin", PATIENCE)
        async with lending.turn(sitting.other) if alone else nullcontext():
            if alone and not await gallery.lock.prepared(_PREPARED_S):  # since a moment ago
                raise sitting.unsettled(f"matcher-{sitting.me} is behind, and takes in what it has missed", sitting.me)
            async with gallery.lock.exclusive() if alone else gallery.lock.shared():
                if gallery.is_stale:  # since a moment ago
                    raise sitting.unsettled(f"matcher-{sitting.me} has to read its gallery again", sitting.me)
                if alone and (refused_s := lending.refused_s(sitting.other)):
                    late = f"matcher-{sitting.other} was waited for too long with this gallery held"
                    raise sitting.unsettled(late, sitting.other, refused_s)
                before_s = meeting.late_s
                try:
                    await meeting.send(begin=sitting.stated())
                    await sitting.hear(theirs if theirs is not None else await meeting.receive("begin"), alone=alone)
                    lending.met(sitting.other)
                    yield sitting
                finally:
                    if alone:
                        lending.was_late(sitting.other, meeting.late_s - before_s)
