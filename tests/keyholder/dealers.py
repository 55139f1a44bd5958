"""Dealers in memory: what a shelf fetches its blocks from, without gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from veilmatch.crypto import dealing
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import BitTriples, Block, BlockName, Kind, Products
from veilmatch.crypto.dealing_tags import deal_tagged
from veilmatch.crypto.errors import UnavailableError
from veilmatch.crypto.keys import DealerGammas, Pair
from veilmatch.crypto.messages import Reserve, Reserved
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.keyholder.stock import Stock, stock_name
from veilmatch.server.keyholder.stock_store import StockStore

MODULUS = (Integer(1) << 511) + 187
PAIR: Pair = "ab"
#: Of a pair that nobody has a key of.
GAMMAS = DealerGammas(Integer(2) ** 127 + 3, Integer(2) ** 127 + 5)
NAME = stock_name(PAIR, 1, bytes(16), bytes([1]) * 16)
UNITS = dealing.BLOCK_UNITS
TARGETS: dict[Kind, int] = {kind: 2 * UNITS[kind] for kind in dealing.STOCK_KINDS}


class Dealer:
    """Deals to one holder; `down` makes it unreachable, `asked` counts the blocks that were asked for."""

    def __init__(self, *, for_plus: bool, seed: bytes = bytes(32)) -> None:
        self.for_plus, self.seed, self.down = for_plus, seed, False
        self.asked: list[tuple[Kind, int]] = []

    async def __call__(self, first: BlockName, count: int) -> AsyncIterator[tuple[int, Block]]:
        for number in range(first.number, first.number + count):
            if self.down:
                raise UnavailableError("keyholder-c cannot be reached", party="keyholder-c")
            self.asked.append((first.kind, number))
            name = BlockName(first.pair, first.stock, first.epoch, first.kind, number)
            yield number, deal_tagged(self.seed, name, MODULUS, GAMMAS, for_plus=self.for_plus)


class Holder:
    """One holder's store, dealer and stock; `restart` is a crash followed by a start."""

    def __init__(self, folder: Path, *, is_plus: bool, targets: dict[Kind, int] | None = None) -> None:
        self.folder, self.is_plus, self.targets = folder, is_plus, targets or TARGETS
        self.dealer = Dealer(for_plus=is_plus)
        folder.mkdir(exist_ok=True)
        self.start()

    def start(self) -> None:
        self.store = StockStore(self.folder, bytes([self.is_plus]) * 32)
        self.store.adopt(PAIR, NAME)
        self.stock = Stock(PAIR, NAME, 1, self.store, self.dealer, self.targets, MODULUS, is_plus=self.is_plus)

    def restart(self) -> None:
        self.store.close()
        self.start()

    async def reserve(self, kind: Kind, count: int, floor: int = 0, start: int | None = None) -> Reserved:
        return await self.stock.reserve(Reserve(kind, count, floor, start))


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
    for is_plus in (True, False):
        gamma = GAMMAS.of_verifier(is_plus=is_plus, access=SECRET_ACCESS)
        for plus_part, minus_part in pairs:
            verifier, prover = (plus_part, minus_part) if is_plus else (minus_part, plus_part)
            assert (verifier.key_a + gamma * prover.a - prover.tag_a) % MODULUS == 0
            assert (verifier.key_b + gamma * prover.b - prover.tag_b) % MODULUS == 0
    return all(((p.a - m.a) * (p.b - m.b) - (p.ab - m.ab)) % MODULUS == 0 for p, m in pairs)
