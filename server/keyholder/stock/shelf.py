"""What one pair has in stock of one kind at one holder: blocks that were checked, and which units of them were used."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping

import structlog

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import BLOCK_UNITS, BlockName, CheckedBlock, Kind, material
from veilmatch.crypto.errors import BudgetExceededError, IntegrityError, ProtocolError, UnavailableError
from veilmatch.crypto.keys.parties import dealer_of
from veilmatch.crypto.pair.messages import Reserve, Reserved
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.ground.own_failures import said
from veilmatch.server.ground.request_id import about_nothing
from veilmatch.server.keyholder.stock.checking import MAX_SKIP_BLOCKS, Checker, Dial
from veilmatch.server.keyholder.stock.store import StockStore
from veilmatch.server.monitoring import meters
from veilmatch.server.transport.links import Link

#: The mark is moved this many units at a time, so that not every session waits for an fsync.
_MARK_AHEAD: dict[Kind, int] = {"triples": 64, "bits": 32768, "products": 2048}
#: Blocks kept in memory between reservations.
_CACHED_BLOCKS = 2

_log = structlog.get_logger(__name__)


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
        self._merge(start, stop)
        return True

    def close_below(self, index: int) -> None:
        """Count everything below an index as used: gaps that nobody will ask for take no memory."""
        self._merge(0, index)

    def _merge(self, start: int, stop: int) -> None:
        merged: list[tuple[int, int]] = []
        for low, high in sorted([*self._ranges, (start, stop)]):
            if merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        self._ranges = merged


class Shelf:
    """One kind of stock of one pair: marks, checked blocks, and how there come to be more."""

    def __init__(
        self, name: BlockName, store: StockStore, checker: Checker, dial: Dial, targets: Mapping[Kind, int],
        modulus: Integer, *, is_plus: bool,
    ) -> None:  # fmt: skip
        """name: of block 0. targets: units to keep ahead, now."""
        self._name = name
        self._store = store
        self._checker = checker
        self._dial = dial
        self._units = BLOCK_UNITS[name.kind]
        self._targets = targets
        self._modulus = modulus
        self._is_plus = is_plus
        self._durable = store.mark(name.stock, name.kind)
        self._next = self._durable
        #: The peer has marked everything below it as used, too: what was used in sessions that came to their end.
        self.agreed = store.memory.agreed(name.stock, name.kind)
        self._used = UsedRanges(self._durable)
        self._present = store.numbers(name.stock, name.kind)
        self._cache: OrderedDict[int, CheckedBlock] = OrderedDict()
        self._reserving = asyncio.Lock()
        self._peer_checks = asyncio.Lock()
        self._check: asyncio.Task[None] | None = None
        #: At the minus holder: its side of the check under way.
        self._peer_check: asyncio.Task[int] | None = None
        #: Starts of the ranges that a session under way was given and may still have to tell the minus holder.
        self._in_flight: Counter[int] = Counter()
        self._retired = False
        #: Blocks that were altered on the disk. They had passed their check; a block that did not is none of these.
        self._altered: set[int] = set()
        #: At the minus holder: blocks below it were altered here, and the next session tells the plus holder so.
        self._spoilt_below = 0

    @property
    def floor(self) -> int:
        """First index that this holder may still use."""
        return self._next if self._is_plus else max(self._used.low, self._spoilt_below)

    @property
    def _target_blocks(self) -> int:
        return -(-self._targets[self._name.kind] // self._units)

    @property
    def remaining(self) -> int:
        """Units that are here and unused, counted in whole blocks ahead."""
        return self._blocks_ahead * self._units

    async def reserve(self, wanted: Reserve) -> Reserved:
        """Return a range nobody had before, marked used durably. It counts as under way until `end_use`.

        A block that was altered on the disk is dropped; the plus holder goes on with the next one. Raises
        UnavailableError if the stock has run out or was replaced, DealtStockError if it has run out and the check of
        more has failed, ProtocolError for a range that it may not be, IntegrityError if the plus holder says a range
        whose block was altered here: from the next session on it is told not to.
        """
        async with self._reserving:
            self._require_current()
            while True:
                start = await self._place(wanted)
                stop = start + wanted.count
                blocks = {number: await self._get(number) for number in self._blocks_of(start, wanted.count)}
                self._require_current()
                found = {number: block for number, block in blocks.items() if block is not None}
                if len(found) == len(blocks):
                    break
            if not self._used.take(start, stop):
                raise ProtocolError("stock of this range was used before", got=start, expected=f">= {self._used.low}")
            self._next = max(self._next, stop)
            # At once: a check that begins meanwhile tells the minus holder what it may forget.
            self._in_flight[start] += 1
            try:
                if stop > self._durable:
                    mark = stop + _MARK_AHEAD[self._name.kind]
                    await asyncio.to_thread(self._store.advance, self._name.stock, self._name.kind, mark, self.agreed)
                    self._durable = mark
                # A successor of the same name may have read the mark before it was moved.
                self._require_current()
            except BaseException:
                self.end_use(start)
                raise
        pieces = []
        for number, block in found.items():
            low, high = max(start - number * self._units, 0), min(stop - number * self._units, self._units)
            pieces.append((block, low, high - low))
        return Reserved(start, material(self._name.kind, pieces, self._modulus))

    def agree(self, stop: int) -> None:
        """Note that a session in which both holders used the range up to `stop` has come to its end."""
        self.agreed = max(self.agreed, stop)

    def end_use(self, start: int) -> None:
        """Note that no session tells the minus holder this range any more: its blocks need not stay there."""
        self._in_flight -= Counter({start: 1})

    def retire(self) -> None:
        """Hand out nothing any more, and forget the blocks.

        A check under way ends here, as a failure of nobody: what comes of it is used by neither holder, and the dealer
        may be in another epoch already.
        """
        self._retired = True
        self._present.clear()
        self._cache.clear()
        for check in (self._check, self._peer_check):
            if check is not None:
                check.cancel()

    @property
    def wants_more(self) -> bool:
        """Whether half of the target is used up. The minus holder wants what the plus holder wants."""
        return self._is_plus and not self._retired and 2 * self._blocks_ahead <= self._target_blocks

    @property
    def is_full(self) -> bool:
        """Whether nothing is to be added to what is here."""
        return not self._is_plus or self._retired or self._blocks_ahead >= self._target_blocks

    async def check_one(self, at_least: int = 0) -> None:
        """Have one more block checked, number `at_least` or a later one; or wait for the check under way.

        Raises what as_plus raises.
        """
        if self._check is None or self._check.done():
            # Whichever request was the first to need it.
            self._check = about_nothing(self._check_next(max(at_least, self._next // self._units)))
            # Nobody may be left to take the error, if all who waited have gone.
            self._check.add_done_callback(lambda check: check.cancelled() or check.exception())
        # Whoever waits may be cancelled; a check that has begun costs a block if it does not end.
        check = self._check
        await asyncio.wait([check])
        if check.cancelled():
            raise UnavailableError("the stock of this pair was replaced", needed="the current stock")
        check.result()

    async def check_for_peer(self, link: Link[pb.CheckMessage], first: int, oldest: int) -> None:
        """Take part in the check of a block that the plus holder asks for.

        Raises ProtocolError if it asks for more than this holder is to keep, DealtStockError if the check fails.
        """
        async with self._peer_checks:
            self._require_current()
            if not oldest <= max(first, self._checker.next):
                raise ProtocolError(
                    "ranges under way in blocks that were not checked", got=oldest, expected=f"<= {first}"
                )
            await self._drop_below(oldest)
            self._used.close_below(oldest * self._units)
            if len(self._present) >= self._target_blocks + MAX_SKIP_BLOCKS:
                raise ProtocolError("more stock than this holder is to keep", got=len(self._present))
            self._peer_check = asyncio.create_task(self._checker.as_minus(link, first))
            try:
                number = await self._peer_check
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or not task.cancelling():
                    # Only the check was: the stock is retired.
                    self._require_current()
                raise
            if not self._retired:
                self._keep(number)
                await link.send(pb.CheckMessage(stored=True))

    async def _check_next(self, at_least: int) -> None:
        oldest = min(self._in_flight, default=self._next) // self._units
        # What this holder hands out next comes out of these, whatever is still under way at the other one.
        await self._drop_below(self._next // self._units)
        number = await self._checker.as_plus(self._dial, at_least, oldest)
        if not self._retired:
            self._keep(number)

    def _keep(self, number: int) -> None:
        self._present.add(number)
        meters.block_checked(self._name.pair, self._name.kind)

    async def _place(self, wanted: Reserve) -> int:
        """Return where a range of checked blocks begins; at the plus holder, have them checked first."""
        start = max(self._next, wanted.floor) if wanted.start is None else wanted.start
        if start > self._next + MAX_SKIP_BLOCKS * self._units:
            raise ProtocolError("stock allocated far ahead of what was used", got=start, expected=f"near {self._next}")
        while missing := [n for n in self._blocks_of(start, wanted.count) if n not in self._present]:
            if not self._is_plus:
                self._require_current()
                if lost := self._altered.intersection(missing):
                    self._spoilt_below = (max(lost) + 1) * self._units
                    # The alert was when the block was read.
                    raise said(IntegrityError("a block of the dealt stock was altered here", got=max(lost)))
                raise ProtocolError("stock that was not checked with this holder", got=start)
            gaps = [number for number in missing if number < self._checker.next]
            if gaps:
                start = (gaps[-1] + 1) * self._units
            else:
                await self._fill(missing)
                self._require_current()
        return start

    async def _fill(self, missing: list[int]) -> None:
        try:
            await self.check_one(missing[0])
        except (UnavailableError, BudgetExceededError) as error:
            dealer = f"keyholder-{dealer_of(self._name.pair)}"
            if isinstance(error, UnavailableError) and error.party != dealer:
                raise
            reason = "cannot be reached" if isinstance(error, UnavailableError) else "deals no more for now"
            raise UnavailableError(
                f"the stock of {self._name.kind} has run out and its dealer {reason}",
                party=dealer,
                needed=f"{len(missing)} blocks",
                available=f"{self.remaining} units",
                retry_after_s=error.retry_after_s,
            ) from error

    async def _get(self, number: int) -> CheckedBlock | None:
        """Return a block; None if it was altered, and then it counts as one that never passed its check."""
        block = self._cache.pop(number, None)
        if block is None:
            n = self._name
            at = BlockName(n.pair, n.stock, n.epoch, n.kind, number)
            try:
                block = await asyncio.to_thread(self._store.get, at)
            except IntegrityError as error:
                _log.error("alert", code=error.code, reason=error.message, got=error.got)
                self._present.discard(number)
                self._altered.add(number)
                return None
        if block is None:
            self._require_current()
            raise UnavailableError("a block of the stock is missing", needed=number)
        self._cache[number] = block
        while len(self._cache) > _CACHED_BLOCKS:
            self._cache.popitem(last=False)
        return block

    async def _drop_below(self, number: int) -> None:
        """Forget used-up blocks."""
        if any(present < number for present in self._present):
            self._present = {present for present in self._present if present >= number}
            await asyncio.to_thread(self._store.drop_below, self._name.stock, self._name.kind, number)

    def _blocks_of(self, start: int, count: int) -> range:
        return range(start // self._units, (start + count - 1) // self._units + 1)

    @property
    def _blocks_ahead(self) -> int:
        current = self._next // self._units
        return sum(number >= current for number in self._present)

    def _require_current(self) -> None:
        if self._retired:
            raise UnavailableError("the stock of this pair was replaced", needed="the current stock")
