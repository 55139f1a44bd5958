"""What the SDK answers: plain values that hold no vector, no score and no key.

`if client.verify(...)`, `if client.candidates(...)` and `if client.identify(...)` read as they should: a result is
true if it is a match. An object that is always true would turn the same line into an open door.

`request_id` names the request, of several the last, in the logs of every party, as it does in an error. An assured
answer has the names of three in `request_ids`, of those to the pairs ab, ac and bc; any other answer has none there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from veilmatch.client.capture.quality.assessment import Quality
from veilmatch.client.receipt import ErasureReceipt
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.keys.parties import Pair, Party


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds. device_s: capture, encryption and signing. convert_s, match_s, decide_s: at the slower matcher; of a
    verification, which has no such parts, decide_s is all of it.

    total_s: from the call to its result, with the network and any attempt that failed before.
    """

    device_s: float
    convert_s: float
    match_s: float
    decide_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the probe is the claimed subject. True in a condition if and only if `decision` is.

    shares: what the two organisations of the pair answered, in its order; their XOR is the decision, each alone is a
    fair coin. quality: of the photo, None for an embedding; what it lacks may be why there is no match. probe_bytes:
    size of the signed request, as sent to each matcher. pair: the organisations that served; of an assured answer, one
    of those about the newest state of the gallery.
    """

    decision: bool
    subject: str
    sequence: int
    pair: Pair
    shares: tuple[bytes, bytes] = field(repr=False)
    probe_bytes: int
    request_id: str
    timings: Timings
    request_ids: tuple[str, ...] = ()
    quality: Quality | None = field(default=None, repr=False, compare=False)

    @property
    def assured(self) -> bool:
        """Whether all three pairs say so."""
        return bool(self.request_ids)

    def __bool__(self) -> bool:
        return self.decision


@dataclass(frozen=True, slots=True)
class Revocation:
    """A card that is refused from now on, at all organisations. serial: of the card. sequence: of the gallery."""

    serial: str
    sequence: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether two photos show one person, computed on this device: no server had a part in it.

    threshold: cosine from which they do. model: of the face model. total_s: seconds. True in a condition if and only if
    `decision` is.
    """

    decision: bool
    threshold: float
    model: str
    total_s: float

    def __bool__(self) -> bool:
        return self.decision


@dataclass(frozen=True, slots=True)
class Candidates:
    """The subjects that the probe matches, each once, in gallery order. True in a condition if there is any.

    compared: templates that were compared. The rest as in Verification.
    """

    subjects: tuple[str, ...]
    compared: int
    sequence: int
    pair: Pair
    shares: tuple[bytes, bytes] = field(repr=False)
    probe_bytes: int
    request_id: str
    timings: Timings
    request_ids: tuple[str, ...] = ()
    quality: Quality | None = field(default=None, repr=False, compare=False)

    @property
    def assured(self) -> bool:
        """Whether all three pairs say so."""
        return bool(self.request_ids)

    def __bool__(self) -> bool:
        return bool(self.subjects)

    def __len__(self) -> int:
        return len(self.subjects)

    def __iter__(self) -> Iterator[str]:
        return iter(self.subjects)


@dataclass(frozen=True, slots=True)
class IdentifyResult:
    """The one subject that the probe matches best, None for nobody. True in a condition if there is somebody.

    With several templates of one subject the best of them counts. Of equal scores the lower slot wins, in gallery
    order; a slot that was freed is filled again first, so that is not always who was enrolled first.
    compared: templates that were compared. shares: their XOR is the number of the best template, from 1, or 0. The
    rest as in Verification.
    """

    subject: str | None
    compared: int
    sequence: int
    pair: Pair
    shares: tuple[bytes, bytes] = field(repr=False)
    probe_bytes: int
    request_id: str
    timings: Timings
    request_ids: tuple[str, ...] = ()
    quality: Quality | None = field(default=None, repr=False, compare=False)

    @property
    def assured(self) -> bool:
        """Whether all three pairs say so."""
        return bool(self.request_ids)

    @property
    def decision(self) -> bool:
        """Whether there is anybody."""
        return self.subject is not None

    def __bool__(self) -> bool:
        return self.decision


@dataclass(frozen=True, slots=True)
class Known:
    """Whether the probe matches anybody of the gallery, and not whom. True in a condition if and only if it does.

    Nobody is told how many templates there are. shares: their XOR is the decision; empty of an empty gallery. The rest
    as in Verification.
    """

    decision: bool
    sequence: int
    pair: Pair
    shares: tuple[bytes, bytes] = field(repr=False)
    probe_bytes: int
    request_id: str
    timings: Timings
    request_ids: tuple[str, ...] = ()
    quality: Quality | None = field(default=None, repr=False, compare=False)

    @property
    def assured(self) -> bool:
        """Whether all three pairs say so."""
        return bool(self.request_ids)

    def __bool__(self) -> bool:
        return self.decision


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Templates were added. sequence: of the gallery, after the last of them.

    known: of an enrolment unless known, that nothing was enrolled, because the face is known already.

    repeated: how many of the templates had been added before under the same token, so that nothing was added for them
    now. An attempt of this very call whose answer got lost counts.
    """

    sequence: int
    templates: int
    repeated: int = 0
    request_id: str = field(default="", compare=False)
    known: bool = False


@dataclass(frozen=True, slots=True)
class Erasure:
    """All templates of a subject were removed. sequence: of the gallery afterwards.

    receipt: two organisations' signatures under it; None from servers of before.
    """

    sequence: int
    templates: int
    request_id: str = field(default="", compare=False)
    receipt: ErasureReceipt | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Retained:
    """What was due was erased. templates: how many, in all steps. sequence: of the gallery afterwards."""

    sequence: int
    templates: int
    request_id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Erasures:
    """Several subjects were erased, one after the other. erased: who. unknown: who was not enrolled.

    templates: how many were removed, of all together. request_ids: of the erasures, in the order of `erased`.
    """

    erased: tuple[str, ...]
    unknown: tuple[str, ...]
    templates: int
    request_ids: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Rotation:
    """A gallery is complete under a new key. templates: how many are there. sequence: of the gallery under that key.

    empty: subject of each template that this call found to be empty now, because its record was no valid vector, in
    order of names. Only records that a device encrypted can be: those of bulk enrolments and of earlier versions.
    """

    sequence: int
    templates: int
    empty: tuple[str, ...]
    request_id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class SubjectEntry:
    """A subject of the gallery and how many templates it has."""

    subject: str
    templates: int


@dataclass(frozen=True, slots=True)
class TemplateEntry:
    """All that the servers have of a template beside its ciphertexts.

    pack, slot: its place. sequence: number of the change that added it. enrolled_at: UTC, None for those of clients
    and servers of before. by_device: a device encrypted its record, in a bulk enrolment. record_bytes: size of its
    record; its column of the pack is D ciphertexts more. asked: the last day, by the clock of each organisation that
    answered, on which it was asked to verify the subject, or to keep the template.
    """

    subject: str
    pack: int
    slot: int
    sequence: int
    enrolled_at: datetime | None
    consent: Consent | None
    by_device: bool
    record_bytes: int
    asked: Mapping[Party, date]


class Subjects(list[SubjectEntry]):
    """Who is enrolled, in order of names: a list that has the id of its request as well."""

    def __init__(self, entries: Iterable[SubjectEntry] = (), request_id: str = "") -> None:
        super().__init__(entries)
        self.request_id = request_id


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget of this device. measure: "requests", "searches" or "bits". window: "minute", "hour", "day" or "month",
    which is 30 days. limit: the most in one. left: of it, now. eases_s: seconds until some of what was used counts no
    more; 0 if nothing was used.
    """

    measure: str
    window: str
    limit: int
    left: int
    eases_s: float


@dataclass(frozen=True, slots=True)
class Budgets:
    """What is left of this device's budgets, and of nobody else's; those of subjects and galleries stand beside them.

    pairs: of each pair whose two organisations have answered, the smaller rest of the two: that is what it serves.
    organisations: what each has counted. missing: those that did not say, and why. A budget without a limit is in none.
    """

    pairs: Mapping[Pair, tuple[Budget, ...]]
    organisations: Mapping[Party, tuple[Budget, ...]]
    missing: Mapping[Party, VeilmatchError]
