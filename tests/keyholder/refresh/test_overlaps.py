"""What a refresh overlaps: a check of dealt blocks, or a session, that began in the epoch before. Nobody is accused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.keyholder.refreshables import TEMPLATES, Refreshables, gallery, refreshables
from tests.keyholder.trio import refused, signed
from veilmatch.crypto.dealing import Kind
from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import KeyMismatchError, UnavailableError
from veilmatch.crypto.keys.parties import PARTIES, Pair, Party, dealer_of
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.keyholder.wire import KIND_TO_WIRE


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Refreshables]:
    """With five seconds for whatever is under way when the shares change."""
    async with refreshables(tmp_path / "trio", peer_timeout_s=25.0) as made:
        yield made


class Gate:
    """Holds up the calls of a key holder to a peer, before they leave."""

    def __init__(self, three: Refreshables, party: Party, method: str) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        peers = three[party].peers
        self._call: Callable[..., Any] = getattr(peers, method)
        setattr(peers, method, self._held)

    async def _held(self, *arguments: Any) -> Any:
        self.reached.set()
        await self.opened.wait()
        return await self._call(*arguments)


async def become(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def sessions_under_way(three: Refreshables, *parties: Party) -> AsyncIterator[None]:
    """Have these key holders wait for sessions before they serve with other shares."""
    async with AsyncExitStack() as stack:
        for party in parties:
            await stack.enter_async_context(three[party]._turnstile.passed())
        yield


async def check_of(three: Refreshables, pair: Pair, kind: Kind) -> asyncio.Task[None]:
    """Begin the check of one more block, at the plus holder."""
    plus = next(party for party in PARTIES if party in pair)
    stock = await three[plus].stocks.of(pair)
    return asyncio.create_task(stock._shelves[kind].check_one())


def nobody_waits(three: Refreshables) -> bool:
    """Whether no check of anybody's has failed."""
    return not any(standing._failed for p in PARTIES for standing in three[p].stocks._standings.values())


# -- checks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pair", "kind"), [("ab", "triples"), ("ac", "bits"), ("bc", "products")])
async def test_a_check_that_the_dealer_leaves_behind_passes_and_names_nobody(
    three: Refreshables, pair: Pair, kind: Kind
) -> None:
    """The dealer serves with its next key, the pair does not yet, and asks what was dealt in the epoch before."""
    dealer, holders = dealer_of(pair), [party for party in PARTIES if party in pair]
    gates = [Gate(three, party, "commitment") for party in holders]
    check = await check_of(three, pair, kind)
    await asyncio.gather(*(gate.reached.wait() for gate in gates))
    async with sessions_under_way(three, *holders):
        refresh = asyncio.create_task(three.refresh(dealer))
        await become(lambda: all(three.opened[party].current.epoch == 2 for party in PARTIES))
        await become(lambda: three[dealer].epoch == 2)
        # However often it looks: both say that a restart would be in the new epoch, and are not.
        for _ in range(3):
            await three.refreshers[dealer].settle()
        for gate in gates:
            gate.opened.set()
        await check
        for party in holders:
            assert three[party].epoch == 1
            assert three[party]._store.numbers(three[party].stocks.by_pair[pair].name, kind) == {0}
        assert three.files(dealer) == ["", ".old"]
    assert await refresh == 2 and await three.settled() == {2}
    assert nobody_waits(three) and await three.serves(pair)


@pytest.mark.parametrize("late", ["plus", "minus", "both"])
async def test_a_check_that_the_pair_leaves_behind_ends_at_both_and_names_nobody(
    three: Refreshables, late: str
) -> None:
    """The dealer no longer knows what it dealt when it is asked at last, or would be: the stock is replaced anyway."""
    parties: tuple[Party, ...] = {"plus": ("a",), "minus": ("b",)}.get(late, ("a", "b"))  # type: ignore[assignment]
    gates = [Gate(three, party, "commitment") for party in parties]
    check = await check_of(three, "ab", "bits")
    await asyncio.gather(*(gate.reached.wait() for gate in gates))
    with capture_logs() as logged:
        assert await three.refresh("c") == 2 and await three.settled() == {2}
        for gate in gates:
            gate.opened.set()
        with pytest.raises(UnavailableError, match="replaced"):
            await check
        assert await three.serves("ab"), "at once"
    assert nobody_waits(three) and not [entry for entry in logged if entry["event"] == "dealt block refused"]


async def test_the_dealer_commits_to_what_it_dealt_in_the_epoch_that_it_left_until_both_peers_have_left_it(
    three: Refreshables,
) -> None:
    stub = rpc.KeyHolderPeerStub(three.channel("keyholder-a", "c"))

    def opening(epoch: int) -> Any:
        return stub.DealtOpening(
            pb.DealtOpeningRequest(
                pair="ab", epoch=epoch, stock=bytes(DIGEST_BYTES), kind=KIND_TO_WIRE["bits"], coin=bytes(DIGEST_BYTES)
            ),
            timeout=20.0,
        )

    before = (await opening(1)).commitment
    assert isinstance(await refused(opening(2), "c"), KeyMismatchError), "nothing is dealt in that one yet"
    async with sessions_under_way(three, "b"):
        refresh = asyncio.create_task(three.refresh("c"))
        await become(lambda: three["c"].epoch == 2)
        assert (await opening(1)).commitment == before != (await opening(2)).commitment
        dealt = stub.Deal(pb.DealRequest(
            pair="ab", epoch=1, stock=bytes(DIGEST_BYTES), kind=KIND_TO_WIRE["bits"], first=0, count=1
        ))  # fmt: skip
        error = await refused(dealt, "c")
        assert isinstance(error, UnavailableError) and "refreshed" in error.message, "no more is dealt there"
    assert await refresh == 2 and await three.settled() == {2}
    assert isinstance(await refused(opening(1), "c"), KeyMismatchError)


async def test_a_check_with_a_peer_in_another_epoch_is_no_mismatch_of_keys(three: Refreshables) -> None:
    check_dealt = rpc.KeyHolderPeerStub(three.channel("keyholder-a", "b")).CheckDealt

    async def begun_in(epoch: int) -> Any:
        call = check_dealt(timeout=20.0)
        await call.write(pb.CheckMessage(begin=pb.CheckBegin(
            pair="ab", epoch=epoch, stock=bytes(DIGEST_BYTES), kind=KIND_TO_WIRE["bits"]
        )))  # fmt: skip
        return await refused(call.read(), "b")

    assert isinstance(await begun_in(2), KeyMismatchError)
    async with sessions_under_way(three, "c"):
        refresh = asyncio.create_task(three.refresh("b"))
        await become(lambda: three["a"].epoch == three["b"].epoch == 2)
        error = await begun_in(1)
        assert isinstance(error, UnavailableError) and "being refreshed, ask again" in error.message
    assert await refresh == 2


# -- sessions -----------------------------------------------------------------------------------------


async def test_a_session_that_meets_its_peer_too_late_may_be_asked_again(tmp_path: Path) -> None:
    """It began in the old epoch, and the peer has finished the refresh when it is asked about the stock of that."""
    async with refreshables(tmp_path / "trio") as three:
        gate = Gate(three, "a", "meet_stock")
        asked = asyncio.create_task(three.decide(signed(TEMPLATES[0], "ab"), "ab", gallery(), [0]))
        await gate.reached.wait()
        assert await three.refresh("b") == 2 and await three.settled() == {2}
        gate.opened.set()
        with pytest.raises(UnavailableError) as caught:
            await asked
        assert "being refreshed, ask again" in caught.value.message
        assert await three.serves("ab")
