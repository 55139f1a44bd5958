"""Errors over gRPC: the one mapping of the error tree to status codes, and back.

The fields of the error travel as JSON in trailing metadata; the status code is for proxies and
for clients in other languages.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
import structlog

from veilmatch.crypto.claims import ERROR_KEY, NOBODY, Others, read, written
from veilmatch.crypto.errors import (
    BudgetExceededError,
    IntegrityError,
    InvalidInputError,
    KeyMismatchError,
    OverloadedError,
    PartyRefusedError,
    ProtocolError,
    RequestRefusedError,
    UnavailableError,
    UnknownSubjectError,
    VeilmatchError,
)
from veilmatch.server.ground.own_failures import Alerts, Self, level_of, named, own_failures
from veilmatch.server.ground.request_id import current_request
from veilmatch.server.monitoring import calls
from veilmatch.server.transport.channels import Context, caller
from veilmatch.server.transport.greeting import said, spoken

#: Of the text beside the fields: for proxies, and in the same 8 kB of metadata.
_DETAILS_CHARACTERS = 100
_END = object()
#: What gRPC says of a handshake with a certificate that has ended.
_ENDED = "certificate has expired"
_ABSENT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
)
_CODES: tuple[tuple[type[VeilmatchError], grpc.StatusCode], ...] = (
    (UnknownSubjectError, grpc.StatusCode.NOT_FOUND),
    (InvalidInputError, grpc.StatusCode.INVALID_ARGUMENT),
    (RequestRefusedError, grpc.StatusCode.PERMISSION_DENIED),
    (KeyMismatchError, grpc.StatusCode.FAILED_PRECONDITION),
    (BudgetExceededError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (IntegrityError, grpc.StatusCode.DATA_LOSS),
    (VeilmatchError, grpc.StatusCode.INTERNAL),
)

#: Of retried calls, by server, method and caller, who is another server: how the last one failed, if it did.
_failing: dict[tuple[str, str, str | None], tuple[str, str | None]] = {}

#: One who is refused at will, over and over, would fill the log: a line a second for each caller, method and code.
_refusals = Alerts(every_s=1.0)

_log = structlog.get_logger(__name__)
_F = TypeVar("_F", bound=Callable[..., Any])
_R = TypeVar("_R")


async def abort(context: Context, error: VeilmatchError) -> NoReturn:
    """End the call with this error."""
    code = next(status for kind, status in _CODES if isinstance(error, kind))
    fields = (ERROR_KEY, written(error, spoken.get().features))
    await context.abort(code, error.message[:_DETAILS_CHARACTERS], (fields, *said.get()))
    raise AssertionError("abort returns never")


def decoded(data: bytes, party: str, alternatives: tuple[str, ...] = (), others: Others = NOBODY) -> VeilmatchError:
    """Return the error that `party` has said it ended with; see from_metadata."""
    callee = Self(party, alternatives)
    try:
        return named(read(data, party, others), callee)
    except ValueError:
        return named(IntegrityError(f"{party} failed, and its error cannot be read"), callee)


def from_rpc(
    error: grpc.aio.AioRpcError, party: str, alternatives: tuple[str, ...] = (), others: Others = NOBODY
) -> VeilmatchError:
    """Return the error that a call to `party` ended with; see from_metadata."""
    found = from_metadata(error.code(), error.trailing_metadata(), party, alternatives, others)
    if isinstance(found, UnavailableError) and not found.said_by and _ENDED in (error.details() or ""):
        found.got = f"its TLS certificate, or its authority's, has expired: {party} has to renew it"
    return found


def from_metadata(
    code: Any, metadata: Any, party: str, alternatives: tuple[str, ...] = (), others: Others = NOBODY
) -> VeilmatchError:
    """Return the error of a call's status and trailing metadata; without our fields, what gRPC's status stands for.

    alternatives: pairs that could serve without the party, for an error that says it cannot be reached, or that it
    failed by itself. others: whom the party may name beside itself.
    """
    for key, value in metadata or ():
        if key == ERROR_KEY:
            return decoded(value, party, alternatives, others)
    if code in _ABSENT:
        return UnavailableError(
            f"{party} cannot be reached", party=party, needed=party, available="no answer", alternatives=alternatives
        )
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
        return PartyRefusedError(f"{party} does not serve this party", got=code.name)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return RequestRefusedError(f"{party} or this server does not take so large a message", got=code.name)
    return named(IntegrityError(f"{party} failed", got=code.name), Self(party, alternatives))


class Service(Protocol):
    """What the decorators below expect of a service."""

    @property
    def server(self) -> Self:
        """The server that it belongs to."""


def retried(method: _F) -> _F:
    """Mark a handler that servers call again by themselves until it succeeds, about no request of a device.

    Its failure is logged once for each caller, and again when it is another one; in between at level debug.
    """
    method.is_retried = True  # type: ignore[attr-defined]
    return method


def unary(method: _F) -> _F:
    """Make a unary handler of a Service end with typed errors; see own_failures."""

    @functools.wraps(method)
    async def handler(self: Service, request: Any, context: Context) -> Any:
        try:
            return await _typed(method(self, request, context), method, context, self.server)
        except VeilmatchError as error:
            await abort(context, error)

    return handler  # type: ignore[return-value]


def streaming(method: _F) -> _F:
    """The same for a handler that yields its answers."""

    @functools.wraps(method)
    async def handler(self: Service, request: Any, context: Context) -> AsyncIterator[Any]:
        answers = method(self, request, context)
        try:
            while (answer := await _typed(anext(answers, _END), method, context, self.server)) is not _END:
                yield answer
        except VeilmatchError as error:
            await abort(context, error)
        finally:
            await answers.aclose()

    return handler  # type: ignore[return-value]


async def _typed(work: Awaitable[Any], method: Callable[..., Any], context: Context, server: Self) -> Any:
    by = _caller(context)
    return await typed(work, method.__name__, by, server, is_retried=getattr(method, "is_retried", False))


async def typed(work: Awaitable[_R], name: str, by: str | None, server: Self, *, is_retried: bool = False) -> _R:
    """Do what a caller asks for with a method of this name; an error is typed, counted and logged. by: who calls."""
    try:
        with own_failures(server):
            result = await work
    except VeilmatchError as error:
        error.request_id = error.request_id or current_request()
        calls.refused(error.code)
        level, failure = level_of(error, logging.INFO), (error.code, error.party)
        if is_retried:
            call = server.name, name, by
            level = logging.DEBUG if _failing.get(call) == failure else level
            _failing[call] = failure
        _log_refused(error, name, by, server.name, level, at_will=isinstance(error, OverloadedError))
        raise
    if is_retried:
        _failing.pop((server.name, name, by), None)
    return result


def log_refused_session(error: VeilmatchError, name: str, by: str, server_name: str) -> None:
    """Log why a session of a link was refused. A caller can have thousands refused in a second, for as many bytes."""
    at_will = isinstance(error, OverloadedError | ProtocolError)
    _log_refused(error, name, by, server_name, level_of(error, logging.INFO), at_will=at_will)


def _log_refused(
    error: VeilmatchError, name: str, by: str | None, server_name: str, level: int, *, at_will: bool
) -> None:
    facts = {"method": name, "caller": by, "code": error.code, "reason": error.claim, "failed": error.party}
    if at_will:
        left_out = _refusals.due(server_name, name, by, error.code)
        level = logging.DEBUG if left_out is None else level
        facts |= {"left_out": str(left_out)} if left_out else {}
    _log.log(level, "call refused", **facts)


def _caller(context: Context) -> str | None:
    try:
        return caller(context)[:60]
    except PartyRefusedError:
        return None
