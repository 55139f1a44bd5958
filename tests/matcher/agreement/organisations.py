"""Three organisations of a test, each with a gallery on disk, that meet over queues in which messages can be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.matcher.galleries import KEY_ID, ORGANISATIONS, PARAMETERS, Model, mutation, signers
from veilmatch.crypto.errors import UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.agreement import Agreement
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.change.succession import OnDisk
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import Mutation

#: What a side of a sitting came to: the chain value after its change, or what it raised.
Outcome = bytes | VeilmatchError


class Organisation:
    """One of the three; `start` before use and after a crash."""

    def __init__(self, folder: Path, party: Party) -> None:
        self.folder, self.party = folder / party, party
        self.agreement = Agreement(ORGANISATIONS[party], signers)
        self.store: Store
        self.gallery: Gallery

    async def start(self) -> Organisation:
        self.store = Store(self.folder, KEY_ID, PARAMETERS, party=f"matcher-{self.party}")
        self.gallery = Gallery("staff", 0, self.store, OnDisk(), PARAMETERS.slots)
        await self.gallery.load()
        return self

    async def restart(self) -> None:
        self.store.close()
        await self.start()


async def three(folder: Path) -> dict[str, Organisation]:
    """Return three organisations with an empty gallery."""
    return {party: await Organisation(folder, party).start() for party in PARTIES}


class Line:
    """Messages between two. lost: which one, counted over both directions, is lost with all that follow."""

    def __init__(self, lost: int | None = None, change: Callable[[int, Any], Any] | None = None) -> None:
        self.sent: list[str] = []
        self._queues: tuple[asyncio.Queue[Any], ...] = (asyncio.Queue(), asyncio.Queue())
        self._lost, self._change = lost, change

    def end(self, side: int) -> End:
        return End(self, side)

    def put(self, side: int, message: pb.MatcherMessage | None) -> None:
        if message is not None:
            if self._lost is not None and len(self.sent) >= self._lost:
                for queue in self._queues:
                    queue.put_nowait(None)
                raise UnavailableError("the line is cut")
            if self._change is not None:
                message = self._change(side, message)
            self.sent.append(message.WhichOneof("content") or "")
        self._queues[1 - side].put_nowait(message)

    async def get(self, side: int) -> pb.MatcherMessage:
        message = await self._queues[side].get()
        if message is None:
            self._queues[side].put_nowait(None)
            raise UnavailableError("the line is cut")
        return message


class End:
    """One end of a line."""

    def __init__(self, line: Line, side: int) -> None:
        self._line, self._side = line, side

    async def send(self, message: pb.MatcherMessage) -> None:
        self._line.put(self._side, pb.MatcherMessage.FromString(message.SerializeToString()))

    async def receive(self) -> pb.MatcherMessage:
        return await self._line.get(self._side)


async def sit(
    first: Organisation, second: Organisation, change: Mutation | None = None, line: Line | None = None
) -> tuple[Outcome, Outcome]:
    """Let two sit at the gallery, to read it or to change it; return what each came to."""
    line = line or Line()

    async def side(number: int, me: Organisation, other: Organisation) -> Outcome:
        link = line.end(number)
        meeting = Meeting(
            link, pb.MatcherMessage(), leads=number == 0, party=f"matcher-{me.party}", peer=f"matcher-{other.party}",
            timeout_s=5.0, alternatives=(),
        )  # fmt: skip
        try:
            if change is None:
                async with me.agreement.reading(meeting, me.gallery):
                    return me.gallery.state.chain
            async with me.agreement.changing(meeting, me.gallery) as sitting:
                done = await me.gallery.find_token(change.token)
                return await sitting.commit(change) if done is None else me.gallery.state.chain
        except VeilmatchError as error:
            line.put(number, None)
            return error

    return tuple(await asyncio.gather(side(0, first, second), side(1, second, first)))  # type: ignore[return-value]


async def agreed(first: Organisation, second: Organisation, change: Mutation | None = None) -> bytes:
    """Sit, which has to go well; return the chain value."""
    one, two = await sit(first, second, change)
    for outcome in (one, two):
        if isinstance(outcome, VeilmatchError):
            raise outcome
    assert one == two
    return one  # type: ignore[return-value]


def nth(number: int) -> Mutation:
    """Return change number `number`, from 1, of a gallery that all changes come to in order: some erase."""
    if number % 3 == 0:
        return mutation(number, removed=[divmod(number - 2, PARAMETERS.slots)])
    return mutation(number, added=[(*divmod(number - 1, PARAMETERS.slots), f"subject {number}")])


def check(organisation: Organisation, *changes: Mutation) -> None:
    """Assert that an organisation holds these changes and no others, on disk and in memory."""
    expected = Model("staff")
    for change in changes:
        expected.commit(change)
    expected.check(organisation.store)
    gallery = organisation.gallery
    assert gallery.state == organisation.store.state("staff")
    listed = [(pack, slot, subject) for (pack, slot), (subject, _) in sorted(expected.templates.items())]
    places = [(int(p), int(s)) for p, s in zip(*gallery.index.occupied().nonzero(), strict=True)]
    assert [(*place, gallery.index.subject(*place)) for place in places] == listed
