"""The asynchronous SDK: `AsyncClient`, one device's view of one gallery.

    async with AsyncClient.from_config("device.toml") as client:
        await client.enrol("alice", "alice-1.jpg", "alice-2.jpg")
        if await client.verify("alice", "door.jpg"):
            ...

Every method that takes a photo has a twin ending in `_embedding` for devices with their own capture; the
twins work without the `device` extra. They take the name of that model, and have no default for it: a gallery
holds embeddings of one model, and refuses those of another. `client.Client` is the synchronous one. All errors are
VeilmatchErrors, and every call ends within its time.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from veilmatch.client.card import Card, comparing
from veilmatch.client.config import DeviceSettings
from veilmatch.client.given.arguments import (
    checked_consent,
    checked_consents,
    checked_days,
    checked_key_id,
    checked_model,
    checked_name,
    checked_names,
    checked_pairs,
    checked_token,
    checked_views,
    finite_seconds,
)
from veilmatch.client.given.tables import TableSource
from veilmatch.client.operations.budgets import budgets
from veilmatch.client.operations.cards import CardDesk, require_presentable
from veilmatch.client.operations.changes import Changes
from veilmatch.client.operations.device import Capture, Device, Embedding, Enrolling, Probe, Progress, Skipped, Unless
from veilmatch.client.operations.listing import templates
from veilmatch.client.operations.queries import Queries, Way
from veilmatch.client.recipient import AsyncForRecipient, read_recipient
from veilmatch.client.results import (
    Budgets,
    Candidates,
    Comparison,
    Enrolment,
    Erasure,
    Erasures,
    IdentifyResult,
    Known,
    Retained,
    Revocation,
    Rotation,
    SubjectEntry,
    Subjects,
    TemplateEntry,
    Verification,
)
from veilmatch.client.wire import agreement
from veilmatch.client.wire.connection import Connection
from veilmatch.client.wire.signing import Draft
from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.errors import ClientUseError, InvalidInputError
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.protos.v1 import request_pb2

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.client.capture.quality.assessment import Quality
    from veilmatch.client.liveness.shot import Shot
    from veilmatch.crypto.keys.recipient_certificate import RecipientCertificate

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Call: TypeAlias = Coroutine[Any, Any, _R]


def _in_its_loop(
    method: Callable[Concatenate[AsyncClient, _P], _Call[_R]],
) -> Callable[Concatenate[AsyncClient, _P], _Call[_R]]:
    """Let a method refuse calls after `aclose` and from elsewhere before it does anything else."""

    @functools.wraps(method)
    async def checked(self: AsyncClient, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        self._connection.open()
        return await method(self, *args, **kwargs)

    return checked


class AsyncClient:
    """One device, and the matchers of its installation. Use as an async context manager, within one event loop.

    matchers (by organisation), capture, now and workers replace the network, the capture pipeline, the clock and the
    number of processes of a bulk enrolment. Any number of calls may run at the same time. Callbacks are called in the
    event loop, and awaited if they are coroutine functions.

    Common to all methods: timeout_s bounds the exchange with the servers, all attempts together (default: the
    settings); capture and encryption come before it. When an organisation fails or gives no sign of life, the pairs
    without it are tried, and later calls try them first until it is back. A matcher that restarts is waited for, if no
    pair does without it; so is a server that is busy, once. All together a call makes one request more than there are
    pairs, at most. A deviation that a matcher reports about a request that was given up is raised, or logged as a
    warning (logger `veilmatch.client`) if that comes later.
    model names what made an embedding, 1 to 64 characters: the first templates of an empty gallery fix it. Raises
    UnavailableError, OverloadedError, GalleryMismatchError, ModelMismatchError, RequestRefusedError, KeyMismatchError,
    IntegrityError, and ServerDeviationError if the servers refuse what was encrypted as invalid: the quantiser here
    makes nothing that is, so one of them deviates. ClientUseError after `aclose`, in another event loop, and in another
    process (see `Client`).
    """

    def __init__(
        self,
        settings: DeviceSettings,
        *,
        matchers: Mapping[Party, Matcher] | None = None,
        capture: Capture | None = None,
        now: Callable[[], float] = time.time,
        workers: int | None = None,
    ) -> None:
        if not isinstance(settings, DeviceSettings):
            raise ClientUseError(
                "a client is made of settings",
                got=type(settings).__name__,
                expected="DeviceSettings",
                hint=f"Give the path of a device.toml to {type(self).__name__.removeprefix('Async')}.from_config(PATH),"
                " or to that of AsyncClient.",
            )
        self._settings = settings
        self._device = Device(settings, capture, now)
        self._connection = Connection(settings, self._device.sign, matchers)
        self._queries = Queries(self._device, self._connection)
        self._changes = Changes(self._device, self._connection, settings.timeout_s, workers)
        self._cards = CardDesk(self._device, self._connection, settings.timeout_s, now)

    @property
    def parameters(self) -> ParameterSet:
        """The parameter set of the installation: how many coordinates vectors have, and what thresholds mean."""
        return self._device.parameters

    @classmethod
    def from_config(cls, path: str | Path) -> AsyncClient:
        """Return a client for a device.toml. Raises ConfigurationError, KeyFileError."""
        return cls(DeviceSettings.load(Path(path)))

    async def __aenter__(self) -> AsyncClient:
        self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. The client cannot be used afterwards; closing twice is fine."""
        await self._connection.close()

    # -- matching ---------------------------------------------------------------------------------

    @_in_its_loop
    async def verify(
        self,
        subject: str | Card,
        photo: ImageSource | Shot,
        *,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """Return whether the face in the photo is the subject's; with several templates, any of them.

        subject: the name of somebody who is enrolled, or the card that somebody carries: then the record in it is
        compared, and nobody has to be enrolled. A card takes the right `present`, with a lowest threshold of its own.
        Raises CardError, CardExpiredError, CardRevokedError for one that the servers refuse.

        threshold: cosine in (0, 1], default of the settings. assured: whether all three pairs are asked, and their
        answer counts only if it is the same: one organisation that lies can make it fail, and not make it wrong. It
        counts three times in budgets; DisagreementError has what each pair said, ConfigurationError comes where an
        installation has fewer than three matchers, and the error of a pair that fails is raised. hedge: whether a
        second pair is asked if the first takes longer than 95 of 100 queries before it; that counts twice in budgets,
        and an assured answer makes no use of it. Default of both: the settings. Raises also LowThresholdError,
        UnknownSubjectError, ImageError, NoFaceError, UnusableFaceError, SeveralFacesError, ModelError, EmbeddingError.
        A photo of low quality is asked about all the same: `quality` of the result has the reasons, and a warning is
        logged.

        views: other photos of the same face, in a list; mirror: the mirror image of each photo as well. Up to four
        together are one probe: it matches if any of them does. One answer, for the budgets too, and one more chance of
        a false match for each. VersionError if a matcher that answers is of before there were views.

        With [liveness] in the settings a photo, or a Shot with the images of other sensors, has to pass that check
        before anything else is done: PresentationAttackError, LivenessError. Embeddings are refused then.
        """
        started, t = time.perf_counter(), self._device.threshold(comparing(subject), threshold)
        way = self._way(assured, hedge, timeout_s)
        claimed = await self._claimed(subject)
        probe = await self._device.probe(photo, comparing(subject), checked_views(views, mirror), bool(mirror))
        return replace(await self._queries.verify(started, claimed, probe, t, way), quality=probe.quality)

    @_in_its_loop
    async def verify_embedding(
        self,
        subject: str | Card,
        embedding: Embedding,
        *,
        model: str,
        views: Sequence[Embedding] = (),
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """`verify` for an embedding: real numbers [D] of any length but zero."""
        self._device.require_no_liveness(comparing(subject))
        started, t = time.perf_counter(), self._device.threshold(comparing(subject), threshold)
        way = self._way(assured, hedge, timeout_s)
        claimed = await self._claimed(subject)
        probe = Probe([embedding, *checked_views(views)], checked_model(model))
        return await self._queries.verify(started, claimed, probe, t, way)

    @_in_its_loop
    async def candidates(
        self,
        photo: ImageSource | Shot,
        *,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Candidates:
        """Return every subject of the gallery that the face in the photo matches. Errors: see `verify`."""
        started, t = time.perf_counter(), self._device.threshold("candidates", threshold)
        way = self._way(assured, hedge, timeout_s)
        probe = await self._device.probe(photo, "candidates", checked_views(views, mirror), bool(mirror))
        return replace(await self._queries.candidates(started, probe, t, way), quality=probe.quality)

    @_in_its_loop
    async def candidates_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        views: Sequence[Embedding] = (),
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Candidates:
        """`candidates` for an embedding."""
        self._device.require_no_liveness("candidates")
        started, t = time.perf_counter(), self._device.threshold("candidates", threshold)
        way = self._way(assured, hedge, timeout_s)
        probe = Probe([embedding, *checked_views(views)], checked_model(model))
        return await self._queries.candidates(started, probe, t, way)

    @_in_its_loop
    async def identify(
        self,
        photo: ImageSource | Shot,
        *,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> IdentifyResult:
        """Return the one subject that the face in the photo matches best, if anyone. Errors: see `verify`.

        Subjects below the threshold are nobody; of equal scores the lower slot wins. With several views the score of a
        template is the best that it has with any of them.
        """
        started, t = time.perf_counter(), self._device.threshold("identify", threshold)
        way = self._way(assured, hedge, timeout_s)
        probe = await self._device.probe(photo, "identify", checked_views(views, mirror), bool(mirror))
        return replace(await self._queries.identify(started, probe, t, way), quality=probe.quality)

    @_in_its_loop
    async def identify_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        views: Sequence[Embedding] = (),
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> IdentifyResult:
        """`identify` for an embedding."""
        self._device.require_no_liveness("identify")
        started, t = time.perf_counter(), self._device.threshold("identify", threshold)
        way = self._way(assured, hedge, timeout_s)
        probe = Probe([embedding, *checked_views(views)], checked_model(model))
        return await self._queries.identify(started, probe, t, way)

    @_in_its_loop
    async def quality(self, photo: ImageSource) -> Quality:
        """Return how good the face in a photo is, by the floors of [capture]. Asks no server.

        Of several faces it is about the largest. Raises ImageError, NoFaceError, UnusableFaceError, ModelError, and
        ClientUseError if the capture of this client does not measure it.
        """
        return await self._device.quality(photo)

    @_in_its_loop
    async def known(
        self,
        photo: ImageSource | Shot,
        *,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Known:
        """Return whether the face in the photo matches anybody, and not whom. Errors: see `verify`.

        One answer bit of the budgets, whatever the size of the gallery, and a right of its own in certificates.
        """
        started, t = time.perf_counter(), self._device.threshold("known", threshold)
        way = self._way(assured, hedge, timeout_s)
        probe = await self._device.probe(photo, "known", checked_views(views, mirror), bool(mirror))
        return replace(await self._queries.known(started, probe, t, way), quality=probe.quality)

    @_in_its_loop
    async def known_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        views: Sequence[Embedding] = (),
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Known:
        """`known` for an embedding."""
        self._device.require_no_liveness("known")
        started, t = time.perf_counter(), self._device.threshold("known", threshold)
        way = self._way(assured, hedge, timeout_s)
        probe = Probe([embedding, *checked_views(views)], checked_model(model))
        return await self._queries.known(started, probe, t, way)

    @_in_its_loop
    async def compare(self, photo: ImageSource, other: ImageSource, *, threshold: float | None = None) -> Comparison:
        """Return whether two photos show the same person: computed on this device, with nothing enrolled.

        No server is asked or needed, no budget is used, and nobody's certificate has a say; the face model, the
        parameter set and the default threshold are those of `verify`, and so is the decision. Raises what `verify`
        raises about photos, saying which of the two.
        """
        return await self._device.compare(photo, other, threshold)

    def for_recipient(self, certificate: RecipientCertificate | str | Path) -> AsyncForRecipient:
        """Return queries whose answers are sealed to a relying party, so that this device does not learn them.

        certificate: that of the recipient, or the path of its file. Raises ConfigurationError,
        RecipientCertificateError. See docs/recipients.md.
        """

        def way(assured: bool | None, timeout_s: float | None) -> Way:
            return self._way(assured, False, timeout_s)

        return AsyncForRecipient(self._device, self._connection, way, read_recipient(certificate))

    # -- changing the gallery -----------------------------------------------------------------------

    @_in_its_loop
    async def enrol(
        self,
        subject: str,
        *photos: ImageSource | Shot,
        token: bytes | None = None,
        once: bool = False,
        consent: Consent | None = None,
        accept_any: bool = False,
        replace: bool = False,
        unless_known: bool = False,
        threshold: float | None = None,
        keep_empty: bool = False,
        mean: bool = False,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """Add one template for each photo. Every photo is captured before the first one is sent.

        token: 16 bytes; the same call with the same token adds nothing twice, so that a caller who did not see the
        answer can repeat it. once: in its place, tokens are made of the photos (`tokens.py`): what this device enrolled
        of this subject from the same file, and what was not erased since, is not added again, whatever the order of the
        photos. consent: what they are kept under; the servers keep it with them, and erase them after its end where
        they are set up for that (docs/retention.md). With `once`, the same photo under another consent is another
        template. accept_any: also photos below the floors of [capture]; without it LowQualityError has the reasons, and
        nothing is sent. replace: whether these templates take the place of all that the subject has. That is an erasure
        and then an enrolment: between the two, and after an error that says so, the subject is unknown or has some of
        the new templates only, which `subjects` shows; the same call again completes it, with the same token if it has
        one. mean: one template of all these photos in place of one for each, their mean direction: about
        as good as all of them, for the cost of a single comparison (docs/fusion.md). Raises also InvalidInputError
        and what `verify` raises; an error about a photo says which. If the servers
        find a vector invalid, all are sent, then ServerDeviationError names the enrolments that left an empty template.

        unless_known: of one photo, whether it is enrolled only if it matches nobody of the gallery at `threshold`, as
        `known` says, in the same change: nobody comes in between. This device alone learns which: `known` of the
        result. It takes the right `known` beside `enrol`, and counts as a search. If the face is known, an empty
        template was stored, which matches nobody; it is taken back, which shows the servers that somebody was known,
        or left with keep_empty, which shows them nothing. Not with `once` or `replace`. Raises also LowThresholdError,
        DuplicateTokenError if templates were erased between two calls with one token, and VersionError if a matcher
        that answers is of before there was this.
        """
        under = checked_consent(consent)
        unless = self._unless(unless_known, threshold, keep_empty)
        options = Enrolling(once, accept_any, replace, unless, mean)
        return await self._changes.enrol_photos(checked_name(subject), photos, token, options, under, timeout_s)

    @_in_its_loop
    async def enrol_embedding(
        self,
        subject: str,
        *embeddings: Embedding,
        model: str,
        token: bytes | None = None,
        consent: Consent | None = None,
        replace: bool = False,
        unless_known: bool = False,
        threshold: float | None = None,
        keep_empty: bool = False,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """`enrol` for embeddings."""
        self._device.require_no_liveness("enrol")
        subject, model = checked_name(subject), checked_model(model)
        under = checked_consent(consent)
        options = Enrolling(replace=replace, unless=self._unless(unless_known, threshold, keep_empty))
        return await self._changes.enrol_embeddings(subject, embeddings, model, token, under, timeout_s, options)

    @_in_its_loop
    async def enrol_many(
        self,
        photos: Mapping[str, ImageSource | Shot] | Iterable[tuple[str, ImageSource | Shot]] | TableSource,
        *,
        progress: Progress | None = None,
        skipped: Skipped | None = None,
        token: bytes | None = None,
        once: bool = False,
        consent: Consent | Mapping[str, Consent] | None = None,
        accept_any: bool = False,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """Add one template for each (subject, photo), all of them in one change of the gallery or none.

        For an enrolling authority: the servers trust it for these templates. photos: pairs, or a table of them, as the
        path of a .npz or Parquet file or such a file that is open (docs/sdk.md says what is in it). progress: told
        ("capture" or "encrypt", done, total). skipped: told the subject and the error of a photo that cannot be used,
        which says which photo; without it such a photo ends the call. token, once, accept_any: see `enrol`; all photos
        have one token here, so a set with one more photo is another one and all of it is added. consent: of all, or by
        subject. Default timeout_s: the settings and 2 s a pack.
        """
        pairs = await asyncio.to_thread(checked_pairs, "photo", photos)
        consents, options = checked_consents(consent, pairs), Enrolling(once, accept_any)
        return await self._changes.enrol_many_photos(pairs, progress, skipped, token, options, consents, timeout_s)

    @_in_its_loop
    async def enrol_many_embeddings(
        self,
        embeddings: Mapping[str, Embedding] | Iterable[tuple[str, Embedding]] | TableSource,
        *,
        model: str,
        progress: Progress | None = None,
        token: bytes | None = None,
        consent: Consent | Mapping[str, Consent] | None = None,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """`enrol_many` for embeddings."""
        self._device.require_no_liveness("enrol")
        pairs, model = await asyncio.to_thread(checked_pairs, "embedding", embeddings), checked_model(model)
        consents = checked_consents(consent, pairs)
        return await self._changes.enrol_many_embeddings(pairs, model, progress, token, consents, timeout_s)

    @_in_its_loop
    async def erase(self, subject: str, *, token: bytes | None = None, timeout_s: float | None = None) -> Erasure:
        """Remove all templates of a subject. token: see `enrol`. Raises also UnknownSubjectError.

        The result has a receipt that two organisations have signed; ReceiptError is raised, when the templates are
        erased, if the servers gave a wrong one.
        """
        return await self._changes.erase(checked_name(subject), checked_token(token), timeout_s)

    @_in_its_loop
    async def erase_many(
        self,
        subjects: Iterable[str],
        *,
        missing_ok: bool = False,
        progress: Progress | None = None,
        token: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Erasures:
        """Remove all templates of each of these subjects, one after the other: each is a change of its own.

        An error says how many are erased, and they stay so; the same call again, with the same token or with
        missing_ok, goes on. missing_ok: whether subjects that are not enrolled are passed over; the result names them.
        progress: told ("erase", done, total). token: see `enrol`. timeout_s: of each erasure. Raises also
        UnknownSubjectError.
        """
        names = checked_names(subjects)
        return await self._changes.erase_many(names, bool(missing_ok), progress, token, timeout_s)

    @_in_its_loop
    async def take_back(
        self, subject: str, enrolment: bytes, *, token: bytes | None = None, timeout_s: float | None = None
    ) -> Erasure:
        """Remove the template that one enrolment by this device added. enrolment: the 16 bytes of its token.

        For what a ServerDeviationError leaves behind: an empty template, which matches nobody. It tells the servers
        that something was wrong with that enrolment, and so does enrolling again: look at the servers first. token: of
        this change, see `enrol`. Raises also UnknownSubjectError if there is no such template of this subject.
        """
        return await self._changes.erase(
            checked_name(subject), checked_token(token), timeout_s, checked_token(enrolment)
        )

    @_in_its_loop
    async def subjects(self, *, timeout_s: float | None = None) -> Subjects:
        """Return who is enrolled, in order of names."""
        answered = await self._connection.ask(
            Draft(request_pb2.OPERATION_SUBJECTS),
            self._limit(timeout_s),
            lambda m, signed, left: m.subjects(signed, left),
            agreement.agreed_subjects,
        )
        return Subjects((SubjectEntry(*entry) for entry in answered.opened), answered.request_id)

    @_in_its_loop
    async def retain(self, *, timeout_s: float | None = None) -> Retained:
        """Erase every template that two organisations both say is not to be kept any longer.

        For a device that has the right `retain` and no other, run by a timer. It learns how many, and no name.
        timeout_s: of each step; default: the settings and 60 s.
        """
        return await self._changes.retain(timeout_s)

    @_in_its_loop
    async def templates(self, subject: str | None = None, *, timeout_s: float | None = None) -> list[TemplateEntry]:
        """Return all that the servers have of each template beside its ciphertexts, of all subjects or of one.

        In order of names, then of places. It takes the right `subjects`. Empty for a subject that is not there.
        """
        named = "" if subject is None else checked_name(subject)
        return await templates(self._connection, named, self._limit(timeout_s))

    @_in_its_loop
    async def rotate(
        self, new_key_id: bytes, *, progress: Progress | None = None, timeout_s: float | None = None
    ) -> Rotation:
        """Bring every template of the gallery under a new key, which all matchers are configured for.

        new_key_id: 16 bytes, of the public key of the new installation. The gallery is served all the time; in the
        end it is closed to changes. Repeat the call after an error: it goes on where it stopped. progress: told
        ("rotate", done, total). timeout_s: of each step; default: the settings and 60 s. Raises also
        ConfigurationError, BudgetExceededError and InvalidInputError.
        """
        return await self._changes.rotate(checked_key_id(new_key_id), progress, timeout_s)

    # -- cards --------------------------------------------------------------------------------------

    @_in_its_loop
    async def issue(
        self,
        subject: str,
        photo: ImageSource | Shot,
        *,
        days: float,
        consent: Consent | None = None,
        accept_any: bool = False,
        timeout_s: float | None = None,
    ) -> Card:
        """Return a card for the face in the photo, and enrol nobody: the servers keep its serial and a digest.

        Nobody has it but the caller: save it before the client is used for anything else. days: that it is good for,
        above 0; servers have a limit. consent: under which it is issued; it stands on the card, whose end is then not
        after that of the consent, and servers keep nothing of it. accept_any, errors: see `enrol`. It takes the right
        `issue`, which includes revoking what this device has issued. Raises VersionError if a matcher does not know
        cards yet.
        """
        subject, good_for = checked_name(subject), checked_days(days)
        checked_consent(consent)
        model = await self._device.model()  # before the photo: what is missing here is not about it
        embedding, _ = await self._device.capture(photo, Enrolling(accept_any=bool(accept_any)))
        return await self._cards.issue(subject, embedding, model, good_for, consent, timeout_s)

    @_in_its_loop
    async def issue_embedding(
        self,
        subject: str,
        embedding: Embedding,
        *,
        model: str,
        days: float,
        consent: Consent | None = None,
        timeout_s: float | None = None,
    ) -> Card:
        """`issue` for an embedding."""
        self._device.require_no_liveness("enrol")
        subject, model, good_for = checked_name(subject), checked_model(model), checked_days(days)
        checked_consent(consent)
        return await self._cards.issue(subject, embedding, model, good_for, consent, timeout_s)

    @_in_its_loop
    async def revoke_card(self, serial: str, *, timeout_s: float | None = None) -> Revocation:
        """Have a card refused from now on, at all organisations. serial: `Card.serial`, 32 hex digits.

        It takes the right `revoke`, or `issue` for a card of this device's own. Revoking twice is fine. Raises
        CardError if no such card was issued in this gallery.
        """
        return await self._cards.revoke(serial, timeout_s)

    @_in_its_loop
    async def budgets(self, *, timeout_s: float | None = None) -> Budgets:
        """Return what is left of this device's budgets at each organisation, and so of each pair. Uses up none.

        An organisation that does not answer, or is of a version before, is in `missing` of the result; an error is
        raised if none answers. A request of one pair counts at both its organisations.
        """
        return await budgets(*self._connection.serving(), self._limit(timeout_s))

    # -- parts --------------------------------------------------------------------------------------

    def _unless(self, unless_known: bool, threshold: float | None, keep_empty: bool) -> Unless | None:
        """Return at which threshold a face is known, None to enrol it in any case."""
        if unless_known:
            return Unless(self._device.threshold("known", threshold), bool(keep_empty))
        if threshold is not None or keep_empty:
            raise InvalidInputError("a threshold or keep_empty to enrol in any case", expected="with unless_known=True")
        return None

    def _way(self, assured: bool | None, hedge: bool | None, timeout_s: float | None) -> Way:
        """Return how a query is answered. Raises ConfigurationError if it is to be assured and cannot be."""
        is_assured = self._settings.assurance == "all-pairs" if assured is None else bool(assured)
        if is_assured:
            self._connection.require_all()
        return Way(self._limit(timeout_s), is_assured, self._settings.hedge if hedge is None else bool(hedge))

    async def _claimed(self, subject: str | Card) -> str | Card:
        """Return who is claimed to be there. Raises InvalidInputError, and for a card what `CardDesk` raises."""
        if not isinstance(subject, Card):
            return checked_name(subject)
        await require_presentable(subject, self._device, self._connection)
        return subject

    def _limit(self, timeout_s: float | None) -> float:
        return finite_seconds(self._settings.timeout_s if timeout_s is None else timeout_s)
