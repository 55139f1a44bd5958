"""What the constant-time check looks at in place of ifma4 (ifma4_in_plain_c.c) computes what ifma4 does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.kernel.conftest import VARIABLE
from tests.kernel.numbers import BACKENDS

ROOT = Path(__file__).parents[2]
TESTS = {"test_products.py": "512", "test_powers.py": "512", "test_selections.py": "every_entry", "test_limbs.py": ""}
#: Of ifma4 alone.
MORE = {"test_two.py": "512 or limbs or digit"}


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc")
    assert compiler
    built = tmp_path_factory.mktemp("plain") / "_kernel.abi3.so"
    kernel = [ROOT / "crypto" / "kernel" / name for name in ("module.c", "ifma.c", "avx2.c", "portable.c")]
    sources = [*kernel, ROOT / "tests" / "kernel" / "ifma4_in_plain_c.c"]
    include = sysconfig.get_path("include")
    command = [compiler, "-std=c11", "-shared", "-fPIC", "-O2", f"-I{include}", "-o", built, *sources]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (0, "")
    return built


@pytest.mark.skipif("ifma4" not in BACKENDS, reason="the tests take it for a backend that this processor lacks")
@pytest.mark.parametrize("name", [*TESTS, *MORE])
def test_the_tests_of_ifma4_pass_on_it(extension: Path, name: str) -> None:
    chosen = MORE.get(name) or f"ifma4 and ({TESTS[name] or 'ifma4'})"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--confcutdir"),
            *("tests/kernel", f"tests/kernel/{name}", "-k", chosen),
        ],
        cwd=ROOT, env=os.environ | {VARIABLE: str(extension)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0 and " passed" in result.stdout, result.stdout[-4000:] + result.stderr[-2000:]
