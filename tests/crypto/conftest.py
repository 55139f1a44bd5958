"""Every protocol test runs on the stand-in scheme first, then on Paillier."""

from __future__ import annotations

import pytest

from tests.crypto.toys import SCHEMES, keys_of
from tests.simulator import Keys


@pytest.fixture(params=SCHEMES)
def keys(request: pytest.FixtureRequest) -> Keys:
    """Keys of the toy parameter set under each scheme."""
    return keys_of(request.param)
