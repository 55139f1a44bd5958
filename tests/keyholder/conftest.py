from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.keyholder.trio import Trio, started, stocked


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    """Three key holders with stock, each in its own data folder."""
    async with started(await stocked(tmp_path / "trio")) as made:
        yield made


@pytest.fixture
async def unstocked(tmp_path: Path) -> AsyncIterator[Trio]:
    """The same with empty stocks."""
    async with started(tmp_path / "unstocked") as made:
        yield made


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Trio]:
    """With stock, and waiting little for each other: not long enough to have more dealt on a busy machine."""
    async with started(await stocked(tmp_path / "hasty"), peer_timeout_s=5.0) as made:
        yield made
