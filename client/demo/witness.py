"""A witness at the device: keeps the last query or change as it was sent, to show what the matchers saw of it."""

from __future__ import annotations

from collections.abc import Sequence

from veilmatch.client.config import DeviceSettings
from veilmatch.client.wire.transport import ConnectionState, Matcher, open_matchers
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.versions import Hello
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2


class _Witnessed:
    """A matcher whose requests are looked at on their way."""

    def __init__(self, inner: Matcher, seen: list[request_pb2.SignedRequest]) -> None:
        self._inner, self._seen = inner, seen

    @property
    def party(self) -> str:
        return self._inner.party

    @property
    def state(self) -> ConnectionState:
        return self._inner.state

    async def connect(self, timeout_s: float) -> bool:
        return await self._inner.connect(timeout_s)

    async def alive(self, timeout_s: float) -> bool:
        return await self._inner.alive(timeout_s)

    async def speaks(self, timeout_s: float) -> Hello | None:
        return await self._inner.speaks(timeout_s)

    def doubt(self) -> None:
        self._inner.doubt()

    async def match(self, request: pb.MatchRequest, timeout_s: float) -> pb.MatchReply:
        self._seen[:] = [request.request]
        return await self._inner.match(request, timeout_s)

    async def mutate(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.MutateReply:
        self._seen[:] = [request]
        return await self._inner.mutate(request, timeout_s)

    async def bulk_enrol(
        self, header: request_pb2.SignedRequest, packs: Sequence[pb.BulkPack], timeout_s: float
    ) -> pb.MutateReply:
        return await self._inner.bulk_enrol(header, packs, timeout_s)

    async def subjects(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.SubjectsReply:
        return await self._inner.subjects(request, timeout_s)

    async def rotate(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.RotateReply:
        return await self._inner.rotate(request, timeout_s)

    async def budgets(self, timeout_s: float) -> pb.BudgetsReply:
        return await self._inner.budgets(timeout_s)

    async def close(self) -> None:
        await self._inner.close()


class Witness:
    """The matchers of a device, witnessed. Make it inside the event loop that uses them."""

    def __init__(self, settings: DeviceSettings) -> None:
        self._seen: list[request_pb2.SignedRequest] = []
        self.matchers: dict[Party, Matcher] = {
            party: _Witnessed(matcher, self._seen) for party, matcher in open_matchers(settings).items()
        }

    @property
    def last_request(self) -> request_pb2.SignedRequest:
        """The last query or change, as both matchers of its pair got it."""
        return self._seen[0]
