from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from veilmatch.testing import LocalInstallation


@pytest.fixture(scope="package")
def installation(orl: Callable[[int, int], Path]) -> Iterator[LocalInstallation]:
    """One for all tests here, which leave its gallery empty. Nothing is left of it in the end."""
    before = set(psutil.Process().children(recursive=True))
    with LocalInstallation(recipients=["bank"]) as made:
        folder = made.directory
        processes = set(psutil.Process().children(recursive=True)) - before
        assert len(processes) == 1 + 6
        yield made
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive and not folder.exists()
