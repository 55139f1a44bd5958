"""Two servers that meet about requests, as key holders and matchers do: one dials, the other is called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tests.transport.parties import METHOD, bytes_of, serving, tls_of
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.claims import Others
from veilmatch.protos.v1.keyholder_pb2 import PairMessage, PairRendezvous
from veilmatch.server.transport.channels import caller, channel_to
from veilmatch.server.transport.links import AcceptedLink, Link, Rendezvous, dialled
from veilmatch.server.transport.status import unary
from veilmatch.server.transport.streams import first_message

DIALS, CALLED = "keyholder-a", "keyholder-b"
ALTERNATIVES = ("ac",)
OTHERS = Others(suppliers=("keyholder-c",))
PeerLink = Link[PairMessage]


def message(number: int, session: bytes = b"") -> PairMessage:
    return PairMessage(number=number, session_id=session)


@dataclass
class Meetings:
    """The called party's rendezvous, and a channel of the dialling party."""

    rendezvous: Rendezvous[AcceptedLink[PairMessage]]
    channel: grpc.aio.Channel
    address: str = ""
    #: How many calls are being handled.
    calls: int = 0

    def dial(self, subject: bytes) -> AbstractAsyncContextManager[PeerLink]:
        return dialled(
            self.call(), PairMessage(rendezvous=PairRendezvous(subject_matter=[subject])), CALLED, ALTERNATIVES, OTHERS
        )

    def call(self) -> Any:
        return self.channel.stream_stream(
            METHOD, request_serializer=bytes_of, response_deserializer=PairMessage.FromString
        )(timeout=10)

    def take(self, subject: bytes, timeout_s: float | None = None) -> AbstractAsyncContextManager[PeerLink]:
        return self.rendezvous.take(subject, DIALS, ALTERNATIVES, timeout_s)

    async def settled(self) -> bool:
        """Whether every call ends, and leaves nothing in the rendezvous."""
        async with asyncio.timeout(15):
            while self.calls or self.rendezvous._links:
                await asyncio.sleep(0.01)
        return True


@asynccontextmanager
async def meeting(
    folder: Path, tls: Callable[[Path, str], TlsSettings] = tls_of, timeout_s: float = 5.0
) -> AsyncIterator[Meetings]:
    """Both parties, connected by mutual TLS. timeout_s: of the rendezvous."""

    @unary
    async def pair(_self: None, _requests: Any, context: Any) -> None:
        meetings.calls += 1
        try:
            first = await first_message(context, PairMessage, "rendezvous", caller(context))
            link: AcceptedLink[PairMessage] = AcceptedLink(context, caller(context), ALTERNATIVES, OTHERS)
            meetings.rendezvous.bring(first.rendezvous.subject_matter[0], link)
            await link.feed()
        finally:
            meetings.calls -= 1

    async with (
        serving("stream_stream", pair, tls(folder, CALLED), PairMessage) as address,
        channel_to(address, CALLED, tls(folder, DIALS)) as channel,
    ):
        meetings = Meetings(Rendezvous(timeout_s), channel, address)
        yield meetings
