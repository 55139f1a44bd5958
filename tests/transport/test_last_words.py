"""The end that dials says why it goes no further: the end that is called need not guess that it left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.transport.meetings import ALTERNATIVES, CALLED, DIALS, Meetings, meeting, message
from veilmatch.crypto.errors import (
    IntegrityError,
    ServerDeviationError,
    StorageError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.protos.v1.keyholder_pb2 import PairMessage
from veilmatch.server.transport import links

SUBJECT = b"a request"


@pytest.fixture
async def meetings(tmp_path: Path) -> AsyncIterator[Meetings]:
    async with meeting(tmp_path) as made:
        yield made
        assert await made.settled()
        await all_said(within_s=1.0)


async def all_said(within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while links._ending:
            await asyncio.sleep(0.02)


async def ended_with(meetings: Meetings, said: VeilmatchError, works_s: float = 0.0) -> VeilmatchError:
    """Let the dialling end fail with an error; what the called end hears once it has worked for so long."""

    async def dial() -> None:
        async with meetings.dial(SUBJECT) as link:
            await link.send(message(1))
            await link.receive()
            raise said

    dialling = asyncio.ensure_future(dial())
    with pytest.raises(VeilmatchError) as heard:
        async with meetings.take(SUBJECT) as link:
            assert (await link.receive()).number == 1
            await link.send(message(2))
            await asyncio.sleep(works_s)
            await link.receive()
    with pytest.raises(type(said)) as raised:
        await dialling
    assert raised.value is said
    return heard.value


@pytest.mark.parametrize("works_s", [0.0, 0.5])
async def test_the_called_end_hears_why(meetings: Meetings, works_s: float) -> None:
    said = StorageError("the disk of keyholder-a is full", got="no space", party=DIALS, alternatives=("bc",))
    heard = await ended_with(meetings, said, works_s)
    assert heard.fields() == said.fields() | {"said_by": [DIALS]} and type(heard) is StorageError


@pytest.mark.parametrize("party", [CALLED, "keyholder-c", "organisation 17"])
async def test_whoever_says_that_somebody_deviates_says_it_of_nobody_else(meetings: Meetings, party: str) -> None:
    heard = await ended_with(meetings, ServerDeviationError("altered", party=party))
    assert type(heard) is ServerDeviationError and (heard.party, heard.said_by) == (DIALS, (DIALS,))


async def test_whoever_is_missing_may_be_the_dealer(meetings: Meetings) -> None:
    heard = await ended_with(meetings, UnavailableError("no more stock", party="keyholder-c"))
    assert heard.party == "keyholder-c" and heard.claim == "keyholder-a says: no more stock"


async def test_a_failure_of_its_own_names_the_dialling_end_and_the_pairs_without_it(meetings: Meetings) -> None:
    heard = await ended_with(meetings, IntegrityError("an altered block"))
    assert (type(heard), heard.party, heard.alternatives) == (IntegrityError, DIALS, ALTERNATIVES)


@pytest.mark.parametrize("word", [b"?", b"[]", b'{"message": "' + b"x" * 5000 + b'"}', b"\xff"])
async def test_a_last_word_that_cannot_be_read_is_an_error_of_whoever_said_it(meetings: Meetings, word: bytes) -> None:
    async def dial() -> None:
        async with meetings.dial(SUBJECT) as link:
            await link.send(PairMessage(ended=word))
            with pytest.raises(VeilmatchError):
                await link.receive()

    dialling = asyncio.ensure_future(dial())
    with pytest.raises(IntegrityError) as heard:
        async with meetings.take(SUBJECT) as link:
            await link.receive()
    assert heard.value.party == DIALS
    await dialling


async def test_of_a_dialling_end_that_is_gone_the_called_end_knows_what_serves_without_it(meetings: Meetings) -> None:
    async def dial() -> None:
        async with meetings.dial(SUBJECT) as link:
            await link.receive()
            await asyncio.sleep(60)

    dialling = asyncio.ensure_future(dial())
    with pytest.raises(UnavailableError, match="left the request") as heard:
        async with meetings.take(SUBJECT) as link:
            await link.send(message(1))
            await asyncio.sleep(0.1)
            dialling.cancel()
            await link.receive()
    assert (heard.value.party, heard.value.alternatives) == (DIALS, ALTERNATIVES)


async def test_a_peer_that_reads_nothing_keeps_no_failed_call_open(
    meetings: Meetings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_LAST_WORD_S", 0.2)
    with pytest.raises(StorageError):
        async with meetings.dial(SUBJECT):
            raise StorageError("full")
    await all_said(within_s=1.0)
    # The call lies in the rendezvous of the called end, where nobody has asked for it.
    with pytest.raises(UnavailableError):
        async with meetings.take(SUBJECT) as link:
            await link.receive()
