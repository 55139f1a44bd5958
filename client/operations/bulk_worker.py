"""A child process of `bulk.py` that encrypts packs: `python -m veilmatch.client.operations.bulk_worker`.

Reads frames from standard input: first the public key, then the coordinates of one pack each; answers
every pack with one frame on standard output, its ciphertexts and then its records. Ends with its input.
"""

from __future__ import annotations

import sys
from typing import IO

import numpy as np

from veilmatch.client.operations.bulk import COORDINATE, read_frame, write_frame
from veilmatch.client.wire.encryption import Encryptor
from veilmatch.crypto.arithmetic import from_bytes
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.parameters import ParameterSet


def decode_key(frame: bytes) -> PublicKey:
    """Return the public key in a frame of `bulk.encode_key`."""
    name, _, numbers = frame.partition(b"\0")
    parameters = ParameterSet.from_name(name.decode())
    size = parameters.ciphertext_bytes
    return PublicKey(parameters, from_bytes(numbers[:size]), from_bytes(numbers[size:]))


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Encrypt what comes from `source` until it ends."""
    key = read_frame(source)
    if key is None:
        return
    encryptor = Encryptor(decode_key(key))
    dimension = encryptor.public_key.parameters.dimension
    while (frame := read_frame(source)) is not None:
        templates = np.frombuffer(frame, dtype=COORDINATE).reshape(-1, dimension).astype(np.int64)
        pack = encryptor.pack(templates)
        write_frame(sink, b"".join((pack.ciphertexts, *pack.records)))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
