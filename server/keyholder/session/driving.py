"""Doing what a session asks for: messages to the peer, work by the workers, stock, and notes in the audit log.

The session (crypto/pair/session.py) says what it wants, of one request or of several that go together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass

from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.pair.messages import (
    AwaitResults,
    Composed,
    DecisionShare,
    LocalWork,
    ProbeShare,
    Receive,
    Reserve,
    Results,
    SafetyWork,
    Send,
    TemplateShare,
)
from veilmatch.crypto.pair.request import Part
from veilmatch.crypto.pair.session import PairSession
from veilmatch.server.keyholder.audit.record import Record
from veilmatch.server.keyholder.session.arriving import Arriving
from veilmatch.server.keyholder.session.share_worker import ShareWork
from veilmatch.server.keyholder.session.turns import Turns
from veilmatch.server.keyholder.stock.stock import SessionStock

#: What a session hands out, and which of its requests go on.
HandedOut = Composed | ProbeShare | TemplateShare | DecisionShare


@dataclass(frozen=True, slots=True)
class Noted:
    """A request of a session, and what is noted of it in the audit log."""

    part: Part
    record: Record


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a session is driven with."""

    work: ShareWork
    turns: Turns
    stock: SessionStock


async def driven(
    session: PairSession,
    local: Awaitable[list[LocalShare]],
    noted: Sequence[Noted | None],
    by: Surroundings,
    arriving: Arriving | None = None,
    results: AsyncIterator[Results] | None = None,
) -> AsyncGenerator[HandedOut, None]:
    """Do what a session asks for until it has its last share; yields what it hands out.

    local: the local shares of all that is here, in order. noted: each request that the session was opened with, None
    for one that is not here. arriving, results: of a search.
    """
    turns, here = by.turns, [one for one in noted if one is not None]
    session.start()
    async with turns.working():
        action = session.resume(await local)
    while True:
        outcome: object = None
        # From here on, what leaves this holder depends on a share of the key, but for hashes that the peer computes
        # as well: the minus holder says those before there is a session id.
        if not isinstance(action, Composed):
            await _begin(session, here)
        match action:
            case Send(envelope):
                for said in here:
                    said.record.spoken = True
                await turns.say(envelope)
            case Receive():
                outcome = await turns.hear()
            case LocalWork():
                assert arriving is not None
                # Of the results, begun as they came.
                async with turns.working(arriving.since):
                    outcome = await arriving.local_shares()
            case SafetyWork(ciphertexts, exponents):
                async with turns.working():
                    outcome = await by.work.safety_shares(ciphertexts, exponents)
            case Reserve():
                outcome = await by.stock.reserve(action)
            case AwaitResults():
                assert arriving is not None and results is not None
                await turns.flush()
                outcome = found = await arriving.all(results)
                turns.expect(len(found.ciphertexts))
            case Composed(going):
                here = [one for i in going if (one := noted[i]) is not None]
                left = iter(here)
                yield action
            case ProbeShare():
                yield action
            case TemplateShare() | DecisionShare():
                await turns.flush()
                next(left).record.answered = True
                yield action
                if session.finished:
                    return
        try:
            action = session.resume(outcome)
        except VeilmatchError:
            # The other one may find out for itself what is wrong.
            await turns.flush()
            raise


async def _begin(session: PairSession, noted: Sequence[Noted]) -> None:
    """Note that the session begins, durably, of each of its requests."""
    missing = [one for one in noted if not one.record.begun]
    if not missing or not session.session_id:
        return
    # Together: one commit to disk.
    await asyncio.gather(
        *(
            one.record.begin(session.id_of(one.part), one.part.request.sequence, one.part.request.chain)
            for one in missing
        )
    )
