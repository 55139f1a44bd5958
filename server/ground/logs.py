"""The log of a daemon: JSON lines on stderr and nothing else, whoever writes them.

Every line has `party`, `level`, `timestamp` (UTC) and `event`, those about a request its id and device (request_id.py).
Libraries that log, warnings, and exceptions that nobody caught go the same way: of an exception its type and place are
said, never its text, which may quote data.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine, MutableMapping
from contextlib import suppress
from contextvars import Context
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from veilmatch.crypto.errors import VeilmatchError
from veilmatch.server.ground.own_failures import Self, named, place_of
from veilmatch.server.ground.request_id import add_request

if TYPE_CHECKING:
    from veilmatch.server.config import LogLevel

_T = TypeVar("_T")
_Entry = MutableMapping[str, Any]
#: Our own loggers; those of libraries speak from "warning" on.
_OWN = "veilmatch"

_log = structlog.get_logger(__name__)
#: Whose log this is.
_party = ""


def configure_logging(party_name: str, level: LogLevel = "info") -> None:
    """Have everything in this process that logs, warns or fails write JSON lines with the party's name on stderr."""
    global _party
    _party = party_name

    def add_party(_logger: Any, _method: str, entry: _Entry) -> _Entry:
        entry["party"] = party_name
        return entry

    # A processor and not a variable of the context: threads of libraries have contexts of their own.
    common: list[Processor] = [
        add_party,
        add_request,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=_from(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler()
    handler.addFilter(_without_texts)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=lambda value: type(value).__name__),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OWN).setLevel(level.upper())
    # A log that cannot be written must not fail a request, nor be told of in another form.
    logging.raiseExceptions = False
    warnings.showwarning = _warned
    sys.excepthook = lambda _kind, error, _trace: unforeseen(error, "an exception ended the process")
    threading.excepthook = lambda args: unforeseen(args.exc_value, "an exception ended a thread")
    sys.unraisablehook = lambda args: Context().run(unforeseen, args.exc_value, "an exception could not be raised")


def change_level(level: LogLevel) -> None:
    """Leave out what is below this level from now on; workers that are processes keep theirs."""
    structlog.configure(wrapper_class=_from(level))
    logging.getLogger(_OWN).setLevel(level.upper())


def _from(level: LogLevel) -> type[FilteringBoundLogger]:
    return structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])


def run_logged(work: Coroutine[Any, Any, _T]) -> _T:
    """Return what `work` returns, in an event loop that logs as everything else does."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(_failed_in_loop)
        return runner.run(work)


def in_worker(party_name: str, level: LogLevel, factory: Callable[..., _T], *args: object) -> _T:
    """Return `factory(*args)`: in a worker that is a process of its own, after its log was made that of the daemon."""
    if parent_process() is not None:
        configure_logging(party_name, level)
    return factory(*args)


def unforeseen(error: BaseException | None, what: str) -> None:
    """Log an exception that nobody expected: an alert, with its type and place.

    One of our own keeps its code, and names who failed: a full disk is that, whoever did not wait for the task that
    met it.
    """
    if error is None:
        return
    facts = {"code": "internal", "reason": what, "got": type(error).__name__, "where": place_of(error)}
    if isinstance(error, VeilmatchError):
        facts["code"] = error.code
        # It may be of a place that knows no party: then it is ours.
        if failed := named(error, Self(_party)).party:
            facts["failed"] = failed
    _log.error("alert", **facts)


def _failed_in_loop(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    def say() -> None:
        if (error := context.get("exception")) is None:
            _log.error("alert", code="internal", reason=str(context.get("message")))
        else:
            unforeseen(error, str(context.get("message")))

    # It may be called while any request is served: whenever Python finds that nobody has waited for a task.
    Context().run(say)


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _log.warning("library warning", kind=category.__name__, where=f"{filename}:{lineno}")


def _without_texts(record: logging.LogRecord) -> bool:
    """Take the texts of exceptions out of what a library logs; their types and places stay."""
    if isinstance(record.msg, dict):
        return True  # one of our own, made by structlog
    if isinstance(record.args, tuple):
        record.args = tuple(map(_named, record.args))
    elif record.args:
        record.args = {name: _named(value) for name, value in record.args.items()}
    record.msg = str(_named(record.msg))
    with suppress(TypeError, ValueError, KeyError):  # what a library formats wrongly is still worth a line
        record.msg = record.getMessage()
    record.args = None
    if record.exc_info and record.exc_info[1] is not None:
        record.msg += f": {_named(record.exc_info[1])} at {place_of(record.exc_info[1])}"
    record.exc_info = record.exc_text = record.stack_info = None
    return True


def _named(value: object) -> object:
    return type(value).__name__ if isinstance(value, BaseException) else value
