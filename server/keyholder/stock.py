"""One pair's stock at one holder: ranges of dealt randomness, each handed out once.

The plus holder allocates; the minus holder takes the range it is told, if no index of it was used.
Both write their own mark before the range is used (stock_store.py), so neither has to trust the
other's, and a crash of either skips indices instead of repeating them. DESIGN.md section 2.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

import numpy as np

from veilmatch.crypto import dealing
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import BLOCK_UNITS, STOCK_KINDS, BitTriples, Block, BlockName, Kind, Products
from veilmatch.crypto.dealing_tags import check_tagged_block, tagged_triples
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ProtocolError, UnavailableError, VeilmatchError
from veilmatch.crypto.key_safety import TaggedTriple
from veilmatch.crypto.keys import Pair, dealer_of
from veilmatch.crypto.messages import Reserve, Reserved
from veilmatch.server.keyholder.stock_store import StockStore

#: Fetches blocks first..first+count of a kind from the dealer, as (number, block).
Fetch = Callable[[BlockName, int], AsyncIterator[tuple[int, Block]]]
#: The mark is moved this many units at a time, so that not every session waits for an fsync.
_MARK_AHEAD: dict[Kind, int] = {"triples": 64, "bits": 32768, "products": 2048}
_CACHED_BLOCKS = 8
#: Blocks asked for in one call to the dealer.
_FETCHED_BLOCKS = 64
#: How far behind the newest allocation of a pair a session in flight may still be.
_IN_FLIGHT_BLOCKS = 4
#: How far an allocation may jump ahead: the peer skips marks after a restart, a hostile one would burn the stock.
_MAX_SKIP_BLOCKS = 1024


def stock_name(pair: Pair, epoch: int, plus_generation: bytes, minus_generation: bytes) -> bytes:
    """Return the 32 bytes that name the stock of a pair in an epoch, from the storage generations of both holders."""
    return digest("stock", pair, epoch, plus_generation, minus_generation)


class UsedRanges:
    """Which indices were handed out since start: disjoint ranges, merged as they touch."""

    def __init__(self, floor: int) -> None:
        self._ranges: list[tuple[int, int]] = [(0, floor)]

    @property
    def low(self) -> int:
        """Everything below this was used."""
        return self._ranges[0][1]

    def take(self, start: int, stop: int) -> bool:
        """Note start..stop as used; return False, and change nothing, if any index of it was used before."""
        if any(start < high and low < stop for low, high in self._ranges):
            return False
        merged: list[tuple[int, int]] = []
        for low, high in sorted([*self._ranges, (start, stop)]):
            if merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        self._ranges = merged
        return True


class Shelf:
    """One kind of stock of one pair: marks, blocks, and the background refill."""

    def __init__(
        self, name: BlockName, store: StockStore, fetch: Fetch, target: int, modulus: Integer, *, is_plus: bool
    ) -> None:
        """name: of block 0. target: units to keep ahead."""
        self._name = name
        self._store = store
        self._fetch = fetch
        self._target_blocks = -(-target // BLOCK_UNITS[name.kind])
        self._modulus = modulus
        self._is_plus = is_plus
        self._durable = store.mark(name.stock, name.kind)
        self._next = self._durable
        self._used = UsedRanges(self._durable)
        self._present = store.numbers(name.stock, name.kind)
        self._cache: OrderedDict[int, Block] = OrderedDict()
        self._reserving = asyncio.Lock()
        self._refilling = asyncio.Lock()
        self._retired = False

    @property
    def floor(self) -> int:
        """First index that this holder may still use."""
        return self._next if self._is_plus else self._used.low

    @property
    def remaining(self) -> int:
        """Units that are here and unused, counted in whole blocks ahead."""
        current = self._next // BLOCK_UNITS[self._name.kind]
        return sum(number >= current for number in self._present) * BLOCK_UNITS[self._name.kind]

    async def reserve(self, wanted: Reserve) -> Reserved:
        """Return a range nobody had before, marked used durably.

        Raises UnavailableError if the stock has run out or was replaced, ProtocolError for a range that it may not be.
        """
        units = BLOCK_UNITS[self._name.kind]
        async with self._reserving:
            self._require_current()
            start = max(self._next, wanted.floor) if wanted.start is None else wanted.start
            stop = start + wanted.count
            if start > self._next + _MAX_SKIP_BLOCKS * units:
                raise ProtocolError(
                    "stock allocated far ahead of what was used", got=start, expected=f"near {self._next}"
                )
            await self._ensure(start // units, (stop - 1) // units)
            self._require_current()
            if not self._used.take(start, stop):
                raise ProtocolError("stock of this range was used before", got=start, expected=f">= {self._used.low}")
            self._next = max(self._next, stop)
            if stop > self._durable:
                mark = stop + _MARK_AHEAD[self._name.kind]
                await asyncio.to_thread(self._store.advance, self._name.stock, self._name.kind, mark)
                self._durable = mark
            # A successor of the same name may have read the mark before it was moved.
            self._require_current()
            return Reserved(start, self._material(start, stop))

    def retire(self) -> None:
        """Hand out nothing any more, and forget the blocks."""
        self._retired = True
        self._present.clear()
        self._cache.clear()

    async def refill(self) -> None:
        """Bring the stock up to its target if less than half of it is left, and forget used-up blocks."""
        current = self._next // BLOCK_UNITS[self._name.kind]
        ahead = sum(number >= current for number in self._present)
        if 2 * ahead > self._target_blocks:
            return
        oldest = max(0, current - _IN_FLIGHT_BLOCKS)
        await asyncio.to_thread(self._store.drop_below, self._name.stock, self._name.kind, oldest)
        self._present = {number for number in self._present if number >= oldest}
        await self._get_blocks(current, current + self._target_blocks - 1)

    async def _ensure(self, first: int, last: int) -> None:
        """Have blocks first..last at hand, from the dealer if they are not here."""
        missing = [n for n in range(first, last + 1) if n not in self._present]
        if missing:
            try:
                await self._get_blocks(first, last)
            except VeilmatchError as error:
                dealer = f"keyholder-{dealer_of(self._name.pair)}"
                raise UnavailableError(
                    f"the stock of {self._name.kind} has run out and its dealer cannot be reached",
                    party=dealer,
                    needed=f"{len(missing)} blocks",
                    available=f"{self.remaining} units",
                ) from error
        for number in range(first, last + 1):
            if number in self._cache:
                self._cache.move_to_end(number)
            else:
                block = await asyncio.to_thread(self._store.get, self._at(number))
                if block is None:
                    self._require_current()
                    raise UnavailableError("a block of the stock is missing", needed=number)
                self._cache[number] = block
                if len(self._cache) > _CACHED_BLOCKS + last - first:
                    self._cache.popitem(last=False)

    async def _get_blocks(self, first: int, last: int) -> None:
        async with self._refilling:
            missing = [n for n in range(first, last + 1) if n not in self._present]
            if not missing:
                return
            for start in range(missing[0], missing[-1] + 1, _FETCHED_BLOCKS):
                count = min(_FETCHED_BLOCKS, missing[-1] + 1 - start)
                async for number, block in self._fetch(self._at(start), count):
                    if self._retired:
                        return
                    check_tagged_block(block, self._name.kind, self._modulus, is_plus=self._is_plus)
                    await asyncio.to_thread(self._store.put, self._at(number), block)
                    self._present.add(number)

    def _require_current(self) -> None:
        if self._retired:
            raise UnavailableError("the stock of this pair was replaced", needed="the current stock")

    def _at(self, number: int) -> BlockName:
        n = self._name
        return BlockName(n.pair, n.stock, n.epoch, n.kind, number)

    def _material(self, start: int, stop: int) -> list[TaggedTriple] | BitTriples | Products:
        units = BLOCK_UNITS[self._name.kind]
        pieces = []
        for number in range(start // units, (stop - 1) // units + 1):
            low, high = max(start, number * units), min(stop, (number + 1) * units)
            pieces.append((self._cache[number], low - number * units, high - low))
        if self._name.kind == "triples":
            return [t for block, at, count in pieces for t in tagged_triples(block, at, count, self._modulus)]
        if self._name.kind == "products":
            parts = [dealing.products(block, at, count) for block, at, count in pieces]
            return Products(*(np.concatenate([getattr(p, part) for p in parts]) for part in ("factor", "product")))
        bits = [dealing.bit_triples(block, at, count) for block, at, count in pieces]
        return BitTriples(*(np.concatenate([getattr(b, part) for b in bits]) for part in ("a", "b", "c")))


class Stock:
    """The stock of one pair: a shelf of triples mod N, one of bit triples and one of products."""

    def __init__(
        self,
        pair: Pair,
        stock: bytes,
        epoch: int,
        store: StockStore,
        fetch: Fetch,
        targets: dict[Kind, int],
        modulus: Integer,
        *,
        is_plus: bool,
    ) -> None:
        self.name = stock
        self._shelves = {
            kind: Shelf(BlockName(pair, stock, epoch, kind, 0), store, fetch, targets[kind], modulus, is_plus=is_plus)
            for kind in STOCK_KINDS
        }

    @property
    def floors(self) -> tuple[int, int, int]:
        """First usable index of triples, bits and products."""
        triples, bits, products = (self._shelves[kind].floor for kind in STOCK_KINDS)
        return triples, bits, products

    @property
    def remaining(self) -> dict[Kind, int]:
        """Units left, by kind."""
        return {kind: shelf.remaining for kind, shelf in self._shelves.items()}

    async def reserve(self, wanted: Reserve) -> Reserved:
        """See Shelf.reserve."""
        return await self._shelves[wanted.kind].reserve(wanted)

    def retire(self) -> None:
        """See Shelf.retire."""
        for shelf in self._shelves.values():
            shelf.retire()

    async def refill(self) -> None:
        """See Shelf.refill."""
        for shelf in self._shelves.values():
            await shelf.refill()
