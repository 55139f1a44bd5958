"""Workers that hold the secret exponents and compute local shares, in constant time.

For each pair a holder has three: its share of o, and those with which it verifies and proves in the key-safety check.

The exponents reach a worker as bytes (over its pipe, if it is a process), never as an argument or a pickle.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from itertools import pairwise

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import ProtocolError, UnavailableError
from veilmatch.crypto.keys.parties import Pair, pairs_of
from veilmatch.crypto.keys.shares import KeyHolderKey, safety_exponent_bits
from veilmatch.crypto.rings.grid import WEIGHT_BYTES, WIDTH, Grid, rows_of
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.workers.threads import Pool

_SETUP, _SHARES, _SAFETY = b"S", b"W", b"K"
#: Pair, epoch and use, before an exponent and before the ciphertexts that are to be raised to it.
_NAME = struct.Struct(">2sIc")
#: What an exponent is for.
_CONVERT, _VERIFY, _PROVE = b"o", b"v", b"p"
#: How many ciphertexts a combination has, before the weights of its columns and rows.
_COUNT = struct.Struct(">I")


def make_handler(public_key: PublicKey) -> Callable[[bytes], bytes]:
    """Return the handler of one worker: first a setup message with its exponents, then batches of ciphertexts.

    Another setup message replaces all exponents at once. A batch for an epoch that is not there, because it has been
    replaced, ends in UnavailableError: it is never converted with the exponent of another epoch.
    """
    scheme = Paillier(public_key)
    current: dict[bytes, Integer] = {}
    exponent_size = _exponent_bytes(public_key)
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

    def exponent(name: bytes) -> Integer:
        if name not in current:
            raise UnavailableError("the key shares were refreshed meanwhile", needed="another attempt")
        return current[name]

    def answer(found: Sequence[LocalShare]) -> bytes:
        return b"".join(to_bytes(s.z, modulus_size) + to_bytes(s.fingerprint, modulus_size) for s in found)

    def shares(body: bytes) -> bytes:
        name, data = body[: _NAME.size], body[_NAME.size :]
        ciphertexts = [from_bytes(data[i : i + ciphertext_size]) for i in range(0, len(data), ciphertext_size)]
        return answer(scheme.local_shares(ciphertexts, exponent(name)))

    def safety(body: bytes) -> bytes:
        names, data = (body[: _NAME.size], body[_NAME.size : 2 * _NAME.size]), body[2 * _NAME.size :]
        exponents = [exponent(name) for name in names]
        weights, ciphertexts = _read_grid(data)
        bases = [
            from_bytes(ciphertexts[at : at + ciphertext_size]) for at in range(0, len(ciphertexts), ciphertext_size)
        ]
        return answer(scheme.local_shares_of_one(scheme.combine(bases, weights), exponents))

    handlers = {_SETUP: setup, _SHARES: shares, _SAFETY: safety}

    def handle(message: bytes) -> bytes:
        return handlers[message[:1]](message[1:])

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
        size, message = _exponent_bytes(self._public_key), _SETUP
        for pair in pairs_of(key.party):
            exponent = key.share(pair).exponent(self._public_key, SECRET_ACCESS)
            verifying, proving = key.safety(pair).exponents(self._public_key, SECRET_ACCESS)
            for use, secret in ((_CONVERT, exponent), (_VERIFY, verifying), (_PROVE, proving)):
                message += _NAME.pack(pair.encode(), key.epoch, use) + to_bytes(secret, size)
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
            _SHARES
            + _NAME.pack(pair.encode(), epoch, _CONVERT)
            + b"".join(to_bytes(c, size) for c in ciphertexts[low:high])
            for low, high in pairwise(bounds)
        ]
        return self._shares(await self._in_turn(parts), len(ciphertexts))

    async def safety_shares(
        self, pair: Pair, epoch: int, ciphertexts: Sequence[Integer], exponents: Grid
    ) -> tuple[LocalShare, LocalShare]:
        """Return the local shares of c* = Scheme.combine(ciphertexts, exponents): as verifier, and as prover.

        Raises UnavailableError as `local_shares` does.
        """
        size = self._public_key.parameters.ciphertext_bytes
        terms = _write_grid(exponents) + b"".join(to_bytes(c, size) for c in ciphertexts)
        names = b"".join(_NAME.pack(pair.encode(), epoch, use) for use in (_VERIFY, _PROVE))
        verifying, proving = self._shares(await self._in_turn([_SAFETY + names + terms]), 2)
        return verifying, proving

    async def _in_turn(self, requests: Sequence[bytes]) -> bytes:
        """Return the joined answers. Small requests in turn: else the first worker would get them all."""
        first, self._turn = self._turn, self._turn + len(requests)
        calls = (self._pool.call((first + i) % self._pool.count, request) for i, request in enumerate(requests))
        return b"".join(await asyncio.gather(*calls))

    def _shares(self, data: bytes, count: int) -> list[LocalShare]:
        """Return the local shares in the answers of workers."""
        size = self._public_key.parameters.ciphertext_bytes
        half = size // 2
        if len(data) != size * count:
            raise ProtocolError("a worker's answer of the wrong size", got=len(data), expected=size * count)
        return [
            LocalShare(from_bytes(data[i : i + half]), from_bytes(data[i + half : i + size]))
            for i in range(0, len(data), size)
        ]


def _exponent_bytes(public_key: PublicKey) -> int:
    """Return the size of every exponent on its way to a worker: that of the longest kind."""
    return (safety_exponent_bits(public_key) + 7) // 8


def _write_grid(grid: Grid) -> bytes:
    return _COUNT.pack(len(grid)) + b"".join(w.to_bytes(WEIGHT_BYTES, "big") for w in (*grid.columns, *grid.rows))


def _read_grid(data: bytes) -> tuple[Grid, bytes]:
    """Return the grid with which `data` begins, and what follows it."""
    (count,) = _COUNT.unpack_from(data)
    end = _COUNT.size + WEIGHT_BYTES * (WIDTH + rows_of(count))
    weights = [int.from_bytes(data[at : at + WEIGHT_BYTES], "big") for at in range(_COUNT.size, end, WEIGHT_BYTES)]
    return Grid(tuple(weights[WIDTH:]), tuple(weights[:WIDTH]), count), data[end:]
