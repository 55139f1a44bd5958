"""Two answers, one result: what both matchers of a pair must agree on, and how their shares are put together.

A single matcher cannot be believed about anything but its share. Session, gallery state, number of
bits and labels have to come from both alike; a difference ends the call with an error and no decision.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from veilmatch.client.wire.labels import Labels, agreed_labels
from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import GalleryMismatchError, IntegrityError, ServerDeviationError
from veilmatch.crypto.gates.answer import answer_bits
from veilmatch.crypto.keys.parties import Pair
from veilmatch.protos.v1 import matcher_pb2 as pb

_log = logging.getLogger(__name__)
_Reply = pb.MatchReply | pb.MutateReply | pb.SubjectsReply | pb.RotateReply


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer that both matchers gave. bits: uint8[count] of 0 or 1. labels: who was compared, in a search.

    is_valid: whether the servers find that the probe is a vector; if not, the bits mean nothing (`require_valid`).
    """

    bits: NDArray[np.uint8] = field(repr=False)
    labels: Labels
    sequence: int
    is_valid: bool


def open_verification(a: pb.MatchReply, b: pb.MatchReply, pair: Pair) -> Opened:
    """Return the one bit of a verification. Raises IntegrityError or GalleryMismatchError."""
    _check_match(a, b, pair)
    if a.count != 1:
        raise IntegrityError("a verification has one answer", got=a.count, expected=1)
    return Opened(_answer(a, b), Labels(), a.sequence, _is_valid(a, b))


def open_candidates(a: pb.MatchReply, b: pb.MatchReply, pair: Pair, known: Labels) -> Opened:
    """Return one bit for each compared template, with its subject.

    known: the labels that the request said are known; they stand in where a reply leaves its own out.
    Raises IntegrityError or GalleryMismatchError.
    """
    return _open_search("candidates", a, b, pair, known)


def open_identification(a: pb.MatchReply, b: pb.MatchReply, pair: Pair, known: Labels) -> Opened:
    """Return the bits of the best template's number. known, errors: see `open_candidates`."""
    return _open_search("identify", a, b, pair, known)


def open_known(a: pb.MatchReply, b: pb.MatchReply, pair: Pair) -> Opened:
    """Return the one bit of `known`, none of an empty gallery. Errors: see `open_verification`."""
    _check_match(a, b, pair)
    if a.count > 1 or a.labels or b.labels or a.HasField("difference") or b.HasField("difference"):
        raise IntegrityError("whether somebody is known has one answer and names nobody", got=a.count, expected=1)
    return Opened(_answer(a, b), Labels(), a.sequence, _is_valid(a, b))


def matching_subjects(opened: Opened) -> tuple[str, ...]:
    """Return the subjects whose bit is set, each once, in order of their first template."""
    return tuple(dict.fromkeys(opened.labels.subjects[np.flatnonzero(opened.bits)].tolist()))


def best_subject(opened: Opened) -> str | None:
    """Return the subject of the template that an identification names, or None for nobody. Raises IntegrityError."""
    number = sum(int(bit) << i for i, bit in enumerate(opened.bits))
    if number > len(opened.labels.subjects):
        raise IntegrityError("an answer that names no template", got=number, expected=len(opened.labels.subjects))
    return str(opened.labels.subjects[number - 1]) if number else None


def require_valid(opened: Opened, request_id: str) -> None:
    """Raise ServerDeviationError if the servers find that the probe is no vector.

    Only once nothing of the call goes on, and nothing that it leaves to later ones depends on it: a key holder that
    deviates can make this bit a predicate of a coordinate of the probe, and would see from a request that follows, is
    cancelled, or goes to another pair, which it was.
    """
    if not opened.is_valid:
        raise refused_vector(request_id=request_id)


def agreed_mutation(a: pb.MutateReply, b: pb.MutateReply, pair: Pair) -> pb.MutateReply:
    """Return the answer of both. Raises GalleryMismatchError or IntegrityError if they differ."""
    _check_gallery(a, b, pair)
    if (a.templates, a.repeated, a.present, a.left) != (b.templates, b.repeated, b.present, b.left):
        raise IntegrityError("the two matchers changed different templates", got=b.templates, expected=a.templates)
    return a


def agreed_erasure(a: pb.MutateReply, b: pb.MutateReply, pair: Pair) -> tuple[pb.MutateReply, list[pb.CertifiedChange]]:
    """Return the answer of both, and the change as each of them has it; none from servers of before.

    Errors: see `agreed_mutation`.
    """
    return agreed_mutation(a, b, pair), [reply.change for reply in (a, b) if reply.HasField("change")]


class Enrolled(NamedTuple):
    """What both matchers say of an enrolment. valid: whether the vector was; known: whether the face was known, where
    that was asked. If it was not, or was, what was stored is an empty template.
    """

    agreed: pb.MutateReply
    valid: bool
    known: bool


def opened_enrolment(a: pb.MutateReply, b: pb.MutateReply, pair: Pair) -> Enrolled:
    """Return the answer of both. Errors: see `agreed_mutation`."""
    return Enrolled(agreed_mutation(a, b, pair), a.valid_share != b.valid_share, a.known_share != b.known_share)


def opened_card(
    a: pb.MutateReply, b: pb.MutateReply, pair: Pair
) -> tuple[pb.MutateReply, tuple[bytes, bytes] | None, bool]:
    """Return the answer of both, their signatures, and whether the vector was valid.

    No signatures, and no statement in the answer, if the request was done before. Errors: see `agreed_mutation`.
    """
    reply = agreed_mutation(a, b, pair)
    if (a.card.serial, a.card.statement) != (b.card.serial, b.card.statement):
        raise IntegrityError("the two matchers issued different cards", got=b.card.serial.hex()[:32])
    return reply, None if reply.repeated else (a.card.signature, b.card.signature), a.valid_share != b.valid_share


def refused_vector(enrolments: Sequence[bytes] = (), request_id: str | None = None) -> ServerDeviationError:
    """Return the error about a vector that the servers find invalid, and log it as an alert.

    The vector was made by the quantiser of this SDK, which makes valid ones only. enrolments: tokens of those that left
    an empty template. request_id: of the last request, if there are several.
    """
    _log.error(
        "alert: the servers find a vector of this device invalid; honest ones cannot", extra={"request_id": request_id}
    )
    return ServerDeviationError(
        "the servers refuse a vector that this device made valid: one of them deviates from the protocol, or the device"
        " and the servers differ in what they run",
        got="invalid",
        expected="a valid vector",
        enrolments=tuple(token.hex() for token in enrolments),
        request_id=request_id,
    )


def agreed_rotation(a: pb.RotateReply, b: pb.RotateReply, pair: Pair) -> tuple[pb.RotateReply, list[str]]:
    """Return the answer of both, and the subjects of templates that turned out to be empty.

    Raises GalleryMismatchError or IntegrityError if they differ.
    """
    _check_gallery(a, b, pair)
    first, second = ((r.converted, r.total, r.done, list(r.by_device), len(r.valid_share)) for r in (a, b))
    if first != second or len(a.valid_share) != (len(a.by_device) + 7) // 8:
        raise IntegrityError("the two matchers converted different templates", got=b.converted, expected=a.converted)
    valid = _xor_bits(a.valid_share, b.valid_share, len(a.by_device))
    return a, [subject for subject, bit in zip(a.by_device, valid.tolist(), strict=True) if not bit]


def agreed_subjects(a: pb.SubjectsReply, b: pb.SubjectsReply, pair: Pair) -> list[tuple[str, int]]:
    """Return (subject, templates) of both. Raises GalleryMismatchError or IntegrityError if they differ."""
    _check_gallery(a, b, pair)
    first, second = ([(s.subject, s.templates) for s in reply.subjects] for reply in (a, b))
    if sorted(first) != sorted(second):
        raise IntegrityError("the two matchers name different subjects", got=len(second), expected=len(first))
    return sorted(first)


def agreed_templates(
    a: pb.SubjectsReply, b: pb.SubjectsReply, pair: Pair
) -> list[tuple[pb.TemplateDetail, pb.TemplateDetail]]:
    """Return each template as both have it: the same but for the day, which is each matcher's own.

    Raises GalleryMismatchError or IntegrityError if they differ.
    """
    _check_gallery(a, b, pair)
    first, second = ([_without_day(one) for one in reply.templates] for reply in (a, b))
    if first != second:
        raise IntegrityError(
            "the two matchers know different things of templates", got=len(second), expected=len(first)
        )
    return list(zip(a.templates, b.templates, strict=True))


def _without_day(one: pb.TemplateDetail) -> tuple[object, ...]:
    return one.subject, one.pack, one.slot, one.sequence, one.by_device, one.record_bytes, one.terms


def _open_search(operation: str, a: pb.MatchReply, b: pb.MatchReply, pair: Pair, known: Labels) -> Opened:
    _check_match(a, b, pair)
    labels = agreed_labels(a, b, pair, known)
    if answer_bits(operation, len(labels.subjects)) != a.count:
        raise IntegrityError(
            "an answer that does not fit the subjects it is about", got=a.count, expected=len(labels.subjects)
        )
    return Opened(_answer(a, b), labels, a.sequence, _is_valid(a, b))


def _check_match(a: pb.MatchReply, b: pb.MatchReply, pair: Pair) -> None:
    _check_gallery(a, b, pair)
    if a.session_id != b.session_id or len(a.session_id) != DIGEST_BYTES:
        raise IntegrityError(
            "the two matchers answer from different sessions",
            got=_short(b.session_id),
            expected=_short(a.session_id),
        )
    if a.count != b.count:
        raise IntegrityError("the two answers have different sizes", got=b.count, expected=a.count)
    for reply in (a, b):
        if len(reply.share) != (reply.count + 7) // 8:
            raise IntegrityError("an answer of the wrong size", got=len(reply.share), expected=(reply.count + 7) // 8)


def _is_valid(a: pb.MatchReply, b: pb.MatchReply) -> bool:
    # Where nothing was compared, no probe was converted.
    return not a.count or a.valid_share != b.valid_share


def _check_gallery(a: _Reply, b: _Reply, pair: Pair) -> None:
    if (a.sequence, a.chain) != (b.sequence, b.chain):
        raise GalleryMismatchError(
            "the two matchers do not hold the same gallery",
            got=f"sequence {b.sequence}, chain {_short(b.chain)} at matcher-{pair[1]}",
            expected=f"sequence {a.sequence}, chain {_short(a.chain)} at matcher-{pair[0]}",
        )


def _answer(a: pb.MatchReply, b: pb.MatchReply) -> NDArray[np.uint8]:
    return _xor_bits(a.share, b.share, a.count)


def _xor_bits(a: bytes, b: bytes, count: int) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(a, np.uint8) ^ np.frombuffer(b, np.uint8), count=count, bitorder="little")


def _short(value: bytes) -> str:
    return value.hex()[:8] or "none"
