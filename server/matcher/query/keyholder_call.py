"""One request at this matcher's key holder: what goes there, and the shares that come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.errors import ProtocolError, UnavailableError
from veilmatch.crypto.keys.shares import Party, pairs_without
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import LANE_BITS, ParameterSet
from veilmatch.crypto.secret_access import SecretHolder
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.transport.limits import CHUNK_BYTES
from veilmatch.server.transport.links import Link, dialled

#: What one conversion may take at a key holder, generously: for time-outs only.
_CONVERSION_S = 0.2


@dataclass(frozen=True, slots=True, repr=False)
class Share(SecretHolder):
    """A share of a probe from the key holder: int64[D] mod 2^k."""

    session_id: bytes
    values: Array


@dataclass(frozen=True, slots=True, repr=False)
class LaneShares(SecretHolder):
    """Shares of the valid ones of n templates, int64[m*D] below 2^48; and which those m are, bool[n]."""

    session_id: bytes
    values: Array
    valid: NDArray[np.bool_]


class KeyHolderCall:
    """An open session at the key holder; use `opened`."""

    def __init__(
        self,
        link: Link[pb.KeyHolderToMatcher],
        party: Party,
        parameters: ParameterSet,
        timeout_s: float,
        *,
        is_plus: bool,
    ) -> None:
        self._link = link
        self._party = party
        self._parameters = parameters
        self._is_plus = is_plus
        # The key holder may have to wait for its peer that long, and then it is the one to say so.
        self._timeout_s = 1.5 * timeout_s

    async def probe_share(self) -> Share:
        """Return this matcher's share of the probe."""
        message = await self._next("probe_share")
        values = _numbers(message.probe_share.exponents, "<u4")
        self._check(message.probe_share.is_plus, values, self._parameters.dimension, self._parameters.ring_bits)
        return Share(message.probe_share.session_id, values)

    async def lane_share(self, templates: int) -> LaneShares:
        """Return this matcher's shares of that many templates."""
        message = await self._next("lane_share", _CONVERSION_S * templates * self._parameters.lane_ciphertexts)
        values = _numbers(message.lane_share.lanes, "<u8")
        valid = _bits(message.lane_share.valid, templates)
        count = int(valid.sum()) * self._parameters.dimension
        self._check(message.lane_share.is_plus, values, count, LANE_BITS)
        return LaneShares(message.lane_share.session_id, values, valid)

    async def send_results(self, results: Sequence[bytes], wanted: NDArray[np.bool_]) -> None:
        """Send V of every pack and which of its slots are asked for, bool[packs, slots], in chunks."""
        step = max(1, CHUNK_BYTES // self._parameters.ciphertext_bytes)
        for start in range(0, len(results), step):
            part = results[start : start + step]
            chunk = pb.ResultsChunk(
                results=b"".join(part),
                wanted=np.packbits(wanted[start : start + step], bitorder="little").tobytes(),
                packs=len(part),
                last=start + step >= len(results),
            )
            async with _waiting_for(self._party, self._timeout_s):
                await self._link.send(pb.MatcherToKeyHolder(results=chunk))  # type: ignore[arg-type]

    async def decision_share(self, count: int, packs: int) -> tuple[bytes, bool]:
        """Return this organisation's XOR shares of `count` answer bits, packed little-endian, and of "valid probe"."""
        share = (await self._next("decision_share", _CONVERSION_S * packs)).decision_share
        if share.count != count or len(share.share) != -(-count // 8):
            raise ProtocolError("a decision share of the wrong size", got=share.count, expected=count)
        return share.share, share.valid_share

    async def _next(self, kind: str, work_s: float = 0.0) -> pb.KeyHolderToMatcher:
        async with _waiting_for(self._party, self._timeout_s + work_s):
            message = await self._link.receive()
        if message.WhichOneof("content") != kind:
            raise ProtocolError("another answer from the key holder", got=message.WhichOneof("content"), expected=kind)
        return message

    def _check(self, is_plus: bool, values: Array, count: int, bits: int) -> None:
        if is_plus != self._is_plus or len(values) != count or bool(np.any(values >> bits)):
            raise ProtocolError("a share that does not fit", got=len(values), expected=count)


def _bits(data: bytes, count: int) -> NDArray[np.bool_]:
    if len(data) != -(-count // 8):
        raise ProtocolError("a share that does not say which templates are valid", got=len(data), expected=count)
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count, bitorder="little").astype(np.bool_)


def _numbers(data: bytes, dtype: str) -> Array:
    if len(data) % np.dtype(dtype).itemsize:
        raise ProtocolError("a share that ends within a number", got=len(data))
    return np.frombuffer(data, dtype=dtype).astype(np.int64)


@asynccontextmanager
async def opened(
    stub: rpc.KeyHolderAsyncStub,
    party: Party,
    request: request_pb2.SignedRequest,
    state: GalleryState,
    record: Sequence[bytes],
    parameters: ParameterSet,
    *,
    is_plus: bool,
    timeout_s: float,
    output_bits: int = 0,
) -> AsyncIterator[KeyHolderCall]:
    """Open a session for this request and gallery state.

    record: for erase and rotate, the lane ciphertexts on record. output_bits: most answer bits that will be asked
    for; the key holder counts them before it begins and refuses results that ask for more.
    """
    # The subject's name and its salt stay here.
    forwarded = request_pb2.SignedRequest(
        body=request.body, signature=request.signature, ciphertexts=request.ciphertexts
    )
    first = pb.OpenSession(
        request=forwarded, sequence=state.sequence, chain=state.chain, record=record, output_bits=output_bits
    )
    call = stub.Serve(timeout=60 * timeout_s)
    # One stream carries two message types, one in each direction; the link is typed by what comes back.
    connected = dialled(call, pb.MatcherToKeyHolder(open=first), f"keyholder-{party}", pairs_without(party))
    async with AsyncExitStack() as stack:
        # A stopped process still accepts connections, and then says nothing.
        async with _waiting_for(party, timeout_s):
            link = await stack.enter_async_context(connected)
        yield KeyHolderCall(link, party, parameters, timeout_s, is_plus=is_plus)  # type: ignore[arg-type]


@asynccontextmanager
async def _waiting_for(party: Party, limit_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        name = f"keyholder-{party}"
        raise UnavailableError(f"{name} does not answer", party=name, alternatives=pairs_without(party)) from None
