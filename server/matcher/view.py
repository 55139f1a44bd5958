"""What operators see of a matcher (monitoring/monitor.py): read off it when somebody asks, in its event loop."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from veilmatch.crypto.health import FULL, GALLERY, KEY_HOLDER, KEY_HOLDER_FULL, PAIR, REFILL, STOCK, Kind, of_pair
from veilmatch.crypto.keys.parties import Pair, Party, pairs_among
from veilmatch.server.config import MatcherSettings
from veilmatch.server.matcher.entrance import Entrance
from veilmatch.server.matcher.follow.following import Following
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.monitoring.neighbours import Neighbours
from veilmatch.server.monitoring.readings import Readings
from veilmatch.server.revoking import lists as revoking
from veilmatch.server.revoking.lists import RevocationLists
from veilmatch.server.transport import connections
from veilmatch.server.transport.connections import Connections
from veilmatch.server.transport.expiry import Expiry

_TURNS = ("in_progress", "waiting")


@dataclass(frozen=True)
class MatcherView:
    """See the module."""

    settings: MatcherSettings
    parameters: str
    workers: int
    expiry: Expiry
    neighbours: Neighbours
    galleries: Mapping[str, Gallery]
    entrance: Entrance
    following: Following
    connections: Connections
    lists: RevocationLists
    kind: Kind = "matcher"

    @property
    def party(self) -> Party:
        """Of which organisation."""
        return self.settings.party

    @property
    def served(self) -> tuple[Pair, ...]:
        """The pairs of the installation."""
        return pairs_among((self.party, *self.settings.peers))

    def conditions(self) -> Collection[str]:
        """Return what holds: of pairs, what the key holder here says, if the galleries take part."""
        holds = set()
        takes_part = not any(gallery.unmet for gallery in self.galleries.values())
        if takes_part:
            holds.add(GALLERY)
        said = self.neighbours.heard(f"keyholder-{self.party}")
        if said is None:
            return holds
        holds.add(KEY_HOLDER)
        if said.has(FULL):
            holds.add(KEY_HOLDER_FULL)
        for pair in self.served:
            if self.party not in pair:
                continue
            holds |= {of_pair(of, pair) for of in (STOCK, REFILL) if said.has(of, pair)}
            other = f"matcher-{pair.replace(self.party, '')}"
            if takes_part and said.has(PAIR, pair) and self.neighbours.heard(other) is not None:
                holds.add(of_pair(PAIR, pair))
        return holds

    def readings(self) -> Readings:
        """Return turns and galleries."""
        counts: dict[tuple[str, ...], float] = {}
        limits: dict[tuple[str, ...], float] = {}
        for lane, one in self.entrance.turns.items():
            for state, count, limit in zip(_TURNS, one.counts, one.limits, strict=True):
                counts[lane, state], limits[lane, state] = float(count), float(limit)
        for leader, of_it in self.entrance.followed.items():
            at = f"followed {leader}", _TURNS[0]
            counts[at], limits[at] = float(of_it.count), float(of_it.limit)
        behind = self.following.behind()
        return {
            **connections.readings(self.connections),
            **revoking.readings(self.lists),
            "turns": counts,
            "turns_limit": limits,
            "gallery_sequence": {(name,): float(one.state.sequence) for name, one in self.galleries.items()},
            "gallery_templates": {(name,): float(len(one.index)) for name, one in self.galleries.items()},
            "gallery_behind_changes": {(name,): float(behind.get(name, (0, 0.0))[0]) for name in self.galleries},
            "gallery_behind_seconds": {(name,): behind.get(name, (0, 0.0))[1] for name in self.galleries},
            "gallery_restored": {(name,): float(bool(one.unmet)) for name, one in self.galleries.items()},
        }  # fmt: skip
