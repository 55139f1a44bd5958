"""What a server says of itself, over a channel that is there: the health check of gRPC, and metadata behind it."""

from __future__ import annotations

import grpc

from veilmatch.crypto.health import HEALTH_KEY, Said, read_said

_CHECK, _HOW_IS_ALL = "/grpc.health.v1.Health/Check", b""


async def said_over(channel: grpc.aio.Channel, within_s: float) -> Said | None:
    """Return what a server says of itself; None if no answer came. One that says nothing is ready for nothing."""
    check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_CHECK)
    call = check(_HOW_IS_ALL, timeout=within_s)
    try:
        await call
        metadata = await call.trailing_metadata()
    except (grpc.RpcError, grpc.aio.UsageError, grpc.aio.InternalError):
        return None
    for key, value in metadata:
        if key == HEALTH_KEY and isinstance(value, bytes):
            try:
                return read_said(value)
            except ValueError:
                break
    return Said(frozenset(), 0)
