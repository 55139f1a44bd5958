"""A plus holder that deviates in the check of a dealt block: what the minus holder does, and what it costs it.

Whoever got two coins for one block could open with the second what the first one kept. So there is one nonce of an
honest holder for a number, ever, whatever its peer does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.keyholder.dealers import MODULUS, NAME, PAIR, TARGETS, UNITS, Holder, MemoryLink, ending_at, linked
from veilmatch.crypto.dealing import STOCK_KINDS, BlockCheck, BlockName, Kind
from veilmatch.crypto.errors import DealtStockError, ProtocolError, UnavailableError
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.stock.checking import MAX_SKIP_BLOCKS

NONCE = bytes(range(32))


@pytest.fixture
def minus(tmp_path: Path) -> Holder:
    return Holder(tmp_path / "minus", is_plus=False)


@asynccontextmanager
async def asked(minus: Holder, kind: Kind, first: int, oldest: int = 0) -> AsyncIterator[MemoryLink]:
    """The stream of a hostile plus holder, once it has asked for a check. Its end is an error of the peer's."""
    mine, theirs = linked()
    serving = asyncio.create_task(ending_at(mine, minus.stock.check_for_peer(theirs, kind, first, oldest)))
    try:
        yield mine
    finally:
        theirs.inbox.put_nowait(UnavailableError("the peer has left", party="keyholder-a"))
        await serving


async def to_the_nonce(link: MemoryLink) -> tuple[int, bytes]:
    """Take part as an honest holder does until the minus holder has shown its nonce."""
    number = (await link.receive()).number
    await link.send(pb.CheckMessage(ready=True))
    return number, (await link.receive()).nonce


@pytest.mark.parametrize("kind", STOCK_KINDS)
async def test_a_number_gets_one_nonce_ever_whatever_the_plus_holder_asks_for(kind: Kind, minus: Holder) -> None:
    seen: list[int] = []
    for turn in range(4):
        async with asked(minus, kind, 0) as link:
            seen.append((await to_the_nonce(link))[0])
        if turn == 1:
            minus.restart()
    assert seen == [0, 1, 2, 3], "each number once, in spite of a restart"
    assert not minus.store.numbers(NAME, kind), "nothing was kept of a check that did not end"


async def test_before_the_nonce_a_number_costs_nothing(minus: Holder) -> None:
    for _ in range(3):
        async with asked(minus, "bits", 0) as link:
            assert (await link.receive()).number == 0
    async with asked(minus, "bits", 0) as link:
        assert (await to_the_nonce(link))[0] == 0


async def test_numbers_far_ahead_and_ranges_that_were_not_checked_are_refused(minus: Holder) -> None:
    for first, oldest in ((MAX_SKIP_BLOCKS + 1, 0), (2**40, 0), (0, 1)):
        async with asked(minus, "bits", first, oldest) as link:
            with pytest.raises(ProtocolError):
                await link.receive()
    async with asked(minus, "bits", 0) as link:
        assert (await to_the_nonce(link))[0] == 0


@pytest.mark.parametrize(
    "message",
    [
        pb.CheckMessage(),
        pb.CheckMessage(nonce=NONCE),
        pb.CheckMessage(proof=bytes(32)),
        pb.CheckMessage(stored=True),
        pb.CheckMessage(begin=pb.CheckBegin(pair=PAIR)),
    ],
)
async def test_another_message_than_the_check_is_at_ends_it(message: pb.CheckMessage, minus: Holder) -> None:
    async with asked(minus, "products", 0) as link:
        await link.receive()
        await link.send(message)
        with pytest.raises(ProtocolError):
            await link.receive()
    assert not minus.store.numbers(NAME, "products")


@pytest.mark.parametrize("size", [0, 31, 33])
async def test_a_nonce_of_another_size_ends_the_check(size: int, minus: Holder) -> None:
    async with asked(minus, "bits", 0) as link:
        await to_the_nonce(link)
        await link.send(pb.CheckMessage(nonce=bytes(size)))
        with pytest.raises(ProtocolError):
            await link.receive()


@pytest.mark.parametrize("kind", STOCK_KINDS)
@pytest.mark.parametrize("wrong", ["opening", "size", "proof"])
async def test_a_wrong_opening_or_proof_keeps_nothing(kind: Kind, wrong: str, minus: Holder) -> None:
    expected = ProtocolError if wrong == "size" else DealtStockError
    async with asked(minus, kind, 0) as link:
        number, theirs = await to_the_nonce(link)
        name = BlockName(PAIR, NAME, 1, kind, number)
        check = BlockCheck(name, await minus.other.dealer(name), (NONCE, theirs), MODULUS, is_plus=True)
        opening = bytearray(check.opening)
        if wrong == "opening":
            # A single bit of a bit triple passes half of the time; it would tell a bit of what the check uses up.
            opening[-8:] = bytes(x ^ 0xFF for x in opening[-8:-1]) + bytes([opening[-1] ^ 1])
        await link.send(pb.CheckMessage(nonce=NONCE))
        await link.send(pb.CheckMessage(opening=bytes(opening[wrong == "size" :])))
        if wrong != "size":
            proof = bytearray(check.proof((await link.receive()).opening))
            proof[0] ^= wrong == "proof"
            assert len((await link.receive()).proof) == len(proof)
            await link.send(pb.CheckMessage(proof=bytes(proof)))
        with pytest.raises(expected):
            await link.receive()
    assert not minus.store.numbers(NAME, kind)
    async with asked(minus, kind, 0) as link:
        if expected is DealtStockError:
            with pytest.raises(DealtStockError):
                await link.receive()
        else:
            assert (await to_the_nonce(link))[0] == 1


async def test_the_minus_holder_keeps_no_more_than_its_target_and_a_margin(
    minus: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veilmatch.server.keyholder.stock.stock.MAX_SKIP_BLOCKS", 1)
    allowed = TARGETS["bits"] // UNITS["bits"] + 1
    for _ in range(allowed):
        await minus.other.stock._shelves["bits"].check_one()
    assert len(minus.store.numbers(NAME, "bits")) == allowed
    async with asked(minus, "bits", allowed) as link:
        with pytest.raises(ProtocolError, match="more stock"):
            await link.receive()
