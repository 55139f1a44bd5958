"""How the three key holders of a ceremony reach each other: a call of each two, over mutual TLS, authorities pinned.

The key holder whose letter comes first calls, again and again until the other one is there. A call is made when both
have greeted: each says what it is about (introduction.py `agreement`) and what it has on disk. People begin at
different times, and a call that is lost before all three have met is made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Generic, Self, TypeVar

import grpc

from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.claims import Others
from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import (
    ConfigurationError,
    KeyMismatchError,
    ProtocolError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.protos.v1 import ceremony_pb2 as pb
from veilmatch.protos.v1 import ceremony_pb2_grpc as rpc
from veilmatch.server.ground.own_failures import Self as OwnName
from veilmatch.server.transport.channels import Context, channel_to, require_caller, server_options
from veilmatch.server.transport.door import Door, peers_gate
from veilmatch.server.transport.identity import Identity
from veilmatch.server.transport.limits import CEREMONY_PING_S, CEREMONY_PONG_S
from veilmatch.server.transport.links import AcceptedLink, Link, dialled, last_words
from veilmatch.server.transport.status import unary
from veilmatch.server.transport.streams import first_message

_SERVICE = "veilmatch.v1.KeyCeremony"
_AGAIN_S = 1.0


def name_of(party: Party) -> str:
    """Return the name in a key holder's certificate."""
    return f"keyholder-{party}"


class Standing(Enum):
    """What a key holder has on disk, as on the wire."""

    NOTHING = pb.CEREMONY_STANDING_NOTHING
    PENDING = pb.CEREMONY_STANDING_PENDING
    KEPT = pb.CEREMONY_STANDING_KEPT
    #: In a recovery alone.
    SETTLED = pb.CEREMONY_STANDING_SETTLED


@dataclass(frozen=True)
class Greeting:
    """What a key holder begins with. agreement: 32 bytes. session: of the key that it has on disk, empty if none."""

    agreement: bytes
    standing: Standing
    session: bytes = b""

    def to_wire(self) -> pb.CeremonyMessage:
        """Return it as a message."""
        greeting = pb.CeremonyGreeting(agreement=self.agreement, standing=self.standing.value, session=self.session)
        return pb.CeremonyMessage(greeting=greeting)

    def theirs(self, message: pb.CeremonyMessage, peer: Party) -> Self:
        """Return a peer's, given this own one. Raises KeyMismatchError if it is about something else, ProtocolError."""
        if message.WhichOneof("content") != "greeting":
            raise ProtocolError("a ceremony that begins with no greeting", party=name_of(peer))
        found = message.greeting
        standing = next((one for one in self.standings if one.value == found.standing), None)
        if standing is None or len(found.session) != (0 if standing is Standing.NOTHING else DIGEST_BYTES):
            raise ProtocolError("a greeting of a ceremony that cannot be", party=name_of(peer))
        if found.agreement != self.agreement:
            raise self.disagreement(peer)
        return self._of(found, standing)

    @property
    def standings(self) -> tuple[Standing, ...]:
        """Those that there are."""
        return Standing.NOTHING, Standing.PENDING, Standing.KEPT

    def disagreement(self, peer: Party) -> KeyMismatchError:
        """Return the error for a peer that is about something else."""
        return KeyMismatchError(
            f"{name_of(peer)} holds a ceremony about something else", party=name_of(peer),
            expected="the same parameters, and the same three introductions",
            hint="Compare `parameters`, `dealer_only` and the three introductions: `veilmatch ceremony show`.",
        )  # fmt: skip

    def _of(self, found: pb.CeremonyGreeting, standing: Standing) -> Self:
        return replace(self, standing=standing, session=found.session)


_G = TypeVar("_G", bound=Greeting)


@dataclass
class Met(Generic[_G]):
    """A call with a peer, and what it has greeted with."""

    link: Link[pb.CeremonyMessage]
    greeting: _G


#: Told whom one waits for, and what is known of why.
Waiting = Callable[[Party, str], None]
#: Looks at a call of a peer before anything of it is read. Raises PartyRefusedError.
Admit = Callable[[Context, Party], None]


def called_by(party: Party) -> tuple[Party, ...]:
    """Return whom this party calls."""
    return tuple(peer for peer in PARTIES if peer > party)


def _everybody(_context: Context, _peer: Party) -> None:
    pass


class Meeting(rpc.KeyCeremonyServicer, Generic[_G]):
    """Where one key holder is called, and from where it calls. Use `held`."""

    def __init__(
        self, party: Party, greeting: _G, called: Collection[Party] | None = None, admit: Admit = _everybody
    ) -> None:
        """called: whom this party calls, `called_by` unless said; the others call it."""
        called = called_by(party) if called is None else called
        self.server = OwnName(name_of(party))
        self._party, self._greeting, self._admit = party, greeting, admit
        self._callers = {name_of(peer): peer for peer in PARTIES if peer != party and peer not in called}
        self._called: dict[Party, asyncio.Queue[AcceptedLink[pb.CeremonyMessage]]] = {
            peer: asyncio.Queue() for peer in self._callers.values()
        }
        self._closed = False

    @unary
    async def Hold(  # type: ignore[override]
        self, _requests: AsyncIterator[pb.CeremonyMessage], context: Context
    ) -> None:
        """See ceremony.proto."""
        name = require_caller(context, *self._callers)
        peer = self._callers[name]
        self._admit(context, peer)
        first = await first_message(context, pb.CeremonyMessage, "greeting", name)
        if self._closed:
            raise UnavailableError("a ceremony is under way here", needed="all three to begin again")
        link: AcceptedLink[pb.CeremonyMessage] = AcceptedLink(
            context, name, others=_others(self._party, peer), first=first
        )
        waiting = self._called[peer]
        while not waiting.empty():
            waiting.get_nowait().end(UnavailableError("a later call took the place of this one"))
        waiting.put_nowait(link)
        await link.feed()

    @asynccontextmanager
    async def met(
        self, channels: Mapping[Party, grpc.aio.Channel], waiting: Waiting
    ) -> AsyncIterator[dict[Party, Met[_G]]]:
        """Meet both: calls are open in the body, and whoever was called or calls hears what ends it.

        Raises KeyMismatchError if a peer is about something else, ProtocolError if it deviates; for ever waits for one
        that is not there.
        """
        async with AsyncExitStack() as calls:
            peers = [peer for peer in PARTIES if peer != self._party]
            meeting = [
                self._call(channels[peer], peer, calls, waiting)
                if peer in channels
                else self._take(peer, calls, waiting)
                for peer in peers
            ]
            tasks = [asyncio.ensure_future(one) for one in meeting]
            try:
                found = await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            yield dict(zip(peers, found, strict=True))

    def close(self) -> None:
        """Take no more calls: the ceremony has begun."""
        self._closed = True

    async def _call(self, channel: grpc.aio.Channel, peer: Party, calls: AsyncExitStack, waiting: Waiting) -> Met[_G]:
        stub = rpc.KeyCeremonyStub(channel)
        while True:
            async with AsyncExitStack() as this:
                try:
                    link = await this.enter_async_context(
                        dialled(stub.Hold(), self._greeting.to_wire(), name_of(peer), (), _others(self._party, peer))
                    )
                    theirs = self._greeting.theirs(await link.receive(), peer)
                except UnavailableError as error:
                    waiting(peer, error.got or error.message)
                else:
                    calls.push_async_exit(this.pop_all().__aexit__)
                    return Met(link, theirs)
            await asyncio.sleep(_AGAIN_S)

    async def _take(self, peer: Party, calls: AsyncExitStack, waiting: Waiting) -> Met[_G]:
        waiting(peer, "it has not called yet")
        while True:
            link = await self._called[peer].get()
            try:
                assert link.first is not None
                theirs = self._greeting.theirs(link.first, peer)
                await link.send(self._greeting.to_wire())
            except UnavailableError as error:
                link.end(error)
                continue
            except VeilmatchError as error:
                link.end(error)
                raise
            calls.push(_ending(link))
            link.read_ahead()
            return Met(link, theirs)


@asynccontextmanager
async def held(
    party: Party, listen: str, tls: TlsSettings, meeting: Meeting[_G], crl: Path | None = None
) -> AsyncIterator[None]:
    """Listen for calls in the body. Raises ConfigurationError if the address is taken, or a TLS file is wrong."""
    name = name_of(party)
    identity = Identity(tls, name, crl)
    gates = {_SERVICE: peers_gate(name, *(name_of(peer) for peer in PARTIES if peer != party))}
    server = grpc.aio.server(
        interceptors=[Door(meeting.server, gates, identity)], options=server_options(serves_devices=False)
    )
    rpc.add_KeyCeremonyServicer_to_server(meeting, server)
    try:
        server.add_secure_port(listen, identity.server_credentials())
    except RuntimeError:
        raise ConfigurationError(
            "cannot listen", got=listen, expected="a free address of this machine: no key holder runs yet"
        ) from None
    await server.start()
    try:
        yield
    finally:
        await server.stop(1.0)


@asynccontextmanager
async def channels_to(
    called: Collection[Party], addresses: Mapping[Party, str], tls: TlsSettings
) -> AsyncIterator[Mapping[Party, grpc.aio.Channel]]:
    """Give channels to those that this party calls. Raises what `TlsFiles.read` raises."""
    channels = {
        peer: channel_to(addresses[peer], name_of(peer), tls, CEREMONY_PING_S, CEREMONY_PONG_S) for peer in called
    }
    try:
        yield channels
    finally:
        await last_words()
        for channel in channels.values():
            await channel.close()


def _others(party: Party, peer: Party) -> Others:
    """Whom a peer may name in what it ends with: the third key holder."""
    return Others(partners=tuple(name_of(third) for third in PARTIES if third not in (party, peer)))


def _ending(link: AcceptedLink[pb.CeremonyMessage]) -> Callable[..., None]:
    """Return what ends a link that was called, with the error that the body ended with."""

    def end(_kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, VeilmatchError):
            link.end(error)
        else:
            link.end(UnavailableError("the ceremony was abandoned here"))

    return end
