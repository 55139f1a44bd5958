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

from tests.keyholder.dealers import MODULUS, NAME, PAIR, TARGETS, UNITS, Holder, MemoryLink, ending_at, gamma_of, linked
from veilmatch.crypto.dealing import STOCK_KINDS, BlockCheck, BlockName, Kind
from veilmatch.crypto.errors import DealtOpeningError, DealtStockError, ProtocolError, UnavailableError
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.stock.checking import MAX_SKIP_BLOCKS
from veilmatch.server.keyholder.stock.standing import FIRST_WAIT_S

NONCE = bytes(range(32))
GAMMA = gamma_of(is_plus=True)


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
@pytest.mark.parametrize("wrong", ["salt", "values", "size", "empty"])
async def test_nothing_leaves_after_a_wrong_opening_and_its_sender_is_named(
    kind: Kind, wrong: str, minus: Holder
) -> None:
    async with asked(minus, kind, 0) as link:
        number, theirs = await to_the_nonce(link)
        name = BlockName(PAIR, NAME, 1, kind, number)
        right = BlockCheck(
            name, await minus.other.dealer.fetch(name), (NONCE, theirs), MODULUS, GAMMA, is_plus=True
        ).opening
        flipped = {at: right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :] for at in (0, len(right) - 1)}
        opening = {"salt": flipped[0], "values": flipped[len(right) - 1], "size": right[:-1], "empty": b""}[wrong]
        await link.send(pb.CheckMessage(nonce=NONCE))
        await link.send(pb.CheckMessage(opening=opening))
        with pytest.raises(DealtOpeningError) as caught:
            await link.receive()
        assert (caught.value.party, caught.value.retry_after_s) == ("keyholder-a", FIRST_WAIT_S)
    assert not minus.store.numbers(NAME, kind)


@pytest.mark.parametrize("kind", STOCK_KINDS)
async def test_after_a_right_opening_a_wrong_proof_keeps_nothing_and_names_the_dealer(
    kind: Kind, minus: Holder
) -> None:
    async with asked(minus, kind, 0) as link:
        number, theirs = await to_the_nonce(link)
        name = BlockName(PAIR, NAME, 1, kind, number)
        check = BlockCheck(name, await minus.other.dealer.fetch(name), (NONCE, theirs), MODULUS, GAMMA, is_plus=True)
        await link.send(pb.CheckMessage(nonce=NONCE))
        await link.send(pb.CheckMessage(opening=check.opening))
        opening, proof = (await link.receive()).opening, (await link.receive()).proof
        right = check.proof(opening, await minus.other.dealer.commitment(name, check.coin))
        assert check.kept(proof), "the minus holder's is right"
        await link.send(pb.CheckMessage(proof=bytes([right[0] ^ 1]) + right[1:]))
        with pytest.raises(DealtStockError) as caught:
            await link.receive()
        assert (type(caught.value), caught.value.party) == (DealtStockError, "keyholder-c")
    assert not minus.store.numbers(NAME, kind)


@pytest.mark.parametrize("kind", STOCK_KINDS)
async def test_a_holder_that_waits_is_asked_in_vain_and_loses_no_number(kind: Kind, minus: Holder) -> None:
    async with asked(minus, kind, 0) as link:
        await to_the_nonce(link)
        await link.send(pb.CheckMessage(nonce=NONCE))
        await link.send(pb.CheckMessage(opening=b"wrong"))
        with pytest.raises(DealtOpeningError):
            await link.receive()
    for wait_s in (FIRST_WAIT_S, 2.0):
        async with asked(minus, kind, 0) as link:
            with pytest.raises(DealtOpeningError) as caught:
                await link.receive()
            assert caught.value.retry_after_s == wait_s
        minus.clock.now = FIRST_WAIT_S - 2
    minus.clock.now = FIRST_WAIT_S
    async with asked(minus, kind, 0) as link:
        assert (await to_the_nonce(link))[0] == 1


async def test_the_minus_holder_keeps_no_more_than_its_target_and_a_margin(
    minus: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veilmatch.server.keyholder.stock.shelf.MAX_SKIP_BLOCKS", 1)
    allowed = TARGETS["bits"] // UNITS["bits"] + 1
    for _ in range(allowed):
        await minus.other.stock._shelves["bits"].check_one()
    assert len(minus.store.numbers(NAME, "bits")) == allowed
    async with asked(minus, "bits", allowed) as link:
        with pytest.raises(ProtocolError, match="more stock"):
            await link.receive()
