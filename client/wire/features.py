"""What all matchers of a device have: a format is used for changes once each of those that answer knows it.

A change goes into the logs of all three organisations, so that it is not enough that the two of a pair know its format.
docs/upgrading.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.errors import VersionError
from veilmatch.crypto.versions import Feature, Hello

#: How long matchers have to say what they speak, and the third one once two have.
WITHIN_S, THIRD_S = 1.0, 0.1
_ENOUGH = 2
#: What some of them do not have is asked again after so long; what all have, they have for as long as the client is.
AGAIN_S = 30.0


class Features:
    """What the matchers of one client have in common. One that does not answer stands in nobody's way."""

    def __init__(self) -> None:
        self._said: dict[str, Hello] = {}
        self._is_all = False
        self._until_s = float("-inf")

    async def lacking(self, matchers: Collection[Matcher], feature: Feature) -> str | None:
        """Return the name of a matcher that answers and lacks a feature; None if there is none."""
        is_sure = self._is_all and all(hello.has(feature) for hello in self._said.values())
        if not is_sure and time.monotonic() >= self._until_s:
            self._said = await _said(matchers)
            self._is_all = len(self._said) == len(matchers)
            self._until_s = time.monotonic() + AGAIN_S
        return next((name for name, hello in sorted(self._said.items()) if not hello.has(feature)), None)

    async def require(self, matchers: Collection[Matcher], feature: Feature, what: str) -> None:
        """Raise VersionError if a matcher lacks a feature. what: cannot be done without it."""
        if late := await self.lacking(matchers, feature):
            raise VersionError(
                f"{late} has to be updated: {what} takes all matchers",
                got=f"{late} without {feature}",
                expected=str(feature),
                party=late,
            )


async def _said(matchers: Collection[Matcher]) -> dict[str, Hello]:
    """Return what they speak, of those that say so in time."""
    asked = {asyncio.ensure_future(matcher.speaks(WITHIN_S)): matcher.party for matcher in matchers}
    waiting, found = set(asked), dict[str, Hello]()
    try:
        while waiting:
            within_s = WITHIN_S if len(found) < _ENOUGH else THIRD_S
            done, waiting = await asyncio.wait(waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            found |= {asked[one]: hello for one in done if (hello := one.result()) is not None}
    finally:
        for one in waiting:
            one.cancel()
    return found
