"""Verifications of a matcher over the one link to its key holder: right, told apart, and ended one by one.

All other tests of key holders verify over it as well (trio.py); here is what only the link has.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest

from tests.keyholder.audit.test_service import noted
from tests.keyholder.test_together import FACES, HIGH, verify
from tests.keyholder.trio import STATE, Trio, encrypted, holders, signed
from veilmatch.crypto.errors import OverloadedError, ProtocolError, RequestSignatureError, UnavailableError
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.matcher.query import keyholder_call


def opening(request: request_pb2.SignedRequest, *records: Any) -> pb.MatcherToKeyHolder:
    record = [c for one in records for c in encrypted(one)]
    by_device = bytes(-(-len(records) // 8))
    return pb.MatcherToKeyHolder(
        open=pb.OpenSession(request=request, sequence=7, chain=STATE.chain, record=record, by_device=by_device)
    )


def verification(pair: Any = "ab") -> request_pb2.SignedRequest:
    return signed(FACES[0], pair, 1, request_pb2.OPERATION_VERIFY)


async def test_both_pairs_of_a_matcher_share_one_call(trio: Trio) -> None:
    asked = [(FACES[i], pair, FACES[i + i % 2]) for i in range(4) for pair in ("ab", "ac")]
    found = await asyncio.gather(*(verify(trio, probe, pair, HIGH, [face]) for probe, pair, face in asked))
    assert found == [int(probe @ face) >= HIGH for probe, _, face in asked] and {True, False} == set(found)
    link = trio.running["a"].service._called.link
    assert link is not None and link._newest == len(asked)


async def test_what_is_refused_ends_alone_and_says_why(trio: Trio) -> None:
    wrong = verification()
    wrong.signature = bytes(64)
    link = trio.link("a").link()
    strand = link.open(opening(wrong, FACES[0]))
    assert await verify(trio, FACES[0], "ab", 1, [FACES[0]])
    with pytest.raises(RequestSignatureError) as caught:
        await strand.receive()
    assert "keyholder-a" in caught.value.said_by
    assert trio.link("a").link() is link


async def test_one_too_many_is_refused_before_its_signature_is_looked_at(trio: Trio) -> None:
    wrong, bound = verification(), trio["a"].verifying
    wrong.signature = bytes(64)
    with ExitStack() as held:
        for number in range(bound.limit):
            held.enter_context(bound.one(f"device-{number + 2}"))
        with pytest.raises(OverloadedError) as caught:
            await trio.link("a").link().open(opening(wrong, FACES[0])).receive()
    assert caught.value.party == "keyholder-a" and caught.value.retry_after_s


async def test_one_that_its_matcher_gives_up_is_ended_and_noted(trio: Trio) -> None:
    service = trio.running["a"].service
    strand = trio.link("a").link().open(opening(verification(), FACES[0]))
    async with asyncio.timeout(10):
        while not trio["a"]._together._brought:  # it waits for the peer, which was not brought it
            await asyncio.sleep(0.01)
        strand.abandon()
        while service._tasks:
            await asyncio.sleep(0.01)
    assert not trio["a"]._together._brought and not noted(trio, "a")


async def test_a_lost_link_ends_what_is_on_it_and_the_next_one_calls_again(trio: Trio) -> None:
    service = trio.running["a"].service
    link = trio.link("a").link()
    strand = link.open(opening(verification(), FACES[0]))
    async with asyncio.timeout(10):
        while not trio["a"]._together._brought:
            await asyncio.sleep(0.01)
        service._called.close()
        with pytest.raises(UnavailableError) as caught:
            await strand.receive()
        assert caught.value.party == "keyholder-a"
        while service._tasks:
            await asyncio.sleep(0.01)
    assert await verify(trio, FACES[0], "ab", 1, [FACES[0]]) and trio.link("a").link() is not link


async def test_a_search_has_a_stream_of_its_own(trio: Trio) -> None:
    request = signed(FACES[0], "ab", 1)
    for party in holders("ab"):
        with pytest.raises(ProtocolError, match="stream of its own"):
            await trio.link(party).link().open(opening(request)).receive()


async def test_more_templates_than_fit_into_a_message_go_on_a_stream_of_their_own(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await verify(trio, FACES[0], "ab", 1, [FACES[0]])
    link = trio.running["a"].service._called.link
    assert link is not None
    before = link._newest
    # The toy key's ciphertexts are small.
    monkeypatch.setattr(keyholder_call, "MESSAGE_BYTES", opening(verification(), FACES[0]).ByteSize() + 8)
    assert await verify(trio, FACES[0], "ab", HIGH, [FACES[1], FACES[0]])
    assert link._newest == before
    assert await verify(trio, FACES[0], "ab", HIGH, [FACES[0]])
    assert link._newest == before + 1
