"""Packs as they are, and as they were for whoever still asks about that: each change of a group makes a copy of it.

A search over a million templates takes seconds, and the gallery may change meanwhile. What was loaded when it began is
a *generation*; as long as a search holds one, a change leaves the groups of it as they are and writes into copies: of
the groups that it touches, eight packs each on the native kernel, and of no others. What nobody holds is written over.
So of a group there are at most as many versions as generations are held, and one: however many changes come while one
search is kept waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.rings.ring import PackGroup

#: Where a group is: number of the gallery, number of the group.
Key = tuple[int, int]


class PackVersions:
    """Groups by their keys. Threads may share it; packs of one gallery are loaded one call after the other.

    Generations are numbers that ascend with every change of a gallery. `held` are always those that somebody holds.
    """

    def __init__(self, scheme: Paillier) -> None:
        self._scheme = scheme
        #: For each group its versions, ascending, by the generation that brought them. Lists are replaced, not changed.
        self._versions: dict[Key, list[tuple[int, PackGroup]]] = {}

    def __len__(self) -> int:
        """Number of versions of all groups."""
        return sum(map(len, self._versions.values()))

    def load(self, key: Key, packs: Mapping[int, bytes], generation: int, held: Sequence[int]) -> None:
        """Let a group have these packs, by lane, from this generation on."""
        before = self._versions.get(key, [])
        needed = _needed(before, held)
        if not before:
            group = self._scheme.pack_group()
        elif needed[-1:] == before[-1:]:
            group = before[-1][1].copy()
        else:
            group = before[-1][1]
        group.load(packs)
        self._versions[key] = [*needed, (generation, group)]

    def at(self, key: Key, generation: int) -> PackGroup:
        """Return a group as it was in this generation. Raises KeyError if it was not there."""
        for since, group in reversed(self._versions[key]):
            if since <= generation:
                return group
        raise KeyError(key)

    def newest(self, key: Key) -> PackGroup:
        """Return a group as it is. Raises KeyError if it is not there."""
        return self._versions[key][-1][1]

    def forget(self, keys: Iterable[Key], held: Sequence[int]) -> None:
        """Let go of the versions of these groups that nobody can ask for any more."""
        for key in keys:
            versions = self._versions[key]
            newest = versions[-1:]
            self._versions[key] = [*(v for v in _needed(versions, held) if v is not newest[0]), *newest]


def _needed(versions: list[tuple[int, PackGroup]], held: Sequence[int]) -> list[tuple[int, PackGroup]]:
    """Return those, ascending, that are the newest of a generation that is held."""
    asked = {max((since for since, _ in versions if since <= one), default=None) for one in held}
    return [version for version in versions if version[0] in asked]
