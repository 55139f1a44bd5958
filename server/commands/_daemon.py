"""How a daemon's command ends: its log is JSON lines, so its last error is one too."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import typer

from veilmatch.common.output import error_document, report, unforeseen
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.server.ground.logs import configure_logging
from veilmatch.server.ground.native import take_native_lines
from veilmatch.server.transport.daemon import Life


@contextmanager
def daemon(kind: str) -> Iterator[Callable[[str], None]]:
    """Run a daemon in the body; whatever it raises is one line of its log, and the exit status.

    kind: stands for the party's name until the body knows it and calls what this gives. At a terminal, a panel says
    it to the person there as well.
    """
    take_native_lines()
    configure_logging(kind)
    try:
        yield configure_logging
    except VeilmatchError as error:
        raise typer.Exit(_told(error)) from error
    except Exception as error:
        if hasattr(error, "exit_code"):  # typer's own, with a status
            raise
        raise typer.Exit(_told(unforeseen(error))) from error


def _told(error: VeilmatchError) -> int:
    event = "ended by an error" if Life.served else "did not start"
    structlog.get_logger(__name__).error(event, **{"error": error_document(error)})
    if sys.stderr is not None and sys.stderr.isatty():
        report(error, as_json=False)
    return error.exit_status
