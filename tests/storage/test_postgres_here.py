"""Whether this machine can test galleries in PostgreSQL. CI has to."""

from __future__ import annotations

import os

import pytest

from tests.storage.postgres import programs


def test_there_is_a_server_to_test_with() -> None:
    if programs() is None and not os.environ.get("CI"):
        pytest.skip("no PostgreSQL on this machine: galleries are tested in files alone (apt-get install postgresql)")
    assert programs() is not None
