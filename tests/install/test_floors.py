"""The ranges of pyproject.toml: `make lowest` runs with their first versions, and none is older than our code.

What is generated refuses libraries older than the generator, when it is imported: after the installation.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from veilmatch.client.extras import EXTRAS

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN_TIME = [line for name in EXTRAS for line in PROJECT["optional-dependencies"][name]]
REQUIREMENTS = {
    requirement.name: requirement for requirement in map(Requirement, [*PROJECT["dependencies"], *RUN_TIME])
}


def floor(name: str) -> Version:
    (lowest,) = [part.version for part in REQUIREMENTS[name].specifier if part.operator in (">=", "==")]
    return Version(lowest)


def generated(pattern: str, suffix: str) -> Version:
    texts = [path.read_text() for path in (ROOT / "protos/veilmatch/v1").glob(f"*{suffix}")]
    found = {found[1] for text in texts if (found := re.search(pattern, text))}
    assert len(found) == 1
    return Version(found.pop())


def test_grpc_and_protobuf_are_no_older_than_the_generated_code() -> None:
    grpc = generated(r"GRPC_GENERATED_VERSION = '([\d.]+)'", "_pb2_grpc.py")
    assert floor("grpcio") == floor("grpcio-health-checking") == grpc
    assert floor("protobuf") == generated(r"# Protobuf Python Version: ([\d.]+)", "_pb2.py")


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_range_has_a_beginning(name: str) -> None:
    assert floor(name) > Version("0")


def test_every_extra_that_errors_name_exists_and_holds_a_library_for_each_of_its_modules() -> None:
    extras = PROJECT["optional-dependencies"]
    for name, extra in EXTRAS.items():
        assert len(extras[name]) == len(extra.modules), name


def test_lowest_takes_every_extra_of_the_run_time() -> None:
    (installed,) = re.findall(r'"\.\[([a-z,]+)\]"\n\t\$\(LOWEST\)', (ROOT / "Makefile").read_text())
    assert set(installed.split(",")) == {*EXTRAS, "test"}
