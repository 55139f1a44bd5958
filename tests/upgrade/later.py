"""A daemon of a release to come, which speaks versions 3 and 4 of the protocol and nothing before."""

from __future__ import annotations

from veilmatch.common import speaking


def install() -> None:
    """Make the daemon of this process one."""
    speaking.NEWEST, speaking.OLDEST = 4, 3
