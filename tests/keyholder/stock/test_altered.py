"""A block of stock that was altered on the disk: dropped, and both holders go on behind it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.keyholder.dealers import UNITS, Holder, multiply_right
from veilmatch.crypto.dealing import STOCK_KINDS, Kind
from veilmatch.crypto.errors import IntegrityError, ProtocolError
from veilmatch.crypto.pair.messages import Reserve


@pytest.fixture
def plus(tmp_path: Path) -> Holder:
    return Holder(tmp_path / "plus", is_plus=True)


def spoil(holder: Holder, kind: Kind, number: int) -> None:
    """Flip one bit of a sealed block on the disk."""
    with sqlite3.connect(holder.folder / "stock.db") as connection:
        query = "SELECT sealed FROM checked_blocks WHERE kind = ? AND number = ?"
        sealed = bytearray(connection.execute(query, (kind, number)).fetchone()[0])
        sealed[20] ^= 1
        where = "UPDATE checked_blocks SET sealed = ? WHERE kind = ? AND number = ?"
        connection.execute(where, (bytes(sealed), kind, number))


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("kind", STOCK_KINDS)
async def test_the_plus_holder_skips_an_altered_block(kind: Kind, restarted: bool, plus: Holder) -> None:
    await plus.have_checked(kind, 2)
    spoil(plus, kind, 0)
    if restarted:
        plus.restart()
    ours = await plus.reserve(kind, 3)
    assert ours.start == UNITS[kind]
    assert multiply_right(ours, await plus.other.reserve(kind, 3, start=ours.start))
    plus.restart()
    assert (await plus.reserve(kind, 3)).start > ours.start


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("kind", STOCK_KINDS)
async def test_one_request_fails_at_the_minus_holder_and_the_next_goes_on_behind_the_block(
    kind: Kind, restarted: bool, plus: Holder
) -> None:
    minus = plus.other
    await plus.have_checked(kind, 2)
    spoil(minus, kind, 0)
    if restarted:
        minus.restart()
    at = STOCK_KINDS.index(kind)
    first = await plus.reserve(kind, 3, minus.stock.floors[at])
    with pytest.raises(IntegrityError) as caught:
        await minus.reserve(kind, 3, start=first.start)
    assert type(caught.value) is IntegrityError  # its own: no deviation of the peer
    assert minus.stock.floors[at] == UNITS[kind]
    second = await plus.reserve(kind, 3, minus.stock.floors[at])
    assert second.start == UNITS[kind]
    assert multiply_right(second, await minus.reserve(kind, 3, start=second.start))


@pytest.mark.parametrize("kind", STOCK_KINDS)
async def test_a_block_that_was_never_kept_is_a_deviation_of_whoever_asks_for_it(kind: Kind, plus: Holder) -> None:
    """Not an own failure of the minus holder, which would name itself for what the plus holder does."""
    minus = plus.other
    await plus.have_checked(kind, 2)
    minus.stock._shelves[kind]._present.discard(0)
    with pytest.raises(ProtocolError):
        await minus.stock.reserve(Reserve(kind, 3, 0, 0))
