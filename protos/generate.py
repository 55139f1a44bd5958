"""Generate the Python code of `veilmatch/v1/*.proto`, or check that it is up to date.

python protos/generate.py          writes the generated files
python protos/generate.py --check  exits 1 and names the files that differ

The generated modules import each other as `veilmatch.v1`; here they live in `veilmatch.protos.v1`,
so their import lines are rewritten. Needs the `dev` extra.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TARGET = ROOT / "veilmatch" / "v1"


def generate(out: Path) -> dict[str, str]:
    """Return the generated files by name."""
    sources = sorted(str(p.relative_to(ROOT)) for p in TARGET.glob("*.proto"))
    scripts = Path(sysconfig.get_path("scripts"))
    plugins = [f"--plugin={name}={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    outs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", *plugins, *outs, *sources], check=True, cwd=ROOT
    )
    return {p.name: _rewrite(p) for p in sorted((out / "veilmatch" / "v1").glob("*.py*"))}


def _rewrite(path: Path) -> str:
    text = re.sub(r"^(from|import) veilmatch\.v1", r"\1 veilmatch.protos.v1", path.read_text(), flags=re.MULTILINE)
    if path.suffix == ".pyi":
        text = re.sub(r"\bveilmatch\.v1\.(\w+_pb2)", r"veilmatch.protos.v1.\1", text)
    return text


def main(check: bool) -> int:
    """Write or compare; return the exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        made = generate(Path(scratch))
    stale = [name for name, text in made.items() if not _same(TARGET / name, text)]
    if check:
        sys.stderr.writelines(f"out of date: {name}\n" for name in stale)
        return 1 if stale else 0
    for name in stale:
        (TARGET / name).write_text(made[name])
    return 0


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
