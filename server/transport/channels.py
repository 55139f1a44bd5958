"""Mutual TLS: credentials of a daemon, channels to other daemons, and who is at the other end.

Every party has a certificate of an authority with its name as DNS name; a server tells callers apart by that name and
by nothing else. Where every organisation has an authority of its own, each counts for the names of its own servers
(common/authorities.py).
"""

from __future__ import annotations

import resource
from typing import Any, TypeAlias

import grpc

from veilmatch.common.settings import TlsSettings
from veilmatch.common.speaking import speaking
from veilmatch.common.watched import Watched
from veilmatch.crypto.errors import PartyRefusedError
from veilmatch.server.bounds import USUAL, ConnectionLimits
from veilmatch.server.transport.limits import (
    DEVICE_MESSAGE_BYTES,
    METADATA_BYTES,
    PEER_MESSAGE_BYTES,
    PEER_PING_S,
    PEER_PONG_S,
    REPLY_MESSAGE_BYTES,
    STREAMS,
    WINDOW_BYTES,
    options,
    pings,
)
from veilmatch.server.transport.renewed import Dialled, RenewedChannel
from veilmatch.server.transport.tls_files import TlsFiles, names_of

#: How long the event loop waits for the disk before a call, once while it hangs.
_LOOK_WITHIN_S = 0.1
#: gRPC counts connections in an int.
_WITHOUT_LIMIT = 1 << 24
#: What gRPC hands a method about its call.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def server_credentials(tls: TlsSettings, party_name: str | None = None) -> grpc.ServerCredentials:
    """Return credentials that ask every caller for a certificate, as the files are now; `Identity` follows them.

    Raises what `TlsFiles.read` raises.
    """
    files = TlsFiles.read(tls, party_name)
    return grpc.ssl_server_credentials([(files.key, files.certificate)], files.authority, require_client_auth=True)


def server_options(limits: ConnectionLimits = USUAL, *, serves_devices: bool) -> list[tuple[str, int]]:
    """Return the options of a daemon's listening side: limits of messages and connections, an address of its own."""
    received = DEVICE_MESSAGE_BYTES if serves_devices else PEER_MESSAGE_BYTES
    sent = REPLY_MESSAGE_BYTES if serves_devices else PEER_MESSAGE_BYTES
    bounds = [
        ("grpc.max_allowed_incoming_connections", most_connections(limits)),
        ("grpc.server_handshake_timeout_ms", round(1000 * limits.handshake_s)),
        ("grpc.max_connection_idle_ms", round(1000 * limits.idle_s)),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.max_frame_size", limits.frame_bytes),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", 2 * METADATA_BYTES),
        ("grpc.http2.min_ping_interval_without_data_ms", round(1000 * limits.pinged_s)),
    ]
    # Or gRPC would let two daemons listen on one port, and each would get some of the calls.
    own = ("grpc.so_reuseport", 0)
    return [*options(received, sent), *bounds, *pings(limits.ping_s, limits.pong_s), own]


def most_connections(limits: ConnectionLimits) -> int:
    """Return how many connections there may be; unless it is said, so many that databases find files left to open."""
    if limits.all:
        return limits.all
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _WITHOUT_LIMIT if soft == resource.RLIM_INFINITY else max(1, min(soft * 3 // 4, _WITHOUT_LIMIT))


def channel_to(
    address: str, party_name: str, tls: TlsSettings, ping_s: float = PEER_PING_S, pong_s: float = PEER_PONG_S
) -> RenewedChannel:
    """Return a channel to the party of that name; a server with another certificate is refused by TLS.

    A connection that died without a word is found by pings, every ping_s, with pong_s for an answer, and the next call
    makes another. Calls that begin after the TLS files were replaced go by the new ones. Each says hello, and raises
    VersionError if the other end's does not go with it (common/speaking.py).

    Raises what `TlsFiles.read` raises.
    """
    # Parties are reached directly, whatever http_proxy of the environment says.
    limits = [*options(PEER_MESSAGE_BYTES, PEER_MESSAGE_BYTES), ("grpc.enable_http_proxy", 0)]
    name = ("grpc.ssl_target_name_override", party_name)
    # A daemon that comes back is found again within a quarter second, not after gRPC's two minutes.
    patience = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 250)]
    alive = pings(ping_s, pong_s)

    def dial() -> Dialled:
        files = TlsFiles.read(tls)
        credentials = files.channel_credentials(party_name)
        made = [*limits, name, *patience, *alive]
        own = ", ".join(names_of(files.own))
        channel = grpc.aio.secure_channel(address, credentials, options=made)
        return speaking(channel, own, party_name), files.trusted

    return RenewedChannel(dial, Watched([tls.authority, tls.certificate, tls.key], within_s=_LOOK_WITHIN_S))


def caller(context: Context) -> str:
    """Return the name in the caller's certificate. Raises PartyRefusedError if it has none."""
    names = list(context.auth_context().get("x509_common_name") or ())
    if len(names) != 1:
        raise PartyRefusedError("the caller's certificate has no name", expected="one common name")
    return bytes(names[0]).decode("utf-8", "replace")


def require_caller(context: Context, *allowed: str) -> str:
    """Return the caller's name if it is one of `allowed`. Raises PartyRefusedError otherwise."""
    name = caller(context)
    if name not in allowed:
        raise PartyRefusedError("not served here", got=name, expected=" or ".join(allowed))
    return name
