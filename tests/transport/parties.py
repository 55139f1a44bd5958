"""Parties with certificates, and servers of theirs on this machine, for tests over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
from google.protobuf.message import Message

from veilmatch.common.settings import TlsSettings
from veilmatch.server.bounds import USUAL, ConnectionLimits
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import write_file
from veilmatch.server.transport.channels import server_credentials, server_options
from veilmatch.server.transport.connections import Connections
from veilmatch.server.transport.door import Door, Gate

#: The method that `serving` offers, and how one calls it.
METHOD = "/test.Service/Method"


@cache
def authority(number: int = 0) -> Authority:
    """The authority of that number: two numbers are two unrelated installations."""
    return Authority.fresh()


@cache
def _issued(name: str, number: int, is_server: bool) -> tuple[bytes, bytes]:
    return authority(number).issue(name, is_server=is_server)


def tls_of(folder: Path, name: str, number: int = 0, *, is_server: bool = True) -> TlsSettings:
    """Write the TLS files of a party of that authority."""
    tls = tls_from(folder, name, number)
    tls.key.parent.mkdir(parents=True, exist_ok=True)
    tls.authority.write_bytes(authority(number).certificate_pem())
    certificate, key = _issued(name, number, is_server)
    tls.certificate.write_bytes(certificate)
    write_file(tls.key, key, secret=True)
    return tls


def tls_from(folder: Path, name: str, number: int = 0) -> TlsSettings:
    """Where `tls_of` has written the files: for another process of the same test."""
    home = folder / f"{name}-of-{number}"
    return TlsSettings(authority=home / "ca.pem", certificate=home / "tls.pem", key=home / "tls-key.pem")


def bytes_of(message: Any) -> bytes:
    """Serialise protobuf messages, and let bytes through."""
    return message.SerializeToString() if isinstance(message, Message) else message


#: What a handler finds of the server that it belongs to.
SERVICE = SimpleNamespace(server=Self("keyholder-b", ("ac",)))


@asynccontextmanager
async def serving(
    kind: str,
    method: Callable[..., Any],
    tls: TlsSettings | None = None,
    message: type[Message] | None = None,
    gate: Gate | None = None,
    limits: ConnectionLimits = USUAL,
) -> AsyncIterator[str]:
    """Offer one method, e.g. of kind "unary_unary", on a free port; yields the address.

    method: as a servicer's, without self. tls: None listens without TLS. message: what comes in; None for bytes.
    gate: who may call; None for no door. limits: of connections, which are followed where there is a door.
    """

    async def call(request: Any, context: Any) -> Any:
        return await method(SERVICE, request, context)

    async def stream(request: Any, context: Any) -> Any:
        async for answer in method(SERVICE, request, context):
            yield answer

    yields = kind.endswith("_stream") and not kind.startswith("stream_")
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(
        stream if yields else call,
        request_deserializer=message.FromString if message else None,
        response_serializer=bytes_of,
    )
    service, name = METHOD.strip("/").split("/")
    connections = Connections(limits, 0, SERVICE.server.name)
    doors = [] if gate is None else [Door(SERVICE.server, {service: gate}, connections=connections)]
    server = grpc.aio.server(interceptors=doors, options=server_options(limits, serves_devices=False))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
    if tls is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", server_credentials(tls))
    connections.port = port
    await server.start()
    following = asyncio.create_task(connections.follow())
    try:
        yield f"127.0.0.1:{port}"
    finally:
        following.cancel()
        await server.stop(None)


async def ask(channel: grpc.aio.Channel, request: bytes = b"hello") -> bytes:
    """Call `METHOD` of kind "unary_unary" and close the channel."""
    async with channel:
        answer: Awaitable[bytes] = channel.unary_unary(METHOD)(request, timeout=5)
        return await answer
