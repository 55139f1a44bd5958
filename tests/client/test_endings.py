"""How the process of a command ends: 1 is "no match" and nothing else, whatever becomes of streams and libraries."""

from __future__ import annotations

import ast
import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

import veilmatch.client
import veilmatch.server
from tests.nursery import Nursery
from veilmatch import DeviceSettings

ROOT = Path(__file__).resolve().parents[2]
#: The command line as it is, with matchers inside the process: no network.
FAKED = """
import importlib, os, signal, sys, time
sys.path.insert(0, {root!r})
from tests.client.conftest import FakeCapture
from tests.client.fakes import FakeMatchers
from veilmatch import Client, DeviceSettings, Enrolment
fakes = FakeMatchers()
fakes.templates = ["alice", "\\u00e9va"]
fakes.looks_like = {{"alice", "\\u00e9va"}}
def open_client(config, face=None):
    return Client(DeviceSettings.load(config), matchers=fakes.all, capture=FakeCapture())
for name in ("enrol", "verify", "identify", "candidates", "known", "erase", "subjects", "rotate"):
    importlib.import_module(f"veilmatch.client.commands.{{name}}").open_client = open_client
{more}
from veilmatch.client.commands import main
main()
"""


def program(more: str = "") -> str:
    return FAKED.format(root=str(ROOT), more=textwrap.dedent(more))


@functools.cache
def _started() -> Nursery:
    made = Nursery("tests.client.conftest", "tests.client.fakes")
    atexit.register(made.end)
    return made


def ended(
    args: Sequence[str], folder: Path, *, more: str = "", stdout: int | None = None, stderr: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process that need not import it, and ends as Python does. stdout, stderr: descriptors
    that it gets, which are closed here.
    """
    with ExitStack() as given, TemporaryFile() as out, TemporaryFile() as err:
        streams = [
            own if other is None else given.enter_context(os.fdopen(other, "wb", buffering=0))
            for own, other in ((out, stdout), (err, stderr))
        ]
        process = _started().fork(
            args, os.environ, *streams, stdin=subprocess.DEVNULL, program=program(more), folder=folder
        )  # fmt: skip
        status = process.wait(60)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(args, status, out.read(), err.read())


def ended_from_its_beginning(
    args: Sequence[str | bytes], folder: Path, *, more: str = "", code: str | None = None, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """The same in a new interpreter: for what it does when it begins."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60} | options
    return subprocess.run(
        [sys.executable, "-c", code or program(more), *args],
        cwd=folder, stdin=subprocess.DEVNULL, check=False, **options,
    )  # fmt: skip


@pytest.fixture
def folder(settings: DeviceSettings, tmp_path: Path) -> Path:
    """A folder with a device.toml and photos."""
    for photo in ("1.jpg", "2.jpg"):
        (tmp_path / photo).write_text(photo)
    return tmp_path


def reader_gone() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


#: What can be wrong with standard output.
UNWRITABLE: dict[str, Callable[[], dict[str, Any]]] = {
    "reader gone": lambda: {"stdout": reader_gone()},
    "disk full": lambda: {"stdout": full_disk()},
    "closed": lambda: {"stdout": None, "preexec_fn": lambda: os.close(1)},
}
COMMANDS = {
    "verify": ["verify", "alice", "door.jpg"],
    "no match": ["verify", "alice", "door.jpg", "--threshold", "0.9"],
    "identify": ["identify", "door.jpg"],
    "candidates": ["candidates", "door.jpg"],
    "known": ["known", "door.jpg"],
    "subjects": ["subjects"],
    "enrol": ["enrol", "bob", "1.jpg"],
    "erase": ["erase", "alice"],
    "help": ["--help"],
    "version": ["--version"],
    "doctor": ["doctor"],
    "models": ["models", "list", "--json"],
}


@pytest.mark.parametrize(
    ("command", "trouble"),
    [*((command, "reader gone") for command in COMMANDS), ("verify", "disk full"), ("verify", "closed")],
)
def test_what_was_done_and_cannot_be_printed_is_status_eleven(command: str, trouble: str, folder: Path) -> None:
    run = ended_from_its_beginning if trouble == "closed" else ended
    done = run(COMMANDS[command], folder, **UNWRITABLE[trouble]())
    assert done.returncode == 11, done.stderr
    assert b"could not be printed" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_enrolment_that_cannot_be_printed_is_told_on_standard_error(options: list[str], folder: Path) -> None:
    done = ended(["enrol", "bob", "1.jpg", "2.jpg", *options], folder, stdout=full_disk())
    text = b" ".join(done.stderr.split())
    assert done.returncode == 11
    assert b"enrolled: bob (templates: 2), but it could not be printed" in text
    assert b"do not do it again" in text


@pytest.mark.parametrize("trouble", UNWRITABLE)
def test_an_error_keeps_its_status_where_it_cannot_be_printed(trouble: str, folder: Path) -> None:
    run = ended_from_its_beginning if trouble == "closed" else ended
    done = run(["verify", "alice", "empty.jpg", "--json"], folder, **UNWRITABLE[trouble]())
    assert done.returncode == 3 and b"no_face" in done.stderr


@pytest.mark.parametrize("stderr", ["gone", "full", "closed"])
@pytest.mark.parametrize(("args", "status"), [(["verify", "alice", "d.jpg"], 0), (["verify", "alice", "empty.jpg"], 3)])
def test_a_status_does_not_depend_on_standard_error(stderr: str, args: list[str], status: int, folder: Path) -> None:
    options: dict[str, Any] = {
        "gone": {"stderr": reader_gone()},
        "full": {"stderr": full_disk()},
        "closed": {"stderr": None, "preexec_fn": lambda: os.close(2)},
    }[stderr]
    done = (ended_from_its_beginning if stderr == "closed" else ended)([*args, "--json"], folder, **options)
    assert done.returncode == status
    assert ("error" in json.loads(done.stdout)) == (status != 0)


def test_both_streams_gone_is_not_no_match(folder: Path) -> None:
    done = ended(["verify", "alice", "d.jpg"], folder, stdout=reader_gone(), stderr=reader_gone())
    assert done.returncode == 11


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict", "utf-16"])
def test_a_subject_that_the_terminal_cannot_show_fails_nothing(encoding: str, folder: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = ended_from_its_beginning(["subjects"], folder, env=environment)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode(encoding.split(":")[0])
    assert shown.splitlines() == ["alice\t1", "\\xe9va\t1" if encoding == "ascii" else "\u00e9va\t1"]
    done = ended_from_its_beginning(["subjects", "--json"], folder, env=environment)
    assert json.loads(done.stdout.decode(encoding.split(":")[0]))["subjects"][1]["subject"] == "\u00e9va"


@pytest.mark.parametrize("encoding", ["ascii:strict", "utf-8:strict"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_file_name_that_is_no_text_fails_as_what_it_is(encoding: str, options: list[str], folder: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = ended_from_its_beginning(["subjects", "--config", b"no\xff.toml", *options], folder, env=environment)
    assert done.returncode == 3 and b"Traceback" not in done.stderr
    if options:
        assert os.fsencode(json.loads(done.stdout)["error"]["got"]).startswith(b"no\xff.toml")


# -- what else may end a process -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        ("RuntimeError()", 10), ("MemoryError()", 10), ("RecursionError()", 10), ("BrokenPipeError(32, 'gone')", 10),
        ("SystemExit(1)", 10), ("SystemExit('gone')", 10), ("GeneratorExit()", 10), ("KeyboardInterrupt()", 130),
        ("ExceptionGroup('two', [ValueError()])", 10), ("ImportError('no', name='lib')", 10), ("EOFError()", 130),
        ("asyncio.CancelledError()", 10), ("ImportError('no', name='lib') from KeyboardInterrupt()", 130),
        ("a_class()", 130),
    ],
)  # fmt: skip
def test_no_exception_ends_as_no_match(raised: str, status: int, folder: Path) -> None:
    more = f"""
    import asyncio
    class Field:
        def __set_name__(self, owner, name):
            raise KeyboardInterrupt  # of which Python 3.11 makes RuntimeError
    def a_class():
        class One:
            field = Field()
    def broken(self, *args, **options):
        raise {raised}
    Client.verify = broken
    """
    done = ended(["verify", "alice", "door.jpg", "--json"], folder, more=more)
    assert done.returncode == status, done.stderr
    if status == 10 and "SystemExit('" not in raised:
        assert json.loads(done.stdout)["error"]["exit_status"] == 10


def test_an_exception_at_the_end_of_the_interpreter_changes_nothing(folder: Path) -> None:
    more = """
    import atexit, threading
    atexit.register(lambda: 1 / 0)
    threading.Thread(target=lambda: (time.sleep(0.3), 1 / 0)).start()
    """
    assert ended(["verify", "alice", "door.jpg"], folder, more=more).returncode == 0
    assert ended(["verify", "bob", "empty.jpg"], folder, more=more, stderr=reader_gone()).returncode == 3


@pytest.mark.parametrize(
    ("library", "options"), [("typer", ["--json"]), ("rich", []), ("pydantic_settings", ["--json"]), ("numpy", [])]
)
def test_a_missing_library_is_no_match_of_nothing(library: str, options: list[str], folder: Path) -> None:
    code = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {library!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
import runpy
runpy.run_module("veilmatch", run_name="__main__")
"""
    done = ended_from_its_beginning(["verify", "alice", "door.jpg", *options], folder, code=code)
    assert done.returncode == 3, done.stderr
    assert library.encode() in done.stderr and b"Traceback" not in done.stderr
    if options:
        assert json.loads(done.stdout)["error"]["code"] == "missing_extra"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_has_its_own_status_and_lets_the_command_clean_up(number: int, status: int, folder: Path) -> None:
    more = """
    def slow(self, *args, **options):
        try:
            print("here", flush=True)
            time.sleep(30)
        finally:
            open("cleaned", "w").close()
    Client.verify = slow
    """
    process = subprocess.Popen(
        [sys.executable, "-c", program(more), "verify", "alice", "door.jpg"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"here\n"
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == status and b"Traceback" not in told
    assert (folder / "cleaned").exists()


def test_an_interrupt_at_any_moment_is_never_no_match(folder: Path) -> None:
    """From the first line of the command line on; what Python does before that is not ours."""
    # As it is, with all that it imports: where tests have imported something before, those moments would be theirs.
    code = "print(flush=True)\nfrom veilmatch.client.commands import main\nmain()"
    found = set()
    for delay in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", code, "verify", "alice", "missing.jpg"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1 * delay)
        process.send_signal(signal.SIGINT)
        found.add(process.wait(30))
        process.stdout.close()
    assert found <= {3, 130, -signal.SIGINT} and found & {130, -signal.SIGINT}


@pytest.mark.parametrize("module", ["veilmatch.common.process", "veilmatch.client.commands.base.application"])
def test_an_interrupt_while_a_class_is_made_is_one_at_the_beginning_too(module: str, folder: Path) -> None:
    code = f"""
import signal, sys
class Field:
    def __set_name__(self, owner, name):
        signal.raise_signal(signal.SIGINT)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            class One:
                field = Field()
sys.meta_path.insert(0, Finder())
from veilmatch.client.commands import main
main()
"""
    assert ended_from_its_beginning(["verify", "alice", "d.jpg"], folder, code=code).returncode in {130, -signal.SIGINT}


def test_interrupts_that_are_ignored_stay_so(folder: Path) -> None:
    """As in the background of a shell without job control."""
    more = """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    def interrupted(self, *args, **options):
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError
    Client.verify = interrupted
    """
    assert ended(["verify", "alice", "d.jpg"], folder, more=more).returncode == 10


def test_wrong_usage_is_a_document_too_if_one_is_asked_for(folder: Path) -> None:
    done = ended(["verify", "alice", "--json"], folder)
    told = json.loads(done.stdout)["error"]
    assert (done.returncode, told["code"], told["exit_status"]) == (2, "usage", 2)


# -- one place that prints ------------------------------------------------------------------------


def test_standard_output_is_written_in_one_module_only() -> None:
    """Everything else goes through `show`, `show_json` and `show_tables`, which say what was done if it fails."""
    # In a checkout the folder of `common` is within that of `client`.
    modules = {
        path.resolve(): f"{package.__name__.split('.')[-1]}/{path.relative_to(next(iter(package.__path__)))}"
        for package in (veilmatch.client, veilmatch.server, veilmatch.common)
        for path in Path(next(iter(package.__path__))).rglob("*.py")
    }
    found = set()
    for path, module in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            name = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
            if name in {"sys.stdout", "sys.__stdout__", "typer.echo", "print", "typer.secho", "click.echo"}:
                found.add(module)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Console":
                found.add(module)
    # The process frame flushes and reports without any library; a worker's pipe is no person's.
    assert found == {"common/output.py", "common/process.py", "client/operations/bulk_worker.py"}
