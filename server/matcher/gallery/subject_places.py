"""At which places of a gallery a subject is: a hash table in arrays, for one `index.SlotIndex`.

A subject's hash names a bucket, and the places of a bucket are a chain, linked both ways: so finding, adding and
removing take as long as there are places in one bucket, one or two, whatever the size of the gallery. 24 bytes a place;
a dictionary of Python strings and lists takes ten times as much. A bucket is added with each place (linear hashing,
Litwin 1980), so no addition ever waits for a table of a million to be made anew.

The hash is Python's own, which is keyed anew in every process: nobody can choose subjects that meet in one bucket.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_NONE = -1


class SubjectPlaces:
    """subject_at: returns the subject of a place that is in here; the names themselves are kept there."""

    def __init__(self, subject_at: Callable[[int], str]) -> None:
        self._subject_at = subject_at
        self._count = 0
        #: The first place of each bucket. There are as many as places at the most, and one at least.
        self._heads = array("q", [_NONE])
        #: For each place the next one and the one before in the chain of its bucket.
        self._next = array("q")
        self._before = array("q")

    def fill(self, subjects: Sequence[str], places: NDArray[np.int64]) -> None:
        """Note many places at once, in a table without any. places: of these subjects, in any order."""
        buckets = _buckets_of(np.fromiter(map(hash, subjects), dtype=np.int64, count=len(subjects)), len(subjects))
        # Who shares a bucket comes one after the other, and is linked to the one before.
        order = np.argsort(buckets, kind="stable")
        sorted_places, sorted_buckets = places[order], buckets[order]
        follows = np.concatenate([[False], sorted_buckets[1:] == sorted_buckets[:-1]])
        heads = np.full(max(1, len(subjects)), _NONE, dtype=np.int64)
        links = np.full((2, int(places.max()) + 1), _NONE, dtype=np.int64)
        heads[sorted_buckets[~follows]] = sorted_places[~follows]
        links[0, sorted_places[:-1][follows[1:]]] = sorted_places[1:][follows[1:]]
        links[1, sorted_places[1:][follows[1:]]] = sorted_places[:-1][follows[1:]]
        self._heads, self._next, self._before = (array("q", found.tobytes()) for found in (heads, *links))
        self._count = len(subjects)

    def of(self, subject: str) -> list[int]:
        """Return the places of this subject, ascending."""
        return sorted(place for place in self._chain(self._bucket(subject)) if self._subject_at(place) == subject)

    def add(self, subject: str, place: int) -> None:
        """Note a place, which was not in here."""
        if place >= len(self._next):
            more = array("q", [_NONE]) * (place + 1 - len(self._next))
            self._next += more
            self._before += more
        self._link(self._bucket(subject), place)
        self._count += 1
        if self._count > len(self._heads):
            self._split()

    def remove(self, subject: str, place: int) -> None:
        """Forget a place, which was noted for this subject."""
        following, before = self._next[place], self._before[place]
        if before == _NONE:
            self._heads[self._bucket(subject)] = following
        else:
            self._next[before] = following
        if following != _NONE:
            self._before[following] = before
        self._count -= 1

    def _bucket(self, subject: str) -> int:
        """Return the bucket by the low bits of the hash: one bit more for those that were split, and their halves."""
        mask = (1 << len(self._heads).bit_length()) - 1
        number = hash(subject) & mask
        return number if number < len(self._heads) else number & (mask >> 1)

    def _chain(self, bucket: int) -> list[int]:
        found, place = [], self._heads[bucket]
        while place != _NONE:
            found.append(place)
            place = self._next[place]
        return found

    def _link(self, bucket: int, place: int) -> None:
        first = self._heads[bucket]
        self._next[place], self._before[place] = first, _NONE
        if first != _NONE:
            self._before[first] = place
        self._heads[bucket] = place

    def _split(self) -> None:
        """Add a bucket: of the one whose turn it is, about half of the places belong there."""
        added = len(self._heads)
        halved = added - (1 << added.bit_length() - 1)
        places = self._chain(halved)
        self._heads[halved] = _NONE
        self._heads.append(_NONE)
        for place in reversed(places):
            self._link(self._bucket(self._subject_at(place)), place)


def _buckets_of(hashes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return what `SubjectPlaces._bucket` says of subjects with these hashes, where there are `count` buckets."""
    mask = (1 << count.bit_length()) - 1
    numbers = hashes & mask
    return np.where(numbers < count, numbers, numbers & (mask >> 1))
