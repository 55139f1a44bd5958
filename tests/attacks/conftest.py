"""Attacks whose algebra is the stand-in's too run on it first, then on Paillier."""

from __future__ import annotations

import pytest

from tests.crypto.toys import SCHEMES, keys_of
from tests.simulator import Keys


@pytest.fixture(params=SCHEMES)
def keys(request: pytest.FixtureRequest) -> Keys:
    """Keys of the toy parameter set under each scheme."""
    return keys_of(request.param)


@pytest.fixture
def paillier() -> Keys:
    """Keys of the toy parameter set, for attacks on the key itself."""
    return keys_of("paillier")
