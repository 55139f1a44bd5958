"""Is a Ray cluster private? Whoever can speak to one runs what they like on all of its nodes.

Ray's own protection is off by default and set by environment variables, for every process alike: here for this one, and
a look at the head of the cluster says whether they were set for the others. Every node registers at the head, over TLS
and with the token, so a head that insists on both has no node without.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

import grpc

from veilmatch.common.secret_file import read_private
from veilmatch.crypto.errors import ConfigurationError, UnavailableError
from veilmatch.server.config import ClusterSettings

#: Of Ray's head: does nothing, and is answered to whoever may ask anything.
_HARMLESS = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_TIMEOUT_S = 5.0
_FOR_TLS = (
    "RAY_USE_TLS=1 with RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY and RAY_TLS_CA_CERT in the environment of every"
    " `ray start` (docs/cluster.md)"
)
_FOR_AUTHENTICATION = (
    "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH in the environment of every `ray start` (docs/cluster.md)"
)


def set_environment(settings: ClusterSettings, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what Ray reads when it is first imported: TLS, the token, and that it tells its maker nothing."""
    # Would go before the file.
    environment.pop("RAY_AUTH_TOKEN", None)
    environment.update(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(settings.token_file),
        RAY_USE_TLS="1",
        RAY_TLS_SERVER_CERT=str(settings.tls.certificate),
        RAY_TLS_SERVER_KEY=str(settings.tls.key),
        RAY_TLS_CA_CERT=str(settings.tls.authority),
        RAY_USAGE_STATS_ENABLED="0",
    )


def require_private(settings: ClusterSettings) -> None:
    """Raise ConfigurationError unless the cluster lets in nobody without its token and a certificate.

    Also if it does not let in this matcher, or a file is missing; KeyFileError if one with a secret is open to others;
    UnavailableError if there is no answer. Blocks, for some seconds at most.
    """
    token = _token(settings.token_file)
    credentials = grpc.ssl_channel_credentials(
        _read(settings.tls.authority),
        _read_secret(settings.tls.key, "the TLS key of the Ray cluster"),
        _read(settings.tls.certificate),
    )
    without = _ask(settings.address, credentials)
    if without in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        raise _no_connection(settings)
    if without != grpc.StatusCode.UNAUTHENTICATED:
        raise ConfigurationError(
            "the Ray cluster takes orders from whoever comes: it has no token authentication",
            got=settings.address,
            expected=_FOR_AUTHENTICATION,
        )
    if _ask(settings.address, credentials, token) == grpc.StatusCode.UNAUTHENTICATED:
        raise ConfigurationError(
            "the Ray cluster has another token", got=str(settings.token_file), expected="the file that every node has"
        )


def _no_connection(settings: ClusterSettings) -> ConfigurationError | UnavailableError:
    in_clear = _ask(settings.address, None)
    if in_clear not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return ConfigurationError("the Ray cluster does not use TLS", got=settings.address, expected=_FOR_TLS)
    return UnavailableError(
        "the head of the Ray cluster does not answer, or not with these certificates",
        needed="a head that runs, a certificate that names its address, and one authority for all",
        available=settings.address,
    )


def _ask(address: str, credentials: grpc.ChannelCredentials | None, token: str = "") -> grpc.StatusCode:
    options = [("grpc.enable_http_proxy", 0)]
    channel = (
        grpc.insecure_channel(address, options)
        if credentials is None
        else grpc.secure_channel(address, credentials, options)
    )
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with channel:
        try:
            channel.unary_unary(_HARMLESS, bytes, bytes)(b"", timeout=_TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def _token(path: Path) -> str:
    token = _read_secret(path, "the token of the Ray cluster").decode(errors="replace").strip()
    if not token:
        raise ConfigurationError(
            "the token of the Ray cluster is empty", got=str(path), expected="`ray get-auth-token`"
        )
    return token


def _read_secret(path: Path, what: str) -> bytes:
    try:
        return read_private(path, what)
    except OSError as error:
        raise ConfigurationError("a file of [cluster] cannot be read", got=f"{path}: {error.strerror}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError("a file of [cluster] cannot be read", got=f"{path}: {error.strerror}") from None
