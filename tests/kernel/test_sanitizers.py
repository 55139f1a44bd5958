"""The kernel under AddressSanitizer and UndefinedBehaviorSanitizer: its own tests again, and not one report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.kernel.conftest import VARIABLE
from veilmatch.crypto.rings.choice import available

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "crypto" / "kernel").glob("*.c"))
FLAGS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g"]
#: Every operation at the fewest limbs, products at the most as well, every check of arguments, every kind of program.
#: All in one process: under the sanitizers an import of what tests need takes three seconds.
TESTS = {
    "test_products.py": "512 or most or edge_meets or any_modulus",
    "test_powers.py": "512 or leading or window or partial",
    "test_selections.py": "512 or every_entry",
    "test_constants.py": "512 or limbs or arguments or column or every_entry",
    "test_programs.py": "512 or 26 or lane or long",
    "test_few.py": "512",
    "test_two.py": "512 or limbs or digit or arguments",
    "test_limbs.py": "rest",
    "test_arguments.py": "",
}
#: Of kernels that not every processor runs.
WITH_IFMA = ("test_few.py", "test_two.py")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An extension file with every access to memory and every operation checked."""
    compiler = shutil.which("gcc")
    assert compiler, "this test needs gcc with libasan and libubsan"
    extension = tmp_path_factory.mktemp("sanitized") / "_kernel.abi3.so"
    include = sysconfig.get_path("include")
    command = [compiler, "-std=c11", "-shared", "-fPIC", f"-I{include}", *FLAGS, "-o", extension, *SOURCES]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "", "the compiler warns"
    return extension


def run_python(extension: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python with the sanitizers' libraries loaded before everything else, and the kernel that needs them."""
    names = ("libasan.so", "libubsan.so")
    libraries = [subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip() for name in names]
    missing = [path for path in libraries if not Path(path).is_absolute()]
    assert not missing, f"gcc comes without {' and '.join(missing)}"
    environment = os.environ | {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=1:abort_on_error=0:exitcode=99",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
        "PYTHONMALLOC": "malloc",  # so that every object has its own borders
        VARIABLE: str(extension),
    }
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )


def test_the_tests_of_the_kernel_pass_without_a_report(sanitized: Path) -> None:
    names = [name for name in TESTS if name not in WITH_IFMA or "ifma4" in available()]
    chosen = " or ".join(f"({name[:-3]} and ({TESTS[name] or name[:-3]}))" for name in names)
    result = run_python(
        sanitized,
        # The sanitizers write to the standard error of the process, which pytest would take for itself.
        *("-m", "pytest", "-q", "-rA", "-n", "0", "--capture=sys", "-p", "no:cacheprovider"),
        *("--confcutdir", "tests/kernel"), *(f"tests/kernel/{name}" for name in names), "-k", chosen,
    )  # fmt: skip
    output = result.stdout + result.stderr
    assert "Sanitizer" not in output and "runtime error:" not in output, output[-8000:]
    assert result.returncode == 0, output[-8000:]
    assert all(f"\nPASSED tests/kernel/{name}::" in result.stdout for name in names), "a file without a test"


OUT_OF_BOUNDS = """
import ctypes
memory = ctypes.create_string_buffer(64)
ctypes.memset(memory, 0, 1 << 20)
"""

LOADED = "import tests.kernel.conftest; from veilmatch.crypto import _kernel; print(_kernel.__file__)"


def test_the_kernel_under_test_is_the_one_that_was_built(sanitized: Path) -> None:
    assert run_python(sanitized, "-c", LOADED).stdout.strip() == str(sanitized)


def test_a_write_out_of_bounds_is_reported(sanitized: Path) -> None:
    result = run_python(sanitized, "-c", OUT_OF_BOUNDS)
    assert result.returncode == 99 and "AddressSanitizer" in result.stderr
