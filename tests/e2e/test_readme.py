"""What the README shows is true: its example runs, its commands exist. So do those of the pages that go on from it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from tests.e2e.world import World, veilmatch

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [README, *((ROOT / "docs" / f"{name}.md").read_text() for name in ("quickstart", "command-line"))]


def test_the_sdk_example_runs(world: World, orl: Callable[[int, int], Path]) -> None:
    (example,) = [b for b in re.findall(r"```python\n(.*?)```", README, re.S) if "Client.from_config" in b]
    before = Path.cwd()
    os.chdir(world.device_config.parent)
    try:
        exec(compile(example, "README.md", "exec"), {"photo": orl(1, 1), "other_photo": orl(1, 5)})
    finally:
        os.chdir(before)
    with world.client() as client:
        for entry in client.subjects():
            client.erase(entry.subject)


def test_every_command_of_the_readme_exists() -> None:
    commands = sorted({command for page in PAGES for command in re.findall(r"^\s*veilmatch ([a-z]+)", page, re.M)})
    assert {"ceremony", "up", "enrol", "verify", "candidates", "erase", "subjects"} <= set(commands)
    for command in commands:
        assert veilmatch(command, "--help").returncode == 0, command


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 100


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"demo", "test"} <= set(re.findall(r"make ([a-z]+)", README)) <= targets
