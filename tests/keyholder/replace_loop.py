"""Changes between two stocks and reserves from the current one, until it is killed; see test_stock_replaced.

python -m tests.keyholder.replace_loop <data folder>
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from tests.keyholder.dealers import MODULUS, PAIR, TARGETS, Dealer
from veilmatch.crypto.messages import Reserve
from veilmatch.server.keyholder.stock import Stock, stock_name
from veilmatch.server.keyholder.stock_store import StockStore

NAMES = tuple(stock_name(PAIR, 1, bytes(16), bytes([generation]) * 16) for generation in (1, 2))


async def replace_for_ever(folder: Path) -> None:
    store, rng = StockStore(folder, bytes(32)), random.Random(os.urandom(8))
    while True:
        name = rng.choice(NAMES)
        store.adopt(PAIR, name)
        stock = Stock(PAIR, name, 1, store, Dealer(for_plus=True), TARGETS, MODULUS, is_plus=True)
        for _ in range(rng.randrange(1, 4)):
            count = rng.randrange(1, 40)
            reserved = await stock.reserve(Reserve("triples", count, 0, None))
            # In one write: what is seen was handed out, whatever happens next.
            os.write(1, f"{NAMES.index(name)} {reserved.start} {reserved.start + count}\n".encode())
        stock.retire()


if __name__ == "__main__":
    asyncio.run(replace_for_ever(Path(sys.argv[1])))
