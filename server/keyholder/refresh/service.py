"""The gRPC face of a key holder for refreshes: for its two peers, and for its own operator's command."""

from __future__ import annotations

from veilmatch.crypto.errors import InvalidInputError, KeyMismatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.keyholder.peers import party_name
from veilmatch.server.keyholder.refresh.refresh import Refresher
from veilmatch.server.transport.channels import Context, require_caller
from veilmatch.server.transport.status import unary


class KeyHolderRefreshService(rpc.KeyHolderRefreshServicer):
    """See keyholder.proto. The operator's command shows the certificate of the key holder itself."""

    def __init__(self, refresher: Refresher, key_id: bytes) -> None:
        self._refresher = refresher
        self._key_id = key_id
        self.server = Self(party_name(refresher.party))
        self._peers: list[Party] = [party for party in PARTIES if party != refresher.party]

    @unary
    async def State(self, request: pb.RefreshQuery, context: Context) -> pb.RefreshState:
        """See keyholder.proto."""
        require_caller(context, *map(party_name, PARTIES))
        self._require_key(request.key_id)
        return self._refresher.state()

    @unary
    async def Refresh(self, request: pb.RefreshQuery, context: Context) -> pb.RefreshState:
        """See keyholder.proto."""
        require_caller(context, party_name(self._refresher.party))
        self._require_key(request.key_id)
        return await self._refresher.lead()

    @unary
    async def Recover(self, request: pb.RecoverRequest, context: Context) -> pb.RecoverReport:
        """See keyholder.proto."""
        require_caller(context, party_name(self._refresher.party))
        self._require_key(request.key_id)
        without = next((peer for peer in self._peers if party_name(peer) == request.without), None)
        if request.without and without is None:
            raise InvalidInputError(
                "not a peer of this key holder",
                got=request.without[:64], expected=" or ".join(map(party_name, self._peers)),
            )  # fmt: skip
        return await self._refresher.recover(without, go=request.go)

    @unary
    async def Settle(self, request: pb.RefreshQuery, context: Context) -> pb.RefreshState:
        """See keyholder.proto."""
        self._peer(context)
        self._require_key(request.key_id)
        await self._refresher.settle()
        return self._refresher.state()

    @unary
    async def Begin(self, request: pb.RefreshStep, context: Context) -> pb.RefreshState:
        """See keyholder.proto."""
        return await self._refresher.begin(self._peer(context), request)

    @unary
    async def Prepare(self, request: pb.RefreshStep, context: Context) -> pb.RefreshState:
        """See keyholder.proto."""
        return await self._refresher.prepare(self._peer(context), request)

    @unary
    async def Abandon(self, request: pb.RefreshStep, context: Context) -> pb.RefreshState:
        """See keyholder.proto."""
        return await self._refresher.abandon(self._peer(context), request)

    @unary
    async def Commitment(self, request: pb.RefreshMessage, context: Context) -> pb.RefreshMessage:
        """See keyholder.proto."""
        return await self._refresher.answer(self._peer(context), "Commitment", request)

    @unary
    async def Reveal(self, request: pb.RefreshMessage, context: Context) -> pb.RefreshMessage:
        """See keyholder.proto."""
        return await self._refresher.answer(self._peer(context), "Reveal", request)

    @unary
    async def Fit(self, request: pb.RefreshMessage, context: Context) -> pb.RefreshMessage:
        """See keyholder.proto."""
        return await self._refresher.answer(self._peer(context), "Fit", request)

    def _peer(self, context: Context) -> Party:
        name = require_caller(context, *map(party_name, self._peers))
        return next(party for party in self._peers if party_name(party) == name)

    def _require_key(self, key_id: bytes) -> None:
        if key_id != self._key_id:
            raise KeyMismatchError("a key holder of another key", got=key_id[:16].hex(), expected=self._key_id.hex())
