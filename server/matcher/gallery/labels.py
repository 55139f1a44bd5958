"""What a device is told of the subjects of a gallery: all of them, or what differs from a state that it says it knows.

A list of a million is some twenty megabytes, and every change of the gallery makes another one of it. So a device keeps
the last one and names its state, sequence number and chain value, with the next search. The log says which places have
been touched since; the device is told who is there now. What it says of itself is compared with the log: a state that
is not in there, or too far back, is answered with the whole list, in messages of a bounded size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.gallery.body import Body
from veilmatch.server.matcher.gallery.disk.store import Store

#: So far back the log is read: changes, bytes of what they say, and places that they touch. What is beyond costs more
#: than the whole list, or is it: a bulk enrolment, the base of a gallery that was moved here.
CHANGES_MOST, BYTES_MOST, PLACES_MOST = 1024, 1 << 20, 1 << 13
#: Places that are told of in one message: 4 MiB with the longest names.
PART_PLACES = 1 << 14


class Known(NamedTuple):
    """The state of a gallery whose subjects a device says it knows; no chain value if it knows of none."""

    sequence: int
    chain: bytes


class Listed(NamedTuple):
    """What a device is told. whole: the subject of every place, "" where there is none; None if it is told changed:
    (place, subject) of every place that may differ from what it knows."""

    whole: NDArray[Any] | None
    changed: list[tuple[int, str]]


def touched_since(store: Store, name: str, state: GalleryState, known: Known) -> list[tuple[int, int]] | None:
    """Return the (pack, slot) that changes between two states of a gallery have touched, ascending.

    state: that of the gallery. None if the known one is no state of it, or too far back. Reads the log.
    """
    if not known.chain or not 0 <= state.sequence - known.sequence <= CHANGES_MOST:
        return None
    if known == (state.sequence, state.chain):
        return []
    if known.chain != store.chain_at(name, known.sequence) or store.log_bytes_after(name, known.sequence) > BYTES_MOST:
        return None
    touched: set[tuple[int, int]] = set()
    for change in store.changes_after(name, known.sequence, state.sequence - known.sequence):
        body = Body.decode(change.body)
        touched.update((added.pack, added.slot) for added in body.added)
        touched.update(body.removed)
    return sorted(touched) if len(touched) <= PLACES_MOST else None
