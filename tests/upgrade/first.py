"""A process of the previous release that speaks as the first one did: version 1 of the protocol, and no hello."""

from __future__ import annotations

from veilmatch.common import speaking
from veilmatch.server.transport import greeting


def install() -> None:
    """Make this process one."""
    speaking.NEWEST, speaking.OLDEST, speaking.Feature = 1, 1, ()  # type: ignore[assignment, misc]
    for module in (speaking, greeting):
        module.our_metadata = lambda: ()  # type: ignore[attr-defined]
