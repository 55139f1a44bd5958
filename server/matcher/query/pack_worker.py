"""Workers that hold the packs and do the matcher's modular arithmetic.

They are given the packs once; a query reaches them as exponents only. Messages are bytes: one
letter for the kind, then fixed-width fields. They carry shares of probes and are never pickled.
Packs lie in groups of as many as the backend works on at the cost of one, in order of their numbers. A search over many
is cut into slices, so that what asks for little, a verification or an enrolment, waits for a slice and not for all.
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial

import numpy as np

from veilmatch.crypto.arithmetic import Integer, from_bytes
from veilmatch.crypto.dealing import Words
from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.errors import ProtocolError, UnavailableError
from veilmatch.crypto.packing import lanes, slots
from veilmatch.crypto.packing.fields import Array
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.matcher.query.pack_versions import PackVersions
from veilmatch.server.matcher.query.preparing import Rest, Zeros, keep_prepared
from veilmatch.server.workers.ahead import ahead
from veilmatch.server.workers.threads import Pool

_LOAD, _MATCH, _COLUMN, _RECORD, _APPLY, _FORGET, _ZEROS = b"L", b"M", b"C", b"R", b"A", b"F", b"Z"
_GALLERY = struct.Struct(">HI")  # number of the gallery, number or count of packs
_GENERATION = struct.Struct(">Q")
_HELD = struct.Struct(">I")  # how many generations are held; they follow
_PREPARED = struct.Struct(">?")  # whether an encryption of zero for each pack follows
_COUNT = struct.Struct(">I")
#: Packs that a worker multiplies out at a time, for one search: at most some 40 ms with D = 128, at least 15. A search
#: has eight slices or more, if it is large enough. What each slice costs beside its packs is as much as eight of them.
SLICE_PACKS, FEWEST_PACKS, _PARTS = 64, 32, 8
#: Slices that are under way for a search: one is computed, one waits, and one has been computed and is dealt with.
_AHEAD = 3
_COLUMN_HEAD = struct.Struct(">I??")  # slot, is_plus, erase


def make_handler(public_key: PublicKey) -> Callable[[bytes], bytes]:
    """Return a handler without packs."""
    return _Packs(public_key).handle


class _Packs:
    """Packs by gallery and number. Threads may share it: a gallery is changed by one at a time."""

    def __init__(self, public_key: PublicKey) -> None:
        self._scheme = Paillier(public_key)
        self._parameters = public_key.parameters
        self._groups = PackVersions(self._scheme)
        self._known: set[tuple[int, int]] = set()
        # Before the first query: the table of the fixed base, and how long programs are.
        self._scheme.encrypt_zeros(1)
        self._scheme.ring.compile([1] * self._parameters.dimension, self._parameters.ring_bits)

    def handle(self, message: bytes) -> bytes:
        steps = {
            _LOAD: self._load, _MATCH: self._match, _COLUMN: self._column, _RECORD: self._record,
            _APPLY: self._apply, _FORGET: self._forget, _ZEROS: self._zeros,
        }  # fmt: skip
        return steps[message[:1]](message[1:])

    def _load(self, body: bytes) -> bytes:
        """gallery, count of packs, their numbers, all of one group, generation, held ones, and contents -> nothing."""
        gallery, numbers, data = self._split_packs(body)
        (generation,) = _GENERATION.unpack_from(data)
        held, data = _split_held(data[_GENERATION.size :])
        lanes, size = self._scheme.ring.lanes, len(data) // len(numbers)
        packs = {number % lanes: data[i * size : (i + 1) * size] for i, number in enumerate(numbers)}
        self._groups.load((gallery, numbers[0] // lanes), packs, generation, held)
        self._known.update((gallery, number) for number in numbers)
        return b""

    def _match(self, body: bytes) -> bytes:
        """gallery, count of packs, their numbers in order, encryptions of zero or none, generation, compiled query -> R
        of each, re-randomised."""
        gallery, numbers, data = self._split_packs(body)
        (prepared,) = _PREPARED.unpack_from(data)
        end = _PREPARED.size + prepared * len(numbers) * self._parameters.ciphertext_bytes
        zeros, data = data[_PREPARED.size : end], data[end:]
        (generation,) = _GENERATION.unpack_from(data)
        lanes_asked: dict[int, list[int]] = {}
        for number in numbers:
            lanes_asked.setdefault(number // self._scheme.ring.lanes, []).append(number % self._scheme.ring.lanes)
        asked = [(self._groups.at((gallery, group), generation), lanes) for group, lanes in lanes_asked.items()]
        # Fresh randomness for every pack: without it the peer reads the exponents out of R.
        query = data[_GENERATION.size :]
        if prepared:
            return self._scheme.products_times(asked, query, zeros)
        return self._scheme.randomised_products(asked, query)

    def _zeros(self, body: bytes) -> bytes:
        """count -> so many encryptions of zero."""
        return b"".join(map(self._scheme.serialise, self._scheme.encrypt_zeros(*_COUNT.unpack(body))))

    def _forget(self, body: bytes) -> bytes:
        """gallery, count of groups, their numbers, held generations -> nothing."""
        gallery, groups, data = self._split_packs(body)
        self._groups.forget([(gallery, group) for group in groups], _split_held(data)[0])
        return b""

    @staticmethod
    def _split_packs(body: bytes) -> tuple[int, list[int], bytes]:
        gallery, count = _GALLERY.unpack_from(body)
        at = _GALLERY.size + 4 * count
        return gallery, np.frombuffer(body[_GALLERY.size : at], dtype=">u4").tolist(), body[at:]

    def _column(self, body: bytes) -> bytes:
        """slot, role, erase, lanes of some coordinates -> this matcher's encrypted part of their column."""
        slot, is_plus, erase = _COLUMN_HEAD.unpack_from(body)
        values = np.frombuffer(body[_COLUMN_HEAD.size :], dtype="<u8")
        plaintexts = slots.lane_column(values, slot, self._parameters, is_plus=is_plus, erase=erase)
        return b"".join(map(self._scheme.serialise, self._scheme.encrypt_many(plaintexts)))

    def _record(self, body: bytes) -> bytes:
        """role, lanes of one vector -> this matcher's encrypted part of its record."""
        plaintexts = lanes.record_part(np.frombuffer(body[1:], dtype="<u8"), self._parameters, is_plus=bool(body[0]))
        return b"".join(map(self._scheme.serialise, self._scheme.encrypt_many(plaintexts)))

    def _apply(self, body: bytes) -> bytes:
        """gallery, pack, columns of D ciphertexts each -> the pack with all columns multiplied in (not kept)."""
        gallery, number = _GALLERY.unpack_from(body)
        D = self._parameters.dimension
        factors = self._split(body[_GALLERY.size :])
        group, lane = divmod(number, self._scheme.ring.lanes)
        known = (gallery, number) in self._known
        pack = self._groups.newest((gallery, group)).get(lane) if known else [self._scheme.encode(Integer(0))] * D
        for start in range(0, len(factors), D):
            column = factors[start : start + D]
            pack = [self._scheme.multiply(c, f) for c, f in zip(pack, column, strict=True)]
        return b"".join(map(self._scheme.serialise, pack))

    def _split(self, data: bytes) -> list[Integer]:
        size = self._parameters.ciphertext_bytes
        return [from_bytes(data[i : i + size]) for i in range(0, len(data), size)]


class PackWorkers:
    """The workers of a matcher, as `packs.Packs`: a group of packs belongs to one of them, in turn.

    Threads share all groups, so that with them this says only who multiplies out what. Processes are given theirs when
    they start, and have them as long as they live.
    """

    def __init__(self, pool: Pool, scheme: Paillier, zeros: Zeros | None = None) -> None:
        """zeros: where encryptions of zero are kept that are made at rest, while `preparing`; None to make none."""
        self._pool = pool
        self._parameters = scheme.parameters
        self._prepared = Zeros(scheme.parameters.ciphertext_bytes) if zeros is None else zeros
        self._rest = Rest()
        self._ring = scheme.ring
        self._lanes = scheme.ring.lanes
        #: By gallery: its generation, which of them are held by how many, and groups with more versions than one.
        self._generations: dict[int, int] = defaultdict(int)
        self._held: dict[int, Counter[int]] = defaultdict(Counter)
        self._versioned: dict[int, set[int]] = defaultdict(set)

    async def load(self, gallery: int, packs: Mapping[int, bytes]) -> None:
        """Give packs to their workers, in place of what they had under these numbers."""
        groups: dict[int, list[int]] = {}
        for pack in packs:
            groups.setdefault(pack // self._lanes, []).append(pack)
        self._generations[gallery] += 1
        self._prepared.expect(max(packs, default=-1) + 1)
        head = _GENERATION.pack(self._generations[gallery]) + self._held_now(gallery)
        if self._held[gallery]:
            self._versioned[gallery].update(groups)
        await asyncio.gather(
            *(
                self._ask(
                    self._worker_of(group[0]),
                    _LOAD + _packs_head(gallery, group) + head + b"".join(packs[pack] for pack in group),
                )
                for group in groups.values()
            )
        )

    @asynccontextmanager
    async def held(self, gallery: int) -> AsyncIterator[int | None]:
        """Keep what is loaded now for `match`, whatever is loaded meanwhile; see `packs.Packs`."""
        generation = self._generations[gallery]
        self._held[gallery][generation] += 1
        try:
            with self._rest.at_work():
                yield generation
        finally:
            self._held[gallery] -= Counter({generation: 1})
            if self._versioned[gallery]:
                with suppress(UnavailableError):  # the pool is closed, and everything forgotten
                    await self._forget(gallery)

    async def match(
        self, gallery: int, state: GalleryState, packs: Sequence[int], exponents: Array, held: int | None = None
    ) -> AsyncGenerator[list[bytes], None]:
        """Yield R of every pack in `packs`, re-randomised, for this matcher's probe share, int64[D] in [0, 2^k).

        In order, a slice at a time, of which all workers have the same part; others come in between two slices. state:
        is not looked at; what was loaded last is what the lock of the gallery lets be asked, or what is held.
        """
        # Once for all workers: under Python's lock they would do it one after the other.
        generation = _GENERATION.pack(self._generations[gallery] if held is None else held)
        query = generation + self._ring.compile(exponents.tolist(), self._parameters.ring_bits)
        size = self._slice_packs(len(packs))
        slices = (packs[start : start + size] for start in range(0, len(packs), size))
        async with aclosing(ahead((partial(self._slice, gallery, one, query) for one in slices), _AHEAD)) as answers:
            async for answer in answers:
                yield answer

    def _slice_packs(self, packs: int) -> int:
        """Return of how many packs a slice of a search over so many consists: whole groups for every worker."""
        workers = self._pool.count
        each = min(SLICE_PACKS, max(FEWEST_PACKS, -(-packs // (_PARTS * workers))))
        return -(-each // self._lanes) * self._lanes * workers

    async def _slice(self, gallery: int, packs: Sequence[int], query: bytes) -> list[bytes]:
        """Return R of these packs, in order."""
        shares: dict[int, list[int]] = {}
        for pack in sorted(packs):
            shares.setdefault(self._worker_of(pack), []).append(pack)
        answers = await asyncio.gather(
            *(
                self._ask(worker, _MATCH + _packs_head(gallery, share) + self._zeros_for(share) + query)
                for worker, share in shares.items()
            )
        )
        size = self._parameters.ciphertext_bytes
        results: dict[int, bytes] = {}
        for share, data in zip(shares.values(), answers, strict=True):
            if len(data) != size * len(share):
                raise ProtocolError("a worker's answer of the wrong size", got=len(data), expected=size * len(share))
            results |= {pack: data[i * size : (i + 1) * size] for i, pack in enumerate(share)}
        return [results[pack] for pack in packs]

    async def column(self, values: Words, slot: int, *, is_plus: bool, erase: bool) -> bytes:
        """Return this matcher's part of one template's column, from its share uint64[D]: D ciphertexts, joined."""
        head = _COLUMN + _COLUMN_HEAD.pack(slot, is_plus, erase)
        parts = np.array_split(values.astype("<u8"), self._pool.count)
        answers = await asyncio.gather(
            *(self._ask(i, head + part.tobytes()) for i, part in enumerate(parts) if len(part))
        )
        return b"".join(answers)

    async def record(self, values: Words, *, is_plus: bool) -> bytes:
        """Return this matcher's part of the record of one template, from its share uint64[D]: lane ciphertexts."""
        return await self._ask(0, _RECORD + bytes([is_plus]) + values.astype("<u8").tobytes())

    async def apply(self, gallery: int, pack: int, columns: Sequence[bytes]) -> bytes:
        """Return the content of `pack` (empty if it is new) with `columns` multiplied in; nothing is kept yet."""
        body = _GALLERY.pack(gallery, pack) + b"".join(columns)
        return await self._ask(self._worker_of(pack), _APPLY + body)

    @asynccontextmanager
    async def preparing(self) -> AsyncIterator[None]:
        """Make encryptions of zero at rest, as many as are wanted, as long as this lasts."""
        keeping = asyncio.ensure_future(keep_prepared(self._prepared, self._rest, self._make_zeros))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _make_zeros(self, count: int) -> bytes:
        return await self._pool.call(0, _ZEROS + _COUNT.pack(count))

    def _zeros_for(self, packs: Sequence[int]) -> bytes:
        """Return how a message gives prepared encryptions of zero for these packs, if there are enough."""
        zeros = self._prepared.take(len(packs))
        return _PREPARED.pack(bool(zeros)) + zeros

    async def _ask(self, worker: int, message: bytes) -> bytes:
        with self._rest.at_work():
            return await self._pool.call(worker, message)

    def _held_now(self, gallery: int) -> bytes:
        """Return how a message names the generations that are held."""
        held = sorted(self._held[gallery])
        return _HELD.pack(len(held)) + np.array(held, dtype=">u8").tobytes()

    async def _forget(self, gallery: int) -> None:
        """Let workers go of versions that are not held any more."""
        held = self._held_now(gallery)
        groups = sorted(self._versioned[gallery])
        if not self._held[gallery]:
            self._versioned[gallery].clear()
        by_worker: dict[int, list[int]] = {}
        for group in groups:
            by_worker.setdefault(self._worker_of(group * self._lanes), []).append(group)
        await asyncio.gather(
            *(self._ask(worker, _FORGET + _packs_head(gallery, some) + held) for worker, some in by_worker.items())
        )

    def _worker_of(self, pack: int) -> int:
        return pack // self._lanes % self._pool.count


def _split_held(data: bytes) -> tuple[list[int], bytes]:
    """Return the generations with which `data` begins, and what follows them."""
    (count,) = _HELD.unpack_from(data)
    end = _HELD.size + 8 * count
    return np.frombuffer(data[_HELD.size : end], dtype=">u8").tolist(), data[end:]


def _packs_head(gallery: int, packs: Sequence[int]) -> bytes:
    return _GALLERY.pack(gallery, len(packs)) + np.array(packs, dtype=">u4").tobytes()
