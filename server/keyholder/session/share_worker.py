"""Workers that hold the secret exponents and compute local shares, in constant time.

For each pair a holder has three: its share of o, and those with which it verifies and proves in the key-safety check.

The exponents reach a worker as bytes (over its pipe, if it is a process), never as an argument or a pickle.

What sessions ask for in the same moment is computed together, in whole groups of lanes (workers/waiting.py). Each lane
has an exponent of its own, named by pair, epoch and use, so sessions of both pairs share a group. One whose epoch was
left meanwhile is refused, and the others of its group are not.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.encryption.scheme import LocalShare
from veilmatch.crypto.errors import ProtocolError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import Pair, pairs_of
from veilmatch.crypto.keys.shares import KeyHolderKey, safety_exponent_bits
from veilmatch.crypto.rings.grid import WEIGHT_BYTES, WIDTH, Grid, rows_of
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.workers.gathered import GatheredWork
from veilmatch.server.workers.parts import in_parts
from veilmatch.server.workers.threads import Pool

#: Kinds of messages; the last three come in parts.
_SETUP, _SHARES, _SAFETY, _COMBINE = b"S", b"W", b"K", b"C"
#: Pair, epoch and use: the name of an exponent.
_NAME = struct.Struct(">2sIc")
#: What an exponent is for.
_CONVERT, _VERIFY, _PROVE = b"o", b"v", b"p"
#: How many ciphertexts a combination has, before the weights of its columns and rows.
_COUNT = struct.Struct(">I")
#: So many ciphertexts are combined at once, in whole rows: a worker is not kept from others for longer.
_COMBINED_AT_ONCE = 512


def make_handler(public_key: PublicKey) -> Callable[[bytes], bytes]:
    """Return the handler of one worker: first a setup message with its exponents, then batches of work.

    Another setup message replaces all exponents at once. What is of an epoch that is not there, because it has been
    replaced, ends in UnavailableError: it is never converted with the exponent of another epoch.
    """
    return _Worker(public_key).handle


class _Worker:
    def __init__(self, public_key: PublicKey) -> None:
        self._scheme = Paillier(public_key)
        self._exponents: dict[bytes, Integer] = {}
        self._exponent_size = _exponent_bytes(public_key)
        self._ciphertext_size = public_key.parameters.ciphertext_bytes
        self._handlers = {
            _SETUP: self._setup,
            _SHARES: in_parts(self._shares),
            _SAFETY: in_parts(self._safety),
            _COMBINE: in_parts(self._combine),
        }

    def handle(self, message: bytes) -> bytes:
        return self._handlers[message[:1]](message[1:])

    def _setup(self, body: bytes) -> bytes:
        step = _NAME.size + self._exponent_size
        # In one assignment: threads share the handler.
        self._exponents = {
            body[at : at + _NAME.size]: from_bytes(body[at + _NAME.size : at + step])
            for at in range(0, len(body), step)
        }
        return b""

    def _shares(self, parts: Sequence[bytes]) -> Sequence[bytes | VeilmatchError]:
        """An exponent's name and a ciphertext each -> its local share."""
        names = [part[: _NAME.size] for part in parts]
        found = self._raised([from_bytes(part[_NAME.size :]) for part in parts], names)
        return [_left() if share is None else self._written(share) for share in found]

    def _safety(self, parts: Sequence[bytes]) -> Sequence[bytes | VeilmatchError]:
        """The names of two exponents and terms of c* each -> the local shares of c* under both."""
        combined = self._combined([part[2 * _NAME.size :] for part in parts])
        names = [part[at : at + _NAME.size] for part in parts for at in (0, _NAME.size)]
        found = self._raised([c for c in combined for _ in range(2)], names)
        return [
            _left() if one is None or other is None else self._written(one, other)
            for one, other in zip(found[0::2], found[1::2], strict=True)
        ]

    def _combine(self, parts: Sequence[bytes]) -> Sequence[bytes | VeilmatchError]:
        """Terms each -> their combination."""
        return [self._scheme.serialise(c) for c in self._combined(parts)]

    def _raised(self, ciphertexts: Sequence[Integer], names: Sequence[bytes]) -> list[LocalShare | None]:
        """Return the local share of each ciphertext under the exponent of that name; None for one that is not there."""
        exponents = self._exponents  # once: a setup may come in between
        there = [i for i, name in enumerate(names) if name in exponents]
        found: list[LocalShare | None] = [None] * len(names)
        wanted = [exponents[names[i]] for i in there]
        shares = self._scheme.local_shares_each([ciphertexts[i] for i in there], wanted)
        for i, share in zip(there, shares, strict=True):
            found[i] = share
        return found

    def _combined(self, terms: Sequence[bytes]) -> list[Integer]:
        asked = []
        for each in terms:
            weights, data = _read_grid(each)
            starts = range(0, len(data), self._ciphertext_size)
            asked.append(([from_bytes(data[at : at + self._ciphertext_size]) for at in starts], weights))
        return self._scheme.combine_many(asked)

    def _written(self, *shares: LocalShare) -> bytes:
        size = self._ciphertext_size // 2
        return b"".join(to_bytes(x, size) for share in shares for x in (share.z, share.fingerprint))


class ShareWorkers:
    """The pool of a key holder. For one event loop."""

    def __init__(self, pool: Pool, scheme: Paillier) -> None:
        self._pool = pool
        self._public_key = scheme.public_key
        self._lanes = scheme.ring.lanes
        self._gathered = GatheredWork(pool, scheme.ring.lanes)

    async def setup(self, key: KeyHolderKey) -> None:
        """Give every worker the exponents of both pairs of this key holder, in the place of any it has."""
        size, message = _exponent_bytes(self._public_key), _SETUP
        for pair in pairs_of(key.party):
            exponent = key.share(pair).exponent(self._public_key, SECRET_ACCESS)
            verifying, proving = key.safety(pair).exponents(self._public_key, SECRET_ACCESS)
            for use, secret in ((_CONVERT, exponent), (_VERIFY, verifying), (_PROVE, proving)):
                message += _name(pair, key.epoch, use) + to_bytes(secret, size)
        await self._pool.map([message] * self._pool.count)

    def of(self, pair: Pair, epoch: int, owner: str) -> ShareWork:
        """Return what computes for one session. owner: the device that asks; devices have turns."""
        return ShareWork(self._gathered, self._public_key, self._lanes, pair, epoch, owner)


@dataclass(frozen=True, slots=True)
class ShareWork:
    """Local shares for one session, under this holder's exponents of its pair and epoch.

    Raises UnavailableError if the workers no longer have those of that epoch.
    """

    _gathered: GatheredWork
    _public_key: PublicKey
    _lanes: int
    _pair: Pair
    _epoch: int
    _owner: str

    async def local_shares(self, ciphertexts: Sequence[Integer]) -> list[LocalShare]:
        """Return the local share of each ciphertext, in order."""
        name = _name(self._pair, self._epoch, _CONVERT)
        size = self._public_key.parameters.ciphertext_bytes
        answers = await self._gathered.done(self._owner, _SHARES, [name + to_bytes(c, size) for c in ciphertexts])
        return [self._read(answer, 1)[0] for answer in answers]

    async def safety_shares(self, ciphertexts: Sequence[Integer], exponents: Grid) -> tuple[LocalShare, LocalShare]:
        """Return the local shares of c* = Scheme.combine(ciphertexts, exponents): as verifier, and as prover."""
        while len(ciphertexts) > _COMBINED_AT_ONCE:
            ciphertexts = await self._combined(ciphertexts, exponents)
            exponents = Grid((1,) * rows_of(len(ciphertexts)), (1,) * WIDTH, len(ciphertexts))
        names = b"".join(_name(self._pair, self._epoch, use) for use in (_VERIFY, _PROVE))
        (answer,) = await self._gathered.done(
            self._owner, _SAFETY, [names + self._terms(ciphertexts, exponents)], width=2
        )
        verifying, proving = self._read(answer, 2)
        return verifying, proving

    async def _combined(self, ciphertexts: Sequence[Integer], exponents: Grid) -> list[Integer]:
        """Return the combination of each _COMBINED_AT_ONCE ciphertexts, whose product is that of all."""
        terms = []
        for start in range(0, len(ciphertexts), _COMBINED_AT_ONCE):
            part = ciphertexts[start : start + _COMBINED_AT_ONCE]
            rows = exponents.rows[start // WIDTH :][: rows_of(len(part))]
            terms.append(self._terms(part, Grid(rows, exponents.columns, len(part))))
        answers = await self._gathered.done(self._owner, _COMBINE, terms, width=self._lanes)
        size = self._public_key.parameters.ciphertext_bytes
        if any(len(answer) != size for answer in answers):
            raise ProtocolError("a worker's answer of the wrong size", expected=size)
        return list(map(from_bytes, answers))

    def _terms(self, ciphertexts: Sequence[Integer], exponents: Grid) -> bytes:
        size = self._public_key.parameters.ciphertext_bytes
        return _write_grid(exponents) + b"".join(to_bytes(c, size) for c in ciphertexts)

    def _read(self, answer: bytes, count: int) -> list[LocalShare]:
        """Return the local shares in a worker's answer."""
        size = self._public_key.parameters.ciphertext_bytes
        half = size // 2
        if len(answer) != size * count:
            raise ProtocolError("a worker's answer of the wrong size", got=len(answer), expected=size * count)
        return [
            LocalShare(from_bytes(answer[i : i + half]), from_bytes(answer[i + half : i + size]))
            for i in range(0, len(answer), size)
        ]


def _name(pair: Pair, epoch: int, use: bytes) -> bytes:
    return _NAME.pack(pair.encode(), epoch, use)


def _left() -> UnavailableError:
    return UnavailableError("the key shares were refreshed meanwhile", needed="another attempt")


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
