"""Ceremonies that are as small as they may be."""

from __future__ import annotations

import pytest

from veilmatch.crypto.ceremony.joint import search, sizes


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches and a pool of the least size, and patience that does not end by chance."""
    monkeypatch.setitem(sizes._BATCHES, 256, 40)
    monkeypatch.setattr(sizes, "_PATIENCE", 40)
    for module in (sizes, search):
        monkeypatch.setattr(module, "POOL", 3)
        monkeypatch.setattr(module, "BASES_OF_A_PAIR", 2)
