"""Changes of a gallery: templates and names to the matchers of a pair, and from their answers to a result.

What stands behind `enrol`, `enrol_many`, `erase`, `take_back` and `rotate` of the clients. Every enrolment and erasure
has a token, under which it is done once however often it is sent, and through whichever pairs; steps of a rotation can
be repeated as they are.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from veilmatch.client.given.arguments import checked_name, checked_token, finite_seconds
from veilmatch.client.given.quoting import about, naming, quoted_name, quoted_photo
from veilmatch.client.operations import bulk
from veilmatch.client.operations.device import Device, Embedding, Progress, Skipped, tell
from veilmatch.client.results import Enrolment, Erasure, Rotation
from veilmatch.client.wire import agreement
from veilmatch.client.wire.connection import Answered, Connection, Opening
from veilmatch.client.wire.pairs.lookout import SILENT_BULK_S
from veilmatch.client.wire.signing import Draft
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.requests import TOKEN_BYTES
from veilmatch.protos.v1 import matcher_pb2, request_pb2

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource

#: Added to the time-out of the settings for every pack of a bulk enrolment.
BULK_PACK_S = 2.0
#: Added to the time-out of the settings for a step of a rotation.
ROTATION_STEP_S = 60.0

Tokens: TypeAlias = Callable[[int], Iterator[bytes]]
"""Gives the tokens for template `number` of a call, in the order to try: the next one only where what was enrolled
under the one before has been erased since."""

Captured: TypeAlias = tuple[Embedding, bytes]
"""The embedding of a photo, and the digest of the photo; b"" where nobody asked for it."""

_O = TypeVar("_O")


class Changes:
    """One device's changes of one gallery."""

    def __init__(self, device: Device, connection: Connection, timeout_s: float, workers: int | None) -> None:
        """timeout_s: of a call that does not say. workers: processes that encrypt a bulk enrolment, see bulk.py."""
        self._device = device
        self._connection = connection
        self._timeout_s = timeout_s
        self._workers = workers

    # -- enrolling one subject ------------------------------------------------------------------------

    async def enrol_photos(
        self, subject: str, photos: Sequence[ImageSource], token: bytes | None, once: bool, timeout_s: float | None
    ) -> Enrolment:
        """Enrol photos of a subject. token, once: see AsyncClient.enrol."""
        _require_one_of(token, once)
        _require_any(photos)
        model = await self._device.model()  # before the photos: what is missing here is not about one of them
        captured = []
        for number, photo in enumerate(photos, start=1):
            try:
                captured.append(await self._device.capture(photo, once))
            except InvalidInputError as error:
                raise about(f"{quoted_name(subject)}, {quoted_photo(photo, number, len(photos))}", error) from None

        def derived(number: int) -> Iterator[bytes]:
            made = self._device.tokens.of_photo
            return (made(subject, model, captured[number][1], times) for times in itertools.count())

        embeddings = [embedding for embedding, _ in captured]
        return await self.enrol_embeddings(subject, embeddings, model, derived if once else _given(token), timeout_s)

    async def enrol_embeddings(
        self,
        subject: str,
        embeddings: Sequence[Embedding],
        model: str,
        tokens: Tokens | bytes | None,
        timeout_s: float | None,
    ) -> Enrolment:
        """Enrol embeddings of a subject. tokens: as Tokens gives them, or the one of the call."""
        _require_any(embeddings)
        templates = [
            await self._lanes(subject, embedding, number, len(embeddings))
            for number, embedding in enumerate(embeddings, start=1)
        ]
        ends = time.monotonic() + self._limit(timeout_s)
        tokens_of = tokens if callable(tokens) else _given(tokens)
        added, repeated, sequence, request_id = 0, 0, 0, ""
        refused: list[bytes] = []
        for number, lanes in enumerate(templates):
            for token in tokens_of(number):
                draft = Draft(request_pb2.OPERATION_ENROL, lanes, subject=subject, token=token, model=model)
                # The last instant is left to the exchange, which then says who did not answer.
                answered = await self._mutate(draft, max(ends - time.monotonic(), 0.001), agreement.opened_enrolment)
                (agreed, valid), request_id = answered.opened, answered.request_id
                if not _erased_since(agreed):
                    break
            if not valid:
                # The others are sent all the same, and nothing is erased: servers would see that this one was refused.
                refused.append(token)
            added, sequence = added + agreed.templates, agreed.sequence
            repeated += agreed.templates if agreed.repeated else 0
        if refused:
            raise agreement.refused_vector(refused, request_id)
        return Enrolment(sequence, added, repeated, request_id)

    async def _lanes(self, subject: str, embedding: Embedding, number: int, total: int) -> KnownCiphertexts:
        try:
            return await self._device.lanes(embedding)
        except InvalidInputError as error:
            raise about(f"{quoted_name(subject)}, embedding {number} of {total}", error) from None

    # -- enrolling many subjects ----------------------------------------------------------------------

    async def enrol_many_photos(
        self,
        pairs: Sequence[tuple[str, ImageSource]],
        progress: Progress | None,
        skipped: Skipped | None,
        token: bytes | None,
        once: bool,
        timeout_s: float | None,
    ) -> Enrolment:
        """Enrol one photo of each subject, in one change. skipped, token, once: see AsyncClient.enrol_many."""
        _require_one_of(token, once)
        model = await self._device.model()  # before the photos: what is missing here is not about one of them
        captured: list[tuple[str, Captured]] = []
        for done, (subject, photo) in enumerate(pairs):
            await tell(progress, "capture", done, len(pairs))
            try:
                captured.append((checked_name(subject), await self._device.capture(photo, once)))
            except InvalidInputError as error:
                told = about(f"{quoted_name(subject)}, {quoted_photo(photo, done + 1, len(pairs))}", error)
                if skipped is None:
                    raise told from None
                await tell(skipped, subject, told)
        await tell(progress, "capture", len(pairs), len(pairs))

        def derived(_: int) -> Iterator[bytes]:
            made, photos = self._device.tokens.of_photos, [(subject, photo) for subject, (_, photo) in captured]
            return (made(photos, model, times) for times in itertools.count())

        embeddings = [(subject, embedding) for subject, (embedding, _) in captured]
        tokens = derived if once else _given(token)
        return await self.enrol_many_embeddings(embeddings, model, progress, tokens, timeout_s)

    async def enrol_many_embeddings(
        self,
        pairs: Sequence[tuple[str, Embedding]],
        model: str,
        progress: Progress | None,
        tokens: Tokens | bytes | None,
        timeout_s: float | None,
    ) -> Enrolment:
        """Enrol one embedding of each subject, in one change. tokens: see `enrol_embeddings`."""
        _require_any(pairs)
        tokens_of = tokens if callable(tokens) else _given(tokens)
        subjects = [checked_name(subject) for subject, _ in pairs]
        templates = [
            self._device.quantised(subject, embedding) for subject, (_, embedding) in zip(subjects, pairs, strict=True)
        ]
        packs = await self._device.packs(subjects, templates, self._workers, progress)
        ends = time.monotonic() + self._limit(timeout_s, BULK_PACK_S * len(packs))
        for token in tokens_of(0):
            draft = Draft(request_pb2.OPERATION_BULK_ENROL, token=token, bulk_digest=bulk.digest_of(packs), model=model)
            answered = await self._connection.ask(
                draft,
                max(ends - time.monotonic(), 0.001),
                lambda matcher, signed, left: matcher.bulk_enrol(signed, packs, left),
                agreement.agreed_mutation,
                silent_s=SILENT_BULK_S,
            )
            agreed = answered.opened
            if not _erased_since(agreed):
                break
        repeated = agreed.templates if agreed.repeated else 0
        return Enrolment(agreed.sequence, agreed.templates, repeated, answered.request_id)

    # -- erasing and rotating -------------------------------------------------------------------------

    async def erase(self, subject: str, token: bytes, timeout_s: float | None, enrolment: bytes = b"") -> Erasure:
        """Remove all templates of a subject, or the one that the enrolment of this token added."""
        draft = Draft(request_pb2.OPERATION_ERASE, subject=subject, token=token, enrolment=enrolment)
        with naming(subject):
            answered = await self._mutate(draft, self._limit(timeout_s), agreement.agreed_mutation)
        return Erasure(answered.opened.sequence, answered.opened.templates, answered.request_id)

    async def rotate(self, new_key_id: bytes, progress: Progress | None, timeout_s: float | None) -> Rotation:
        """Ask for steps of a rotation until the matchers say that it is done. timeout_s: of each step."""
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

    # -- parts ----------------------------------------------------------------------------------------

    async def _mutate(
        self, draft: Draft, left_s: float, opening: Opening[matcher_pb2.MutateReply, _O]
    ) -> Answered[matcher_pb2.MutateReply, _O]:
        return await self._connection.ask(
            draft, left_s, lambda matcher, signed, left: matcher.mutate(signed, left), opening
        )

    def _limit(self, timeout_s: float | None, more_s: float = 0.0) -> float:
        return finite_seconds(self._timeout_s + more_s if timeout_s is None else timeout_s)


def _given(token: bytes | None) -> Tokens:
    """Return the tokens of a call with one token, or with a fresh one: the call can be repeated under it."""
    first = checked_token(token)
    return lambda number: iter([digest("enrolment token", first, number)[:TOKEN_BYTES] if number else first])


def _erased_since(agreed: matcher_pb2.MutateReply) -> bool:
    return agreed.repeated and not agreed.present


def _require_one_of(token: bytes | None, once: bool) -> None:
    if once and token is not None:
        raise InvalidInputError("a token of the caller's and tokens made of the photos", expected="token or once")


def _require_any(given: Sequence[object]) -> None:
    if not given:
        raise InvalidInputError("nothing to enrol", got=0, expected="at least one")
