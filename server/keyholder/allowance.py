"""How much dealing each of the two peers may ask this key holder for: a token bucket each.

Dealing is work, a few hundredths of a second a block, so a peer that asks without end would have the processor of this
key holder. One token is one block or one commitment (crypto/dealing/opening.py); a check takes two. A peer that refills
its stock asks for less than `per_minute`, however large the stock is: it pauses between blocks (stock/stocks.py).

Kept in memory: what is counted is work, which a restart ends as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from veilmatch.crypto.errors import BudgetExceededError
from veilmatch.server.config import DealingLimits

#: How far commitments may go below an empty bucket. A block whose check has begun is lost if nobody commits, so what a
#: peer was dealt last is committed to all the same.
_OVERDRAFT = 64


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class Allowance:
    """The bucket of each peer."""

    def __init__(self, limits: DealingLimits, now: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_s = limits.burst, limits.per_minute / 60
        self._now = now
        self._buckets: dict[str, _Bucket] = {}

    def take_blocks(self, peer: str, count: int) -> None:
        """Count blocks that a peer asks for, all or none. Raises BudgetExceededError if they are too many for now."""
        self._take(peer, count, 0)

    def take_commitment(self, peer: str) -> None:
        """Count a commitment that a peer asks for. Raises BudgetExceededError if it has had too many."""
        self._take(peer, 1, _OVERDRAFT)

    def _take(self, peer: str, count: int, overdraft: int) -> None:
        now = self._now()
        bucket = self._buckets.setdefault(peer, _Bucket(self._burst, now))
        bucket.tokens = min(self._burst, bucket.tokens + self._per_s * (now - bucket.at_s))
        bucket.at_s = now
        missing = count - overdraft - bucket.tokens
        if missing > 0:
            raise BudgetExceededError(
                "a key holder asks for more dealing than it gets for now",
                budget=f"dealing to {peer}",
                limit=self._burst,
                retry_after_s=missing / self._per_s if count <= self._burst else None,
                got=count,
            )
        bucket.tokens -= count
