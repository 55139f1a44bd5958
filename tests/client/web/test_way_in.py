"""`veilmatch web --open`: what every user of a machine can see of a browser's command line has no token in it."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from veilmatch.client.web import way_in as module
from veilmatch.client.web.way_in import way_in

ADDRESS = "http://127.0.0.1:8123/#a-token-of-the-test"
PROGRAM = """
import sys
from veilmatch.client.web.way_in import way_in
with way_in() as way:
    print(way.open(sys.argv[1]))
"""


def test_the_browser_is_started_without_the_token(tmp_path: Path) -> None:
    """A browser that notes its arguments and reads its file, in the place of the user's."""
    seen, browser = tmp_path / "seen", tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {seen}\nfile="${{1#file://}}"\n'
        f'stat -c %a "$file" "$(dirname "$file")" >> {seen}\ncat "$file" >> {seen}\n'
    )
    browser.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    environment = os.environ | {"BROWSER": f"{browser} %s", "HOME": str(home)}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, ADDRESS], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "True"
    argument, of_file, of_folder, *content = seen.read_text().splitlines()
    assert "token" not in argument and argument.startswith(f"file://{home}/")
    assert (of_file, of_folder) == ("600", "700")
    assert re.search(r'http-equiv="refresh" content="0;url=([^"]*)"', "\n".join(content))
    assert html.escape(ADDRESS) in "\n".join(content)
    assert list(home.iterdir()) == [], "it is gone when the page is"


def test_without_a_home_it_is_elsewhere_and_still_of_this_user_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(module.Path, "home", lambda: tmp_path / "nowhere")
    monkeypatch.setattr(module.webbrowser, "open", lambda uri: opened.append(Path(uri.removeprefix("file://"))) or True)
    with way_in() as way:
        assert way.open(ADDRESS)
        assert (opened[0].stat().st_mode & 0o777, opened[0].parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert not opened[0].exists()
