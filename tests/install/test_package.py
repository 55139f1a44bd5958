"""What is installed: everything of the package, its types where type checkers find them, and no more than is needed.

The wheel is built here and installed into environments of their own, which have no pip.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import veilmatch
from veilmatch.relying.recipient_key import key_file

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
TYPED = """
from veilmatch import Client, NoFaceError
from veilmatch.server.config import MatcherSettings
import veilmatch.client.client

with Client.from_config("device.toml") as client:
    answer: bool = client.verify("ada", b"").decision
    wrong: int = client.verify("ada", b"")
reveal_type(veilmatch.client.client.Client.subjects)
reveal_type(NoFaceError("").party)
reveal_type(MatcherSettings)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT],
        check=True,
    )
    (made,) = folder.glob("veilmatch-*.whl")
    return made


class Environment:
    """A virtual environment without pip, with Veilmatch from the wheel."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder / "env", with_pip=False)
        self._folder, self._wheel = folder, wheel
        self.python = folder / "env" / "bin" / "python"
        self.install()

    def install(self, *extras: str) -> None:
        """Install into it from outside, as uv does."""
        what = f"{self._wheel}[{','.join(extras)}]" if extras else str(self._wheel)
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet"]
        subprocess.run([*command, "-c", ROOT / "constraints.txt", what], check=True)

    def veilmatch(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [self.python, "-m", "veilmatch", *arguments],
            cwd=self._folder,
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("bare"), wheel)


def packages_on_disk() -> set[str]:
    """Return the import name of every folder of code, by the closest folder of package-dir."""
    places: dict[str, str] = SETTINGS["tool"]["setuptools"]["package-dir"]
    found = set()
    for top in {Path(folder).parts[0] for folder in places.values()}:
        for init in (ROOT / top).rglob("__init__.py"):
            here = init.parent.relative_to(ROOT)
            over = [(Path(folder), package) for package, folder in places.items() if here.is_relative_to(folder)]
            folder, package = max(over, key=lambda place: len(place[0].parts))
            found.add(".".join((package, *here.relative_to(folder).parts)))
    return found


def test_no_package_is_forgotten() -> None:
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_the_wheel_has_every_module_and_the_marks_of_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package in SETTINGS["tool"]["setuptools"]["packages"]:
        assert f"{package.replace('.', '/')}/__init__.py" in names
    for package in SETTINGS["tool"]["setuptools"]["package-dir"]:
        if package != "veilmatch.protos.v1":
            assert f"{package.replace('.', '/')}/py.typed" in names
    assert "veilmatch/__main__.py" in names and "veilmatch/protos/v1/request_pb2.pyi" in names
    elsewhere = ("tests", "veilmatch/client/public", "veilmatch/client/common")
    assert not [name for name in names if name.startswith(elsewhere)]


def test_the_wheel_with_the_kernel_runs_on_other_linux_machines_and_every_python(wheel: Path) -> None:
    pytest.importorskip("auditwheel")
    pytest.importorskip("abi3audit")
    if "-abi3-" not in wheel.name:
        pytest.skip("made without a C compiler")
    shown = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", "--json", wheel], capture_output=True, text=True, check=True
    )
    found = json.loads(shown.stdout)
    assert found["overall_tag"].startswith("manylinux_2_") and found["external_libs"] == {}
    subprocess.run([sys.executable, "-m", "abi3audit", "--strict", "--assume-minimum-abi3", "3.11", wheel], check=True)


def test_a_wheel_without_the_kernel_is_for_every_system(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "tests", "*.so", "__pycache__", "results")
    shutil.copytree(ROOT, source, ignore=ignored)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source],
        env=os.environ | {"VEILMATCH_PURE": "1"},
        check=True,
    )
    (made,) = tmp_path.glob("*.whl")
    assert made.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(made) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]
        archive.extractall(tmp_path / "wheel")
    program = "from veilmatch.crypto.rings.choice import *; import veilmatch.client; print(veilmatch.__version__)"
    there = os.environ | {"PYTHONPATH": str(tmp_path / "wheel")}
    subprocess.run([sys.executable, "-c", program], env=there, check=True)


def test_the_source_distribution_is_the_whole_project(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    command = [sys.executable, "setup.py", "-q", "sdist", "-d", str(tmp_path), "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (made,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(made) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    missing = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()} - names
    assert not missing
    assert not [name for name in names if name.endswith((".so", ".pyc")) or name.startswith((".venv", "build/"))]


def test_new_files_of_the_checkout_are_seen_at_once(tmp_path: Path) -> None:
    if Path(str(veilmatch.__file__)).resolve() != ROOT / "client/public/__init__.py":
        pytest.skip("not an editable installation")
    new = ROOT / "client" / "wire" / "made_by_a_test.py"
    try:
        new.write_text("HERE = True\n")
        program = "from veilmatch.client.wire.made_by_a_test import HERE"
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    finally:
        new.unlink()


def check_types(python: Path | str, folder: Path) -> list[str]:
    pytest.importorskip("mypy")
    (folder / "program.py").write_text(TYPED)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "program.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return [line.split(": ", 1)[1] for line in done.stdout.splitlines() if line.startswith("program.py")]


WANTED = [
    'error: Incompatible types in assignment (expression has type "Verification", variable has type "int")'
    "  [assignment]",
    'note: Revealed type is "def (self: veilmatch.client.client.Client, *, timeout_s: float | None =)'
    ' -> veilmatch.client.results.Subjects"',
    'note: Revealed type is "str | None"',
]


def test_mypy_sees_the_types_of_this_installation_from_outside_the_checkout(tmp_path: Path) -> None:
    lines = check_types(sys.executable, tmp_path)
    assert lines[:3] == WANTED and "MatcherSettings" in lines[3]


def test_mypy_sees_the_types_of_a_wheel(bare: Environment, tmp_path: Path) -> None:
    lines = check_types(bare.python, tmp_path)
    assert lines[:3] == WANTED and "MatcherSettings" in lines[3]


@pytest.mark.parametrize("command", ["keyholder", "matcher", "up installation"])
def test_a_daemon_without_its_extra_names_it(bare: Environment, command: str) -> None:
    done = bare.veilmatch(*command.split(), "--json")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (3, "missing_extra")
    assert error["expected"] == "pip install 'veilmatch[server]'"


def test_the_commands_of_recipients_name_their_extra(bare: Environment) -> None:
    done = bare.veilmatch("recipient", "open", "answer.json", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["expected"]) == (3, "pip install 'veilmatch[relying]'")


@pytest.mark.parametrize(
    ("command", "extras"), [("demo", "device,server"), ("eval --orl", "eval,device"), ("models install", "models")]
)
def test_other_commands_name_all_that_they_need(bare: Environment, command: str, extras: str, tmp_path: Path) -> None:
    done = bare.veilmatch(*command.split(), "--json", VEILMATCH_CACHE=str(tmp_path / "cache"))
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["expected"]) == (3, f"pip install 'veilmatch[{extras}]'")
    assert not (tmp_path / "cache").exists(), "nothing was downloaded for it"


def test_commands_that_need_no_extra_run_without(bare: Environment) -> None:
    assert bare.veilmatch("--help").returncode == 0
    assert bare.veilmatch("ceremony", "join", "--help").returncode == 0
    assert bare.veilmatch("device", "--help").returncode == 0
    assert bare.veilmatch("doctor", "--for", "embeddings").returncode == 0


def test_the_doctor_fails_where_nothing_is_installed_and_says_what_to_do(bare: Environment) -> None:
    done = bare.veilmatch("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 3 and not any(found["extras"].values())
    (problem,) = found["problems"]
    assert "pip install 'veilmatch[device]'" in problem["advice"]


#: What a back end runs: opens a known answer, and tells which packages were imported for it.
RELYING = """
import json, sys
from veilmatch.relying import MemorySeen, RecipientKey, SqliteSeen, Statement, Trust

known = json.load(open("recipients.json"))
open("public.json", "w").write(json.dumps(known["public"]))
open("recipient.cert", "w").write(known["certificate"])
trust, key = Trust.load("public.json"), RecipientKey.load("recipient.key", "recipient.cert")
case = known["answers"][0]
challenge = bytes.fromhex(known["challenge"])
found = Statement.open(
    json.dumps(case["answer"]), trust, key, seen=SqliteSeen("seen.sqlite"), expect_subject=case["subject"],
    expect_challenge=challenge, now=known["now"],
)
assert found.decision is case["decision"] is True, found
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules} - sys.stdlib_module_names)))
"""


def test_a_relying_party_needs_two_libraries_and_no_other_dependency(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*install, "-c", ROOT / "constraints.txt", "PyJWT", "cryptography"], check=True)
    subprocess.run([*install, "--no-deps", wheel], check=True)
    known = json.loads((ROOT / "tests" / "vectors" / "recipients.json").read_text())
    key = key_file(X25519PrivateKey.from_private_bytes(bytes.fromhex(known["private_key"])))
    (tmp_path / "recipients.json").write_text(json.dumps(known))
    (tmp_path / "recipient.key").write_bytes(key)
    (tmp_path / "recipient.key").chmod(0o600)
    done = subprocess.run([python, "-c", RELYING], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"veilmatch", "jwt", "cryptography"} <= set(json.loads(done.stdout))
    assert set(json.loads(done.stdout)) <= {
        "veilmatch", "jwt", "cryptography", "_cffi_backend", "_openssl", "__main__",
        "typing_extensions",
    }  # fmt: skip


def test_models_are_installed_without_pip(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path, wheel)
    environment.install("models")
    assert subprocess.run([environment.python, "-m", "pip"], capture_output=True, check=False).returncode == 1
    cache = str(tmp_path / "cache")
    done = environment.veilmatch("models", "install", "--json", VEILMATCH_CACHE=cache, PATH="/nowhere")
    assert done.returncode == 0, done.stderr
    assert [b["installed"] for b in json.loads(done.stdout)["bundles"] if b["name"] == "models"] == [True]
