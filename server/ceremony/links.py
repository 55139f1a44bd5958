"""The calls with the other two while a ceremony goes on: who says what, both at once, and what was not meant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

from veilmatch.crypto.ceremony.session import Message
from veilmatch.crypto.errors import ProtocolError, UnavailableError
from veilmatch.crypto.keys.parties import Party
from veilmatch.protos.v1 import ceremony_pb2 as pb
from veilmatch.server.transport.limits import CHUNK_BYTES
from veilmatch.server.transport.links import Link

_T = TypeVar("_T")
#: How long the reason of a peer's end is waited for.
_REASON_S = 1.0


class Links:
    """Both calls. patience_s: how long a peer may take for what it says next."""

    def __init__(self, links: Mapping[Party, Link[pb.CeremonyMessage]], patience_s: float) -> None:
        self._links, self._patience_s = dict(links), patience_s
        #: Payload bytes sent so far.
        self.sent_bytes = 0

    @property
    def peers(self) -> tuple[Party, ...]:
        """Whom they are with."""
        return tuple(self._links)

    async def swapped(self, content: str, said: bytes, patience_s: float | None = None) -> dict[Party, bytes]:
        """Say the same to both and return what they have said, of the same kind.

        patience_s: unless said, that of the ceremony. Raises ProtocolError if one says something else, UnavailableError
        if it says nothing, and the error that one ended with.
        """
        message = pb.CeremonyMessage(**{content: said})  # type: ignore[arg-type]
        heard = await self._all(
            [self._links[peer].send(message) for peer in self._links],
            {peer: self._receive(peer, content) for peer in self._links},
            patience_s or self._patience_s,
        )
        return {peer: bytes(getattr(found, content)) for peer, found in heard.items()}

    async def exchanged(
        self, messages: Mapping[Party, Message], awaited: Mapping[Party, int], session: bytes, number: int
    ) -> dict[Party, Message]:
        """Send the messages of a round, and return those that are awaited, by their lengths. Raises as `swapped` does.

        session, number: of what is awaited; pieces of another round are refused here, whole messages by the session.
        """
        heard = await self._all(
            [self._send(peer, message) for peer, message in messages.items()],
            {peer: self._whole(peer, size, session, number) for peer, size in awaited.items()},
            self._patience_s,
        )
        return {peer: Message(session, number, payload) for peer, payload in heard.items()}

    async def _send(self, peer: Party, message: Message) -> None:
        self.sent_bytes += len(message.payload)
        for piece in _pieces(message.payload):
            part = pb.CeremonyPart(session=message.session, number=message.number, payload=piece)
            await self._links[peer].send(pb.CeremonyMessage(part=part))

    async def _whole(self, peer: Party, size: int, session: bytes, number: int) -> bytes:
        pieces, length = [], 0
        while length < size:
            part = (await self._receive(peer, "part")).part
            if (part.session, part.number) != (session, number) or not part.payload:
                raise ProtocolError(
                    "a message of another session or round", got=part.number, expected=number, party=f"keyholder-{peer}"
                )
            pieces.append(part.payload)
            length += len(part.payload)
        return b"".join(pieces)

    async def _receive(self, peer: Party, content: str) -> pb.CeremonyMessage:
        message = await self._links[peer].receive()
        if (found := message.WhichOneof("content")) != content:
            raise ProtocolError(
                "another message than the ceremony goes on with", got=found, expected=content, party=f"keyholder-{peer}"
            )
        return message

    async def _all(
        self, sending: list[Awaitable[None]], receiving: Mapping[Party, Awaitable[_T]], patience_s: float
    ) -> dict[Party, _T]:
        """Wait for all at once: two that write to each other would wait for ever. Raises the first error of them."""
        tasks = {peer: asyncio.ensure_future(work) for peer, work in receiving.items()}
        every: list[asyncio.Future[Any]] = [*(asyncio.ensure_future(work) for work in sending), *tasks.values()]
        try:
            async with asyncio.timeout(patience_s):
                await _first_error(every)
        except TimeoutError:
            silent = [peer for peer, task in tasks.items() if not task.done() or task.cancelled()]
            name = f"keyholder-{silent[0]}" if silent else "a key holder"
            raise UnavailableError(
                f"{name} did not go on with the ceremony", party=name if silent else None,
                needed=f"a message within {patience_s:g} s",
            ) from None  # fmt: skip
        finally:
            for task in every:
                task.cancel()
            await asyncio.gather(*every, return_exceptions=True)
        return {peer: task.result() for peer, task in tasks.items()}


async def _first_error(tasks: list[asyncio.Future[Any]]) -> None:
    if not tasks:
        return
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    if rest:
        # One that only could not be sent to says less than what somebody ended with, which may be on its way.
        more, _ = await asyncio.wait(rest, timeout=_REASON_S)
        done |= more
    failed = [task for task in done if task.exception() is not None]
    for task in sorted(failed, key=lambda task: isinstance(task.exception(), UnavailableError)):
        await task


def _pieces(payload: bytes) -> Iterator[bytes]:
    for start in range(0, len(payload), CHUNK_BYTES):
        yield payload[start : start + CHUNK_BYTES]


#: Told after each round: how many bytes were sent so far.
Sent = Callable[[int], None]
