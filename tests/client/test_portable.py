"""A device on Windows or macOS: everything it needs imports, and a photo is read, without what only POSIX or Linux has.

What such a system lacks is taken out of a process of its own. Windows itself is tried by the workflows of the forge.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

#: What is not there. Of Windows what `os` and `select` say in their documentation; macOS lacks less.
WITHOUT = {
    "windows": """
        gone = {"fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog"}
        for name in ("O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "sched_getaffinity", "getxattr", "geteuid",
                     "getuid", "register_at_fork", "fork", "killpg", "setsid", "getpgid", "mkfifo"):
            if hasattr(os, name):
                delattr(os, name)
        for name in ("poll", "epoll"):
            delattr(select, name)
    """,
    "macos": """
        gone = set()
        for name in ("sched_getaffinity", "getxattr"):
            delattr(os, name)
        del select.epoll
    """,
}
PROGRAM = """
import asyncio, importlib, multiprocessing, os, pkgutil, select, sys
import platformdirs, tempfile, filelock, rich.console, numpy, cryptography, grpc, structlog, typer  # theirs to know
{without}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in gone:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

for name in gone:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Blocker())

import veilmatch.client, veilmatch.common, veilmatch.crypto, veilmatch.relying
count = 0
for package in (veilmatch.client, veilmatch.common, veilmatch.crypto, veilmatch.relying):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        # A process of the command line, which starts when it is imported.
        if not module.name.endswith("bulk_worker") and not module.name.endswith("_kernel"):
            importlib.import_module(module.name)
            count += 1

from veilmatch.client.capture.source import photo_bytes
from veilmatch.client.models.cache import exclusive
from veilmatch.common.secret_file import read_private
from veilmatch.common.system import cores, flush_folder
from veilmatch.relying.folder import _write_secret
from pathlib import Path

folder = Path(sys.argv[1])
(folder / "photo").write_bytes(b"a photo\\r\\n\\x1a.")
assert photo_bytes(folder / "photo", 100) == b"a photo\\r\\n\\x1a."
_write_secret(folder / "secret", b"key")
assert read_private(folder / "secret", "a secret") == b"key"
os.environ["VEILMATCH_CACHE"] = str(folder / "cache")
if hasattr(os, "O_NONBLOCK"):  # the library's lock takes another way on Windows, which is not here
    with exclusive():
        pass
flush_folder(folder)
reading, writing = os.pipe()
os.write(writing, b"from a pipe")
os.close(writing)
from veilmatch.client.capture.source import open_photo
assert open_photo(reading, 100, "a pipe") == b"from a pipe"
assert cores() >= 1
print(count)
"""


@pytest.mark.parametrize("system", WITHOUT)
def test_a_device_needs_nothing_that_its_system_lacks(system: str, tmp_path: Path) -> None:
    program = PROGRAM.format(without=textwrap.dedent(WITHOUT[system]))
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 150
