"""Changes of a gallery: templates and names to the matchers of a pair, and from their answers to a result.

What stands behind `enrol`, `enrol_many`, `erase`, `erase_many`, `take_back` and `rotate` of the clients. Every
enrolment and erasure has a token, under which it is done once however often it is sent, and through whichever pairs;
steps of a rotation can be repeated as they are.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from veilmatch.client.given.arguments import checked_name, checked_token, finite_seconds
from veilmatch.client.given.quoting import about, naming, quoted_name, quoted_photo
from veilmatch.client.operations import bulk
from veilmatch.client.operations.device import (
    Device,
    Embedding,
    Enrolling,
    Progress,
    Skipped,
    tell,
)
from veilmatch.client.operations.unless_known import enrol_unless_known, erased_since
from veilmatch.client.results import Enrolment, Erasure, Erasures, Retained, Rotation
from veilmatch.client.vectors.fusing import mean_view
from veilmatch.client.wire import agreement
from veilmatch.client.wire.connection import Answered, Connection, Opening
from veilmatch.client.wire.pairs.lookout import silent_while_sent_s
from veilmatch.client.wire.signing import Draft
from veilmatch.crypto.digests import digest, digest_all
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.errors import InvalidInputError, UnknownSubjectError, VeilmatchError
from veilmatch.crypto.requests import TOKEN_BYTES
from veilmatch.crypto.versions import Feature
from veilmatch.protos.v1 import matcher_pb2, request_pb2

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.client.liveness.shot import Shot

_log = logging.getLogger(__name__)
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
#: Templates are added, whatever is there.
_USUAL = Enrolling()


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
        self,
        subject: str,
        photos: Sequence[ImageSource | Shot],
        token: bytes | None,
        options: Enrolling,
        consent: bytes,
        timeout_s: float | None,
    ) -> Enrolment:
        """Enrol photos of a subject. token, options: see AsyncClient.enrol. consent: encoded, or b""; so below."""
        _require_one_of(token, options.once)
        _require_addition(options.once, options.replace)
        _require_any(photos)
        _require_one_unless_known(photos, options)
        model = await self._device.model()  # before the photos: what is missing here is not about one of them
        captured = []
        for number, photo in enumerate(photos, start=1):
            try:
                captured.append(await self._device.capture(photo, options))
            except InvalidInputError as error:
                raise about(f"{quoted_name(subject)}, {quoted_photo(photo, number, len(photos))}", error) from None

        if options.mean:
            seen = digest_all("mean of photos", sorted(photo for _, photo in captured)) if options.once else b""
            captured = [(mean_view([embedding for embedding, _ in captured]), seen)]

        def derived(number: int) -> Iterator[bytes]:
            made = self._device.tokens.of_photo
            return (_under(consent, made(subject, model, captured[number][1], n)) for n in itertools.count())

        embeddings = [embedding for embedding, _ in captured]
        tokens = derived if options.once else token
        return await self.enrol_embeddings(subject, embeddings, model, tokens, consent, timeout_s, options)

    async def enrol_embeddings(
        self,
        subject: str,
        embeddings: Sequence[Embedding],
        model: str,
        tokens: Tokens | bytes | None,
        consent: bytes,
        timeout_s: float | None,
        options: Enrolling = _USUAL,
    ) -> Enrolment:
        """Enrol embeddings of a subject. tokens: as Tokens gives them, or the one of the call."""
        _require_any(embeddings)
        _require_one_unless_known(embeddings, options)
        templates = [
            await self._lanes(subject, embedding, number, len(embeddings))
            for number, embedding in enumerate(embeddings, start=1)
        ]
        ends = time.monotonic() + self._limit(timeout_s)
        if options.unless and not callable(tokens):
            first = checked_token(tokens)
            return await enrol_unless_known(
                self, self._connection, subject, templates[0], model, first, consent, options.unless, ends
            )
        if options.replace and not callable(tokens):
            return await self._replaced(subject, templates, model, checked_token(tokens), consent, ends)
        tokens_of = tokens if callable(tokens) else _given(tokens)
        return await self._added(subject, templates, model, tokens_of, consent, ends)

    async def _replaced(
        self,
        subject: str,
        templates: Sequence[KnownCiphertexts],
        model: str,
        token: bytes,
        consent: bytes,
        ends: float,
    ) -> Enrolment:
        """Erase a subject and enrol it anew. The same call with the same token goes on where this one stopped."""
        with suppress(UnknownSubjectError):
            await self.erase(
                subject, digest("replacement token", token)[:TOKEN_BYTES], max(ends - time.monotonic(), 0.001)
            )

        def tokens_of(number: int) -> Iterator[bytes]:
            # The next one where what the call enrolled before was erased when it was made again.
            return (digest("replacing token", token, number, times)[:TOKEN_BYTES] for times in itertools.count())

        try:
            return await self._added(subject, templates, model, tokens_of, consent, ends)
        except VeilmatchError as error:
            raise about(f"{quoted_name(subject)} was erased, and is not wholly enrolled anew", error) from None

    async def _added(
        self,
        subject: str,
        templates: Sequence[KnownCiphertexts],
        model: str,
        tokens_of: Tokens,
        consent: bytes,
        ends: float,
    ) -> Enrolment:
        dated = await self.dated(bool(consent))
        added, repeated, sequence, request_id = 0, 0, 0, ""
        refused: list[bytes] = []
        for number, lanes in enumerate(templates):
            for token in tokens_of(number):
                draft = Draft(
                    request_pb2.OPERATION_ENROL, lanes, subject=subject, token=token, model=model, consent=consent,
                    dated=dated,
                )  # fmt: skip
                # The last instant is left to the exchange, which then says who did not answer.
                answered = await self.mutate(draft, max(ends - time.monotonic(), 0.001), agreement.opened_enrolment)
                (agreed, valid, _), request_id = answered.opened, answered.request_id
                if not erased_since(agreed):
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
        pairs: Sequence[tuple[str, ImageSource | Shot]],
        progress: Progress | None,
        skipped: Skipped | None,
        token: bytes | None,
        options: Enrolling,
        consents: Mapping[str, bytes],
        timeout_s: float | None,
    ) -> Enrolment:
        """Enrol one photo of each subject, in one change. skipped, token, options: see AsyncClient.enrol_many.

        consents: encoded, of the subjects that have one; so below.
        """
        _require_one_of(token, options.once)
        model = await self._device.model()  # before the photos: what is missing here is not about one of them
        captured: list[tuple[str, Captured]] = []
        for done, (subject, photo) in enumerate(pairs):
            await tell(progress, "capture", done, len(pairs))
            try:
                captured.append((checked_name(subject), await self._device.capture(photo, options)))
            except InvalidInputError as error:
                told = about(f"{quoted_name(subject)}, {quoted_photo(photo, done + 1, len(pairs))}", error)
                if skipped is None:
                    raise told from None
                await tell(skipped, subject, told)
        await tell(progress, "capture", len(pairs), len(pairs))

        agreed = sorted((name, consents[name]) for name, _ in captured if name in consents)

        def derived(_: int) -> Iterator[bytes]:
            made, photos = self._device.tokens.of_photos, [(subject, photo) for subject, (_, photo) in captured]
            under = digest("consents", *(part for pair in agreed for part in pair)) if agreed else b""
            return (_under(under, made(photos, model, times)) for times in itertools.count())

        embeddings = [(subject, embedding) for subject, (embedding, _) in captured]
        tokens = derived if options.once else _given(token)
        return await self.enrol_many_embeddings(embeddings, model, progress, tokens, consents, timeout_s)

    async def enrol_many_embeddings(
        self,
        pairs: Sequence[tuple[str, Embedding]],
        model: str,
        progress: Progress | None,
        tokens: Tokens | bytes | None,
        consents: Mapping[str, bytes],
        timeout_s: float | None,
    ) -> Enrolment:
        """Enrol one embedding of each subject, in one change. tokens: see `enrol_embeddings`."""
        _require_any(pairs)
        tokens_of = tokens if callable(tokens) else _given(tokens)
        subjects = [checked_name(subject) for subject, _ in pairs]
        templates = [
            self._device.quantised(subject, embedding) for subject, (_, embedding) in zip(subjects, pairs, strict=True)
        ]
        packs = await self._device.packs(subjects, templates, consents, self._workers, progress)
        ends = time.monotonic() + self._limit(timeout_s, BULK_PACK_S * len(packs))
        dated = await self.dated(bool(consents))
        for token in tokens_of(0):
            draft = Draft(
                request_pb2.OPERATION_BULK_ENROL,
                token=token,
                bulk_digest=bulk.digest_of(packs),
                model=model,
                dated=dated,
            )
            answered = await self._connection.ask(
                draft,
                max(ends - time.monotonic(), 0.001),
                lambda matcher, signed, left: matcher.bulk_enrol(signed, packs, left),
                agreement.agreed_mutation,
                silent_s=silent_while_sent_s(sum(pack.ByteSize() for pack in packs)),
            )
            agreed = answered.opened
            if not erased_since(agreed):
                break
        repeated = agreed.templates if agreed.repeated else 0
        return Enrolment(agreed.sequence, agreed.templates, repeated, answered.request_id)

    # -- erasing and rotating -------------------------------------------------------------------------

    async def erase(self, subject: str, token: bytes, timeout_s: float | None, enrolment: bytes = b"") -> Erasure:
        """Remove all templates of a subject, or the one that the enrolment of this token added."""
        dated = await self.dated(False)
        draft = Draft(request_pb2.OPERATION_ERASE, subject=subject, token=token, enrolment=enrolment, dated=dated)
        with naming(subject):
            answered = await self.mutate(draft, self._limit(timeout_s), agreement.agreed_erasure)
        agreed, changes = answered.opened
        receipt = self._device.receipt(changes, subject, token, enrolment)
        return Erasure(agreed.sequence, agreed.templates, answered.request_id, receipt)

    async def dated(self, with_consent: bool) -> bool:
        """Return whether a change may say when it was made. Raises VersionError if it must, and a matcher is behind."""
        if with_consent:
            await self._connection.require(Feature.DATED_CHANGES, "keeping a consent")
        late = await self._connection.lacking(Feature.DATED_CHANGES)
        if late is not None:
            _log.warning(
                "%s says that it does not know dated changes, so that no change has a date: there is no receipt of an"
                " erasure, and what is enrolled is never erased for its age",
                late,
            )
        return late is None

    async def retain(self, timeout_s: float | None) -> Retained:
        """Ask for steps of erasing what is due until there is none left. timeout_s: of each step."""
        limit_s, templates = self._limit(timeout_s, ROTATION_STEP_S), 0
        await self._connection.require(Feature.DATED_CHANGES, "erasing what is due")
        while True:
            draft = Draft(request_pb2.OPERATION_RETAIN, token=checked_token(None), dated=True)
            answered = await self.mutate(draft, limit_s, agreement.agreed_mutation)
            templates += answered.opened.templates
            if not answered.opened.left:
                return Retained(answered.opened.sequence, templates, answered.request_id)

    async def erase_many(
        self,
        subjects: Sequence[str],
        missing_ok: bool,
        progress: Progress | None,
        token: bytes | None,
        timeout_s: float | None,
    ) -> Erasures:
        """Remove all templates of each subject, in their order. timeout_s: of each. See AsyncClient.erase_many."""
        first, limit_s = checked_token(token), self._limit(timeout_s)
        erased: dict[str, Erasure] = {}
        unknown: list[str] = []
        for done, subject in enumerate(subjects):
            await tell(progress, "erase", done, len(subjects))
            try:
                erased[subject] = await self.erase(
                    subject, digest("erasure token", first, subject)[:TOKEN_BYTES], limit_s
                )
            except VeilmatchError as error:
                if not (missing_ok and isinstance(error, UnknownSubjectError)):
                    raise about(f"{len(erased)} of {len(subjects)} subjects are erased", error) from None
                unknown.append(subject)
        await tell(progress, "erase", len(subjects), len(subjects))
        templates = sum(erasure.templates for erasure in erased.values())
        return Erasures(tuple(erased), tuple(unknown), templates, tuple(e.request_id for e in erased.values()))

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

    async def mutate(
        self, draft: Draft, left_s: float, opening: Opening[matcher_pb2.MutateReply, _O]
    ) -> Answered[matcher_pb2.MutateReply, _O]:
        """Send one change to the matchers of a pair, within so many seconds."""
        return await self._connection.ask(
            draft, left_s, lambda matcher, signed, left: matcher.mutate(signed, left), opening
        )

    def _limit(self, timeout_s: float | None, more_s: float = 0.0) -> float:
        return finite_seconds(self._timeout_s + more_s if timeout_s is None else timeout_s)


def _given(token: bytes | None) -> Tokens:
    """Return the tokens of a call with one token, or with a fresh one: the call can be repeated under it."""
    first = checked_token(token)
    return lambda number: iter([digest("enrolment token", first, number)[:TOKEN_BYTES] if number else first])


def _under(consent: bytes, token: bytes) -> bytes:
    """Return the token of the same under a consent: it is enrolled anew under another one."""
    return digest("token under a consent", token, consent)[:TOKEN_BYTES] if consent else token


def _require_one_of(token: bytes | None, once: bool) -> None:
    if once and token is not None:
        raise InvalidInputError("a token of the caller's and tokens made of the photos", expected="token or once")


def _require_addition(once: bool, replace: bool) -> None:
    if once and replace:
        raise InvalidInputError("enrolled once, and in the place of what is there", expected="once or replace")


def _require_one_unless_known(given: Sequence[object], options: Enrolling) -> None:
    if options.unless is None:
        return
    if len(given) != 1:
        # The second photo would be known by the first.
        raise InvalidInputError("one photo at a time is enrolled unless it is known", got=len(given), expected=1)
    if options.once or options.replace:
        raise InvalidInputError(
            "enrolled unless known, and once or in the place of what is there",
            expected="unless_known alone: whoever is enrolled is known",
        )


def _require_any(given: Sequence[object]) -> None:
    if not given:
        raise InvalidInputError("nothing to enrol", got=0, expected="at least one")
