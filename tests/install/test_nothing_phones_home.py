"""No library that runs here reports to its maker: nothing is looked up, connected to or left in the user's folders.

The programs run without CI's variables, under which such reports are off, in a home of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from veilmatch.client.models import cache_dir, install_models, install_photos, orl_photo

HERE = Path(__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc")
#: The first version whose wheels report on Linux.
REPORTS_SINCE = (1, 29)
VERSION = tuple(int(part) for part in version("onnxruntime").split(".")[:2])

#: What is sent is sent from a thread of its own, some six seconds after a model is loaded.
PAUSE = "import time; time.sleep(15)"
LOAD = "from veilmatch.client.capture.pipeline import CapturePipeline; p = CapturePipeline.default()"
PROGRAMS = {
    "a device that takes a photo": f"{LOAD}; import sys; p.embed_photo(sys.argv[1]); {PAUSE}",
    "a command": "import sys; sys.argv = ['veilmatch', 'doctor']\n"
    "from veilmatch.client.commands import main\n"
    f"try: main()\nexcept SystemExit as end: assert end.code in (0, None), end.code\n{PAUSE}",
    "everything imported": "import pkgutil, importlib, veilmatch\n"
    "for m in pkgutil.walk_packages(veilmatch.__path__, 'veilmatch.'):\n"
    "    if not m.name.endswith(('__main__', '.generate')): importlib.import_module(m.name)\n"
    "import onnx, sqlalchemy, grpc, grpc_health, unearth, certifi, sklearn, scipy.ndimage, tomlkit, rich, typer\n"
    f"from veilmatch.client.capture.runtime import require_pillow, _import_onnxruntime\n_import_onnxruntime()\n{PAUSE}",
    "a process that a device starts": f"{LOAD}; import subprocess, sys\n"
    f"subprocess.run([sys.executable, '-c', 'import onnxruntime; {PAUSE}'], check=True)",
    "a pool that a device starts": f"{LOAD}; import multiprocessing\n"
    f"with multiprocessing.get_context('spawn').Pool(1) as pool: pool.apply(exec, ['import onnxruntime; {PAUSE}'])",
}
#: What the run-time of the models does when it is let: the watcher has to see it, or it sees nothing.
LET = (
    "import onnxruntime; from veilmatch.client.models import model_bytes\n"
    f"s = onnxruntime.InferenceSession(model_bytes('sface'), providers=['CPUExecutionProvider']); {PAUSE}"
)
LOOK_UP = (
    "import socket\n"
    "for call in (lambda: socket.getaddrinfo('example.invalid', 80),"
    " lambda: socket.socket().connect(('127.0.0.1', 9))):\n"
    "    try: call()\n    except OSError: pass"
)


@dataclass(frozen=True)
class Seen:
    """What a program left below its home, and whom it tried to reach."""

    files: list[str]
    reached: list[str]


@pytest.fixture(scope="module")
def watcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None:
        pytest.skip("no C compiler to build the watcher with")
    library = tmp_path_factory.mktemp("watch") / "watch.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, HERE / "watch.c"], check=True)
    return library


@pytest.fixture(scope="module", autouse=True)
def fixtures() -> None:
    install_models()
    install_photos()


@pytest.fixture(scope="module")
def seen(watcher: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """All programs, at the same time: most of theirs is waiting."""
    everything = {**PROGRAMS, "let": LET, "look-up": LOOK_UP}
    with ThreadPoolExecutor(len(everything)) as threads:
        watched = [
            threads.submit(watch, program, watcher, tmp_path_factory.mktemp("watched"))
            for program in everything.values()
        ]
        return dict(zip(everything, [future.result() for future in watched], strict=True))


def watch(program: str, watcher: Path, folder: Path) -> Seen:
    home, log = folder / "home", folder / "log"
    home.mkdir()
    environment = {name: os.environ[name] for name in os.environ if name.startswith("OPENBLAS")} | {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        "VEILMATCH_CACHE": str(cache_dir()),
        "LD_PRELOAD": str(watcher),
        "WATCH_LOG": str(log),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, str(orl_photo(1, 1))],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    return Seen(sorted(files), log.read_text().splitlines() if log.exists() else [])


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_sent_or_left(name: str, seen: dict[str, Seen]) -> None:
    assert seen[name] == Seen([], [])


@pytest.mark.skipif(VERSION < REPORTS_SINCE, reason="this onnxruntime does not report")
def test_the_watcher_sees_what_the_run_time_does_when_it_is_let(seen: dict[str, Seen]) -> None:
    assert any("deviceid" in file for file in seen["let"].files)
    assert any("microsoft" in reached for reached in seen["let"].reached)


def test_the_watcher_sees_a_look_up_and_a_connection(seen: dict[str, Seen]) -> None:
    assert seen["look-up"].reached == ["looked up example.invalid", "connected "]
