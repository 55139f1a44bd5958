"""Bulk enrolments under way at a matcher: their packs are held in memory until the last has come, so they are bounded.

One device has one at a time, all together hold `max_bytes`, and a stream that falls silent ends: a device that begins
and never finishes costs little, and not for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TypeVar

from veilmatch.crypto.errors import InvalidInputError, OverloadedError, UnavailableError

_T = TypeVar("_T")
#: When to come again after a refusal: a stream of average size is through by then.
_AGAIN_S = 10.0


class BulkStreams:
    """max_bytes: of one stream and of all together. silence_s: longest pause in a stream. server: its name."""

    def __init__(self, max_bytes: int, silence_s: float, server: str) -> None:
        self._max_bytes = max_bytes
        self._silence_s = silence_s
        self._server = server
        #: Bytes of each device's stream.
        self._held: dict[str, int] = {}

    @contextmanager
    def of(self, device: str) -> Iterator[None]:
        """Hold the place of a device's stream. Raises OverloadedError if it has one already."""
        if device in self._held:
            raise self._overloaded(f"{device} has another bulk enrolment under way", "one at a time")
        self._held[device] = 0
        try:
            yield
        finally:
            del self._held[device]

    def take(self, device: str, size: int) -> None:
        """Count what has come. Raises InvalidInputError for too large a stream, OverloadedError if all are too much."""
        self._held[device] += size
        if self._held[device] > self._max_bytes:
            raise InvalidInputError("bulk enrolment too large", got=f"> {self._max_bytes} bytes")
        if sum(self._held.values()) > self._max_bytes:
            raise self._overloaded("too many bulk enrolments are under way", f"{self._max_bytes} bytes together")

    async def flowing(self, chunks: AsyncIterator[_T]) -> AsyncIterator[_T]:
        """Yield the chunks. Raises UnavailableError if the next one does not come in time."""
        following = aiter(chunks)
        while True:
            try:
                async with asyncio.timeout(self._silence_s):
                    chunk = await anext(following, None)
            except TimeoutError:
                raise UnavailableError(
                    "the device has sent nothing more of its bulk enrolment", needed=f"a pack in {self._silence_s:g} s"
                ) from None
            if chunk is None:
                return
            yield chunk

    def _overloaded(self, message: str, expected: str) -> OverloadedError:
        return OverloadedError(message, expected=expected, party=self._server, retry_after_s=_AGAIN_S)
