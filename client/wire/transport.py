"""The two matchers as the SDK sees them, over mutual TLS; and the mapping of gRPC's errors to ours.

`Matcher` is what the rest of the SDK calls: pass your own pair of them to `AsyncClient` to test without a
network. `open_matchers` makes the real ones. Whatever goes wrong leaves as a VeilmatchError.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc

from veilmatch.client.secret_file import read_secret
from veilmatch.crypto.errors import (
    ConfigurationError,
    HandshakeError,
    IntegrityError,
    PartyRefusedError,
    ProtocolError,
    RequestRefusedError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.shares import PAIRS, SEATS
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2

if TYPE_CHECKING:
    from veilmatch.client.config import DeviceSettings
    from veilmatch.common.settings import TlsSettings

MIB = 1 << 20
#: Answers hold the labels of a gallery: up to a million slots.
RECEIVE_BYTES = 64 * MIB
#: A probe is 3 kB, a bulk pack with its records less than 2 MB.
SEND_BYTES = 4 * MIB
ERROR_METADATA_KEY = "veilmatch-error-bin"
#: Text of a server, before it is shown to a person.
_TEXT_CHARACTERS = 400
#: Words of gRPC's text about a failed connection, and what they mean to a person.
_HANDSHAKE = "a TLS handshake that failed: check certificates and names"
_REASONS = (
    (("tls", "ssl", "certificate", "verification"), _HANDSHAKE),
    (
        ("socket closed", "reset"),
        "a connection closed at once: is the certificate of this device accepted there?",
    ),
    (("resolv", "lookup"), "an address that cannot be resolved"),
    (("refused",), "nobody listening at its address"),
)

_T = TypeVar("_T")


class Matcher(Protocol):
    """One matcher. Every call ends within timeout_s and raises nothing but VeilmatchErrors."""

    @property
    def party(self) -> str:
        """The matcher's name, "matcher-a" or "matcher-b"."""

    async def match(self, request: pb.MatchRequest, timeout_s: float) -> pb.MatchReply:
        """verify, candidates and identify."""

    async def mutate(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.MutateReply:
        """enrol and erase."""

    async def bulk_enrol(
        self, header: request_pb2.SignedRequest, packs: Sequence[pb.BulkPack], timeout_s: float
    ) -> pb.MutateReply:
        """Send the header, then the packs in order."""

    async def subjects(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.SubjectsReply:
        """Who is enrolled."""

    async def rotate(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.RotateReply:
        """One step of a rotation."""

    async def close(self) -> None:
        """Close the connection; calls under way end."""


class GrpcMatcher:
    """A matcher at the other end of a channel, which it owns from then on."""

    def __init__(self, party: str, channel: grpc.aio.Channel) -> None:
        self.party = party
        self._channel = channel
        self._stub = rpc.MatcherStub(channel)

    async def match(self, request: pb.MatchRequest, timeout_s: float) -> pb.MatchReply:
        """See Matcher."""
        return await self._typed(self._stub.Match(request, timeout=timeout_s))

    async def mutate(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.MutateReply:
        """See Matcher."""
        return await self._typed(self._stub.Mutate(request, timeout=timeout_s))

    async def bulk_enrol(
        self, header: request_pb2.SignedRequest, packs: Sequence[pb.BulkPack], timeout_s: float
    ) -> pb.MutateReply:
        """See Matcher."""
        return await self._typed(self._stub.BulkEnrol(_chunks(header, packs), timeout=timeout_s))

    async def subjects(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.SubjectsReply:
        """See Matcher."""
        return await self._typed(self._stub.Subjects(request, timeout=timeout_s))

    async def rotate(self, request: request_pb2.SignedRequest, timeout_s: float) -> pb.RotateReply:
        """See Matcher."""
        return await self._typed(self._stub.Rotate(request, timeout=timeout_s))

    async def close(self) -> None:
        """See Matcher."""
        await self._channel.close()

    async def _typed(self, call: Awaitable[_T]) -> _T:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, self.party) from None
        except (grpc.RpcError, grpc.aio.UsageError, grpc.aio.InternalError) as error:
            raise IntegrityError(f"the call to {self.party} failed", got=type(error).__name__) from None


def open_matchers(settings: DeviceSettings) -> tuple[Matcher, Matcher]:
    """Return matcher a and matcher b; connections are made on the first call, in the running event loop.

    Raises ConfigurationError if a TLS file or an address is missing, KeyFileError if others than its owner have a
    right to the TLS key.
    """
    authority, certificate, key = _read(settings.tls)
    # Each matcher has to show the certificate of its own name: the same server twice is no pair.
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    matchers: list[Matcher] = []
    for seat in SEATS:
        if not (address := settings.matchers.get(seat)):
            raise ConfigurationError("both matchers are needed", got=f"no address of matcher {seat}")
        party = f"matcher-{seat}"
        channel = grpc.aio.secure_channel(address, credentials, options=channel_options(party))
        matchers.append(GrpcMatcher(party, channel))
    return matchers[0], matchers[1]


def channel_options(party: str) -> list[tuple[str, int | str]]:
    """Return the gRPC options of a channel to `party`."""
    return [
        ("grpc.ssl_target_name_override", party),
        ("grpc.max_receive_message_length", RECEIVE_BYTES),
        ("grpc.max_send_message_length", SEND_BYTES),
        # Off: an idle device says nothing. Every call has a deadline that finds a dead connection.
        ("grpc.keepalive_time_ms", 2**31 - 1),
        # The SDK itself decides what is repeated, with a fresh nonce.
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]


# -- errors --------------------------------------------------------------------------------------


def error_from_rpc(error: grpc.aio.AioRpcError, party: str) -> VeilmatchError:
    """Return what ended the call to `party`: the error it sent, or the one that gRPC's status stands for."""
    for key, value in error.trailing_metadata() or ():
        if key == ERROR_METADATA_KEY:
            return _sent_error(value, party)
    code = error.code()
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return UnavailableError(f"{party} did not answer in time", party=party, needed=party)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED):
        # No alternatives: other key holders can stand in for each other, but nobody for a matcher.
        reason = _reason(error)
        kind = HandshakeError if reason == _HANDSHAKE else UnavailableError
        return kind(f"{party} cannot be reached", party=party, needed=party, available=reason)
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
        return PartyRefusedError(f"{party} does not serve this device", got=code.name)
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return RequestRefusedError(f"{party} or this device does not take so large a message", got=code.name)
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return ProtocolError(f"{party} does not know this call", got=code.name, expected="a matcher")
    return IntegrityError(f"{party} failed on this request", got=code.name)


def _reason(error: grpc.aio.AioRpcError) -> str:
    """What a person can act on; gRPC's own text has addresses and internals."""
    details = (error.details() or "").lower()
    return next((reason for words, reason in _REASONS if any(w in details for w in words)), "no connection")


def _sent_error(value: str | bytes, party: str) -> VeilmatchError:
    """Return the error that a server sent. A server may send anything: only clean text gets through."""
    try:
        fields = json.loads(value)
        if not isinstance(fields, dict):
            raise ValueError
    except (ValueError, RecursionError):
        return ProtocolError(f"{party} failed and its error cannot be read", expected="JSON fields")
    clean: dict[str, Any] = {name: _clean(text) for name, text in fields.items() if isinstance(text, str)}
    alternatives = fields.get("alternatives")
    if isinstance(alternatives, list):
        clean["alternatives"] = [pair for pair in PAIRS if pair in alternatives]
    # The error itself takes none that is not finite or not a number.
    clean |= {name: fields[name] for name in ("limit", "retry_after_s") if isinstance(fields.get(name), int | float)}
    return VeilmatchError.from_fields(clean)


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:_TEXT_CHARACTERS])


# -- parts ---------------------------------------------------------------------------------------


async def _chunks(header: request_pb2.SignedRequest, packs: Sequence[pb.BulkPack]) -> AsyncIterator[pb.BulkChunk]:
    yield pb.BulkChunk(header=header)
    for pack in packs:
        yield pb.BulkChunk(pack=pack)


def _read(tls: TlsSettings) -> tuple[bytes, bytes, bytes]:
    try:
        authority, certificate = tls.authority.read_bytes(), tls.certificate.read_bytes()
        return authority, certificate, read_secret(tls.key, "the TLS key")
    except OSError as error:
        raise ConfigurationError(
            "a TLS file cannot be read", got=f"{error.filename}: {error.strerror}", expected="a PEM file"
        ) from None
