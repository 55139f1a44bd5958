"""Matchers of the tests in a network of mutual TLS: they serve each other, follow, and meet, as their daemons do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from tests.matcher.follow.matchers import Matcher
from tests.matcher.galleries import ORGANISATIONS, signers
from tests.transport.parties import tls_of
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Pair, Party
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.matcher.agreement.agreement import Agreement
from veilmatch.server.matcher.agreement.meetings import Meetings, matcher_name
from veilmatch.server.matcher.follow.following import Following
from veilmatch.server.matcher.follow.readmission import Readmission
from veilmatch.server.matcher.gallery.mutation import Mutation
from veilmatch.server.matcher.query.matching import Surroundings
from veilmatch.server.matcher.service import MatcherPeerService
from veilmatch.server.transport.channels import channel_to, server_credentials, server_options

TIMEOUT_S = 2.0


class Network:
    """Where matchers listen; `up` starts one, with all its background work."""

    def __init__(self, folder: Path, follows: bool = True) -> None:
        self.folder = folder
        self._follows = follows
        self.ports: dict[Party, int] = {}
        self.tls: dict[Party, TlsSettings] = {party: tls_of(folder, matcher_name(party)) for party in PARTIES}
        self.meetings: dict[Party, Meetings] = {}

    @asynccontextmanager
    async def up(self, matcher: Matcher) -> AsyncIterator[Matcher]:
        """Serve, and follow the others, while the body runs. Where it listened once it listens again."""
        me, channels, stubs = matcher.party, [], {}
        for peer in PARTIES:
            if peer != me:
                self._reserve(peer)
                channels.append(channel_to(f"127.0.0.1:{self.ports[peer]}", matcher_name(peer), self.tls[me]))
                stubs[peer] = rpc.MatcherPeerStub(channels[-1])
        self._reserve(me)
        meetings = self.meetings[me] = Meetings(me, stubs, TIMEOUT_S)
        on = Surroundings(me, None, None, meetings, None, None, TIMEOUT_S, None, None)  # type: ignore[arg-type]
        service = MatcherPeerService(on, [matcher.followed])
        server = grpc.aio.server(options=server_options(serves_devices=True))
        rpc.add_MatcherPeerServicer_to_server(service, server)
        server.add_secure_port(f"127.0.0.1:{self.ports[me]}", server_credentials(self.tls[me], matcher_name(me)))
        await server.start()
        following = Following(me, stubs, lambda: [matcher.followed], Readmission(meetings) if self._follows else None)
        try:
            async with following.running():
                yield matcher
        finally:
            for channel in channels:
                await channel.close()
            service.stop()
            await server.stop(0)

    def _reserve(self, party: Party) -> None:
        if party not in self.ports:
            with socket.socket() as found:
                found.bind(("127.0.0.1", 0))
                self.ports[party] = found.getsockname()[1]

    async def change(self, first: Matcher, second: Matcher, mutation: Mutation) -> list[bytes | VeilmatchError]:
        """Let the pair change its gallery, as when a device asks for it; return what each side came to."""
        pair: Pair = "".join(sorted((first.party, second.party)))  # type: ignore[assignment]

        async def side(matcher: Matcher) -> bytes | VeilmatchError:
            agreement = Agreement(ORGANISATIONS[matcher.party], signers)
            subject = mutation.request_digest
            try:
                async with (
                    self.meetings[matcher.party].about(subject, pair) as meeting,
                    agreement.changing(meeting, matcher.gallery) as sitting,
                ):
                    return await sitting.commit(mutation)
            except VeilmatchError as error:
                return error

        return list(await asyncio.gather(side(first), side(second)))
