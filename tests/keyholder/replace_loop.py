"""Changes between two stocks and reserves from the current one, until it is killed; see test_stock_replaced.

python -m tests.keyholder.replace_loop <data folder>
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from tests.keyholder.dealers import PAIR, Holder
from veilmatch.server.keyholder.stock.stock import stock_name

NAMES = tuple(stock_name(PAIR, 1, bytes(16), bytes([generation]) * 16) for generation in (1, 2))


async def replace_for_ever(folder: Path) -> None:
    rng = random.Random(os.urandom(8))
    plus = Holder(folder, is_plus=True)
    while True:
        name = rng.choice(NAMES)
        for holder in (plus, plus.other):
            holder.adopt(name)
        for _ in range(rng.randrange(1, 4)):
            count = rng.randrange(1, 40)
            reserved = await plus.reserve("triples", count)
            # In one write: what is seen was handed out, whatever happens next.
            os.write(1, f"{NAMES.index(name)} {reserved.start} {reserved.start + count}\n".encode())


if __name__ == "__main__":
    asyncio.run(replace_for_ever(Path(sys.argv[1])))
