"""Workers that hold the secret exponents and compute local shares, in constant time.

The exponents reach a worker as bytes (over its pipe, if it is a process), never as an argument or a pickle.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from itertools import pairwise

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.errors import ProtocolError, UnavailableError
from veilmatch.crypto.keys import KeyHolderKey, Pair, exponent_bits, pairs_of
from veilmatch.crypto.paillier import Paillier, PublicKey
from veilmatch.crypto.scheme import LocalShare
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.worker_threads import Pool

_SETUP, _SHARES = b"S", b"W"
#: Pair and epoch, before an exponent and before the ciphertexts that are to be converted with it.
_NAME = struct.Struct(">2sI")


def make_handler(public_key: PublicKey) -> Callable[[bytes], bytes]:
    """Return the handler of one worker: first a setup message with its exponents, then batches of ciphertexts.

    Another setup message replaces all exponents at once. A batch for an epoch that is not there, because it has been
    replaced, ends in UnavailableError: it is never converted with the exponent of another epoch.
    """
    scheme = Paillier(public_key)
    current: dict[bytes, Integer] = {}
    exponent_size = (exponent_bits(public_key) + 7) // 8
    ciphertext_size = public_key.parameters.ciphertext_bytes
    modulus_size = ciphertext_size // 2

    def setup(body: bytes) -> bytes:
        nonlocal current
        step = _NAME.size + exponent_size
        # In one assignment: threads share the handler.
        current = {
            body[at : at + _NAME.size]: from_bytes(body[at + _NAME.size : at + step])
            for at in range(0, len(body), step)
        }
        return b""

    def shares(body: bytes) -> bytes:
        exponent, data = current.get(body[: _NAME.size]), body[_NAME.size :]
        if exponent is None:
            raise UnavailableError("the key shares were refreshed meanwhile", needed="another attempt")
        ciphertexts = [from_bytes(data[i : i + ciphertext_size]) for i in range(0, len(data), ciphertext_size)]
        return b"".join(
            to_bytes(share.z, modulus_size) + to_bytes(share.fingerprint, modulus_size)
            for share in scheme.local_shares(ciphertexts, exponent)
        )

    def handle(message: bytes) -> bytes:
        kind, body = message[:1], message[1:]
        return setup(body) if kind == _SETUP else shares(body)

    return handle


class ShareWorkers:
    """The pool of a key holder: local shares of many ciphertexts, spread over its workers."""

    def __init__(self, pool: Pool, scheme: Paillier) -> None:
        self._pool = pool
        self._public_key = scheme.public_key
        self._lanes = scheme.ring.lanes
        self._turn = 0

    async def setup(self, key: KeyHolderKey) -> None:
        """Give every worker the exponents of both pairs of this key holder, in the place of any it has."""
        size = (exponent_bits(self._public_key) + 7) // 8
        message = _SETUP + b"".join(
            _NAME.pack(pair.encode(), key.epoch)
            + to_bytes(key.share(pair).exponent(self._public_key, SECRET_ACCESS), size)
            for pair in pairs_of(key.party)
        )
        await self._pool.map([message] * self._pool.count)

    async def local_shares(self, pair: Pair, epoch: int, ciphertexts: Sequence[Integer]) -> list[LocalShare]:
        """Return the local shares under this holder's exponent for `pair`, in order.

        Raises UnavailableError if the workers no longer have the exponent of that epoch.
        """
        size = self._public_key.parameters.ciphertext_bytes
        # In whole groups of lanes: a part of one costs as much.
        lane_groups = -(-len(ciphertexts) // self._lanes)
        count = min(self._pool.count, lane_groups)
        bounds = [lane_groups * i // count * self._lanes for i in range(count + 1)]
        parts = [
            _SHARES + _NAME.pack(pair.encode(), epoch) + b"".join(to_bytes(c, size) for c in ciphertexts[low:high])
            for low, high in pairwise(bounds)
        ]
        # Small requests in turn: else the first worker would get them all.
        first, self._turn = self._turn, self._turn + len(parts)
        calls = (self._pool.call((first + i) % self._pool.count, part) for i, part in enumerate(parts))
        answers = await asyncio.gather(*calls)
        data = b"".join(answers)
        half = size // 2
        if len(data) != size * len(ciphertexts):
            raise ProtocolError("a worker's answer of the wrong size", got=len(data), expected=size * len(ciphertexts))
        return [
            LocalShare(from_bytes(data[i : i + half]), from_bytes(data[i + half : i + size]))
            for i in range(0, len(data), size)
        ]
