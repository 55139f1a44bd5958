"""The coverage-guided target over all decoders: `python -m tests.fuzz.guided SECONDS [NAME ...]`, or `make fuzz`.

libFuzzer, through atheris, changes inputs and keeps those that reach new branches of the parsers. It begins with the
valid messages of seeds.py. The first byte of an input chooses the decoder; names narrow the choice. What it finds it
prints and leaves as a file in a folder that it names; it ends with a status other than 0 then, and also if one input
takes five seconds or makes the process ask for more than a gigabyte.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path

import atheris

#: What is instrumented: parsers, not arithmetic.
PARSERS = (
    "json",
    "veilmatch.client.wire.agreement",
    "veilmatch.client.wire.labels",
    "veilmatch.client.operations.bulk",
    "veilmatch.client.wire.statuses",
    "veilmatch.crypto.errors",
    "veilmatch.crypto.keys.shares",
    "veilmatch.common.pem",
    "veilmatch.crypto.parameters",
    "veilmatch.crypto.encryption.public_key_format",
    "veilmatch.server.installation.sealed",
    "veilmatch.server.keyholder.audit.chain",
    "veilmatch.server.keyholder.wire",
    "veilmatch.server.admission.requests",
    "veilmatch.server.transport.status",
    "tests.fuzz.decoders",
)
#: Of data: what an input makes the process ask for. libFuzzer's own limit reads a peak that a process inherits from
#: the one that started it, so it stops before the first input where a large process (a whole run of tests) starts it.
MEMORY_BYTES = 1 << 30
LIMITS = ("-timeout=5", "-rss_limit_mb=0", "-max_len=4096", "-verbosity=1", "-print_final_stats=1")

with atheris.instrument_imports(include=list(PARSERS)):
    from tests.fuzz.decoders import DECODERS


def write_corpus(folder: Path, names: list[str]) -> None:
    """One file for each valid input."""
    for number, name in enumerate(names):
        for i, data in enumerate(DECODERS[name].seeds()):
            (folder / f"{number}-{i}").write_bytes(bytes([number]) + data)


def main(seconds: int, names: list[str]) -> None:
    checks = [DECODERS[name].check for name in names]

    def one_input(data: bytes) -> None:
        if data:
            checks[data[0] % len(checks)](data[1:])

    folder = Path(tempfile.mkdtemp(prefix="veilmatch-fuzz-"))
    (folder / "corpus").mkdir()
    write_corpus(folder / "corpus", names)
    print(f"{len(names)} decoders for {seconds} s, in {folder}", flush=True)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    places = (f"-artifact_prefix={folder}/", str(folder / "corpus"))
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-seed=1", *LIMITS, *places], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:] or list(DECODERS))
