"""Containers of the image: what the engine is asked, what a process in one may, and an installation that it may have.

Of benchmarks/images.py and pods.py. The engine is podman.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from installation import MODEL, hold_ceremony

from veilmatch import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.installation.plan import METRICS_PORTS, Plan

TOY = ParameterSet(modulus_bits=1024)
#: User and group of the image.
USER = 10001
#: What docs/deploying.md has a daemon open at most.
_FILES = 65536
#: Asks /readyz until it says yes, in the container's own network, and prints when that was.
_UNTIL_READY = """
import sys, time, urllib.request
while True:
    try:
        urllib.request.urlopen(sys.argv[1], timeout=5)
    except OSError:
        time.sleep(0.1)
    else:
        print(time.time())
        break
"""


def engine(*words: str) -> str:
    """Return what `podman WORDS` prints, SystemExit with its words if it fails."""
    done = subprocess.run(["podman", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"podman {' '.join(words)}: {done.stderr[-4000:]}")
    return done.stdout


def written(container: str) -> str:
    """Return what a container has written, to either stream."""
    done = subprocess.run(
        ["podman", "logs", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return done.stdout


def inspected(container: str) -> dict[str, Any]:
    """Return what the engine knows of a container."""
    return json.loads(engine("container", "inspect", container))[0]  # type: ignore[no-any-return]


def open_files() -> int:
    """Return how many files a daemon may open: as many as it should, or as this machine lets anybody."""
    return min(_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def ready(containers: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Wait until all are ready. Returns, by daemon, seconds from its start until it serves and is ready."""

    def wait(name: str) -> dict[str, float]:
        container, url = containers[name], f"http://127.0.0.1:{Plan().base_port + METRICS_PORTS[name]}/readyz"
        at = float(engine("exec", container, "python3", "-c", _UNTIL_READY, url))
        started = _seconds(inspected(container)["State"]["StartedAt"])
        said = [json.loads(line) for line in written(container).splitlines() if line.startswith("{")]
        (serving,) = [_seconds(line["timestamp"]) for line in said if line["event"] == "serving"]
        return {
            "serves_s": round(serving - started, 1), "ready_s": round(at - started, 1),
            "cpu_s": round(cpu_seconds(inspected(container)["State"]["Pid"]), 1),
        }  # fmt: skip

    with ThreadPoolExecutor(len(containers)) as threads:
        return dict(zip(containers, threads.map(wait, containers), strict=True))


def cpu_seconds(pid: int) -> float:
    """Return seconds of a core that a process and its children have had."""
    one = psutil.Process(pid)
    times = [process.cpu_times() for process in (one, *one.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def _seconds(stamp: str) -> float:
    # Of nanoseconds, Python reads six digits.
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def answered(installation: Path) -> dict[str, float]:
    """Enrol, and verify somebody and somebody else, by each pair. Returns seconds of the first verification of each."""
    rng = np.random.default_rng(1)
    ada, other = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, TOY.dimension)))
    settings = DeviceSettings.load(installation / "device-1" / "device.toml")
    took: dict[str, float] = {}
    for pair in ("ab", "ac", "bc"):
        with Client(settings.model_copy(update={"pairs": [pair], "timeout_s": 120.0})) as client:
            if not took:
                client.enrol_embedding("ada", ada, model=MODEL)
            began = time.perf_counter()
            same = client.verify_embedding("ada", ada, model=MODEL)
            took[pair] = round(time.perf_counter() - began, 2)
            if not same or client.verify_embedding("ada", other, model=MODEL):
                raise SystemExit(f"the pair {pair} has decided wrongly")
    return took


def stopped(containers: Mapping[str, str]) -> float:
    """Stop all, as their platforms do. Returns seconds. SystemExit unless each exit status is 0."""
    began = time.perf_counter()
    engine("stop", "--time", "20", *containers.values())
    took = round(time.perf_counter() - began, 1)
    statuses = {name: inspected(container)["State"]["ExitCode"] for name, container in containers.items()}
    if any(statuses.values()):
        raise SystemExit(f"stopped with other exit statuses than 0: {statuses}")
    return took


def rights_of(container: str) -> dict[str, Any]:
    """Return what the daemon in a container may, as the kernel has it, and megabytes of it and its workers.

    SystemExit unless it is user 10001 without capabilities, cannot get more, and its root cannot be written.
    """
    pid = inspected(container)["State"]["Pid"]
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    mounts = [line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()]
    rights = {
        "user": int(status["Uid"].split()[0]),
        "capabilities": sum(int(status[name], 16).bit_count() for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")),
        "no_new_privileges": status["NoNewPrivs"].strip() == "1",
        "seccomp": status["Seccomp"].strip() == "2",
        "root": next(options for _, at, _, options, *_ in mounts if at == "/").split(",")[0],
    }
    if rights != {"user": USER, "capabilities": 0, "no_new_privileges": True, "seccomp": True, "root": "ro"}:
        raise SystemExit(f"{container} has other rights than were said: {rights}")
    return rights | {"memory_mb": memory_mb(pid)}


def memory_mb(pid: int) -> int:
    """Return megabytes that a process and its children have to themselves, what they share by its part."""
    found = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            found += int(line.split()[1]) // 1024
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += sum(memory_mb(int(child)) for child in (task / "children").read_text().split())
    return found


def held(folder: Path) -> tuple[Path, Path]:
    """Hold a ceremony; return its installation and the file with its passphrase, both of the image's user."""
    installation, passphrase = folder / "installation", folder / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text(secrets.token_urlsafe(24))
    passphrase.chmod(0o400)
    hold_ceremony(installation, TOY.name, passphrase.read_text(), 1, Plan().base_port)
    given(passphrase)
    given(installation)
    return installation, passphrase


def given(path: Path) -> None:
    """Give a file, or a folder with all that is in it, to the image's user."""
    for one in [path, *(path.rglob("*") if path.is_dir() else ())]:
        os.chown(one, USER, USER)
