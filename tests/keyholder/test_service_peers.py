"""What key holders ask of each other: who may ask it, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.keyholder.trio import NAMES, TOY, Trio, ceremony, refused
from veilmatch.crypto.dealing import BLOCK_UNITS, DEALT_UNITS, Block, BlockName, commit_opening, tagged_triples
from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import (
    BudgetExceededError,
    InvalidInputError,
    KeyMismatchError,
    PartyRefusedError,
    ProtocolError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party, dealer_of, pairs_of
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.config import DealingLimits
from veilmatch.server.keyholder.allowance import Allowance
from veilmatch.server.keyholder.stock.store import GENERATION_BYTES
from veilmatch.server.transport.status import decoded


def meet_stock(**changes: Any) -> pb.StockGeneration:
    return pb.StockGeneration(**({"pair": "ab", "epoch": 1, "generation": bytes(GENERATION_BYTES)} | changes))


def deal(**changes: Any) -> pb.DealRequest:
    fields: dict[str, Any] = {"pair": "ab", "epoch": 1, "stock": bytes(DIGEST_BYTES), "kind": pb.STOCK_KIND_TRIPLES}
    return pb.DealRequest(**(fields | {"first": 0, "count": 1} | changes))


def opening(**changes: Any) -> pb.DealtOpeningRequest:
    fields: dict[str, Any] = {"pair": "ab", "epoch": 1, "stock": bytes(DIGEST_BYTES), "kind": pb.STOCK_KIND_TRIPLES}
    return pb.DealtOpeningRequest(**(fields | {"number": 0, "coin": bytes(DIGEST_BYTES)} | changes))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("caller", NAMES)
async def test_stock_is_dealt_to_the_holders_of_its_pair_alone(trio: Trio, pair: Pair, caller: str) -> None:
    dealer = dealer_of(pair)
    stub = rpc.KeyHolderPeerStub(trio.channel(caller, dealer))
    if caller in {f"keyholder-{party}" for party in PARTIES if party in pair}:
        blocks = [block async for block in stub.Deal(deal(pair=pair), timeout=20.0)]
        # Two tags of every triple that will be kept for either holder; for the plus holder what makes products right.
        # And one of what masks them when they are checked.
        numbers = 2 * BLOCK_UNITS["triples"] + 1 + (DEALT_UNITS["triples"] if caller == f"keyholder-{pair[0]}" else 0)
        assert [len(b.corrections) for b in blocks] == [numbers * TOY.modulus_bits // 8]
        return
    error = await refused(stub.Deal(deal(pair=pair), timeout=20.0), dealer)
    assert isinstance(error, PartyRefusedError) and error.got == caller


async def test_both_holders_are_dealt_parts_that_multiply(trio: Trio) -> None:
    """What the dealer streams to each is their own part of one block."""
    N, parts = ceremony().public_key.modulus, []
    for caller in ("keyholder-a", "keyholder-b"):
        stub = rpc.KeyHolderPeerStub(trio.channel(caller, "c"))
        (dealt,) = [block async for block in stub.Deal(deal(first=5), timeout=20.0)]
        assert dealt.number == 5
        parts.append(tagged_triples(Block(dealt.seed, dealt.corrections), 0, BLOCK_UNITS["triples"], N))
    assert all(((p.a - m.a) * (p.b - m.b) - (p.ab - m.ab)) % N == 0 for p, m in zip(*parts, strict=True))
    gamma = ceremony().keys[0].safety("ab").gamma(SECRET_ACCESS)
    assert all((p.key_a + gamma * m.a - m.tag_a) % N == 0 for p, m in zip(*parts, strict=True)), "a verifies b"


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("caller", NAMES)
async def test_the_dealer_commits_to_each_holder_of_its_pair_what_the_other_must_open(
    trio: Trio, pair: Pair, caller: str
) -> None:
    dealer = dealer_of(pair)
    stub = rpc.KeyHolderPeerStub(trio.channel(caller, dealer))
    if caller in {f"keyholder-{party}" for party in pair}:
        found = (await stub.DealtOpening(opening(pair=pair, number=3), timeout=20.0)).commitment
        key, name = trio.key(dealer), BlockName(pair, bytes(DIGEST_BYTES), 1, "triples", 3)
        seed, N = key.dealing_seed(SECRET_ACCESS), ceremony().public_key.modulus
        of_plus = caller != f"keyholder-{pair[0]}"
        assert found == commit_opening(seed, name, bytes(DIGEST_BYTES), N, of_plus=of_plus)
        return
    error = await refused(stub.DealtOpening(opening(pair=pair), timeout=20.0), dealer)
    assert isinstance(error, PartyRefusedError) and error.got == caller


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"pair": "ba"}, InvalidInputError),
        ({"pair": "ac"}, InvalidInputError),
        ({"stock": b"short"}, InvalidInputError),
        ({"coin": b""}, ProtocolError),
        ({"coin": bytes(DIGEST_BYTES + 1)}, ProtocolError),
        ({"kind": pb.STOCK_KIND_UNSPECIFIED}, ProtocolError),
    ],
)
async def test_what_cannot_be_committed_to_is_refused(
    trio: Trio, changes: dict[str, Any], kind: type[VeilmatchError]
) -> None:
    stub = rpc.KeyHolderPeerStub(trio.channel("keyholder-a", "c"))
    assert isinstance(await refused(stub.DealtOpening(opening(**changes), timeout=20.0), "c"), kind)


@pytest.mark.parametrize("method", ["Pair", "CheckDealt"])
async def test_a_peer_that_leaves_before_it_says_anything_is_missing_and_deviates_in_nothing(
    trio: Trio, method: str
) -> None:
    """A check that a refresh ends is given up at any moment. Another first message is a deviation."""
    stub, message = rpc.KeyHolderPeerStub(trio.channel("keyholder-a", "b")), {"Pair": pb.PairFrames}
    call = getattr(stub, method)(timeout=20.0)
    await call.done_writing()
    error = await refused(call.read(), "b")
    assert isinstance(error, UnavailableError) and "keyholder-a left" in error.message
    call = getattr(stub, method)(timeout=20.0)
    await call.write(message.get(method, pb.CheckMessage)())
    assert isinstance(await refused(call.read(), "b"), ProtocolError)


async def test_nothing_of_an_epoch_in_which_this_holder_has_not_dealt_is_committed_to(trio: Trio) -> None:
    """It would be made from another dealing seed: see refresh/test_overlaps.py."""
    stub = rpc.KeyHolderPeerStub(trio.channel("keyholder-a", "c"))
    error = await refused(stub.DealtOpening(opening(epoch=2), timeout=20.0), "c")
    assert isinstance(error, KeyMismatchError) and "different epochs" in error.message


async def test_a_peer_that_asks_for_too_much_dealing_is_refused_and_the_other_is_not(trio: Trio) -> None:
    trio["c"].allowance = Allowance(DealingLimits(burst=64, per_minute=60))
    stub, other = (rpc.KeyHolderPeerStub(trio.channel(f"keyholder-{party}", "c")) for party in ("a", "b"))
    bits = deal(kind=pb.STOCK_KIND_BITS, count=63)
    assert len([block async for block in other.Deal(deal(kind=pb.STOCK_KIND_BITS), timeout=20.0)]) == 1
    assert isinstance(await refused(other.Deal(deal(kind=pb.STOCK_KIND_BITS, count=65)), "c"), BudgetExceededError)
    assert len([block async for block in other.Deal(bits, timeout=20.0)]) == 63
    error = await refused(other.Deal(bits, timeout=20.0), "c")
    assert isinstance(error, BudgetExceededError) and error.budget == "dealing to keyholder-b"
    assert error.retry_after_s is not None and 50 < error.retry_after_s <= 63
    assert (await other.DealtOpening(opening(), timeout=20.0)).commitment, "the check of what was dealt can end"
    assert len([block async for block in stub.Deal(deal(), timeout=20.0)]) == 1


@pytest.mark.parametrize("pair", PAIRS)
async def test_a_holder_of_the_pair_is_not_its_dealer(trio: Trio, pair: Pair) -> None:
    for party, caller in ((pair[0], pair[1]), (pair[1], pair[0])):
        stub = rpc.KeyHolderPeerStub(trio.channel(f"keyholder-{caller}", party))  # type: ignore[arg-type]
        error = await refused(stub.Deal(deal(pair=pair), timeout=20.0), party)  # type: ignore[arg-type]
        assert isinstance(error, InvalidInputError) and (error.got, error.expected) == (party, dealer_of(pair))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"pair": "ba"}, InvalidInputError),
        ({"pair": ""}, InvalidInputError),
        ({"epoch": 2}, KeyMismatchError),
        ({"stock": b"short"}, InvalidInputError),
        ({"count": 0}, InvalidInputError),
        ({"count": 4097}, InvalidInputError),
        ({"kind": pb.STOCK_KIND_UNSPECIFIED}, ProtocolError),
    ],
)
async def test_what_cannot_be_dealt_is_refused(trio: Trio, changes: dict[str, Any], kind: type[VeilmatchError]) -> None:
    stub = rpc.KeyHolderPeerStub(trio.channel("keyholder-a", "c"))
    assert isinstance(await refused(stub.Deal(deal(**changes), timeout=20.0), "c"), kind)


@pytest.mark.parametrize("party", PARTIES)
@pytest.mark.parametrize("caller", NAMES)
async def test_a_stock_is_met_by_the_other_holder_of_its_pair_alone(trio: Trio, party: Party, caller: str) -> None:
    for pair in PAIRS:
        stub = rpc.KeyHolderPeerStub(trio.channel(caller, party))
        call = stub.MeetStock(meet_stock(pair=pair), timeout=20.0)
        if pair in pairs_of(party) and caller in {f"keyholder-{p}" for p in pair if p != party}:
            assert (await call).generation == trio[party].stocks.generation
        else:
            kind = PartyRefusedError if pair in pairs_of(party) else InvalidInputError
            assert isinstance(await refused(call, party), kind)
            assert pair not in trio[party].stocks.by_pair


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"pair": "xy"}, InvalidInputError),
        ({"epoch": 0}, KeyMismatchError),
        ({"generation": b""}, ProtocolError),
        ({"generation": bytes(GENERATION_BYTES + 1)}, ProtocolError),
    ],
)
async def test_a_stock_that_cannot_be_met_is_refused(
    trio: Trio, changes: dict[str, Any], kind: type[VeilmatchError]
) -> None:
    stub = rpc.KeyHolderPeerStub(trio.channel("keyholder-b", "a"))
    assert isinstance(await refused(stub.MeetStock(meet_stock(**changes), timeout=20.0), "a"), kind)
    assert not trio["a"].stocks.by_pair


@pytest.mark.parametrize("caller", NAMES)
async def test_only_peers_call_about_a_request(hasty: Trio, caller: str) -> None:
    call = rpc.KeyHolderPeerStub(hasty.channel(caller, "b")).Pair(timeout=20.0)
    if caller in ("keyholder-a", "keyholder-c"):
        await call.write(opening_session(1))
        (frame,) = (await call.read()).frame
        error = decoded(frame.message.ended, "keyholder-b")
        assert isinstance(error, UnavailableError) and "was not brought the request" in error.message
        assert (frame.session, frame.over) == (1, True) and not call.done(), "the session ends, and not the link"
    else:
        assert isinstance(await refused(call, "b"), PartyRefusedError)
    assert all(hasty.running[party].pool.batches == 0 for party in PARTIES)
    assert not hasty["b"].links.rendezvous._links


@pytest.mark.parametrize(
    "wrong",
    [
        pb.PairFrame(session=1, message=pb.PairMessage(gate_layer=b"x")),
        pb.PairFrame(session=1),
        pb.PairFrame(session=2, message=pb.PairMessage(rendezvous=pb.PairRendezvous(subject_matter=[bytes(32)]))),
    ],
)
async def test_a_session_of_a_peer_begins_with_a_rendezvous_and_the_next_number(
    trio: Trio, wrong: pb.PairFrame
) -> None:
    call = rpc.KeyHolderPeerStub(trio.channel("keyholder-a", "b")).Pair(timeout=20.0)
    await call.write(pb.PairFrames(frame=[wrong]))
    assert isinstance(await refused(call, "b"), ProtocolError)


async def test_the_newest_call_of_a_peer_is_its_link_and_the_one_before_may_come_to_its_end(trio: Trio) -> None:
    stub = rpc.KeyHolderPeerStub(trio.channel("keyholder-a", "b"))
    calls, called = [stub.Pair(timeout=60.0) for _ in range(3)], trio["b"].links._called["a"]
    before = None
    for number, call in enumerate(calls):
        await call.write(opening_session(1, bytes([number]) * 32))
        while called.link is before:
            await asyncio.sleep(0.01)
        before = called.link
    assert not isinstance(await calls[0].read(), pb.PairFrames)
    assert not calls[1].done() and not calls[2].done()
    for call in calls:
        call.cancel()


def opening_session(number: int, *matters: bytes) -> pb.PairFrames:
    rendezvous = pb.PairMessage(rendezvous=pb.PairRendezvous(subject_matter=matters or [bytes(DIGEST_BYTES)]))
    return pb.PairFrames(frame=[pb.PairFrame(session=number, message=rendezvous)])
