"""A daemon's stderr holds JSON lines and nothing else, whoever writes there, and never the text of an exception."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from veilmatch.crypto.errors import (
    AuditLogError,
    DealtStockError,
    IntegrityError,
    KeySafetyError,
    RequestSignatureError,
    ServerDeviationError,
    StorageError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.server.ground.own_failures import Self, level_of, own_failures

ROOT = Path(__file__).parents[2]
SECRET = "coordinates-of-a-template"
BEGIN = f"""
import asyncio, gc, logging, sys, threading, warnings
import structlog
from veilmatch.server.ground.logs import configure_logging, run_logged
SECRET = {SECRET!r}
configure_logging("matcher-a", LEVEL)
log = structlog.get_logger("veilmatch.server.somewhere")
def fail(): raise ValueError(SECRET)
"""


def lines(program: str, level: str = "info") -> list[dict[str, Any]]:
    """The log that a process writes which does this. Its status does not matter."""
    return log_of("-c", BEGIN.replace("LEVEL", repr(level)) + program)


def log_of(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert SECRET not in done.stderr + done.stdout
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    for entry in entries:
        assert entry["party"] == "matcher-a" and entry["level"] and entry["event"] and entry["timestamp"].endswith("Z")
    return entries


UNFORESEEN = {
    "the daemon": "fail()",
    "a thread": "t = threading.Thread(target=fail); t.start(); t.join()",
    "a destructor": "class D:\n    def __del__(self): fail()\nD()",
    "a task": """
async def failing(): fail()
async def main():
    task = asyncio.create_task(failing())
    await asyncio.sleep(0.01)
    del task
    gc.collect()
run_logged(main())
""",
    "a callback": """
async def main():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0.01)
run_logged(main())
""",
}


@pytest.mark.parametrize("program", UNFORESEEN.values(), ids=UNFORESEEN.keys())
def test_an_exception_that_nobody_caught_is_one_alert_without_its_text(program: str) -> None:
    (entry,) = lines(program)
    assert (entry["event"], entry["level"], entry["code"], entry["got"]) == ("alert", "error", "internal", "ValueError")
    assert entry["where"].startswith("fail:")


@pytest.mark.parametrize(("party", "failed"), [("None", "matcher-a"), ("'keyholder-b'", "keyholder-b")])
def test_an_error_of_ours_that_nobody_caught_keeps_its_code_and_says_who_failed(party: str, failed: str) -> None:
    begin = f"""
from veilmatch.crypto.errors import StorageError
def fail(): raise StorageError(SECRET, party={party})
"""
    (entry,) = lines(begin + UNFORESEEN["a task"])
    assert (entry["event"], entry["code"], entry["failed"]) == ("alert", StorageError("").code, failed)


@pytest.mark.parametrize(
    "call",
    [
        'error("failed: %s", ValueError(SECRET))',
        'error("failed: %(it)s", {"it": ValueError(SECRET)})',
        "error(ValueError(SECRET))",
        'error("%d", "no number")',
        'error("two\\nlines")',
    ],
)
def test_a_library_that_logs_writes_one_json_line(call: str) -> None:
    (entry,) = lines(f"logging.getLogger('library').{call}")
    assert (entry["logger"], entry["level"]) == ("library", "error")


def test_the_traceback_of_a_library_is_its_type_and_place() -> None:
    (entry,) = lines("try: fail()\nexcept ValueError: logging.getLogger('grpc._cython.cygrpc').exception('raised')")
    assert entry["event"].startswith("raised: ValueError at fail:")


def test_a_warning_is_one_json_line() -> None:
    (entry,) = lines("warnings.warn(SECRET, RuntimeWarning)")
    assert (entry["event"], entry["level"], entry["kind"]) == ("library warning", "warning", "RuntimeWarning")


def test_a_worker_process_writes_as_its_daemon_does() -> None:
    warned, failed, ended = log_of("-m", "tests.transport.loud_worker", SECRET)
    assert (warned["event"], failed["event"]) == ("library warning", "failed: ValueError")
    assert (ended["event"], ended["got"]) == ("alert", "Fatal") and ended["where"].startswith("answer:")


def test_a_value_that_is_not_of_json_is_its_type() -> None:
    (entry,) = lines("log.info('x', value=SECRET.encode())")
    assert entry["value"] == "bytes"


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", "dabc"), ("info", "abc"), ("warning", "bc"), ("error", "c")],
)
def test_lines_below_the_level_are_left_out(level: str, expected: str) -> None:
    program = "for n, how in zip('dabc', ('debug', 'info', 'warning', 'error')): getattr(log, how)(n)"
    assert "".join(entry["event"] for entry in lines(program, level)) == expected


def test_a_log_that_cannot_be_written_fails_nothing() -> None:
    program = BEGIN.replace("LEVEL", "'info'") + "sys.stderr.close(); log.info('x'); sys.stdout.write('went on')"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "went on"


# -- which errors are alerts ---------------------------------------------------------------------------

ALERTS = [IntegrityError, StorageError, AuditLogError, KeySafetyError, DealtStockError, ServerDeviationError]


@pytest.mark.parametrize("kind", ALERTS)
def test_damage_and_deviation_are_errors_in_the_log(kind: type[VeilmatchError]) -> None:
    assert level_of(kind("text"), logging.INFO) == logging.ERROR


def test_what_a_request_or_a_missing_party_is_to_blame_for_is_not() -> None:
    for error in (RequestSignatureError("text"), UnavailableError("text")):
        assert level_of(error, logging.INFO) == logging.INFO
    assert level_of(ValueError(), logging.WARNING) == logging.ERROR


@pytest.mark.parametrize("error", [StorageError("full"), IntegrityError("altered"), ValueError(SECRET)])
def test_one_error_is_one_alert(error: Exception) -> None:
    """However many places it passes: the session in which it came up, and the call."""
    server = Self("keyholder-b", ("ac",))
    with capture_logs() as logged, pytest.raises(VeilmatchError) as caught, own_failures(server), own_failures(server):
        raise error
    assert [(entry["event"], entry["log_level"]) for entry in logged] == [("alert", "error")]
    assert level_of(caught.value, logging.INFO) == logging.INFO
