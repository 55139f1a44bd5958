"""Both holders of a pair and their dealer in memory: what a stock fetches and checks its blocks with, without gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from veilmatch.crypto import dealing
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import BitTriples, Block, BlockName, Kind, Products, commit_opening, deal_tagged
from veilmatch.crypto.errors import UnavailableError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.keys.shares import DealerGammas, SafetyShare
from veilmatch.crypto.pair.messages import Reserve, Reserved
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.stock.standing import Standing
from veilmatch.server.keyholder.stock.stock import Stock, stock_name
from veilmatch.server.keyholder.stock.store import StockStore
from veilmatch.server.keyholder.wire import kind_from_wire

MODULUS = (Integer(1) << 511) + 187
PAIR: Pair = "ab"
#: Of a pair that nobody has a key of.
GAMMAS = DealerGammas(Integer(2) ** 127 + 3, Integer(2) ** 127 + 5)
NAME = stock_name(PAIR, 1, bytes(16), bytes([1]) * 16)
UNITS = dealing.BLOCK_UNITS
TARGETS: dict[Kind, int] = {kind: 2 * UNITS[kind] for kind in dealing.STOCK_KINDS}


def gamma_of(*, is_plus: bool) -> Integer:
    """Under which a holder verifies the tags of the other one."""
    return GAMMAS.of_verifier(is_plus=is_plus, access=SECRET_ACCESS)


def safety_of(*, is_plus: bool) -> SafetyShare:
    """A holder's part of the key-safety check, of which the check of blocks needs Gamma alone."""
    nothing = Integer(0)
    return SafetyShare(PAIR, "a" if is_plus else "b", gamma_of(is_plus=is_plus), nothing, nothing, nothing, nothing)


class Dealer:
    """Deals to one holder; `down` makes it unreachable, `silent` when it is asked for a commitment.

    asked: the blocks that were asked for. coins: those under which commitments were. change, claim: what it does to a
    block, and to a commitment, before it sends it.
    """

    def __init__(self, *, for_plus: bool, seed: bytes = bytes(32)) -> None:
        self.for_plus, self.seed, self.down, self.silent = for_plus, seed, False, False
        self.asked: list[tuple[Kind, int]] = []
        self.coins: list[bytes] = []
        self.change: Callable[[BlockName, Block], Block] = lambda _name, block: block
        self.claim: Callable[[BlockName, bytes], bytes] = lambda _name, commitment: commitment

    async def fetch(self, name: BlockName) -> Block:
        if self.down:
            raise UnavailableError("keyholder-c cannot be reached", party="keyholder-c")
        self.asked.append((name.kind, name.number))
        return self.change(name, deal_tagged(self.seed, name, MODULUS, GAMMAS, for_plus=self.for_plus))

    async def commitment(self, name: BlockName, coin: bytes) -> bytes:
        """To what the peer of the holder must open."""
        if self.down or self.silent:
            raise UnavailableError("keyholder-c cannot be reached", party="keyholder-c")
        self.coins.append(coin)
        return self.claim(name, commit_opening(self.seed, name, coin, MODULUS, of_plus=not self.for_plus))


class MemoryLink:
    """One end of a stream between the two. The peer's error comes out of `receive`, once it has ended."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[pb.CheckMessage | BaseException] = asyncio.Queue()
        self.other: MemoryLink = self
        self.sent: list[pb.CheckMessage] = []
        self.says: Callable[[pb.CheckMessage], pb.CheckMessage] = lambda message: message

    async def send(self, message: pb.CheckMessage) -> None:
        message = self.says(message)
        self.sent.append(message)
        self.other.inbox.put_nowait(message)

    async def receive(self) -> pb.CheckMessage:
        message = await self.inbox.get()
        if isinstance(message, BaseException):
            raise message
        return message


def linked() -> tuple[MemoryLink, MemoryLink]:
    """Both ends of a stream."""
    ends = MemoryLink(), MemoryLink()
    ends[0].other, ends[1].other = ends[1], ends[0]
    return ends


async def ending_at(end: MemoryLink, serving: Coroutine[Any, Any, None]) -> None:
    """Serve at the other end of a stream; its error, or that it has ended, comes out at `end`."""
    try:
        await serving
        end.inbox.put_nowait(UnavailableError("the peer has ended", party="keyholder-b"))
    except Exception as error:
        end.inbox.put_nowait(error)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Holder:
    """One holder's store, dealer and stock; `restart` is a crash followed by a start. `other` is its peer.

    clock: that of its standing. says: changes what it sends.
    """

    def __init__(
        self, folder: Path, *, is_plus: bool, targets: dict[Kind, int] | None = None, other: Holder | None = None
    ) -> None:
        self.folder, self.is_plus, self.targets = folder, is_plus, targets or TARGETS
        self.dealer, self.clock = Dealer(for_plus=is_plus), Clock()
        self.says: Callable[[pb.CheckMessage], pb.CheckMessage] = lambda message: message
        #: The ends of the streams that this holder, as plus, has had with its peer.
        self.links: list[tuple[MemoryLink, MemoryLink]] = []
        folder.mkdir(exist_ok=True)
        self.start()
        self.other = other or Holder(
            folder.parent / f"{folder.name}-peer", is_plus=not is_plus, targets=targets, other=self
        )

    def start(self) -> None:
        self.store = StockStore(self.folder, bytes([self.is_plus]) * 32)
        self.standing = Standing((f"keyholder-{PAIR[int(self.is_plus)]}", "keyholder-c"), self.clock)
        self.adopt(NAME)

    def adopt(self, name: bytes) -> None:
        """Begin with the stock of this name, as after a meeting with the peer."""
        if hasattr(self, "stock"):
            self.stock.retire()
        self.store.adopt(PAIR, name)
        self.stock = Stock(
            PAIR,
            name,
            1,
            self.store,
            self.dealer,
            self.dial,
            self.standing,
            self.targets,
            MODULUS,
            safety_of(is_plus=self.is_plus),
            is_plus=self.is_plus,
        )

    def restart(self) -> None:
        self.stock.retire()
        self.store.close()
        self.start()

    @asynccontextmanager
    async def dial(self, first: pb.CheckMessage) -> AsyncIterator[MemoryLink]:
        mine, theirs = linked()
        mine.says, theirs.says = self.says, self.other.says
        self.links.append((mine, theirs))
        begin = first.begin
        checking = self.other.stock.check_for_peer(theirs, kind_from_wire(begin.kind), begin.number, begin.oldest)
        serving = asyncio.create_task(ending_at(mine, checking))
        try:
            yield mine
        finally:
            theirs.inbox.put_nowait(UnavailableError("the peer has left", party="keyholder-a"))
            await asyncio.wait([serving])

    async def reserve(self, kind: Kind, count: int, floor: int = 0, start: int | None = None) -> Reserved:
        if start is not None and start < 1000 * UNITS[kind]:
            await self.have_checked(kind, (start + count - 1) // UNITS[kind])
        with self.stock.session() as session:
            return await session.reserve(Reserve(kind, count, floor, start))

    async def have_checked(self, kind: Kind, number: int) -> None:
        """What the plus holder does before it allocates: all blocks up to this one were checked."""
        plus = self if self.is_plus else self.other
        while plus.stock._shelves[kind]._checker.next <= number:
            await plus.stock._shelves[kind].check_one()


def multiply_right(plus: Reserved, minus: Reserved) -> bool:
    """Return whether two holders' material of one range holds right products, all of them."""
    if isinstance(plus.material, BitTriples):
        ours, theirs = plus.material, minus.material
        assert isinstance(theirs, BitTriples)
        assert len(ours.a) == len(ours.b) == len(ours.c) == len(theirs.a) > 0
        return bool((((ours.a ^ theirs.a) & (ours.b ^ theirs.b)) == (ours.c ^ theirs.c)).all())
    if isinstance(plus.material, Products):
        one, other = plus.material, minus.material
        assert isinstance(other, Products) and len(one.factor) == len(one.product) == len(other.factor) > 0
        return bool((one.factor * other.factor == one.product - other.product).all())
    pairs = list(zip(plus.material, minus.material, strict=True))  # type: ignore[call-overload]
    assert pairs
    of_plus, of_minus = (GAMMAS.of_verifier(is_plus=is_plus, access=SECRET_ACCESS) for is_plus in (True, False))
    wrong = [
        x % MODULUS
        for p, m in pairs
        for x in (
            (p.a - m.a) * (p.b - m.b) - (p.ab - m.ab),
            p.key_a + of_plus * m.a - m.tag_a,
            p.key_b + of_plus * m.b - m.tag_b,
            m.key_a + of_minus * p.a - p.tag_a,
            m.key_b + of_minus * p.b - p.tag_b,
        )
    ]
    return not any(wrong)
