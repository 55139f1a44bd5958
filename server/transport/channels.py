"""Mutual TLS: credentials of a daemon, channels to other daemons, and who is at the other end.

Every party has a certificate of the installation's authority with its name as DNS name; a server
tells callers apart by that name and by nothing else.
"""

from __future__ import annotations

import time
from typing import Any, TypeAlias

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

from veilmatch.common.pem import require_pem
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import ConfigurationError, PartyRefusedError
from veilmatch.server.installation.files import read_secret
from veilmatch.server.transport.expiry import require_valid
from veilmatch.server.transport.limits import (
    DEVICE_MESSAGE_BYTES,
    HANDSHAKE_S,
    IDLE_S,
    PEER_MESSAGE_BYTES,
    PEER_PING_S,
    PEER_PONG_S,
    PING_S,
    PINGED_S,
    PONG_S,
    REPLY_MESSAGE_BYTES,
    STREAMS,
    WINDOW_BYTES,
    options,
    pings,
)

#: What gRPC hands a method about its call.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def server_credentials(tls: TlsSettings, party_name: str | None = None) -> grpc.ServerCredentials:
    """Return credentials that ask every caller for a certificate. party_name: whose the certificate has to be.

    Raises ConfigurationError if a file is missing or does not hold what it should, the certificate is not valid now, or
    it is another party's;
    KeyFileError if others than its owner have a right to the key.
    """
    authority, certificate, key = _read(tls)
    if party_name is not None:
        _require_name(certificate, tls, party_name)
    return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)


def server_options(*, serves_devices: bool) -> list[tuple[str, int]]:
    """Return the options of a daemon's listening side: limits of messages and connections, an address of its own."""
    received = DEVICE_MESSAGE_BYTES if serves_devices else PEER_MESSAGE_BYTES
    sent = REPLY_MESSAGE_BYTES if serves_devices else PEER_MESSAGE_BYTES
    bounds = [
        ("grpc.server_handshake_timeout_ms", round(1000 * HANDSHAKE_S)),
        ("grpc.max_connection_idle_ms", round(1000 * IDLE_S)),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", round(1000 * PINGED_S)),
    ]
    # Or gRPC would let two daemons listen on one port, and each would get some of the calls.
    own = ("grpc.so_reuseport", 0)
    return [*options(received, sent), *bounds, *pings(PING_S, PONG_S), own]


def channel_to(address: str, party_name: str, tls: TlsSettings) -> grpc.aio.Channel:
    """Return a channel to the party of that name; a server with another certificate is refused by TLS.

    A connection that died without a word is found by pings, and the next call makes another.

    Raises what `server_credentials` raises.
    """
    authority, certificate, key = _read(tls)
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    # Parties are reached directly, whatever http_proxy of the environment says.
    limits = [*options(PEER_MESSAGE_BYTES, PEER_MESSAGE_BYTES), ("grpc.enable_http_proxy", 0)]
    name = ("grpc.ssl_target_name_override", party_name)
    # A daemon that comes back is found again within a quarter second, not after gRPC's two minutes.
    patience = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 250)]
    alive = pings(PEER_PING_S, PEER_PONG_S)
    return grpc.aio.secure_channel(address, credentials, options=[*limits, name, *patience, *alive])


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


def _require_name(certificate: bytes, tls: TlsSettings, party_name: str) -> None:
    own = x509.load_pem_x509_certificate(certificate)
    found = [str(one.value) for one in own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if found != [party_name]:
        raise ConfigurationError(
            f"{tls.certificate}: the certificate is not this party's, and others would refuse it",
            got=", ".join(found) or "no name",
            expected=party_name,
        )


def _read(tls: TlsSettings) -> tuple[bytes, bytes, bytes]:
    try:
        authority, certificate = tls.authority.read_bytes(), tls.certificate.read_bytes()
        key = read_secret(tls.key, "the TLS key")
    except OSError as error:
        raise ConfigurationError(
            "a TLS file cannot be read", got=f"{error.filename}: {error.strerror}", expected="a PEM file"
        ) from error
    require_valid(require_pem(tls, authority, certificate, key), tls.certificate, time.time())
    return authority, certificate, key
