"""One side of a swap of results, with results that are there already."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from veilmatch.server.matcher.agreement.meeting import Meeting


async def in_parts(results: Sequence[bytes], size: int) -> AsyncIterator[Sequence[bytes]]:
    """Yield results, so many at a time."""
    for start in range(0, len(results), size):
        yield results[start : start + size]


async def swapped(meeting: Meeting, session_id: bytes, results: Sequence[bytes], size: int = 0) -> list[bytes]:
    """Swap results, so many at a time, 0 for all at once; return the other side's."""
    made: list[bytes] = []
    found: list[bytes] = []

    async def take(mine: Sequence[bytes], theirs: list[bytes]) -> None:
        assert len(mine) == len(theirs)
        made.extend(mine)
        found.extend(theirs)

    parts = in_parts(results, size or len(results))
    await meeting.swap_results(session_id, parts, len(results), len(results[0]), take)
    assert made == list(results)
    return found
