"""Results as they come from the matcher: converted while it still multiplies others out.

Nothing of that leaves this key holder. What it sends of results depends on all of them, as before: digest, fingerprints
and openings follow when the session has been given the whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import numpy as np

from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.pair.messages import Results
from veilmatch.server.keyholder.session.share_worker import ShareWork


class Arriving:
    """The results of one search; a context manager, which drops what is under way at its end."""

    def __init__(self, work: ShareWork) -> None:
        self._work = work
        self._begun: list[asyncio.Task[list[LocalShare]]] = []
        #: When the first of them came, on the monotonic clock; None before.
        self.since: float | None = None

    async def all(self, parts: AsyncIterator[Results]) -> Results:
        """Take in the parts of the results, and return them together."""
        found = []
        async for part in parts:
            self.since = time.monotonic() if self.since is None else self.since
            self._begun.append(asyncio.create_task(self._work.local_shares(part.ciphertexts)))
            found.append(part)
        ciphertexts = [c for part in found for c in part.ciphertexts]
        return Results(ciphertexts, np.concatenate([part.wanted for part in found]))

    async def local_shares(self) -> list[LocalShare]:
        """Return the local share of each result, in order. Raises what ShareWork raises."""
        return [share for shares in await asyncio.gather(*self._begun) for share in shares]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._begun:
            task.cancel()
            # Nobody is left to take an error.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
