"""What a key holder remembers of its peers' storages, so that a copy that was put back is found out.

Two things that no copy knows: that its generation was given up for another one, and what the two have used together
since it was made. The first a holder tells from what the peer says; the second it tells the peer, which compares it
with its own marks: those cannot be behind, because a holder marks a range as used before it uses it. docs/backup.md
says what this does not find.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, insert, select

from veilmatch.crypto.dealing import STOCK_KINDS, Kind
from veilmatch.crypto.keys.parties import Pair
from veilmatch.server.keyholder.stock.schema import current, marks, peers


@dataclass(frozen=True, slots=True)
class Used:
    """What two holders have used of a stock together: everything below `below`, by kind; at least that."""

    stock: bytes
    below: dict[Kind, int]


class Memory:
    """Of one key holder, in its stock.db."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def comes_with(self, party: str, generation: bytes) -> bool:
        """Note the generation of a peer's storage, durably; return False if the peer has given it up before."""
        of_party = peers.c.party == party
        with self._engine.begin() as connection:
            last = connection.scalar(
                select(peers.c.generation).where(of_party).order_by(peers.c.number.desc()).limit(1)
            )
            if last == generation:
                return True
            if connection.scalar(select(peers.c.number).where(of_party, peers.c.generation == generation)) is not None:
                return False
            connection.execute(insert(peers).values(party=party, generation=generation))
            return True

    def knows(self, party: str, generation: bytes) -> bool:
        """Return whether a peer has come with this generation before."""
        query = select(peers.c.number).where(peers.c.party == party, peers.c.generation == generation)
        with self._engine.connect() as connection:
            return connection.scalar(query) is not None

    def agreed(self, stock: bytes, kind: Kind) -> int:
        """Return below which index the peer has marked everything as used, as far as it was noted."""
        query = select(marks.c.agreed).where(marks.c.stock == stock, marks.c.kind == kind)
        with self._engine.connect() as connection:
            return int(connection.scalar(query) or 0)

    def used(self, pair: Pair) -> Used | None:
        """Return what was used of the last stock of a pair, None if it has none yet."""
        with self._engine.connect() as connection:
            stock = connection.scalar(select(current.c.stock).where(current.c.pair == pair))
        if stock is None:
            return None
        return Used(bytes(stock), {kind: self.agreed(bytes(stock), kind) for kind in STOCK_KINDS})
