"""Three matchers in memory that share a plaintext decision: what the client's tests talk to."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from veilmatch.client.wire.transport import ConnectionState, Matcher
from veilmatch.common.speaking import our_hello
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.versions import Hello
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2

Signed = request_pb2.SignedRequest


def body_of(signed: Signed) -> request_pb2.RequestBody:
    return request_pb2.RequestBody.FromString(signed.body)


def _chain(sequence: int) -> bytes:
    return bytes([sequence]) * 32


def xor_shares(bits: Sequence[int]) -> tuple[bytes, bytes]:
    packed = np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()
    mask = secrets.token_bytes(len(packed))
    return mask, bytes(x ^ y for x, y in zip(packed, mask, strict=True))


@dataclass
class FakeMatcher:
    """One of FakeMatchers. Notes what it is sent."""

    fakes: FakeMatchers
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
    #: Whether it gives signs of life, and how often it was asked for one.
    lives: bool = True
    asked: int = 0

    #: What it says of budgets, or what it ends with.
    told: list[request_pb2.BudgetLeft] | VeilmatchError = field(default_factory=list)
    #: What it speaks, if it says so.
    hello: Hello | None = field(default_factory=our_hello)

    def doubt(self) -> None:
        self.doubts += 1

    async def speaks(self, timeout_s: float) -> Hello | None:
        return self.hello

    async def alive(self, timeout_s: float) -> bool:
        """Answers at once; without life, as a process that is stopped."""
        self.asked += 1
        if not self.lives:
            await asyncio.sleep(timeout_s)
        elif self.comes_back:
            self.state = "up"
        return self.lives and self.state == "up"

    async def connect(self, timeout_s: float) -> bool:
        self.connects += 1
        self.state = "up" if self.comes_back else self.state
        return self.comes_back

    async def match(self, request: pb.MatchRequest, timeout_s: float) -> pb.MatchReply:
        self.known_chains.append(request.known_chain)
        return await self._answer("match", request.request, timeout_s, self.fakes.match, request.known_chain)

    async def mutate(self, request: Signed, timeout_s: float) -> pb.MutateReply:
        return await self._answer("mutate", request, timeout_s, self.fakes.mutate)

    async def bulk_enrol(self, header: Signed, packs: Sequence[pb.BulkPack], timeout_s: float) -> pb.MutateReply:
        return await self._answer("bulk", header, timeout_s, self.fakes.bulk, list(packs))

    async def subjects(self, request: Signed, timeout_s: float) -> pb.SubjectsReply:
        return await self._answer("subjects", request, timeout_s, self.fakes.list_subjects)

    async def rotate(self, request: Signed, timeout_s: float) -> pb.RotateReply:
        return await self._answer("rotate", request, timeout_s, self.fakes.rotate)

    async def budgets(self, timeout_s: float) -> pb.BudgetsReply:
        if isinstance(self.told, VeilmatchError):
            raise self.told
        return pb.BudgetsReply(budgets=self.told)

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
            return self.change(make(max(0, body_of(request).pair.find(self.party[-1])), request, *more))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class FakeMatchers:
    """Matchers a, b and c over one gallery in clear. Whoever is in `looks_like` matches every probe, all alike well."""

    def __init__(self) -> None:
        self.a, self.b, self.c = (FakeMatcher(self, f"matcher-{party}") for party in PARTIES)
        self.templates: list[str] = []
        self.looks_like: set[str] = set()
        #: What the servers find of a vector that is enrolled.
        self.finds_valid = True
        self.sequence = 0
        #: By pair: the templates that its first answer is about, one change before the present ones.
        self.earlier: dict[str, list[str]] = {}
        self._first_of: dict[str, bytes] = {}
        self.bulk_packs: list[pb.BulkPack] = []
        self.converted = 0
        self._rotated: dict[bytes, pb.RotateReply] = {}
        self._answers: dict[bytes, tuple[bytes, bytes]] = {}
        self._done: dict[bytes, int] = {}
        #: By token: the request that was done under it, and the subjects of its templates that are still there.
        self._first: dict[bytes, bytes] = {}
        self._present: dict[bytes, list[str]] = {}

    @property
    def all(self) -> dict[Party, Matcher]:
        return {"a": self.a, "b": self.b, "c": self.c}

    @property
    def both(self) -> tuple[Matcher, Matcher]:
        """Those of pair ab."""
        return self.a, self.b

    @property
    def chain(self) -> bytes:
        return _chain(self.sequence)

    def match(self, place: int, signed: Signed, known_chain: bytes) -> pb.MatchReply:
        operation, pair = body_of(signed).operation, body_of(signed).pair
        search = operation != request_pb2.OPERATION_VERIFY
        named = search and operation != request_pb2.OPERATION_KNOWN
        is_earlier = pair in self.earlier and self._first_of.setdefault(pair, signed.body) == signed.body
        templates, sequence = (self.earlier[pair], self.sequence - 1) if is_earlier else (self.templates, self.sequence)
        compared = templates if search else [signed.subject]
        bits = [int(subject in self.looks_like) for subject in compared]
        if operation == request_pb2.OPERATION_KNOWN:
            bits = [int(any(bits))] if bits else []
        if operation == request_pb2.OPERATION_IDENTIFY:
            number = bits.index(1) + 1 if any(bits) else 0
            bits = [number >> i & 1 for i in range(len(compared).bit_length())]
        shares = self._answers.setdefault(signed.body, xor_shares(bits))
        return pb.MatchReply(
            sequence=sequence,
            chain=_chain(sequence),
            session_id=(signed.body[-32:] * 32)[:32],
            share=shares[place],
            count=len(bits),
            valid_share=place == 0 and bool(bits),
            labels=compared if named and known_chain != _chain(sequence) else [],
            timings=pb.Timings(convert_s=0.1 + place, match_s=0.2, decide_s=0.3),
        )

    def mutate(self, place: int, signed: Signed) -> pb.MutateReply:
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
        reply.valid_share = body.operation == request_pb2.OPERATION_ENROL and place == 0 and self.finds_valid
        return reply

    def bulk(self, place: int, signed: Signed, packs: list[pb.BulkPack]) -> pb.MutateReply:
        token = body_of(signed).token
        if token not in self._done:
            self.bulk_packs = packs
            added = [t.subject for pack in packs for t in pack.templates]
            self.templates += added
            self._commit(signed, len(added), added)
        return self._mutated(signed)

    def list_subjects(self, place: int, signed: Signed) -> pb.SubjectsReply:
        names = dict.fromkeys(self.templates)
        listed = [pb.Subject(subject=n, templates=self.templates.count(n)) for n in names]
        return pb.SubjectsReply(sequence=self.sequence, chain=self.chain, subjects=listed)

    def rotate(self, place: int, signed: Signed) -> pb.RotateReply:
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
        reply.valid_share = bytes([0b10 if place else 0b11]) if reply.by_device else b""
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
