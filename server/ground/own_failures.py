"""What a server fails in by itself: it says so, and which pairs can do without it. And which errors are alerts.

A full disk, a stored block that was altered, a clock that is wrong, a bug: nothing that the request or another party
did. Such an error names the server (`party`) and the pairs that do without it (`alternatives`), so that a device goes
on with one of them. Errors about the request or about another party are left as they are: another pair would not serve
that request either, or must not be asked in silence. So is what another server says (`said_by`): it failed there, if it
is true.

An error that an operator must look at is one alert, where it happened: whatever else is said of it, here or at another
server, is no more than information. What fails in every request would fill the log: one alert of a kind is logged in an
hour.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakSet

import structlog

from veilmatch.crypto.errors import (
    AuditLogError,
    IntegrityError,
    KeyFileError,
    StorageError,
    VeilmatchError,
    WrongClockError,
)
from veilmatch.crypto.keys.parties import PAIRS

_log = structlog.get_logger(__name__)
#: Errors under way that have had their alert: one error is one alert, however many places it passes.
_alerted: WeakSet[BaseException] = WeakSet()
#: Alerts of one kind are logged once in this.
ALERT_S = 3600.0
#: Kinds of alerts that are told apart; there are fewer, unless something is very wrong.
_KINDS = 256


@dataclass(frozen=True, slots=True)
class Self:
    """A server, for its own errors.

    name: as in its certificate. without: pairs that can do without it. pairs: those that serve in this installation.
    """

    name: str
    without: tuple[str, ...] = ()
    pairs: tuple[str, ...] = PAIRS


def named(error: VeilmatchError, server: Self) -> VeilmatchError:
    """Return the error; one about what that server failed in by itself names it, and who can do without it."""
    if error.party in (None, server.name) and _is_own(error):
        error.party, error.alternatives = server.name, error.alternatives or server.without
    return error


@contextmanager
def own_failures(server: Self) -> Iterator[None]:
    """Let what `server` fails in by itself leave as an error that names it; log what is to be looked at as an alert.

    Anything unforeseen leaves as IntegrityError without its text, which may quote data: its type and place do not.
    """
    try:
        yield
    except VeilmatchError as error:
        if not error.said_by:
            named(error, server)
        # Key holders offer pairs whose matchers they know nothing of.
        error.alternatives = tuple(pair for pair in error.alternatives if pair in server.pairs)
        if _is_alert(error):
            alert(error, server)
        raise
    except Exception as error:
        found = IntegrityError(f"{server.name} failed on this request", got=type(error).__name__)
        alert(named(found, server), server, where=place_of(error))
        raise found from None


def alert(error: VeilmatchError, server: Self, *state: object, **more: str) -> None:
    """Log this error at `server` as an alert, unless it has had one, or one of its kind was logged in the last hour.

    One about what the server failed in by itself names it, wherever it was met: in a request or in the background.
    state: what makes it another kind, beside its code and message. more: fields of the line.
    """
    if error in _alerted or error.said_by:
        return
    _alerted.add(error)
    failed = server.name if error.party is None and _is_own(error) else error.party
    # Two daemons of one process, in tests and demonstrations, have alerts of their own.
    left_out = _alerts.due(server.name, failed, error.code, error.message, *more.values(), *state)
    if left_out is None:
        return
    facts = {"got": error.got, "expected": error.expected, "failed": failed} | more
    facts |= {"left_out": str(left_out)} if left_out else {}
    _log.error("alert", code=error.code, reason=error.message, **{k: v for k, v in facts.items() if v is not None})


_E = TypeVar("_E", bound=VeilmatchError)


def said(error: _E) -> _E:
    """Return the error, which has had its line at level error: no other place logs it as an alert."""
    _alerted.add(error)
    return error


def alike(error: VeilmatchError, copied: _E) -> _E:
    """Return a copy of an error, which has had its alert if the error itself has had one."""
    return said(copied) if error in _alerted else copied


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
        return error.code, error.claim
    return VeilmatchError.code, f"{type(error).__name__} at {place_of(error)}"


def level_of(error: BaseException, otherwise: int) -> int:
    """Return the level to log an error at that ended something: ERROR if an operator must look, else `otherwise`.

    An operator must look at damage, at a party that deviates, at a disk that fails, and at anything unforeseen: unless
    this very error has had its alert before, here or at the server that says it.
    """
    return logging.ERROR if _is_alert(error) else otherwise


class Alerts:
    """When the lines of each kind were logged. every_s: one of a kind in so long. now: a clock that never goes back."""

    def __init__(self, now: Callable[[], float] = time.monotonic, every_s: float = ALERT_S) -> None:
        self._now = now
        self._every_s = every_s
        #: By kind: when one was logged, and how many were not since then.
        self._kinds: dict[tuple[object, ...], tuple[float, int]] = {}

    def due(self, *kind: object) -> int | None:
        """Return how many of this kind were left out before this one, which is to be logged; None if it is not."""
        now = self._now()
        last_s, left_out = self._kinds.pop(kind, (now - self._every_s, 0))
        is_due = now - last_s >= self._every_s
        self._kinds[kind] = (now, 0) if is_due else (last_s, left_out + 1)
        if len(self._kinds) > _KINDS:
            del self._kinds[next(iter(self._kinds))]
        return left_out if is_due else None


_alerts = Alerts()


def _is_own(error: VeilmatchError) -> bool:
    own = isinstance(error, StorageError | KeyFileError | WrongClockError)
    return own or type(error) in (IntegrityError, VeilmatchError)


def _is_alert(error: BaseException) -> bool:
    if not isinstance(error, VeilmatchError):
        return True
    if error.said_by or error in _alerted:
        return False
    worth = isinstance(error, IntegrityError | StorageError | AuditLogError | WrongClockError)
    return worth or type(error) is VeilmatchError
