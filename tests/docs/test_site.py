"""The documentation as a site: it builds, every page is in it, its links lead somewhere, and it fetches nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import veilmatch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_it_and_fetches_nothing(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        inside = page.relative_to(ROOT / "docs").with_suffix("")
        folder = inside.parent if page.stem in ("index", "README") else inside
        text = (site / folder / "index.html").read_text()
        fetched = re.findall(r"<(?:script|img|iframe)[^>]* src=[\"']?(https?:[^\"'> ]*)", text)
        fetched += re.findall(r"<link[^>]* rel=.?(?:stylesheet|preconnect|icon)[^>]* href=.?(https?:[^> ]*)", text)
        assert not fetched, page


def test_the_reference_has_every_method(site: Path) -> None:
    text = (site / "api" / "client" / "index.html").read_text()
    for name in (name for name in dir(veilmatch.AsyncClient) if not name.startswith("_")):
        assert f'id="veilmatch.client.async_client.AsyncClient.{name}"' in text, name


@pytest.mark.parametrize("name", [name for name in veilmatch.__all__ if not name.endswith(("Error", "__"))])
def test_the_reference_has_every_public_name(site: Path, name: str) -> None:
    defined = getattr(getattr(veilmatch, name), "__module__", "")
    places = {veilmatch._PLACE[name], defined if defined.startswith("veilmatch.") else veilmatch._PLACE[name]}
    pages = [page.read_text() for page in (site / "api").glob("*/index.html")]
    assert any(f'id="{place}.{name}"' in text for place in places for text in pages), places


def test_the_page_of_errors_is_that_of_this_code() -> None:
    script = ROOT / "docs" / "making" / "errors_page.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs" / "errors.md").read_text(), re.M)
    assert len(headings) == len(set(headings))
    errors = [name for name in veilmatch.__all__ if name.endswith("Error")]
    assert set(headings) == set(errors)


def test_a_link_to_a_file_that_is_not_there_ends_the_build() -> None:
    program = (
        "import sys; sys.path.insert(0, 'docs/making')\n"
        "from types import SimpleNamespace as Some\n"
        "from hooks import on_page_markdown\n"
        "page, config = Some(file=Some(src_uri='decisions/0001.md')), Some(repo_url='https://forge/x')\n"
        "print(on_page_markdown('[a](../../crypto/pair) [b](../sdk.md)', page=page, config=config, files=None))\n"
        "on_page_markdown('[a](../../crypto/nothing.py)', page=page, config=config, files=None)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "[a](https://forge/x/tree/main/crypto/pair) [b](../sdk.md)\n"
    assert "FileNotFoundError: decisions/0001.md: ../../crypto/nothing.py" in done.stderr
