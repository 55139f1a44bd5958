"""A matcher that was restored from an old copy meets the others by itself, so that it takes part again.

It has signed more than it knows. What it may have said it learns in a sitting with each of the others, by the rules of
`agreement.sitting` and no others: nothing that a device asks for is needed. Both hear of it in what they state to
each other (`following`), and each comes to the meeting of its own accord. What is open at the other two they finish
between them: the one that was restored votes about nothing before it knows what it has said to both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import UnavailableError
from veilmatch.crypto.keys.parties import Party
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.agreement import Agreement
from veilmatch.server.matcher.agreement.meetings import Meetings, matcher_name
from veilmatch.server.matcher.follow.followed import Followed, InService
from veilmatch.server.matcher.gallery.gallery import Gallery


def is_to_meet(
    gallery: InService, me: Party, other: Party, heard: Mapping[Party, GalleryState], unmet: Mapping[Party, set[Party]]
) -> bool:
    """Return whether the matchers `me` and `other` have something to settle because one of the three was restored.

    heard: what the others have stated last. unmet: whom each of them says that it has still to meet.
    """
    theirs = heard.get(other)
    if theirs is None:
        return False
    # Whoever is behind takes what it lacks in the background first, which keeps no gallery locked.
    if theirs.sequence != gallery.state.sequence:
        return False
    if gallery.unmet:
        return other in gallery.unmet
    if me in unmet.get(other, set()):
        return True
    is_open = gallery.state.accepted is not None or theirs.accepted is not None
    return is_open and not unmet.get(other) and any(unmet.values())


class Readmission:
    """Where this matcher meets the others about no request."""

    def __init__(self, meetings: Meetings) -> None:
        self._meetings = meetings

    async def meet(self, followed: Followed, other: Party) -> float:
        """Sit with another matcher; return for how many seconds, from when both were there.

        Raises UnavailableError if the other one did not come; IntegrityError for what is not right in what it says.
        """
        gallery, clock = followed.gallery, asyncio.get_running_loop().time
        if not isinstance(gallery, Gallery) or followed.signer is None:
            return 0.0
        agreement = Agreement(followed.signer, followed.signers)
        pair = self._meetings.pair_with(matcher_name(other))
        started: float | None = None
        subject = digest("readmission", followed.scope.gallery, followed.scope.key_id, pair)
        try:
            async with self._meetings.about(subject, pair) as meeting:
                started = clock()
                async with agreement.changing(meeting, gallery):
                    pass
        except UnavailableError:
            # So both hear that it has got further, too; whether it has, its statements say.
            if started is None:
                raise
        return clock() - started if started is not None else 0.0
