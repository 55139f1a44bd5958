"""Enrolments of a device: templates to both matchers, and from their answers to a result.

What stands behind `enrol` and `enrol_many` of the clients and their twins for embeddings.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from veilmatch.client import bulk
from veilmatch.client.arguments import checked_name, checked_token, finite_seconds
from veilmatch.client.device import Device, Embedding, Progress
from veilmatch.client.quoting import about, quoted_name, quoted_photo
from veilmatch.client.results import Enrolment
from veilmatch.client.wire import agreement
from veilmatch.client.wire.connection import Connection
from veilmatch.client.wire.signing import Draft
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.errors import InvalidInputError, VeilmatchError
from veilmatch.crypto.requests import TOKEN_BYTES
from veilmatch.protos.v1 import matcher_pb2, request_pb2

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource

#: Added to the time-out of the settings for every pack of a bulk enrolment.
BULK_PACK_S = 2.0

Tokens: TypeAlias = Callable[[int], Iterator[bytes]]
"""Gives the tokens for template `number` of a call, in the order to try: the next one only where what was enrolled
under the one before has been erased since."""

Captured: TypeAlias = tuple[Embedding, bytes]
"""The embedding of a photo, and the digest of the photo; b"" where nobody asked for it."""


class Enrolments:
    """One device's enrolments in one gallery."""

    def __init__(self, device: Device, connection: Connection, timeout_s: float, workers: int | None) -> None:
        """timeout_s: of a call that does not say. workers: processes that encrypt a bulk enrolment, see bulk.py."""
        self._device = device
        self._connection = connection
        self._timeout_s = timeout_s
        self._workers = workers

    # -- one subject ----------------------------------------------------------------------------------

    async def photos(
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
        return await self.embeddings(subject, embeddings, model, derived if once else _given(token), timeout_s)

    async def embeddings(
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
        ends = time.monotonic() + finite_seconds(self._timeout_s if timeout_s is None else timeout_s)
        tokens_of = tokens if callable(tokens) else _given(tokens)
        added, repeated, sequence = 0, 0, 0
        refused: list[bytes] = []
        for number, lanes in enumerate(templates):
            for token in tokens_of(number):
                draft = Draft(request_pb2.OPERATION_ENROL, lanes, subject=subject, token=token, model=model)
                # The last instant is left to the exchange, which then says who did not answer.
                left_s = max(ends - time.monotonic(), 0.001)
                replies = (await self._connection.ask(draft, left_s, lambda m, r, left: m.mutate(r, left))).replies
                agreed = agreement.agreed_mutation(*replies)
                if not _erased_since(agreed):
                    break
            if not agreement.opened_enrolment(*replies):
                # The others are sent all the same, and nothing is erased: servers would see that this one was refused.
                refused.append(token)
            added, sequence = added + agreed.templates, agreed.sequence
            repeated += agreed.templates if agreed.repeated else 0
        if refused:
            raise agreement.refused_vector(refused)
        return Enrolment(sequence, added, repeated)

    async def _lanes(self, subject: str, embedding: Embedding, number: int, total: int) -> KnownCiphertexts:
        try:
            return await self._device.lanes(embedding)
        except InvalidInputError as error:
            raise about(f"{quoted_name(subject)}, embedding {number} of {total}", error) from None

    # -- many subjects --------------------------------------------------------------------------------

    async def many_photos(
        self,
        pairs: Sequence[tuple[str, ImageSource]],
        progress: Progress,
        skipped: Callable[[str, VeilmatchError], None] | None,
        token: bytes | None,
        once: bool,
        timeout_s: float | None,
    ) -> Enrolment:
        """Enrol one photo of each subject, in one change. skipped, token, once: see AsyncClient.enrol_many."""
        _require_one_of(token, once)
        model = await self._device.model()  # before the photos: what is missing here is not about one of them
        captured: list[tuple[str, Captured]] = []
        for done, (subject, photo) in enumerate(pairs):
            progress("capture", done, len(pairs))
            try:
                captured.append((checked_name(subject), await self._device.capture(photo, once)))
            except InvalidInputError as error:
                told = about(f"{quoted_name(subject)}, {quoted_photo(photo, done + 1, len(pairs))}", error)
                if skipped is None:
                    raise told from None
                skipped(subject, told)

        def derived(_: int) -> Iterator[bytes]:
            made, photos = self._device.tokens.of_photos, [(subject, photo) for subject, (_, photo) in captured]
            return (made(photos, model, times) for times in itertools.count())

        embeddings = [(subject, embedding) for subject, (embedding, _) in captured]
        return await self.many_embeddings(embeddings, model, progress, derived if once else _given(token), timeout_s)

    async def many_embeddings(
        self,
        pairs: Sequence[tuple[str, Embedding]],
        model: str,
        progress: Progress,
        tokens: Tokens | bytes | None,
        timeout_s: float | None,
    ) -> Enrolment:
        """Enrol one embedding of each subject, in one change. tokens: see `embeddings`."""
        _require_any(pairs)
        tokens_of = tokens if callable(tokens) else _given(tokens)
        subjects = [checked_name(subject) for subject, _ in pairs]
        templates = [
            self._device.quantised(subject, embedding) for subject, (_, embedding) in zip(subjects, pairs, strict=True)
        ]
        packs = await self._device.packs(subjects, templates, self._workers, progress)
        limit = finite_seconds(self._timeout_s + BULK_PACK_S * len(packs) if timeout_s is None else timeout_s)
        ends = time.monotonic() + limit
        for token in tokens_of(0):
            left_s = max(ends - time.monotonic(), 0.001)
            draft = Draft(request_pb2.OPERATION_BULK_ENROL, token=token, bulk_digest=bulk.digest_of(packs), model=model)
            answered = await self._connection.ask(draft, left_s, lambda m, r, left: m.bulk_enrol(r, packs, left))
            agreed = agreement.agreed_mutation(*answered.replies)
            if not _erased_since(agreed):
                break
        return Enrolment(agreed.sequence, agreed.templates, agreed.templates if agreed.repeated else 0)


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
