"""Bulk enrolment on the device: many templates, encrypted pack by pack on every core.

The worker processes (`bulk_worker.py`) are children that talk through their standard input and output
in length-prefixed frames. They import nothing of the calling program, so a script needs no
`if __name__ == "__main__"`, and a template travels as raw bytes in a pipe: never pickled, never in a file.
"""

from __future__ import annotations

import os
import queue
import struct
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import IO

import numpy as np

from veilmatch.client.wire.encryption import EncryptedPack, Encryptor, groups
from veilmatch.common.system import cores
from veilmatch.crypto.arithmetic import to_bytes
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import bulk_digest, bulk_pack_digest
from veilmatch.protos.v1 import matcher_pb2 as pb

#: A coordinate in a frame; |c| <= 1023 fits.
COORDINATE = np.dtype("<i2")
_LENGTH = struct.Struct(">Q")
#: No frame is longer: a pack of 512-d templates with its records has 1.3 MB.
_MAX_FRAME_BYTES = 1 << 26
#: A worker takes a second to start and build its table, as long as two or three packs take on gmpy2: it needs more.
_PACKS_PER_WORKER = 4


def write_frame(stream: IO[bytes], data: bytes) -> None:
    """Write one frame and flush."""
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Return the next frame, None at the end of the stream. Raises EOFError if there is no whole one."""
    header = stream.read(_LENGTH.size)
    if not header:
        return None
    size = _LENGTH.unpack(header)[0] if len(header) == _LENGTH.size else -1
    data = stream.read(size) if 0 <= size <= _MAX_FRAME_BYTES else b""
    if len(data) != size:
        raise EOFError
    return data


def worker_count(packs: int, wanted: int | None) -> int:
    """Return how many processes to start for so many packs; 0 means to encrypt in this one."""
    if not sys.executable:
        return 0
    if wanted is not None:
        return min(wanted, packs)
    workers = min(cores(), packs // _PACKS_PER_WORKER)
    return workers if workers > 1 else 0


def encrypted_packs(
    encryptor: Encryptor, templates: Array, workers: int | None
) -> Generator[EncryptedPack, None, None]:
    """Yield the packs of int64[n, D] templates, in order.

    workers: processes to use, 0 for none, None to choose by the number of packs. Closing the iterator
    ends them. Raises IntegrityError if a worker ends before its time.
    """
    parts = [templates[g.start : g.stop] for g in groups(len(templates), encryptor.public_key.parameters.slots)]
    count = worker_count(len(parts), workers)
    if count == 0:
        yield from map(encryptor.pack, parts)
        return
    with ExitStack() as stack:
        idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(count):
            idle.put(stack.enter_context(_Worker(encryptor.public_key)))
        threads = ThreadPoolExecutor(count, thread_name_prefix="veilmatch-bulk")
        # Runs before the workers are ended: packs that nobody waits for any more are not begun.
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)

        def encrypt(part: Array) -> EncryptedPack:
            worker = idle.get()
            try:
                return worker.encrypt(part)
            finally:
                idle.put(worker)

        yield from threads.map(encrypt, parts)


class _Worker:
    """One child process; used by one thread at a time."""

    def __init__(self, public_key: PublicKey) -> None:
        self._parameters = public_key.parameters
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            # -P: the current folder is not a place to import from.
            [sys.executable, "-P", "-m", "veilmatch.client.operations.bulk_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its children
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._hello = encode_key(public_key)

    def __enter__(self) -> _Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._to, self._from):
            try:
                stream.close()
            except OSError:  # a frame that was still buffered for the dead process
                continue

    def encrypt(self, templates: Array) -> EncryptedPack:
        """Return the pack. Raises IntegrityError if the process is gone or answers nonsense."""
        try:
            if self._hello:
                write_frame(self._to, self._hello)
                self._hello = b""
            write_frame(self._to, templates.astype(COORDINATE).tobytes())
            answer = read_frame(self._from)
        except (OSError, EOFError, ValueError):
            answer = None
        pack_bytes = self._parameters.dimension * self._parameters.ciphertext_bytes
        record_bytes = self._parameters.lane_ciphertexts * self._parameters.ciphertext_bytes
        if answer is None or len(answer) != pack_bytes + len(templates) * record_bytes:
            raise IntegrityError("an encryption worker ended before its time", got=self._process.poll())
        return EncryptedPack(
            answer[:pack_bytes],
            tuple(answer[i : i + record_bytes] for i in range(pack_bytes, len(answer), record_bytes)),
        )


def encode_key(public_key: PublicKey) -> bytes:
    """Return a public key as the first frame that a worker reads."""
    size = public_key.parameters.ciphertext_bytes
    numbers = to_bytes(public_key.modulus, size) + to_bytes(public_key.hs, size)
    return public_key.parameters.name.encode() + b"\0" + numbers


def bulk_pack(pack: EncryptedPack, subjects: Sequence[str], consents: Mapping[str, bytes]) -> pb.BulkPack:
    """Return the message of one pack. subjects: of its slots in order. consents: encoded, of those that have one."""
    templates = [
        pb.BulkTemplate(subject=subject, record=record, consent=consents.get(subject, b""))
        for subject, record in zip(subjects, pack.records, strict=True)
    ]
    return pb.BulkPack(ciphertexts=pack.ciphertexts, templates=templates)


def digest_of(packs: Sequence[pb.BulkPack]) -> bytes:
    """Return the payload digest of a bulk enrolment."""
    return bulk_digest(
        bulk_pack_digest(
            pack.ciphertexts, ((t.subject, t.record) for t in pack.templates), [t.consent for t in pack.templates]
        )
        for pack in packs
    )


def split_subjects(subjects: Sequence[str], parameters: ParameterSet) -> list[Sequence[str]]:
    """Return the subjects of each pack."""
    return [subjects[g.start : g.stop] for g in groups(len(subjects), parameters.slots)]
