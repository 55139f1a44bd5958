"""The other two key holders, as this one sees them: channels, stock meetings, dealt blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from veilmatch.crypto.claims import Others
from veilmatch.crypto.dealing import Block, BlockName
from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import ProtocolError, UnavailableError
from veilmatch.crypto.keys.parties import PARTIES, Pair, Party, dealer_of, other_party, pairs_without
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.keyholder.stock.store import GENERATION_BYTES
from veilmatch.server.keyholder.wire import KIND_TO_WIRE
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.links import Link, dialled
from veilmatch.server.transport.renewed import Renewal
from veilmatch.server.transport.sign_of_life import Sign, sign_over
from veilmatch.server.transport.status import from_rpc

#: Part of the time-out that a meeting, one dealt block or a commitment may take. A session may have to wait for an
#: attempt under way and then for its own, and must be able to say who is missing before its peer and its matcher give
#: up on it. (After a dealer that keeps silent about a commitment, no other attempt follows at once.)
_PATIENCE = 1 / 3


def party_name(party: Party) -> str:
    """Return the name in a key holder's certificate."""
    return f"keyholder-{party}"


def others_of(peer: Party, party: Party) -> Others:
    """Return whom `peer`, in a pair with `party`, may name to it: their dealer, and its own matcher."""
    third = next(one for one in PARTIES if one not in (peer, party))
    return Others(suppliers=(party_name(third), f"matcher-{peer}"))


class Peers:
    """Channels to both peers, made once."""

    def __init__(self, settings: KeyHolderSettings) -> None:
        self._party: Party = settings.party
        self._timeout_s = settings.peer_timeout_s
        self._patience_s = _PATIENCE * settings.peer_timeout_s
        self._channels = {
            party: channel_to(address, party_name(party), settings.tls) for party, address in settings.peers.items()
        }
        self._signs = {party: sign_over(channel) for party, channel in self._channels.items()}

    def stub(self, party: Party) -> rpc.KeyHolderPeerAsyncStub:
        """Return the peer's stub."""
        return rpc.KeyHolderPeerStub(self._channels[party])

    def channels(self) -> dict[str, grpc.aio.Channel]:
        """Return the channels, by the names of the peers."""
        return {party_name(party): channel for party, channel in self._channels.items()}

    def gives_sign(self, party: Party) -> Sign:
        """Return what asks a peer for a sign of life."""
        return self._signs[party]

    def renewal(self, party: Party) -> Renewal:
        """Return what becomes of the connection of a call to a peer that has just begun."""
        return self._channels[party].renewal()

    def refresh_stub(self, party: Party) -> rpc.KeyHolderRefreshAsyncStub:
        """Return the peer's stub for refreshing shares."""
        return rpc.KeyHolderRefreshStub(self._channels[party])

    async def meet_stock(self, pair: Pair, mine: pb.StockGeneration) -> pb.StockGeneration:
        """Tell the other holder of `pair` this storage's generation, and return what it says of its own."""
        peer = other_party(pair, self._party)
        try:
            theirs = await self.stub(peer).MeetStock(mine, timeout=self._patience_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, party_name(peer), pairs_without(peer)) from None
        if len(theirs.generation) != GENERATION_BYTES:
            raise ProtocolError("a stock generation of the wrong size", got=len(theirs.generation))
        return theirs

    async def fetch(self, name: BlockName) -> Block:
        """Return this holder's part of a block, from the dealer of the pair."""
        dealer = dealer_of(name.pair)
        request = pb.DealRequest(
            pair=name.pair, epoch=name.epoch, stock=name.stock, kind=KIND_TO_WIRE[name.kind], first=name.number, count=1
        )
        try:
            async with asyncio.timeout(self._patience_s):
                dealt = [part async for part in self.stub(dealer).Deal(request)]
        except TimeoutError:
            raise UnavailableError(f"{party_name(dealer)} does not answer", party=party_name(dealer)) from None
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, party_name(dealer)) from None
        if [part.number for part in dealt] != [name.number]:
            raise ProtocolError("the dealer sent another block", got=len(dealt), expected=f"block {name.number}")
        return Block(dealt[0].seed, dealt[0].corrections)

    async def commitment(self, name: BlockName, coin: bytes) -> bytes:
        """Return the commitment of the dealer to what the other holder of the pair must open for this coin."""
        dealer = dealer_of(name.pair)
        request = pb.DealtOpeningRequest(
            pair=name.pair, epoch=name.epoch, stock=name.stock, kind=KIND_TO_WIRE[name.kind], number=name.number,
            coin=coin,
        )  # fmt: skip
        try:
            reply = await self.stub(dealer).DealtOpening(request, timeout=self._patience_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, party_name(dealer)) from None
        if len(reply.commitment) != DIGEST_BYTES:
            raise ProtocolError("a commitment of the wrong size", got=len(reply.commitment), expected=DIGEST_BYTES)
        return reply.commitment

    @asynccontextmanager
    async def check_dealt(self, pair: Pair, first: pb.CheckMessage) -> AsyncIterator[Link[pb.CheckMessage]]:
        """Call the minus holder about the check of a block. It may wait for the dealer twice, as this holder does."""
        peer = other_party(pair, self._party)
        call = self.stub(peer).CheckDealt(timeout=3 * self._patience_s)
        async with dialled(call, first, party_name(peer), pairs_without(peer), others_of(peer, self._party)) as link:
            yield link

    async def close(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            await channel.close()
