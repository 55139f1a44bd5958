"""A search at a matcher: candidates, identify and known, from the signed probe to this side's half of the answer.

docs/protocol.md. The matcher sees a uniformly random share of the probe, ciphertexts, and one
XOR share of the answer; where a recipient is named, that share is sealed to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.answer_share import SEARCHES, labels_digest
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.gates.answer import answer_bits
from veilmatch.crypto.keys.parties import Pair, Party
from veilmatch.crypto.packing import slots
from veilmatch.crypto.requests import VERIFICATIONS
from veilmatch.crypto.versions import Feature
from veilmatch.protos.v1 import keyholder_pb2_grpc as keyholder_rpc
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.requests import CheckedRequest, require_current
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.ground.own_failures import Self
from veilmatch.server.matcher.agreement.agreement import Agreement
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.agreement.meetings import Meetings
from veilmatch.server.matcher.change.succession import Succession
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.labels import PART_PLACES, Known, Listed
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.matcher.query.keyholder_call import (
    KeyHolderCall,
    ServeCalling,
    Share,
    calling,
    opened,
)
from veilmatch.server.matcher.query.packs import Packs
from veilmatch.server.matcher.query.records import NO_RECORDS, Records
from veilmatch.server.transport.renewed import Renewal
from veilmatch.server.transport.sign_of_life import Signs
from veilmatch.server.transport.standing.ends import Renewed


@dataclass(frozen=True)
class Surroundings:
    """What the operations of a matcher work with."""

    party: Party
    scheme: Paillier
    workers: Packs
    meetings: Meetings
    #: That of this organisation.
    key_holder: keyholder_rpc.KeyHolderAsyncStub
    #: Its signs of life.
    key_holder_signs: Signs
    timeout_s: float
    #: Whose keys the three organisations sign with, and the key of this one.
    public: PublicFile
    organisation: OrganisationKey
    #: Where a rotation goes; None if none is configured.
    succession: Succession | None = None
    #: Of calls of the key holder, see Calling.
    key_holder_renewed: Renewed = Renewal

    @property
    def server(self) -> Self:
        """This matcher, for its own errors."""
        return self.meetings.server

    @cached_property
    def agreement(self) -> Agreement:
        """What changes of the galleries are agreed with."""
        return Agreement(self.organisation, self.public.signer)

    def is_plus(self, pair: Pair) -> bool:
        """Return whether this organisation's key holder is the plus holder of `pair`."""
        return pair[0] == self.party

    def open_session(
        self,
        checked: CheckedRequest,
        request: request_pb2.SignedRequest,
        state: GalleryState,
        records: Records = NO_RECORDS,
        output_bits: int = 0,
        labels_digest: bytes = b"",
    ) -> AbstractAsyncContextManager[KeyHolderCall]:
        """Open a session at the key holder of this organisation; see `opened`.

        Raises RequestExpiredError for a request that has waited too long here: what expired by the clock of this server
        says nothing about that of the key holder (requests.py).
        """
        require_current(checked, self.server.name)
        return opened(
            self.key_holder, self.party, checked.pair, request, state, records, self.scheme.parameters,
            self.key_holder_signs, is_plus=self.is_plus(checked.pair), timeout_s=self.timeout_s,
            output_bits=output_bits, labels_digest=labels_digest,
            calling=self.key_holder_link if checked.operation in VERIFICATIONS else None,
            needs=features_of(checked),
        )  # fmt: skip

    @cached_property
    def key_holder_link(self) -> ServeCalling:
        """The link to the key holder that all verifications go over."""
        return calling(self.party, self.key_holder, self.key_holder_renewed)


def features_of(checked: CheckedRequest) -> list[Feature]:
    """Return what all servers of a request have to know for it."""
    asked = {
        Feature.CARDS: checked.operation in ("issue", "present"),
        Feature.VIEWS: checked.views > 1,
        Feature.UNLESS_KNOWN: checked.unless_known,
    }
    return [feature for feature, is_asked in asked.items() if is_asked]


class Matched(NamedTuple):
    """The answer to a query. labels: of a search, the subject of every place if the device is told all of them; what
    changed is in the reply."""

    reply: pb.MatchReply
    labels: NDArray[Any] | None = None


async def match(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    model: str,
    known: Known,
    gallery: Gallery,
    meeting: Meeting,
    on: Surroundings,
) -> Matched:
    """Serve a search with a probe of this embedding model. known: of whoever searches.

    Of `known` the device is told no subject, and nothing of how many there are.

    The answer is about the gallery as both hold it when they meet; where packs can be kept as they are (`Packs.held`),
    it may be changed from then on. Raises ModelMismatchError for a probe that cannot be compared.
    """
    async with AsyncExitStack() as stack:
        lock = await stack.enter_async_context(AsyncExitStack())
        await lock.enter_async_context(on.agreement.reading(meeting, gallery))
        gallery.require_model(model)
        state = gallery.state
        packs, wanted = await asyncio.to_thread(gallery.index.asked)
        with_labels = checked.operation in SEARCHES
        listed = await gallery.listed(known) if with_labels else None
        of_all = await gallery.places() if with_labels and checked.recipient is not None else None
        held = await stack.enter_async_context(on.workers.held(gallery.number))
        if held is not None:
            await lock.aclose()
        reply = pb.MatchReply(sequence=state.sequence, chain=state.chain)
        whole = None
        if listed is not None:
            tell(reply, listed)
            whole = listed.whole
        if not packs:
            reply.session_id = checked.digest  # no session was needed
            return Matched(reply, whole)
        started = time.perf_counter()
        count = answer_bits(checked.operation, int(wanted.sum()))
        labels = b"" if of_all is None else await asyncio.to_thread(_digest_of, of_all)
        async with on.open_session(checked, request, state, output_bits=count, labels_digest=labels) as call:
            share = await call.probe_share(checked.views)
            converted = time.perf_counter()
            compared = Compared(gallery.number, state, packs, wanted, held)
            await pass_results(share, compared, checked, call, meeting, on)
            matched = time.perf_counter()
            await take_answer(reply, call, checked, count, checked.views * len(packs))
            decided = time.perf_counter()
        reply.timings.convert_s = converted - started
        reply.timings.match_s = matched - converted
        reply.timings.decide_s = decided - matched
        return Matched(reply, whole)


@dataclass(frozen=True, slots=True)
class Compared:
    """What a search is about: of a gallery of this number and state these packs, and which of their slots, bool[packs,
    slots]. held: see `Packs.held`."""

    gallery: int
    state: GalleryState
    packs: Sequence[int]
    wanted: NDArray[np.bool_]
    held: int | None = None


async def pass_results(
    share: Share, compared: Compared, checked: CheckedRequest, call: KeyHolderCall, meeting: Meeting, on: Surroundings
) -> None:
    """Multiply all packs out for each view of the probe, swap what comes out, and pass V on to the key holder."""
    wanted = np.tile(compared.wanted, (checked.views, 1))
    passing = _Passing(call, wanted, meeting, on, is_plus=on.is_plus(checked.pair))
    made = _made(share, compared, checked.views, on)
    async with aclosing(made):
        size = on.scheme.parameters.ciphertext_bytes
        await meeting.swap_results(share.session_id, made, len(wanted), size, passing.take)


async def _made(share: Share, compared: Compared, views: int, on: Surroundings) -> AsyncGenerator[list[bytes], None]:
    """Yield R of all packs of one view after the other."""
    for exponents in share.values.reshape(views, -1):
        if not compared.packs:
            # Nobody is there to be compared with: a slot of zero, which reaches no threshold.
            zeros = await asyncio.to_thread(on.scheme.encrypt_zeros, len(compared.wanted))
            yield list(map(on.scheme.serialise, zeros))
            continue
        made = on.workers.match(compared.gallery, compared.state, compared.packs, exponents, compared.held)
        async with aclosing(made):
            async for part in made:
                yield part


def tell(reply: pb.MatchReply, listed: Listed) -> None:
    """Put into the reply what has changed of the subjects, if the device is not told all of them."""
    if listed.whole is None:
        reply.difference.SetInParent()
        reply.difference.slots.extend(place for place, _ in listed.changed)
        reply.difference.subjects.extend(subject for _, subject in listed.changed)


async def in_parts(matched: Matched) -> AsyncIterator[pb.MatchReply]:
    """Yield the messages of an answer: it, and as many as its labels take."""
    reply, labels = matched
    if labels is None:
        yield reply
        return
    for start in range(0, max(1, len(labels)), PART_PLACES):
        await asyncio.to_thread(_extend, reply, labels[start : start + PART_PLACES])
        yield reply
        reply = pb.MatchReply()


def _extend(reply: pb.MatchReply, labels: NDArray[Any]) -> None:
    reply.labels.extend(labels.tolist())


def _digest_of(places: NDArray[Any]) -> bytes:
    return labels_digest(subject for subject in places if subject)


async def take_answer(
    reply: pb.MatchReply, call: KeyHolderCall, checked: CheckedRequest, count: int, conversions: int
) -> None:
    """Put this organisation's share of an answer of `count` bits into the reply, for the device or its recipient.

    conversions: how many ciphertexts the key holder converts for it.
    """
    reply.count = count
    if checked.recipient is None:
        share = await call.decision_share(count, conversions)
        reply.session_id, reply.share, reply.valid_share = share.session_id, share.bits, share.valid
    else:
        sealed = await call.sealed_share(count, conversions)
        reply.session_id, reply.statement = sealed.session_id, sealed.statement


class _Passing:
    """Passes results on to the key holder, which converts them while others are still being multiplied out."""

    def __init__(
        self, call: KeyHolderCall, wanted: NDArray[np.bool_], meeting: Meeting, on: Surroundings, *, is_plus: bool
    ) -> None:
        """wanted: of all packs, bool[packs, slots]."""
        self._call, self._wanted, self._meeting, self._on, self._is_plus = call, wanted, meeting, on, is_plus
        self._passed = 0

    async def take(self, mine: Sequence[bytes], theirs: Sequence[bytes]) -> None:
        """Pass V of the next packs on."""
        with self._meeting.of_peer():
            combined = await asyncio.to_thread(_combine, mine, theirs, self._on, is_plus=self._is_plus)
        start, self._passed = self._passed, self._passed + len(mine)
        last = self._passed == len(self._wanted)
        await self._call.send_results(combined, self._wanted[start : self._passed], last=last)


def _combine(mine: Sequence[bytes], theirs: Sequence[bytes], on: Surroundings, *, is_plus: bool) -> list[bytes]:
    """Return V = R_plus * R_minus^-1 * half of every pack: the score of each slot plus 2^(B-1)."""
    scheme = on.scheme
    half = scheme.encode(slots.half(scheme.parameters))
    plus, minus = (mine, theirs) if is_plus else (theirs, mine)
    return scheme.quotients(plus, minus, half)
