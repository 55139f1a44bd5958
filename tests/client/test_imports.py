"""The SDK without the `device` extra: it imports, and everything but photos works."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from veilmatch import DeviceSettings

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"onnxruntime", "PIL", "onnx", "sqlalchemy", "grpc_health"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run(code: str, *args: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    program = BLOCKED + textwrap.dedent(code)
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-c", program, *args],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=root,
        env=environment,
        check=False,
    )


def test_embeddings_need_no_extra_and_photos_say_what_is_missing(settings: DeviceSettings, tmp_path: Path) -> None:
    done = run(
        """
        from veilmatch import Client, DeviceSettings, MissingExtraError
        from tests.client.fakes import FakeMatchers
        from pathlib import Path

        fakes = FakeMatchers()
        fakes.looks_like = {"alice"}
        with Client(DeviceSettings.load(Path(sys.argv[1])), matchers=fakes.all) as client:
            assert client.verify_embedding("alice", [1, -2, 3, -4, 5, -6, 7, 8], model="toy")
            try:
                client.verify("alice", b"photo")
            except MissingExtraError as error:
                print(error.expected)
        print(sorted(m for m in sys.modules if m.startswith("veilmatch.server")))
        """,
        str(tmp_path / "device.toml"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "pip install 'veilmatch[device]'\n[]\n"


def test_command_line_starts_without_any_extra() -> None:
    done = run(
        """
        sys.argv = ["veilmatch", "--help"]
        from veilmatch.client.commands import main
        main()
        """
    )
    assert done.returncode == 0, done.stderr
    assert "verify" in done.stdout


def test_every_public_name_can_be_imported_and_nothing_is_before_it_is_asked_for() -> None:
    done = run(
        """
        import veilmatch
        import veilmatch.client
        assert not {"grpc", "numpy", "pydantic"} & set(sys.modules)
        for name in veilmatch.__all__:
            getattr(veilmatch, name)
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("chosen", "verbosity"), [({}, "NONE"), ({"GRPC_VERBOSITY": "DEBUG"}, "DEBUG")])
def test_grpc_is_told_to_be_quiet_before_it_is_imported(chosen: dict[str, str], verbosity: str) -> None:
    done = run(
        """
        import os
        class Watch:
            def find_spec(self, name, path=None, target=None):
                if name == "grpc":
                    print(os.environ.get("GRPC_VERBOSITY"))
        sys.meta_path.insert(0, Watch())
        from veilmatch import Client
        """,
        environment={k: v for k, v in os.environ.items() if k != "GRPC_VERBOSITY"} | chosen,
    )
    assert (done.returncode, done.stdout) == (0, f"{verbosity}\n"), done.stderr
