"""A ledger of which one side is used alone: nonces that cost nothing, or costs whose nonces are always new."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from veilmatch.crypto.digests import NONCE_BYTES
from veilmatch.server.admission.budgets import Budget
from veilmatch.server.admission.ledger import Entry, Ledger

#: No request has expired by then.
NEVER_MS = 2**42


class ReplayLog(Ledger):
    """A ledger of nonces."""

    def __init__(self, data_dir: Path, now: Callable[[], float] = time.time) -> None:
        super().__init__(data_dir, [], "matcher-a", now=now)

    def register(self, nonce: bytes, expires_at_ms: int) -> None:
        self.enter(Entry(nonce, expires_at_ms)).result()


class Budgets(Ledger):
    """A ledger of budgets."""

    def admit(self, names: dict[str, str], cost: dict[str, int]) -> None:
        admit(self, names, cost)


def admit(ledger: Ledger, names: dict[str, str], cost: dict[str, int]) -> None:
    """Enter a request that nobody has seen before."""
    ledger.enter(Entry(secrets.token_bytes(NONCE_BYTES), NEVER_MS, names, cost)).result()


__all__ = ["NEVER_MS", "Budget", "Budgets", "ReplayLog", "admit"]
