"""What a server fails in by itself: it says so, and which pairs can do without it. And which errors are alerts.

A full disk, a stored block that was altered, a clock that is wrong, a bug: nothing that the request or another party
did. Such an error names the server (`party`) and the pairs that do without it (`alternatives`), so that a device goes
on with one of them, and it is an alert in this server's log. Errors about the request or about another party are left
as they are: another pair would not serve that request either, or must not be asked in silence.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakSet

import structlog

from veilmatch.crypto.errors import (
    AuditLogError,
    IntegrityError,
    KeyFileError,
    RequestExpiredError,
    StorageError,
    VeilmatchError,
)

_log = structlog.get_logger(__name__)
#: Errors under way that have had their alert: one error is one alert, however many places it passes.
_alerted: WeakSet[BaseException] = WeakSet()


@dataclass(frozen=True, slots=True)
class Self:
    """A server, for its own errors. name: as in its certificate. without: pairs that can do without it."""

    name: str
    without: tuple[str, ...] = ()


def named(error: VeilmatchError, server: Self) -> VeilmatchError:
    """Return the error; it names the server if it is about what that server failed in by itself and names nobody."""
    if error.party is None and _is_own(error):
        error.party, error.alternatives = server.name, server.without
    return error


@contextmanager
def own_failures(server: Self) -> Iterator[None]:
    """Let what `server` fails in by itself leave as an error that names it, once, and log it as an alert.

    Anything unforeseen leaves as IntegrityError without its text, which may quote data: its type and place do not.
    """
    try:
        yield
    except VeilmatchError as error:
        if isinstance(error, RequestExpiredError) and server.without and not error.alternatives:
            # Whoever brought the request here did not find it expired.
            error.party, error.alternatives = server.name, server.without
            _alert(error)
        elif isinstance(error, RequestExpiredError):
            error.party = error.party or server.name
        elif error.party is None and _is_own(error):
            _alert(named(error, server))
        raise
    except Exception as error:
        found = IntegrityError(f"{server.name} failed on this request", got=type(error).__name__)
        _alert(named(found, server), where=place_of(error))
        raise found from None


def place_of(error: BaseException) -> str:
    """Return where an exception was raised, "function:line": what may be said of one whose text may quote data."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return f"{place.tb_frame.f_code.co_name}:{place.tb_lineno}" if place else "?"


def described(error: BaseException) -> tuple[str, str]:
    """Return code and reason for a log line about an error that ended something in the background.

    The text of one that is not of our tree may quote data; its type and place do not.
    """
    if isinstance(error, VeilmatchError):
        return error.code, error.message
    return VeilmatchError.code, f"{type(error).__name__} at {place_of(error)}"


def level_of(error: BaseException, otherwise: int) -> int:
    """Return the level to log an error at that ended something: ERROR if an operator must look, else `otherwise`.

    An operator must look at damage, at a party that deviates, at a disk that fails, and at anything unforeseen: unless
    this very error has had its alert before.
    """
    is_alert = not isinstance(error, VeilmatchError) or type(error) is VeilmatchError
    is_alert = is_alert or isinstance(error, IntegrityError | StorageError | AuditLogError)
    return logging.ERROR if is_alert and error not in _alerted else otherwise


def _is_own(error: VeilmatchError) -> bool:
    return type(error) in (IntegrityError, VeilmatchError) or isinstance(error, StorageError | KeyFileError)


def _alert(error: VeilmatchError, **more: str) -> None:
    _alerted.add(error)
    _log.error("alert", code=error.code, reason=error.message, got=error.got, **more)
