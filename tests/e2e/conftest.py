from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.world import World, running
from veilmatch.crypto.parameters import ParameterSet


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One installation with a toy key for all tests that leave it as it was."""
    with running(tmp_path_factory.mktemp("world") / "installation", ParameterSet(modulus_bits=1024), 2) as made:
        yield made
