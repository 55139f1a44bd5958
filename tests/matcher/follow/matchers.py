"""Matchers of the tests that follow each other: galleries with stores, and gRPC servers of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from tests.matcher.galleries import KEY_ID, ORGANISATIONS, PARAMETERS, Model, mutation, run, signers
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.matcher.follow.followed import Followed
from veilmatch.server.matcher.follow.following import Following
from veilmatch.server.matcher.follow.serving import FollowedServicer
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.transport.limits import PEER_MESSAGE_BYTES, options

NAME = "staff"


class Workers:
    """Remembers the packs that it was given, in place of the workers of a matcher."""

    def __init__(self) -> None:
        self.packs: dict[int, bytes] = {}

    async def load(self, gallery: int, packs: Mapping[int, bytes]) -> None:
        self.packs |= packs


class Matcher:
    """One matcher of an organisation with one gallery; `load` it."""

    def __init__(self, party: Party, data_dir: Path, parameters: ParameterSet = PARAMETERS) -> None:
        self.party = party
        self.parameters = parameters
        self.data_dir = data_dir
        self.store = Store(data_dir, KEY_ID, parameters)
        self.store.open_gallery(NAME)
        self.workers = Workers()
        self.gallery = Gallery(NAME, 0, self.store, self.workers, parameters.slots)

    async def load(self) -> Matcher:
        await self.gallery.load()
        return self

    @property
    def followed(self) -> Followed:
        return Followed(self.gallery, self.store, self.data_dir, self.parameters, signers, ORGANISATIONS[self.party])

    def check(self, model: Model) -> None:
        """Assert that everything here is as `model` says: the store, the slots, the workers, the state."""
        model.check(self.store)
        assert self.gallery.state == self.store.state(NAME)
        assert self.workers.packs == model.packs
        index = self.gallery.index
        assert {place: index.subject(*place) for place in model.templates} == {
            place: subject for place, (subject, _) in model.templates.items()
        }
        assert len(index) == len(model.templates)
        assert self.gallery.model == self.store.model(NAME)


class History:
    """Changes of a gallery one after the other, at a store and at a model."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.model = Model(NAME)
        self._number = 0

    def add(self, *places: tuple[int, int, str]) -> None:
        self._commit(added=places)

    def erase(self, *places: tuple[int, int]) -> None:
        self._commit(removed=places)

    def _commit(self, **what: Any) -> None:
        self._number += 1
        change = mutation(self._number, **what)
        run(self._store, NAME, change)
        self.model.commit(change)

    def long(self, changes: int, packs: int = 3) -> History:
        """Fill so many packs, then change them so many times, erasing what was added before."""
        for pack in range(packs):
            self.add((pack, 0, f"first {pack}"), (pack, 1, f"second {pack}"))
        for at in range(changes):
            pack = at % packs
            if (pack, 2) in self.model.templates:
                self.erase((pack, 2))
            else:
                self.add((pack, 2, f"later {at}"))
        return self


@asynccontextmanager
async def served(
    matcher: Matcher, altered: Callable[[pb.ChangePart], list[pb.ChangePart]] | None = None
) -> AsyncIterator[rpc.MatcherPeerAsyncStub]:
    """Serve followers without TLS; give a stub. altered: what is sent in place of each part of an answer."""
    servicer: Any = FollowedServicer(Self(f"matcher-{matcher.party}"), lambda: [matcher.followed])
    if altered is not None:
        servicer = Altering(servicer, altered)
    server = grpc.aio.server(options=options(PEER_MESSAGE_BYTES, PEER_MESSAGE_BYTES))
    rpc.add_MatcherPeerServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    try:
        yield rpc.MatcherPeerStub(channel)
    finally:
        await channel.close()
        if isinstance(servicer, FollowedServicer):
            servicer.stop()
        await server.stop(0)


@asynccontextmanager
async def following(matcher: Matcher, stubs: dict[Party, rpc.MatcherPeerAsyncStub]) -> AsyncIterator[Following]:
    """Let a matcher follow."""
    follows = Following(matcher.party, stubs, lambda: [matcher.followed])
    async with follows.running():
        yield follows


class Altering(rpc.MatcherPeerServicer):
    """Sends something else than an honest one would."""

    def __init__(self, honest: FollowedServicer, altered: Callable[[pb.ChangePart], list[pb.ChangePart]]) -> None:
        self._honest = honest
        self._altered = altered

    async def Changes(self, request: pb.ChangesRequest, context: Any) -> AsyncIterator[pb.ChangePart]:
        async for part in self._honest.Changes(request, context):
            for one in self._altered(part):
                yield one


async def until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    """Return when it holds; raise TimeoutError if that takes too long."""
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)
