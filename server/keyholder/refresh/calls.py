"""Calls of one key holder to its peers about a refresh, and work that is done side by side or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import grpc

from veilmatch.crypto.claims import Others
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.peers import Peers, party_name
from veilmatch.server.transport.status import from_rpc

#: Parts of the time-out between key holders: one short answer, one phase of a refresh, one refresh.
ANSWER, PHASE, WHOLE = 1.0, 4.0, 10.0


class Calls:
    """See the module. timeout_s: the time-out between key holders."""

    def __init__(self, party: Party, key_id: bytes, peers: Peers, timeout_s: float) -> None:
        self.peers: list[Party] = [peer for peer in PARTIES if peer != party]
        self.timeout_s = timeout_s
        self.query = pb.RefreshQuery(key_id=key_id)
        self._stubs = peers

    async def states(self) -> dict[Party, pb.RefreshState | BaseException]:
        """Ask both peers how far they are. A peer that does not say has the error in place of its state."""
        states = await asyncio.gather(*map(self.state_of, self.peers), return_exceptions=True)
        return dict(zip(self.peers, states, strict=True))

    async def state_of(self, peer: Party) -> pb.RefreshState:
        """Ask a peer how far it is. Raises the error that the call ends with."""
        state: pb.RefreshState = await self.one(peer, "State", self.query, ANSWER)
        return state

    async def one(self, peer: Party, method: str, message: Any, patience: float) -> Any:
        """Call a peer. patience: part of the time-out. Raises the error that the call ends with."""
        call: Callable[..., Awaitable[Any]] = getattr(self._stubs.refresh_stub(peer), method)
        try:
            return await call(message, timeout=patience * self.timeout_s)
        except grpc.aio.AioRpcError as error:
            others = Others(partners=tuple(party_name(third) for third in self.peers if third != peer))
            raise from_rpc(error, party_name(peer), others=others) from None

    async def both(self, method: str, message: Any, patience: float) -> list[Any]:
        """Call both peers. Raises the first error."""
        return await together([self.one(peer, method, message, patience) for peer in self.peers])

    async def tell(self, method: str, message: Any, patience: float) -> None:
        """Call both peers, whether they can be reached or not."""
        calls = (self.one(peer, method, message, patience) for peer in self.peers)
        await asyncio.gather(*calls, return_exceptions=True)


async def together(work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Return what all of these return. Raises the first error, once the others have ended or been cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
