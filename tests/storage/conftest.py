from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fresh_databases import told_what_steps_write
from tests.storage.backends import backend, postgres, where
from tests.storage.postgres import programs

__all__ = ["backend", "postgres", "where"]

#: What test_postgres_here.py says of a machine without a server.
collect_ignore = [] if programs() else ["test_postgres.py", "test_matchers_on_postgres.py"]


@pytest.fixture(scope="package", autouse=True)
def steps_are_taken() -> Iterator[None]:
    """They are what is tested here."""
    with told_what_steps_write(told=False):
        yield
