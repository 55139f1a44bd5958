"""Two answers, one result: what both matchers of a pair must agree on, and how their shares are put together.

A single matcher cannot be believed about anything but its share. Session, gallery state, number of
bits and labels have to come from both alike; a difference ends the call with an error and no decision.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

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
    """An answer that both matchers gave. bits: uint8[count] of 0 or 1. labels: who was compared, in a search."""

    bits: NDArray[np.uint8] = field(repr=False)
    labels: Labels
    sequence: int


def open_verification(a: pb.MatchReply, b: pb.MatchReply, pair: Pair) -> Opened:
    """Return the one bit of a verification. Raises IntegrityError, GalleryMismatchError, or ServerDeviationError."""
    _check_match(a, b, pair)
    if a.count != 1:
        raise IntegrityError("a verification has one answer", got=a.count, expected=1)
    return Opened(_answer(a, b), Labels(), a.sequence)


def open_candidates(a: pb.MatchReply, b: pb.MatchReply, pair: Pair, known: Labels) -> Opened:
    """Return one bit for each compared template, with its subject.

    known: the labels that the request said are known; they stand in where a reply leaves its own out.
    Raises IntegrityError, GalleryMismatchError, or ServerDeviationError.
    """
    return _open_search("candidates", a, b, pair, known)


def open_identification(a: pb.MatchReply, b: pb.MatchReply, pair: Pair, known: Labels) -> Opened:
    """Return the bits of the best template's number. known, errors: see `open_candidates`."""
    return _open_search("identify", a, b, pair, known)


def matching_subjects(opened: Opened) -> tuple[str, ...]:
    """Return the subjects whose bit is set, each once, in order of their first template."""
    return tuple(dict.fromkeys(opened.labels.subjects[np.flatnonzero(opened.bits)].tolist()))


def best_subject(opened: Opened) -> str | None:
    """Return the subject of the template that an identification names, or None for nobody. Raises IntegrityError."""
    number = sum(int(bit) << i for i, bit in enumerate(opened.bits))
    if number > len(opened.labels.subjects):
        raise IntegrityError("an answer that names no template", got=number, expected=len(opened.labels.subjects))
    return str(opened.labels.subjects[number - 1]) if number else None


def agreed_mutation(a: pb.MutateReply, b: pb.MutateReply, pair: Pair) -> pb.MutateReply:
    """Return the answer of both. Raises GalleryMismatchError or IntegrityError if they differ."""
    _check_gallery(a, b, pair)
    if (a.templates, a.repeated, a.present) != (b.templates, b.repeated, b.present):
        raise IntegrityError("the two matchers changed different templates", got=b.templates, expected=a.templates)
    return a


def opened_enrolment(a: pb.MutateReply, b: pb.MutateReply, pair: Pair) -> tuple[pb.MutateReply, bool]:
    """Return the answer of both, and whether the vector was valid; if not, what was stored is an empty template.

    Errors: see `agreed_mutation`.
    """
    return agreed_mutation(a, b, pair), a.valid_share != b.valid_share


def refused_vector(enrolments: Sequence[bytes] = (), request_id: str | None = None) -> ServerDeviationError:
    """Return the error about a vector that the servers find invalid, and log it as an alert.

    The vector was made by the quantiser of this SDK, which makes valid ones only. enrolments: tokens of those that left
    an empty template. request_id: of the last request, if there are several.
    """
    _log.error("alert: the servers find a vector of this device invalid; honest ones cannot")
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


def _open_search(operation: str, a: pb.MatchReply, b: pb.MatchReply, pair: Pair, known: Labels) -> Opened:
    _check_match(a, b, pair)
    labels = agreed_labels(a, b, pair, known)
    if answer_bits(operation, len(labels.subjects)) != a.count:
        raise IntegrityError(
            "an answer that does not fit the subjects it is about", got=a.count, expected=len(labels.subjects)
        )
    return Opened(_answer(a, b), labels, a.sequence)


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
    # Opened here and nowhere else. Where nothing was compared, no probe was converted.
    if a.count and a.valid_share == b.valid_share:
        raise refused_vector()


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
