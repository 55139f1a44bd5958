"""Two matchers in memory that share a plaintext decision: what the client's tests talk to."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from veilmatch.client.wire.transport import ConnectionState, Matcher
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2

Signed = request_pb2.SignedRequest


def body_of(signed: Signed) -> request_pb2.RequestBody:
    return request_pb2.RequestBody.FromString(signed.body)


def xor_shares(bits: Sequence[int]) -> tuple[bytes, bytes]:
    packed = np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()
    mask = secrets.token_bytes(len(packed))
    return mask, bytes(x ^ y for x, y in zip(packed, mask, strict=True))


@dataclass
class FakeMatcher:
    """One of a FakePair. Notes what it is sent."""

    pair: FakePair
    seat: int
    party: str
    #: Called with (kind, request) before an answer; may raise, or return a coroutine to wait for.
    before: Callable[[str, Any], Any] = lambda kind, request: None
    #: Changes an answer on its way.
    change: Callable[[Any], Any] = lambda reply: reply
    requests: list[Signed] = field(default_factory=list)
    known_chains: list[bytes] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    cancelled: int = 0
    closed: bool = False
    state: ConnectionState = "up"
    #: Whether it can be connected to again.
    comes_back: bool = True
    connects: int = 0
    doubts: int = 0

    def doubt(self) -> None:
        self.doubts += 1

    async def connect(self, timeout_s: float) -> bool:
        self.connects += 1
        self.state = "up" if self.comes_back else self.state
        return self.comes_back

    async def match(self, request: pb.MatchRequest, timeout_s: float) -> pb.MatchReply:
        self.known_chains.append(request.known_chain)
        return await self._answer("match", request.request, timeout_s, self.pair.match, request.known_chain)

    async def mutate(self, request: Signed, timeout_s: float) -> pb.MutateReply:
        return await self._answer("mutate", request, timeout_s, self.pair.mutate)

    async def bulk_enrol(self, header: Signed, packs: Sequence[pb.BulkPack], timeout_s: float) -> pb.MutateReply:
        return await self._answer("bulk", header, timeout_s, self.pair.bulk, list(packs))

    async def subjects(self, request: Signed, timeout_s: float) -> pb.SubjectsReply:
        return await self._answer("subjects", request, timeout_s, self.pair.list_subjects)

    async def rotate(self, request: Signed, timeout_s: float) -> pb.RotateReply:
        return await self._answer("rotate", request, timeout_s, self.pair.rotate)

    async def close(self) -> None:
        self.closed = True

    async def _answer(self, kind: str, request: Signed, timeout_s: float, make: Any, *more: Any) -> Any:
        self.requests.append(request)
        self.timeouts.append(timeout_s)
        try:
            wait = self.before(kind, request)
            if wait is not None:
                await wait
            await asyncio.sleep(0)
            return self.change(make(self.seat, request, *more))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class FakePair:
    """Matcher a and b over one plaintext gallery. Whoever is in `looks_like` matches every probe, all equally well."""

    def __init__(self) -> None:
        self.a, self.b = FakeMatcher(self, 0, "matcher-a"), FakeMatcher(self, 1, "matcher-b")
        self.templates: list[str] = []
        self.looks_like: set[str] = set()
        #: What the servers find of a vector that is enrolled.
        self.finds_valid = True
        self.sequence = 0
        self.bulk_packs: list[pb.BulkPack] = []
        self.converted = 0
        self._rotated: dict[bytes, pb.RotateReply] = {}
        self._answers: dict[bytes, tuple[bytes, bytes]] = {}
        self._done: dict[bytes, int] = {}
        #: By token: the request that was done under it, and the subjects of its templates that are still there.
        self._first: dict[bytes, bytes] = {}
        self._present: dict[bytes, list[str]] = {}

    @property
    def both(self) -> tuple[Matcher, Matcher]:
        return self.a, self.b

    @property
    def chain(self) -> bytes:
        return bytes([self.sequence]) * 32

    def match(self, seat: int, signed: Signed, known_chain: bytes) -> pb.MatchReply:
        operation = body_of(signed).operation
        search = operation != request_pb2.OPERATION_VERIFY
        compared = self.templates if search else [signed.subject]
        bits = [int(subject in self.looks_like) for subject in compared]
        if operation == request_pb2.OPERATION_IDENTIFY:
            number = bits.index(1) + 1 if any(bits) else 0
            bits = [number >> i & 1 for i in range(len(compared).bit_length())]
        shares = self._answers.setdefault(signed.body, xor_shares(bits))
        return pb.MatchReply(
            sequence=self.sequence,
            chain=self.chain,
            session_id=(signed.body[-32:] * 32)[:32],
            share=shares[seat],
            count=len(bits),
            valid_share=seat == 0 and bool(bits),
            labels=compared if search and known_chain != self.chain else [],
            timings=pb.Timings(convert_s=0.1 + seat, match_s=0.2, decide_s=0.3),
        )

    def mutate(self, seat: int, signed: Signed) -> pb.MutateReply:
        body = body_of(signed)
        if body.token not in self._done:
            before = len(self.templates)
            if body.operation == request_pb2.OPERATION_ENROL:
                self.templates.append(signed.subject)
            elif body.enrolment:
                self.templates.remove(signed.subject)
            else:
                self.templates = [t for t in self.templates if t != signed.subject]
                for present in self._present.values():
                    present[:] = [subject for subject in present if subject != signed.subject]
            added = [signed.subject] if body.operation == request_pb2.OPERATION_ENROL else []
            self._commit(signed, abs(len(self.templates) - before), added)
        reply = self._mutated(signed)
        reply.valid_share = body.operation == request_pb2.OPERATION_ENROL and seat == 0 and self.finds_valid
        return reply

    def bulk(self, seat: int, signed: Signed, packs: list[pb.BulkPack]) -> pb.MutateReply:
        token = body_of(signed).token
        if token not in self._done:
            self.bulk_packs = packs
            added = [t.subject for pack in packs for t in pack.templates]
            self.templates += added
            self._commit(signed, len(added), added)
        return self._mutated(signed)

    def list_subjects(self, seat: int, signed: Signed) -> pb.SubjectsReply:
        names = dict.fromkeys(self.templates)
        listed = [pb.Subject(subject=n, templates=self.templates.count(n)) for n in names]
        return pb.SubjectsReply(sequence=self.sequence, chain=self.chain, subjects=listed)

    def rotate(self, seat: int, signed: Signed) -> pb.RotateReply:
        """Each request converts two templates; one that finds nothing to convert is the last."""
        if signed.body not in self._rotated:
            total = len(self.templates)
            done, self.converted = self.converted == total, min(self.converted + 2, total)
            self._rotated[signed.body] = pb.RotateReply(
                sequence=len(self._rotated) + 1, chain=self.chain, converted=self.converted, total=total, done=done,
            )  # fmt: skip
            if not done and self.converted == total:  # the last that are converted are of a bulk enrolment
                self._rotated[signed.body].by_device.extend(["bob", "eve"])
        reply = pb.RotateReply()
        reply.CopyFrom(self._rotated[signed.body])
        reply.valid_share = bytes([0b10 if seat else 0b11]) if reply.by_device else b""
        return reply

    def _commit(self, signed: Signed, templates: int, added: list[str]) -> None:
        self.sequence += 1
        token = body_of(signed).token
        self._done[token], self._first[token], self._present[token] = templates, signed.body, list(added)

    def _mutated(self, signed: Signed) -> pb.MutateReply:
        token = body_of(signed).token
        repeated = self._first[token] != signed.body
        return pb.MutateReply(
            sequence=self.sequence,
            chain=self.chain,
            templates=self._done[token],
            repeated=repeated,
            present=len(self._present[token]) if repeated else 0,
        )
