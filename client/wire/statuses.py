"""What ended a call over gRPC, as one of our errors: the one that the server sent, or what gRPC's status stands for."""

from __future__ import annotations

import grpc

from veilmatch.crypto.claims import ERROR_KEY, KEY_HOLDERS, MATCHERS, Others, read
from veilmatch.crypto.errors import (
    HandshakeError,
    IntegrityError,
    OverloadedError,
    PartyRefusedError,
    ProtocolError,
    RequestRefusedError,
    UnavailableError,
    VeilmatchError,
)

#: Whom a matcher may name: every server has part in a request.
_SERVERS = Others(partners=(*KEY_HOLDERS, *MATCHERS))
#: gRPC's words for a message above a limit; the same status says that a server takes no more calls.
_TOO_LARGE = "larger than max"
#: Words of gRPC's text about a failed connection, and what they mean to a person.
_CERTIFICATE = ("certificate", "verification")
_HANDSHAKE = (*_CERTIFICATE, "tls", "ssl", "handshak")
_CLOSED = ("socket closed", "reset", "broken pipe", "goaway", "endpoint clos", "ping timeout", "keepalive")
_HANDSHAKE_FAILED = "a TLS handshake that failed: check certificates and names"
_ENDED = "a TLS certificate of that server, or of its authority, that has expired: its operator has to renew it"
_REASONS = (
    (("certificate has expired",), _ENDED),
    (_HANDSHAKE, _HANDSHAKE_FAILED),
    (("resolv", "lookup"), "an address that cannot be resolved"),
    (("refused",), "nobody listening at its address"),
    (("unreachable", "no route"), "no way to its address"),
    (("timed out", "timeout"), "nothing answers at its address"),
)
#: A server refuses the certificate of a caller by closing: in TLS 1.3 that comes after the caller's own handshake.
_CLOSED_AT_FIRST = (
    "a connection closed at once: either the certificate of this device is not accepted there, or it has just stopped"
)
_LOST = "a connection that was lost: it stopped, or the network between"


def sent_error(error: grpc.aio.AioRpcError, party: str) -> VeilmatchError | None:
    """Return the error that the server sent, None if it sent none. It may send anything: only clean text gets through.

    A sent error that cannot be read is a ProtocolError. `said_by` ends with `party`, whatever it sent.
    """
    for key, value in error.trailing_metadata() or ():
        if key == ERROR_KEY:
            return read_error(value, party)
    return None


def late(party: str, timeout_s: float) -> UnavailableError:
    """Return the error of a call that this device has waited for so long."""
    return UnavailableError(
        f"{party} did not answer in time",
        party=party,
        needed=party,
        hint=f"Allow more than these {timeout_s:.3g} seconds (--timeout, or timeout_s in device.toml). If that does not"
        f" help, {party} hangs, or nothing gets through to it.",
    )


def silent(party: str) -> UnavailableError:
    """Return the error of a call that was given up because this matcher shows no sign of life."""
    return UnavailableError(
        f"{party} shows no sign of life",
        party=party,
        needed=party,
        hint=f"{party} hangs, or nothing gets through to it; where three organisations are configured, calls go to the"
        " other two meanwhile.",
    )


def error_of_status(
    error: grpc.aio.AioRpcError, party: str, *, known: bool, address: str, timeout_s: float
) -> VeilmatchError:
    """Return what the status of a call stands for.

    known: whether `party` has answered this device before. address: where it was looked for. timeout_s: how long.
    """
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return late(party, timeout_s)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED):
        # Alternatives are the caller's to add, who knows which pairs there are.
        reason = _reason(error.details(), known)
        kind = HandshakeError if reason in (_HANDSHAKE_FAILED, _ENDED) else UnavailableError
        hint = None if known else _look_at_address(party, address, reason)
        return kind(f"{party} cannot be reached at {address}", party=party, needed=party, available=reason, hint=hint)
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
        return PartyRefusedError(f"{party} does not serve this device", got=code.name, party=party)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if _TOO_LARGE in (error.details() or "").lower():
            return RequestRefusedError(f"{party} or this device does not take so large a message", got=code.name)
        return OverloadedError(f"{party} takes no more requests now", got=code.name, party=party)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ProtocolError(f"{party} does not know this call", got=code.name, expected="a matcher", party=party)
    return IntegrityError(f"{party} failed on this request", got=code.name, party=party)


def _look_at_address(party: str, address: str, reason: str) -> str:
    """Say what to do about a matcher that has never answered: most often something in device.toml is wrong."""
    organisation = party.removeprefix("matcher-")
    where = f"Is `matchers.{organisation}` in device.toml right? It says {address}."
    if reason in (_HANDSHAKE_FAILED, _CLOSED_AT_FIRST):
        return (
            f"{where} If it is, the certificates do not go together: look whether [tls] of device.toml is of that"
            " installation, and whether a certificate has expired."
        )
    return f"{where} If it is, {party} does not run there, or the network between is down: try again later."


def _reason(details: str | None, known: bool) -> str:
    """What a person can act on; gRPC's own text has addresses and internals."""
    text = (details or "").lower()
    # One that was there and stops may do so during a handshake as well.
    other_cause = _CERTIFICATE if known else _HANDSHAKE
    if any(word in text for word in _CLOSED) and not any(word in text for word in other_cause):
        return _LOST if known else _CLOSED_AT_FIRST
    return next((reason for words, reason in _REASONS if any(word in text for word in words)), "no connection")


def read_error(value: str | bytes, party: str) -> VeilmatchError:
    """Return the error in the trailing metadata of a server, or a ProtocolError if it cannot be read."""
    try:
        return read(value, party, _SERVERS)
    except ValueError:
        return ProtocolError(f"{party} failed and its error cannot be read", expected="JSON fields", party=party)
