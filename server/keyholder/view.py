"""What operators see of a key holder (monitoring/monitor.py): read off it when somebody asks, in its event loop."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from veilmatch.crypto.health import PAIR, REFILL, STOCK, Kind, of_pair
from veilmatch.crypto.keys.parties import Pair, Party, dealer_of, other_party
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.keyholder.peers import party_name
from veilmatch.server.keyholder.session.serving import KeyHolder
from veilmatch.server.monitoring.neighbours import Neighbours
from veilmatch.server.monitoring.readings import Readings
from veilmatch.server.revoking import lists as revoking
from veilmatch.server.transport import connections
from veilmatch.server.transport.connections import Connections
from veilmatch.server.transport.expiry import Expiry


@dataclass(frozen=True)
class KeyHolderView:
    """See the module."""

    settings: KeyHolderSettings
    parameters: str
    workers: int
    expiry: Expiry
    neighbours: Neighbours
    holder: KeyHolder
    connections: Connections
    kind: Kind = "keyholder"

    @property
    def party(self) -> Party:
        """Of which organisation."""
        return self.settings.party

    @property
    def served(self) -> tuple[Pair, ...]:
        """The pairs of the installation."""
        return self.settings.served

    def conditions(self) -> Collection[str]:
        """Return what holds: a pair can be served while there is stock of all kinds for it, and the other is there."""
        holds = set()
        for pair in self.settings.pairs:
            stock = self.holder.stocks.by_pair.get(pair)
            if self.neighbours.heard(party_name(dealer_of(pair))) is not None:
                holds.add(of_pair(REFILL, pair))
            if stock is None or not all(stock.remaining.values()):
                continue
            holds.add(of_pair(STOCK, pair))
            if self.neighbours.heard(party_name(other_party(pair, self.party))) is not None:
                holds.add(of_pair(PAIR, pair))
        return holds

    def readings(self) -> Readings:
        """Return epoch, stock and audit log."""
        log = self.holder.auditor.log
        under_way = {"session": self.holder.under_way, "session verify": self.holder.verifying}
        return {
            **connections.readings(self.connections),
            **revoking.readings(self.holder.revocation_lists),
            "turns": {(lane, "in_progress"): float(of_it.count) for lane, of_it in under_way.items()},
            "turns_limit": {(lane, "in_progress"): float(of_it.limit) for lane, of_it in under_way.items()},
            "epoch": {(): float(self.holder.epoch)},
            "refresh_unsettled": {(): float(self.holder.unsettled)},
            "stock_units": {
                (pair, kind): float(units)
                for pair, stock in self.holder.stocks.by_pair.items()
                for kind, units in stock.remaining.items()
            },
            "stock_target_units": {(kind,): float(units) for kind, units in self.holder.targets.items()},
            "audit_last_entry_timestamp_seconds": {(): log.written_at_s},
            "audit_entries": {(): float(log.head[0])},
        }
