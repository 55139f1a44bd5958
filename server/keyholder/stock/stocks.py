"""The stocks of a key holder: meeting the peer about them, and keeping them filled.

The stock of a pair is named by the storages of both holders (stock.stock_name), so it can be used only when each has
told the other its generation. A peer with another storage, or in another epoch, gets another stock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import structlog

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import STOCK_KINDS
from veilmatch.crypto.errors import IntegrityError, KeyMismatchError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import Pair, Party, dealer_of, other_party, pairs_of, pairs_without
from veilmatch.crypto.keys.shares import SafetyShare
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.ground.own_failures import described, level_of
from veilmatch.server.keyholder.peers import Peers, party_name
from veilmatch.server.keyholder.stock.newcomers import Newcomers
from veilmatch.server.keyholder.stock.place import MOVED_HINT
from veilmatch.server.keyholder.stock.standing import Standing
from veilmatch.server.keyholder.stock.stock import Stock, stock_name
from veilmatch.server.keyholder.stock.store import StockStore
from veilmatch.server.keyholder.stock.targets import Targets
from veilmatch.server.keyholder.wire import kind_from_wire
from veilmatch.server.transport.links import Link

#: After each failure in a row a refill waits so many times as long, up to the longest.
_BACK_OFF = 2.0
_LONGEST_RETRY_S = 60.0
#: Between two blocks of each kind that are checked ahead of time: requests go first.
_REFILL_PAUSE_S = 0.5

_log = structlog.get_logger(__name__)


class Stocks:
    """The stock of each pair of one key holder, for the epoch in use."""

    def __init__(
        self,
        party: Party,
        epoch: int,
        store: StockStore,
        peers: Peers,
        targets: Targets,
        modulus: Integer,
        safety: Callable[[Pair], SafetyShare],
        timeout_s: float,
    ) -> None:
        """targets: units of each kind to keep ahead. safety: in the epoch in use, to check tags with. timeout_s: for a
        check that a peer asks for."""
        self.by_pair: dict[Pair, Stock] = {}
        self._party = party
        self._epoch = epoch
        self._store = store
        self._peers = peers
        self._targets = targets
        self._modulus = modulus
        self._safety = safety
        self._timeout_s = timeout_s
        #: Of those who take part in the checks of each pair. They outlast the stocks.
        self._standings = {pair: Standing(self._others_in_checks(pair)) for pair in pairs_of(party)}
        #: Whether stock of another epoch stays, because that epoch may be gone back to.
        self.keeps_other_epochs = False
        #: Pairs whose peer is known to have the storage that the stock was made for.
        self._met: set[Pair] = set()
        self._newcomers = Newcomers()
        self._meeting = {pair: asyncio.Lock() for pair in pairs_of(party)}
        #: Set when a peer has come: a refill that failed need not wait any longer.
        self._come = {pair: asyncio.Event() for pair in pairs_of(party)}

    def _others_in_checks(self, pair: Pair) -> tuple[str, str]:
        return party_name(other_party(pair, self._party)), party_name(dealer_of(pair))

    @property
    def generation(self) -> bytes:
        """The generation of this holder's storage."""
        return self._store.generation

    def use_epoch(self, epoch: int) -> None:
        """Hand out nothing of the old epoch any more."""
        self._epoch = epoch
        self.retire()
        self.by_pair.clear()
        self._met.clear()

    def drop_epoch(self, epoch: int) -> None:
        """Delete what there is of an epoch's stock. Both holders of each pair do so before they are in it again."""
        self._store.drop_epoch(epoch)

    def retire(self) -> None:
        """Hand out nothing any more."""
        for stock in self.by_pair.values():
            stock.retire()

    def forget(self, pair: Pair) -> None:
        """Meet the peer again before the stock of this pair is used next: its storage or epoch may be a new one."""
        self._met.discard(pair)

    def introduction(self, pair: Pair) -> pb.StockGeneration:
        """Return what the peer of `pair` is told: this storage's generation, and what was used with the peer."""
        stock = self.by_pair.get(pair)
        used = stock.used if stock is not None else self._store.memory.used(pair)
        told = None if used is None else pb.StockUsed(stock=used.stock, **used.below)
        return pb.StockGeneration(pair=pair, epoch=self._epoch, generation=self.generation, used=told)

    def _require_no_copy(self, pair: Pair, theirs: pb.StockGeneration) -> None:
        """Raise IntegrityError if the peer comes with a storage that it had given up, or remembers more than this one.

        Either way one of the two was put back from a copy, and its stock must not be used. Raises UnavailableError if
        the peer comes with new storages all the time.
        """
        peer = other_party(pair, self._party)
        if not self._store.memory.knows(peer, theirs.generation):
            self._newcomers.require(peer)
        if not self._store.memory.comes_with(peer, theirs.generation):
            raise IntegrityError(
                f"{party_name(peer)} is back with a stock that it had given up: its data directory was put back from a"
                " copy",
                expected="another start of it with an empty data directory", party=party_name(peer),
                alternatives=pairs_without(peer),
            )  # fmt: skip
        if theirs.used.stock != self._name(pair, theirs.generation):
            return
        for kind in STOCK_KINDS:
            told, mark = getattr(theirs.used, kind), self._store.mark(theirs.used.stock, kind)
            if told > mark:
                raise IntegrityError(
                    f"the stock here has forgotten what was used with {party_name(peer)}: it was put back from a copy",
                    got=f"{kind} below {mark}", expected=f"below {told}", hint=MOVED_HINT,
                )  # fmt: skip

    def _name(self, pair: Pair, peer_generation: bytes) -> bytes:
        is_plus = pair[0] == self._party
        generations = (self.generation, peer_generation) if is_plus else (peer_generation, self.generation)
        return stock_name(pair, self._epoch, *generations)

    def meet(self, pair: Pair, peer_generation: bytes) -> Stock:
        """Return the stock of `pair` for the peer's generation; that for another generation is used no more."""
        is_plus, name = pair[0] == self._party, self._name(pair, peer_generation)
        stock = self.by_pair.get(pair)
        if stock is None or stock.name != name:
            if stock is not None:
                # Sessions may still hold it, and two of one name would each hand out the same ranges.
                stock.retire()
            self._store.adopt(pair, name, only_of=self._epoch if self.keeps_other_epochs else None)
            stock = self.by_pair[pair] = Stock(
                pair, name, self._epoch, self._store, self._peers, partial(self._peers.check_dealt, pair),
                self._standings[pair], self._targets, self._modulus, self._safety(pair), is_plus=is_plus,
                note=self._targets.note,
            )  # fmt: skip
        self._met.add(pair)
        return stock

    def met_by(self, pair: Pair, theirs: pb.StockGeneration) -> None:
        """Meet the peer of `pair`, which came by itself: it has just started, say, and is the dealer of others too.

        Raises IntegrityError if one of the two was put back from a copy, UnavailableError if the peer comes with new
        storages all the time.
        """
        self._require_no_copy(pair, theirs)
        self.meet(pair, theirs.generation)
        for come in self._come.values():
            come.set()

    async def of(self, pair: Pair) -> Stock:
        """Return the stock of `pair`, meeting the peer first if that has not happened yet.

        Raises IntegrityError if one of the two was put back from a copy.
        """
        if pair not in self._met:
            async with self._meeting[pair]:
                if pair not in self._met:
                    theirs = await self._peers.meet_stock(pair, self.introduction(pair))
                    self._require_no_copy(pair, theirs)
                    self.meet(pair, theirs.generation)
        return self.by_pair[pair]

    async def check_dealt(self, pair: Pair, begin: pb.CheckBegin, link: Link[pb.CheckMessage]) -> None:
        """Take part in the check of a dealt block, as the minus holder of `pair`."""
        stock = await self.of(pair)
        if (begin.stock, begin.epoch) != (stock.name, self._epoch):
            raise KeyMismatchError("the two key holders do not use the same key, epoch, pair and stock")
        try:
            async with asyncio.timeout(self._timeout_s):
                await stock.check_for_peer(link, kind_from_wire(begin.kind), begin.number, begin.oldest)
        except TimeoutError:
            peer = party_name(other_party(pair, self._party))
            raise UnavailableError(f"{peer} does not answer", party=peer) from None

    async def keep_stocked(self, pair: Pair, every_s: float) -> None:
        """Refill the stock of a pair for ever; whatever goes wrong is tried again.

        Later and later, because each attempt is a call that is refused, in the logs of other organisations too; when a
        peer comes, at once and soon again. Sessions do not wait for it: they have blocks checked themselves.
        """
        stocked: Stock | None = None
        complete: Stock | None = None
        #: What was last reported to keep it from being refilled: a code, and who failed.
        failing: tuple[str, str | None] | None = None
        retry_s = every_s
        while True:
            self._come[pair].clear()
            try:
                stock = await self.of(pair)
                more = await stock.refill_turn()
                retry_s = every_s
                if (failing or stocked is not stock) and all(stock.remaining.values()):
                    _log.info("stocked", pair=pair, epoch=self._epoch, **stock.remaining)
                    stocked, failing = stock, None
                if pair[0] == self._party and complete is not stock and not more:
                    _log.info("stock complete", pair=pair, epoch=self._epoch)
                    complete = stock
                await asyncio.sleep(_REFILL_PAUSE_S if more else every_s)
            except Exception as error:
                if isinstance(error, KeyMismatchError):
                    self.forget(pair)
                code, reason = described(error)
                failed = error.party if isinstance(error, VeilmatchError) else None
                if (code, failed) != failing:
                    level = level_of(error, logging.WARNING)
                    _log.log(level, "stock not refilled", pair=pair, code=code, reason=reason)
                failing = code, failed
                await asyncio.sleep(every_s)
                try:
                    await asyncio.wait_for(self._come[pair].wait(), retry_s - every_s)
                    # It may have said so a moment before it serves.
                    retry_s = every_s
                except TimeoutError:
                    retry_s = min(_BACK_OFF * retry_s, _LONGEST_RETRY_S)
