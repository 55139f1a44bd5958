"""Reserves for ever and prints every range it was handed, until it is killed; see test_stock_kill.

python -m tests.keyholder.reserve_loop <data folder> plus|minus
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from tests.keyholder.dealers import UNITS, Holder
from veilmatch.crypto.dealing import STOCK_KINDS, Kind


def past_gaps(holder: Holder, kind: Kind, start: int, count: int) -> int:
    """Where a plus holder would allocate: a check that a kill broke off leaves a block that no range crosses."""
    shelf, units = holder.stock._shelves[kind], UNITS[kind]
    while gaps := [
        number
        for number in range(start // units, (start + count - 1) // units + 1)
        if number < shelf._checker.next and number not in shelf._present
    ]:
        start = (gaps[-1] + 1) * units
    return start


async def reserve_for_ever(folder: Path, *, is_plus: bool) -> None:
    holder = Holder(folder, is_plus=is_plus)
    rng = random.Random(os.urandom(8))
    ends = dict.fromkeys(STOCK_KINDS, 0)

    async def one(kind: Kind) -> None:
        while True:
            count = rng.randrange(1, 20) if kind == "triples" else rng.randrange(1, 3000)
            index = STOCK_KINDS.index(kind)
            start = None
            if not is_plus:
                # Around what was handed out last: some overlap it, and some leave holes behind them.
                near = max(holder.stock.floors[index], ends[kind] + rng.randrange(-20, 30))
                start = past_gaps(holder, kind, near, count)
            try:
                reserved = await holder.reserve(kind, count, start=start)
            except Exception as error:
                if is_plus or type(error).__name__ != "ProtocolError":
                    raise
                continue  # the minus holder was told a range that overlaps: it refuses, and goes on
            ends[kind] = max(ends[kind], reserved.start + count)
            # In one write: what is seen was handed out, whatever happens next.
            os.write(1, f"{kind} {reserved.start} {reserved.start + count}\n".encode())

    await asyncio.gather(*(one(kind) for kind in STOCK_KINDS for _ in range(4)))


if __name__ == "__main__":
    asyncio.run(reserve_for_ever(Path(sys.argv[1]), is_plus=sys.argv[2] == "plus"))
