from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.keyholder.trio import Trio, started


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    """Three key holders with empty stocks, each in its own data folder."""
    async with started(tmp_path / "trio") as made:
        yield made


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Trio]:
    """The same, which wait little for each other."""
    async with started(tmp_path / "hasty", peer_timeout_s=2.5) as made:
        yield made
