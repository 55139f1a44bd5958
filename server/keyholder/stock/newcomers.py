"""How often a peer may come with a new storage.

Each time its stock is another one: what was dealt is deleted, dealt again and checked again, and its name is kept on
disk for ever. A key holder that is started with an empty data directory does that once. One that announces new storages
without end would keep its peers dealing, and their disks filling; it gets a few, and then one every now and then. Its
pair cannot serve meanwhile, and the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from veilmatch.crypto.errors import UnavailableError
from veilmatch.crypto.keys.parties import Party, pairs_without
from veilmatch.server.keyholder.peers import party_name

#: So many at once, whatever an operator tries, and then one in so many seconds.
AT_ONCE, EACH_S = 8, 600.0


class Newcomers:
    """Counts for each peer. Kept in memory: what is counted is work. now: a clock that never goes back, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: When each peer will have used up nothing.
        self._free_at: dict[Party, float] = {}

    def require(self, peer: Party) -> None:
        """Count a new storage of a peer. Raises UnavailableError, naming it, if it has come with too many."""
        now = self._now()
        free_at = max(now, self._free_at.get(peer, now)) + EACH_S
        wait_s = free_at - now - AT_ONCE * EACH_S
        if wait_s > 0:
            raise UnavailableError(
                f"{party_name(peer)} comes with a new stock again and again", available=f"{AT_ONCE} new ones",
                needed="the one that it had before, or time", party=party_name(peer), retry_after_s=wait_s,
                alternatives=pairs_without(peer),
            )  # fmt: skip
        self._free_at[peer] = free_at
