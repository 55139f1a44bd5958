"""What a forge, an editor and a citation read of this project is well-formed, and names what is here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import veilmatch

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = sorted({*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"})
WORKFLOWS = [path for path in FILES if path.parent.name == "workflows"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_yaml_with_something_in_it(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_alone_and_each_job_ends(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"]["contents"] == "read"
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert all(re.fullmatch(r"[\w./-]+@v\d[\w.]*", step["uses"]) for step in job["steps"] if "uses" in step)


def test_commands_that_files_name_are_there() -> None:
    targets = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) | {".venv/.photos"}
    named = set()
    for path in (*FILES, ROOT / "CONTRIBUTING.md", ROOT / ".devcontainer" / "devcontainer.json"):
        for line in re.findall(r"\bmake ((?:[\w./-]+ ?)+)", path.read_text()):
            named |= {word for word in line.split() if word in targets or path.suffix != ".md"}
    assert {"check", "test", "types", "imports", "protos", "sbom", "reproducible"} <= named <= targets


def test_the_citation_and_the_addresses_are_those_of_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == veilmatch.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
    home = PROJECT["urls"]["Homepage"]
    contact = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/config.yml").read_text())["contact_links"][0]["url"]
    assert contact.startswith(home) and home in (ROOT / "CONTRIBUTING.md").read_text()
