"""Packs as they are, and as they were for whoever still asks about that: each change of a group makes a copy of it.

A search over a million templates takes seconds, and the gallery may change meanwhile. What was loaded when it began is
a *generation*; as long as a search holds one, a change leaves the groups of it as they are and writes into copies: of
the groups that it touches, eight packs each on the native kernel, and of no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.rings.ring import PackGroup

#: Where a group is: number of the gallery, number of the group.
Key = tuple[int, int]


class PackVersions:
    """Groups by their keys. Threads may share it; packs of one gallery are loaded one call after the other.

    Generations are numbers that ascend with every change of a gallery. `oldest` is always the oldest one that is held.
    """

    def __init__(self, scheme: Paillier) -> None:
        self._scheme = scheme
        #: For each group its versions, ascending, by the generation that brought them. Lists are replaced, not changed.
        self._versions: dict[Key, list[tuple[int, PackGroup]]] = {}

    def __len__(self) -> int:
        """Number of versions of all groups."""
        return sum(map(len, self._versions.values()))

    def load(self, key: Key, packs: Mapping[int, bytes], generation: int, oldest: int) -> None:
        """Let a group have these packs, by lane, from this generation on."""
        before = self._versions.get(key, [])
        if not before:
            group = self._scheme.pack_group()
        elif oldest < generation:
            group = before[-1][1].copy()
        else:
            group = before[-1][1]
        group.load(packs)
        self._versions[key] = [*_needed(before, oldest, generation), (generation, group)]

    def at(self, key: Key, generation: int) -> PackGroup:
        """Return a group as it was in this generation. Raises KeyError if it was not there."""
        for since, group in reversed(self._versions[key]):
            if since <= generation:
                return group
        raise KeyError(key)

    def newest(self, key: Key) -> PackGroup:
        """Return a group as it is. Raises KeyError if it is not there."""
        return self._versions[key][-1][1]

    def forget(self, keys: Iterable[Key], oldest: int) -> None:
        """Let go of the versions of these groups that nobody can ask for any more."""
        for key in keys:
            *earlier, newest = self._versions[key]
            self._versions[key] = [*_needed(earlier, oldest, newest[0]), newest]


def _needed(versions: list[tuple[int, PackGroup]], oldest: int, until: int) -> list[tuple[int, PackGroup]]:
    """Return those that are the newest of a generation from `oldest` on and before `until`, where others follow."""
    ends = [*(since for since, _ in versions), until][1:]
    return [version for version, end in zip(versions, ends, strict=True) if end > oldest]
