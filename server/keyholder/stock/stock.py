"""One pair's stock at one holder: ranges of checked randomness, each handed out once.

The plus holder allocates; the minus holder takes the range it is told, if no index of it was used.
Both write their own mark before the range is used (store.py), so neither has to trust the
other's, and a crash of either skips indices instead of repeating them. Only blocks that the pair has checked are
here (checking.py); the plus holder has them checked, and a number whose check was begun and not ended is a gap in
the stock that no range crosses. docs/protocol.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import STOCK_KINDS, BlockName, Kind
from veilmatch.crypto.digests import digest
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.keys.shares import SafetyShare
from veilmatch.crypto.pair.messages import Reserve, Reserved
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.stock.checking import Checker, Dealer, Dial
from veilmatch.server.keyholder.stock.memory import Used
from veilmatch.server.keyholder.stock.shelf import Shelf
from veilmatch.server.keyholder.stock.standing import Standing
from veilmatch.server.keyholder.stock.store import StockStore
from veilmatch.server.transport.links import Link


def stock_name(pair: Pair, epoch: int, plus_generation: bytes, minus_generation: bytes) -> bytes:
    """Return the 32 bytes that name the stock of a pair in an epoch, from the storage generations of both holders."""
    return digest("stock", pair, epoch, plus_generation, minus_generation)


class Stock:
    """The stock of one pair: a shelf of triples mod N, one of bit triples and one of products."""

    def __init__(
        self,
        pair: Pair,
        stock: bytes,
        epoch: int,
        store: StockStore,
        dealer: Dealer,
        dial: Dial,
        standing: Standing,
        targets: Mapping[Kind, int],
        modulus: Integer,
        safety: SafetyShare,
        *,
        is_plus: bool,
        note: Callable[[Mapping[Kind, int]], None] = lambda _: None,
    ) -> None:
        """safety: of this holder and pair, to check tags with. note: is told what each session has used."""
        self.name = stock
        self._note = note
        #: Kinds that were half used up and are not yet at their target again.
        self._filling: set[Kind] = set()
        self._shelves = {}
        for kind in STOCK_KINDS:
            first = BlockName(pair, stock, epoch, kind, 0)
            checker = Checker(first, store, dealer, standing, modulus, safety, is_plus=is_plus)
            self._shelves[kind] = Shelf(first, store, checker, dial, targets, modulus, is_plus=is_plus)

    @property
    def floors(self) -> tuple[int, int, int]:
        """First usable index of triples, bits and products."""
        triples, bits, products = (self._shelves[kind].floor for kind in STOCK_KINDS)
        return triples, bits, products

    @property
    def used(self) -> Used:
        """What both holders have used of it."""
        return Used(self.name, {kind: shelf.agreed for kind, shelf in self._shelves.items()})

    @property
    def remaining(self) -> dict[Kind, int]:
        """Units left, by kind."""
        return {kind: shelf.remaining for kind, shelf in self._shelves.items()}

    async def reserve(self, wanted: Reserve) -> Reserved:
        """See Shelf.reserve."""
        return await self._shelves[wanted.kind].reserve(wanted)

    @contextmanager
    def session(self) -> Iterator[SessionStock]:
        """What one session takes from the stock: it counts as under way until the block ends."""
        session = SessionStock(self)
        try:
            yield session
            for kind, start, count in session.taken:
                self._shelves[kind].agree(start + count)
        finally:
            for kind, start, _ in session.taken:
                self._shelves[kind].end_use(start)
            self._note(session.used)

    async def check_for_peer(self, link: Link[pb.CheckMessage], kind: Kind, first: int, oldest: int) -> None:
        """See Shelf.check_for_peer."""
        await self._shelves[kind].check_for_peer(link, first, oldest)

    def retire(self) -> None:
        """See Shelf.retire."""
        for shelf in self._shelves.values():
            shelf.retire()

    async def refill_turn(self) -> bool:
        """Check one block more of each kind that is half used up and not yet at its target again.

        Returns whether another turn is due. Does nothing at the minus holder. Raises what Shelf.check_one raises.
        """
        self._filling |= {kind for kind, shelf in self._shelves.items() if shelf.wants_more}
        self._filling -= {kind for kind, shelf in self._shelves.items() if shelf.is_full}
        for kind in sorted(self._filling):
            await self._shelves[kind].check_one()
        return bool(self._filling)

    async def refill(self) -> None:
        """Take turns until all is at its target. Raises what Shelf.check_one raises."""
        while await self.refill_turn():
            pass


class SessionStock:
    """The stock as one session sees it; see Stock.session."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock
        self.taken: list[tuple[Kind, int, int]] = []
        self.used: Counter[Kind] = Counter()

    async def reserve(self, wanted: Reserve) -> Reserved:
        """See Shelf.reserve."""
        reserved = await self._stock.reserve(wanted)
        self.taken.append((wanted.kind, reserved.start, wanted.count))
        self.used[wanted.kind] += wanted.count
        return reserved
