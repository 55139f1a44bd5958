"""The Containerfile: it copies all that is built, and its last stage has no tools and no root."""

from __future__ import annotations

import re
import tomllib

from tests.deploy.configured import DEPLOYED, ROOT

TEXT = (DEPLOYED / "containers" / "Containerfile").read_text()
FIRST, BUILD, LAST = re.split(r"^FROM ", TEXT, flags=re.M)
PACKED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]


def test_it_copies_every_folder_that_is_built_and_none_is_left_out_of_the_context() -> None:
    folders = {folder.split("/")[0] for folder in PACKED.values()}
    copied = dict(re.findall(r"^COPY (\w+) (\w+)$", BUILD, re.M))
    assert copied == {folder: folder for folder in folders}
    (files,) = re.findall(r"^COPY (.*) \./$", BUILD, re.M)
    allowed = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.M))
    assert allowed == folders | set(files.split())
    assert all((ROOT / name).exists() for name in allowed)


def test_the_last_stage_has_no_tools_and_no_root() -> None:
    (packages,) = re.findall(r"--no-install-recommends ([^\\\n]+)", LAST)
    assert packages.split() == ["python3"]
    assert re.findall(r"^USER (.*)$", LAST, re.M) == ["10001:10001"]
    assert "chmod a-s" in LAST
    # The stock of a key holder is of one machine, and a pod is not.
    assert "rm -f /etc/machine-id" in LAST
    assert re.findall(r"^COPY (.*)$", LAST, re.M) == ["--from=build /opt/veilmatch /opt/veilmatch"]


def test_both_stages_are_of_the_base_that_is_given() -> None:
    assert "ARG BASE=" in FIRST
    assert [stage.split()[0] for stage in (BUILD, LAST)] == ["${BASE}", "${BASE}"]


def test_the_script_builds_it_with_arguments_that_it_has() -> None:
    script = (DEPLOYED / "containers" / "build.sh").read_text()
    assert "--file deploy/containers/Containerfile" in script
    (passed,) = re.findall(r"^for argument in ([A-Z_ ]+); do$", script, re.M)
    given = {*passed.split(), *re.findall(r'--build-arg "([A-Z_]+)=', script)}
    assert given == set(re.findall(r"^ARG ([A-Z_]+)", TEXT, re.M))
