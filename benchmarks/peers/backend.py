"""Which arithmetic a measurement uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from veilmatch.crypto.rings.choice import REFERENCE, VARIABLE, available


def backends() -> list[str]:
    """Return the backends to compare: the fastest one that runs here, and gmpy2."""
    best = available()[0]
    return [best] if best == REFERENCE else [best, REFERENCE]


@contextmanager
def using(backend: str) -> Iterator[None]:
    """Let this process, and those that it starts, use a backend."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = backend
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
