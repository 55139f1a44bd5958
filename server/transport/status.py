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

from veilmatch.crypto.claims import NOBODY, Others, read, written
from veilmatch.crypto.errors import (
    BudgetExceededError,
    IntegrityError,
    InvalidInputError,
    KeyMismatchError,
    OverloadedError,
    PartyRefusedError,
    RequestRefusedError,
    UnavailableError,
    UnknownSubjectError,
    VeilmatchError,
)
from veilmatch.server.ground.own_failures import Self, level_of, named, own_failures
from veilmatch.server.ground.request_id import current_request
from veilmatch.server.transport.channels import Context, caller

METADATA_KEY = "veilmatch-error-bin"
#: Of the text beside the fields: for proxies, and in the same 8 kB of metadata.
_DETAILS_CHARACTERS = 100
_END = object()
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

_log = structlog.get_logger(__name__)
_F = TypeVar("_F", bound=Callable[..., Any])


async def abort(context: Context, error: VeilmatchError) -> NoReturn:
    """End the call with this error."""
    code = next(status for kind, status in _CODES if isinstance(error, kind))
    await context.abort(code, error.message[:_DETAILS_CHARACTERS], ((METADATA_KEY, written(error)),))
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
    return from_metadata(error.code(), error.trailing_metadata(), party, alternatives, others)


def from_metadata(
    code: Any, metadata: Any, party: str, alternatives: tuple[str, ...] = (), others: Others = NOBODY
) -> VeilmatchError:
    """Return the error of a call's status and trailing metadata; without our fields, what gRPC's status stands for.

    alternatives: pairs that could serve without the party, for an error that says it cannot be reached, or that it
    failed by itself. others: whom the party may name beside itself.
    """
    for key, value in metadata or ():
        if key == METADATA_KEY:
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
    name, is_retried = method.__name__, getattr(method, "is_retried", False)
    try:
        with own_failures(server):
            result = await work
    except VeilmatchError as error:
        error.request_id = error.request_id or current_request()
        level, failure, by = level_of(error, logging.INFO), (error.code, error.party), _caller(context)
        if is_retried:
            call = server.name, name, by
            level = logging.DEBUG if _failing.get(call) == failure else level
            _failing[call] = failure
        _log.log(level, "call refused", method=name, caller=by, code=error.code, reason=error.claim, failed=error.party)
        raise
    if is_retried:
        _failing.pop((server.name, name, _caller(context)), None)
    return result


def _caller(context: Context) -> str | None:
    try:
        return caller(context)[:60]
    except PartyRefusedError:
        return None
