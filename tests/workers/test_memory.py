"""What is asked of the C library about memory is done by it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

#: In a process of its own: what it sets holds until its end. Twelve threads, each of which takes memory.
COUNT_ARENAS = """
import ctypes, re, sys, tempfile, threading
from veilmatch.server.workers.memory import share_arenas
if sys.argv[1] == "shared":
    share_arenas()
libc = ctypes.CDLL(None)
libc.fopen.restype, libc.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
taken = threading.Barrier(13)
def take():
    held = bytes(5000)
    taken.wait()
    taken.wait()
for _ in range(12):
    threading.Thread(target=take).start()
taken.wait()
with tempfile.NamedTemporaryFile() as file:
    to = libc.fopen(file.name.encode(), b"w")
    libc.malloc_info(0, to)
    libc.fclose(to)
    print(len(re.findall("<heap nr=", file.read().decode())))
taken.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks the C library of GNU")
def test_threads_take_memory_from_the_same_few_places() -> None:
    def counted(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", COUNT_ARENAS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert counted("shared") <= 2 < counted("as it is")
