"""Room for bulk enrolments: what has arrived of them is held in memory until both matchers have all of it.

Every stream holds what it has sent, however slowly it goes on, so there is a bound on the streams of one device, on the
time of each, and on the bytes of all of them together. A stream that does not fit is told to come again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from veilmatch.crypto.errors import InvalidInputError, OverloadedError

#: Streams of one device at once: one, and another while what was cancelled of the one before is still being finished.
PER_DEVICE = 2
#: When whoever found no room may come again.
_AGAIN_S = 10.0


class BulkStream:
    """A stream that arrives; use `BulkRoom.stream`."""

    def __init__(self, room: BulkRoom) -> None:
        self._room = room
        self.received = 0

    def take(self, size: int) -> None:
        """Count so many more bytes of it.

        Raises InvalidInputError if it is larger than any may be, OverloadedError if all together are.
        """
        self._room.take(self, size)


class BulkRoom:
    """The unfinished bulk enrolments of one matcher. server: its name, for errors.

    each_bytes, all_bytes: of one stream, and of all together.
    """

    def __init__(self, each_bytes: int, all_bytes: int, server: str) -> None:
        self._each_bytes = each_bytes
        self._all_bytes = all_bytes
        self._server = server
        self._streams: Counter[str] = Counter()
        self.held_bytes = 0

    @contextmanager
    def stream(self, device: str) -> Iterator[BulkStream]:
        """Hold a place until what has arrived is no longer in memory. Raises OverloadedError if the device has its."""
        if self._streams[device] >= PER_DEVICE:
            raise self._overloaded(f"{self._streams[device] + 1} bulk enrolments of {device[:60]}", f"<= {PER_DEVICE}")
        self._streams[device] += 1
        stream = BulkStream(self)
        try:
            yield stream
        finally:
            self._streams -= Counter({device: 1})
            self.held_bytes -= stream.received

    def take(self, stream: BulkStream, size: int) -> None:
        """See BulkStream.take."""
        if stream.received + size > self._each_bytes:
            raise InvalidInputError("bulk enrolment too large", got=f"> {self._each_bytes} bytes")
        if self.held_bytes + size > self._all_bytes:
            raise self._overloaded(f"{self.held_bytes + size} bytes", f"<= {self._all_bytes} bytes of all together")
        stream.received += size
        self.held_bytes += size

    def _overloaded(self, got: str, expected: str) -> OverloadedError:
        return OverloadedError(
            f"{self._server} has no room for another bulk enrolment now",
            got=got,
            expected=expected,
            party=self._server,
            retry_after_s=_AGAIN_S,
        )
