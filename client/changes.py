"""Changes of a gallery: what stands behind `enrol`, `enrol_many`, `erase`, `take_back` and `rotate` of the clients.

Every change has a token, under which it is done once however often it is sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TypeVar

from veilmatch.client import bulk
from veilmatch.client.arguments import checked_token, finite_seconds
from veilmatch.client.device import Device, Embedding, Progress, tell
from veilmatch.client.results import Enrolment, Erasure, Rotation
from veilmatch.client.wire import agreement
from veilmatch.client.wire.connection import Answered, Connection, Opening
from veilmatch.client.wire.signing import Draft
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.public_key_format import KEY_ID_BYTES
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.requests import TOKEN_BYTES
from veilmatch.protos.v1 import matcher_pb2, request_pb2

#: Added to the time-out of the settings for every pack of a bulk enrolment.
BULK_PACK_S = 2.0
#: Added to the time-out of the settings for a step of a rotation.
ROTATION_STEP_S = 60.0

_O = TypeVar("_O")


class Changes:
    """One device's changes of one gallery. timeout_s: of the settings; workers: processes of a bulk enrolment."""

    def __init__(self, device: Device, connection: Connection, timeout_s: float, workers: int | None) -> None:
        self._device = device
        self._connection = connection
        self._timeout_s = timeout_s
        self._workers = workers

    async def enrol(
        self, subject: str, embeddings: Iterable[Embedding], model: str, token: bytes | None, timeout_s: float | None
    ) -> Enrolment:
        """Add one template for each embedding, one after the other."""
        templates = [await self._device.lanes(embedding) for embedding in embeddings]
        if not templates:
            raise InvalidInputError("nothing to enrol", got="no photo", expected="at least one")
        ends = time.monotonic() + self._limit(timeout_s)
        first, added, sequence, request_id = checked_token(token), 0, 0, ""
        refused: list[bytes] = []
        for number, lanes in enumerate(templates):
            # Derived, so that the whole call can be repeated under its one token.
            own = digest("enrolment token", first, number)[:TOKEN_BYTES] if number else first
            draft = Draft(request_pb2.OPERATION_ENROL, lanes, subject=subject, token=own, model=model)
            # The last instant is left to the exchange, which then says who did not answer.
            answered = await self._mutate(draft, max(ends - time.monotonic(), 0.001), agreement.opened_enrolment)
            (agreed, valid), request_id = answered.opened, answered.request_id
            if not valid:
                # The others are sent all the same, and nothing is erased: servers would see that this one was refused.
                refused.append(own)
            added, sequence = added + agreed.templates, agreed.sequence
        if refused:
            raise agreement.refused_vector(refused, request_id)
        return Enrolment(sequence, added, request_id)

    async def enrol_many(
        self,
        subjects: Sequence[str],
        templates: Sequence[Array],
        model: str,
        progress: Progress | None,
        token: bytes | None,
        timeout_s: float | None,
    ) -> Enrolment:
        """Add quantised templates in one change, subject i having template i."""
        packs = await self._device.packs(subjects, templates, self._workers, progress)
        draft = Draft(
            request_pb2.OPERATION_BULK_ENROL,
            token=checked_token(token),
            bulk_digest=bulk.digest_of(packs),
            model=model,
        )
        answered = await self._connection.ask(
            draft,
            self._limit(timeout_s, BULK_PACK_S * len(packs)),
            lambda matcher, signed, left: matcher.bulk_enrol(signed, packs, left),
            agreement.agreed_mutation,
        )
        return Enrolment(answered.opened.sequence, answered.opened.templates, answered.request_id)

    async def erase(self, subject: str, token: bytes, timeout_s: float | None, enrolment: bytes = b"") -> Erasure:
        """Remove all templates of a subject, or the one that the enrolment of this token added."""
        draft = Draft(request_pb2.OPERATION_ERASE, subject=subject, token=token, enrolment=enrolment)
        answered = await self._mutate(draft, timeout_s, agreement.agreed_mutation)
        return Erasure(answered.opened.sequence, answered.opened.templates, answered.request_id)

    async def rotate(self, new_key_id: bytes, progress: Progress | None, timeout_s: float | None) -> Rotation:
        """Ask for steps of a rotation until both matchers say that it is done."""
        if len(new_key_id) != KEY_ID_BYTES:
            raise InvalidInputError("not the id of a key", got=f"{len(new_key_id)} bytes", expected=KEY_ID_BYTES)
        limit_s = self._limit(timeout_s, ROTATION_STEP_S)
        empty: list[str] = []
        while True:
            answered = await self._connection.ask(
                Draft(request_pb2.OPERATION_ROTATE, new_key_id=new_key_id),
                limit_s,
                lambda matcher, signed, left: matcher.rotate(signed, left),
                agreement.agreed_rotation,
            )
            agreed, found = answered.opened
            empty += found
            await tell(progress, "rotate", agreed.converted, agreed.total)
            if agreed.done:
                return Rotation(agreed.sequence, agreed.converted, tuple(sorted(empty)), answered.request_id)

    async def _mutate(
        self, draft: Draft, timeout_s: float | None, opening: Opening[matcher_pb2.MutateReply, _O]
    ) -> Answered[matcher_pb2.MutateReply, _O]:
        return await self._connection.ask(
            draft, self._limit(timeout_s), lambda matcher, signed, left: matcher.mutate(signed, left), opening
        )

    def _limit(self, timeout_s: float | None, more_s: float = 0.0) -> float:
        return finite_seconds(self._timeout_s + more_s if timeout_s is None else timeout_s)
