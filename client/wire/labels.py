"""Whom the templates of a gallery are of: the list that both matchers tell a device, and how it is kept up to date.

A device keeps the list of the last search and names its state with the next one. Each matcher answers with what has
changed since, or with the whole list (server/matcher/gallery/labels.py); whichever each of them chose, what comes out
has to be the same list. One matcher alone is believed about nothing: of a state that both of a pair have named, an
honest one of them knew the list, and of any other pair an honest one knows what changed, for the chain value of a state
stands for all of its history.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.protos.v1 import matcher_pb2 as pb

_TEXT = np.dtypes.StringDType()
#: No pack has more slots. A change adds no pack without one that it names.
_SLOTS_MOST = 1 << 9


class Labels:
    """The subject of every slot of a gallery in one state, "" where none is compared.

    Immutable: a call keeps those that it told the matchers it knows, whatever other calls learn meanwhile. Shown to
    nobody: there is no representation of them. slots: of all packs in order; free ones at the end are left out.
    """

    def __init__(self, chain: bytes = b"", slots: Iterable[str] = (), sequence: int = 0) -> None:
        found = slots if isinstance(slots, np.ndarray) else np.array(list(slots), dtype=_TEXT)
        taken = np.flatnonzero(found != "")
        self.chain = chain
        self.sequence = sequence
        self.slots: NDArray[Any] = found[: int(taken[-1]) + 1 if len(taken) else 0]
        self.slots.flags.writeable = False

    @cached_property
    def subjects(self) -> NDArray[Any]:
        """The subject of each compared template, in order."""
        found: NDArray[Any] = self.slots[self.slots != ""]
        return found

    def same(self, other: Labels) -> bool:
        """Return whether they are the same subjects at the same slots."""
        return np.array_equal(self.slots, other.slots)


def agreed_labels(a: pb.MatchReply, b: pb.MatchReply, pair: Pair, known: Labels) -> Labels:
    """Return the labels that both answers are about, which name one state. known: those that the request named.

    Raises IntegrityError if the two name different subjects, or if one tells what cannot be.
    """
    first = _labels_of(a, known)
    if _tell_the_same(a, b) or first.same(_labels_of(b, known)):
        return first
    raise IntegrityError(
        "the two matchers name different subjects", got=f"matcher-{pair[1]}", expected=f"matcher-{pair[0]}"
    )


def _tell_the_same(a: pb.MatchReply, b: pb.MatchReply) -> bool:
    told = (a.HasField("difference"), a.difference, a.labels), (b.HasField("difference"), b.difference, b.labels)
    return bool(told[0] == told[1])


def _labels_of(reply: pb.MatchReply, known: Labels) -> Labels:
    if reply.HasField("difference"):
        if reply.labels or not known.chain:
            raise IntegrityError("subjects that differ from those of no known state")
        return _changed(known, reply)
    if not reply.labels and reply.chain == known.chain:
        return known
    return Labels(reply.chain, reply.labels, reply.sequence)


def _changed(known: Labels, reply: pb.MatchReply) -> Labels:
    told = reply.difference
    slots, subjects = list(told.slots), list(told.subjects)
    if not slots and not subjects and reply.chain == known.chain:
        return known
    most = len(known.slots) + _SLOTS_MOST * (len(slots) + 1)
    if len(slots) != len(subjects) or any(slot >= most for slot in slots) or slots != sorted(set(slots)):
        raise IntegrityError("changed subjects that cannot be", got=len(subjects), expected=len(slots))
    size = max(len(known.slots), slots[-1] + 1 if slots else 0)
    changed = np.zeros(size, dtype=_TEXT)
    changed[: len(known.slots)] = known.slots
    changed[slots] = np.array(subjects, dtype=_TEXT)
    return Labels(reply.chain, changed, reply.sequence)
