"""The image at work: size, user and rights, from start to ready, and three organisations of it that answer.

    python benchmarks/images.py                     the image `veilmatch`, as deploy/containers/compose.yaml runs it
    python benchmarks/images.py --image NAME --json PATH
    make images                                     builds it before, on a base of its own

As root, with podman and podman-compose; the pods need kubectl, which renders them (pods.py). Key and gallery are toys,
because the image does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from containers import answered, engine, held, open_files, ready, rights_of, stopped
from pods import pods
from rich.console import Console
from rich.table import Table

from veilmatch.server.installation.plan import METRICS_PORTS

COMPOSE = Path(__file__).parents[1] / "deploy" / "containers" / "compose.yaml"
#: What a last stage must not have.
TOOLS = ("gcc", "cc", "make", "pip", "pip3", "git", "curl", "wget")


def look_at(image: str) -> dict[str, Any]:
    """Return what an image is: megabytes, those of the installed packages, user, and tools that it has."""
    (about,) = json.loads(engine("image", "inspect", image))
    inside = engine(
        "run", "--rm", "--network=none", "--read-only", "--cap-drop=all",
        f"--ulimit=nofile={open_files()}:{open_files()}",
        "--ulimit=nproc=4096:4096", "--entrypoint=sh", image, "-c",
        "du -sm /opt/veilmatch | cut -f1; find / -xdev -perm /6000 -type f 2>/dev/null | wc -l;"
        f" for tool in {' '.join(TOOLS)}; do command -v $tool; done; true",
    )  # fmt: skip
    packages, privileged, *tools = inside.split()
    return {
        "image_mb": round(about["Size"] / 1e6), "packages_mb": int(packages), "user": about["Config"]["User"],
        "files_that_give_rights": int(privileged), "tools": tools,
    }  # fmt: skip


@contextmanager
def composed(image: str, installation: Path, passphrase: Path, scratch: Path) -> Iterator[dict[str, str]]:
    """Run the compose file in the body; gives the container of each daemon."""
    chosen = {"IMAGE": image, "INSTALLATION": str(installation), "PASSPHRASE": str(passphrase)}
    files = ["-f", str(COMPOSE)]
    if (most := open_files()) < 65536:
        # Where not even root may open as many files as the compose file asks for.
        lower = scratch / "lower.yaml"
        same = {"ulimits": {"core": 0, "nofile": most, "nproc": 4096}}
        lower.write_text(json.dumps({"services": dict.fromkeys(METRICS_PORTS, same)}))
        files += ["-f", str(lower)]

    def compose(*words: str) -> None:
        done = subprocess.run(
            ["podman-compose", *files, *words], env=os.environ | chosen, capture_output=True, text=True, cwd=scratch
        )
        if done.returncode:
            raise SystemExit(f"podman-compose {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-4000:]}")

    try:
        compose("up", "--detach")
        yield {
            name: engine("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.service={name}").strip()
            for name in METRICS_PORTS
        }
    finally:
        compose("down")


def compose_tried(image: str) -> dict[str, Any]:
    """Run the compose file: all three organisations answer, and nobody has more rights than it says."""
    with tempfile.TemporaryDirectory(prefix="veilmatch-images-") as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)
        installation, passphrase = held(scratch)
        with composed(image, installation, passphrase, scratch) as containers:
            return tried(containers, installation)


def tried(containers: dict[str, str], installation: Path) -> dict[str, Any]:
    """Have six daemons that were started answer, and stop them. Returns what was seen of each, and how long it took."""
    times = ready(containers)
    rights = {name: rights_of(container) for name, container in containers.items()}
    verify_s = answered(installation)
    return {
        "daemons": {name: times[name] | rights[name] for name in containers},
        "verify_s": verify_s,
        "all_stopped_s": stopped(containers),
    }


def show(found: dict[str, Any], what: str, console: Console) -> None:
    """Print what was seen of six daemons."""
    table = Table(
        "", "serves after, s", "ready after, s", "of a core, s", "user", "capabilities", "root", "MB", title=what
    )
    for name, one in found["daemons"].items():
        columns = ("serves_s", "ready_s", "cpu_s", "user", "capabilities", "root", "memory_mb")
        table.add_row(name, *(str(one[column]) for column in columns))
    console.print(table)
    console.print(
        f"verify, by pair, s: {found['verify_s']}; all six stopped after {found['all_stopped_s']} s, exit status 0"
    )


def main(arguments: Sequence[str]) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="localhost/veilmatch")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    console = Console(width=110)
    figures: dict[str, Any] = {"image": look_at(options.image)}
    console.print(figures["image"])
    figures["compose"] = compose_tried(options.image)
    show(figures["compose"], "deploy/containers/compose.yaml", console)
    with tempfile.TemporaryDirectory(prefix="veilmatch-pods-", dir="/dev/shm") as folder:
        scratch = Path(folder)
        scratch.chmod(0o755)
        installation, passphrase = held(scratch)
        with pods(options.image, installation, passphrase, scratch) as containers:
            figures["pods"] = tried(containers, installation)
    show(figures["pods"], "deploy/kubernetes, pod by pod", console)
    if options.json:
        options.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
