"""The answer to one question, as organisations have stated it: opened, checked and put together.

    statement = Statement.open(answer, trust, key, expect_subject="alice", expect_challenge=challenge, seen=seen)

Two organisations of one pair state one share each, and neither alone knows the answer. With `assured`, all three pairs
have stated it and agree, so that no one organisation can have made it wrong.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from veilmatch.crypto.answer_share import SEARCHES, Context, SealedShare, labels_digest, shared_answer
from veilmatch.crypto.errors import (
    DisagreementError,
    StatementError,
    StatementMismatchError,
    StatementReplayedError,
)
from veilmatch.crypto.keys.parties import PAIRS, Pair
from veilmatch.crypto.requests import VERIFICATIONS, Operation, check_subject, subject_digest
from veilmatch.crypto.sealed_answer import SealedAnswer
from veilmatch.relying.opening import opened, require_time, verified
from veilmatch.relying.recipient_key import RecipientKey
from veilmatch.relying.seen import Seen
from veilmatch.relying.trust import Trust

#: How far the clocks of organisations and this one may differ.
CLOCK_SKEW_S = 30.0
#: What both organisations of a pair must say alike, and, of several pairs, every pair.
_ABOUT_PAIR = ("request", "session", "labels", "count")
#: Of two states of one gallery a liar could let each say what the other one does not.
_ABOUT_ALL = (
    "device", "operation", "subject", "threshold", "gallery", "sequence", "chain", "recipient", "challenge", "views",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Statement:
    """What organisations state about one question of a device. True in a condition if and only if `decision` is.

    operation: verify, identify, candidates, known, or present: a verification with a card. decision: whether there is a
    match. subject: of verify and present, who it was said to be, match or not; of identify, who was found, or None.
    subjects: of candidates, whom the probe matches. threshold: t in 1..S^2, and as a cosine. gallery: with its sequence
    number and chain when it was compared. pairs: who answered; requests: digest of the request to each. device: the
    name of the one that asked. valid: False if what it sent was no vector of a face, so that there is no match, and
    nobody is named. issued_at_s, expires_at_s: Unix time. views: of how many photos of the face any may have matched.
    """

    operation: Operation
    decision: bool
    subject: str | None
    subjects: tuple[str, ...]
    threshold: int
    cosine: float
    gallery: str
    sequence: int
    chain: bytes
    pairs: tuple[Pair, ...]
    requests: tuple[bytes, ...]
    device: str
    challenge: bytes
    valid: bool
    issued_at_s: int
    expires_at_s: int
    views: int = 1

    def __bool__(self) -> bool:
        return self.decision

    @classmethod
    def open(
        cls,
        answer: SealedAnswer | bytes | str,
        trust: Trust,
        key: RecipientKey,
        *,
        seen: Seen | None,
        expect_subject: str | None = None,
        expect_request: bytes | Collection[bytes] | None = None,
        expect_challenge: bytes | None = None,
        expect_gallery: str | None = None,
        expect_operation: Operation | None = None,
        lowest_threshold: float | None = None,
        max_views: int = 1,
        assured: bool = False,
        max_clock_skew_s: float = CLOCK_SKEW_S,
        now: float | None = None,
    ) -> Statement:
        """Return what an answer states, once everything about it was found right.

        answer: what the device brought. seen: where answers are remembered that were opened before, so that each counts
        once; None for a caller that sees to it otherwise, by a challenge that it accepts once, say. expect_subject:
        necessary for verify and present, and refuses every other operation. expect_request: digest of the request, or
        of each of several. expect_challenge: what was given to the device for this question. expect_gallery,
        expect_operation: refuse others; an answer about a card, `present`, counts only where that is expected.
        lowest_threshold: a cosine; refuses answers to a lower threshold, which the device chooses. max_views: refuses
        answers about more photos of the face, each of which is one more chance of a false match. assured: refuses what
        is not stated by all three pairs. now: Unix time, of the clock unless given.

        Raises StatementError for anything altered, incomplete, or signed by somebody else; StatementMismatchError,
        StatementTimeError and StatementReplayedError; DisagreementError if pairs state different answers;
        RecipientCertificateError if `trust` is not of the organisations that certified the key; StorageError if `seen`
        cannot remember; InvalidInputError for an `expect_subject` that nobody can be called.
        """
        now_s = time.time() if now is None else now
        trust.require(key.certificate)
        if expect_subject is not None:
            check_subject(expect_subject)
        given = answer if isinstance(answer, SealedAnswer) else SealedAnswer.decode(answer)
        said = [verified(token, trust) for token in given.statements]
        for one in said:
            require_time(one, now_s, max_clock_skew_s)
        pairs = _pairs(said, assured)
        about = pairs[0][0].about
        if lowest_threshold is not None and about.threshold < trust.parameters.threshold(lowest_threshold):
            raise StatementMismatchError(
                "the question was asked at a lower threshold",
                got=trust.parameters.cosine(about.threshold),
                expected=f"at least {lowest_threshold}",
            )
        if about.views > max_views:
            raise StatementMismatchError(
                "the question was asked with more views of the face", got=about.views, expected=f"at most {max_views}"
            )
        for what, got, expected in (
            ("operation", about.operation, expect_operation),
            ("gallery", about.gallery, expect_gallery),
            ("challenge", about.challenge, expect_challenge),
        ):
            if expected is not None and got != expected:
                raise StatementMismatchError(f"the statement is about another {what}", got=_text(got))
        if about.operation == "present" and expect_operation is None:
            # Whoever reckons with people who are enrolled has not looked at anybody's card.
            raise StatementMismatchError("an answer about a card counts where one is expected", got="present")
        requests = tuple(first.about.request for first, _ in pairs)
        _require_requests(requests, expect_request)
        _require_subject(about, given.salt, expect_subject)
        answers = [_answer(first, second, given.labels, key) for first, second in pairs]
        if any(answer != answers[0] for answer in answers):
            raise DisagreementError(
                "the pairs of organisations do not state the same: one organisation lies, or a gallery is damaged",
                got="different answers",
                expected="one answer",
                said={first.about.pair: answer for (first, _), answer in zip(pairs, answers, strict=True)},
                request_ids={first.about.pair: first.about.request.hex()[:16] for first, _ in pairs},
            )
        # Last: what is refused does not use it up.
        until_s = max(one.about.expires_at_s for one in said) + max_clock_skew_s
        if seen is not None and not seen.register(requests, until_s, now_s):
            raise StatementReplayedError("the answer was presented before")
        matching, valid = answers[0]
        # Whoever goes by the names must not find more than whoever goes by the decision.
        subjects = matching if valid else ()
        return cls(
            operation=about.operation,
            decision=bool(subjects),
            subject=_subject(about.operation, subjects, expect_subject),
            subjects=subjects if about.operation == "candidates" else (),
            threshold=about.threshold,
            cosine=trust.parameters.cosine(about.threshold),
            gallery=about.gallery,
            sequence=about.sequence,
            chain=about.chain,
            pairs=tuple(first.about.pair for first, _ in pairs),
            requests=requests,
            device=about.device,
            challenge=about.challenge,
            valid=valid,
            issued_at_s=min(one.about.issued_at_s for one in said),
            expires_at_s=min(one.about.expires_at_s for one in said),
            views=about.views,
        )


def _pairs(said: Sequence[SealedShare], assured: bool) -> list[tuple[SealedShare, SealedShare]]:
    """Return the two statements of each pair, that of the plus holder first, in the order of pairs."""
    found: dict[Pair, dict[str, SealedShare]] = {}
    for one in said:
        of_pair = found.setdefault(one.about.pair, {})
        if one.about.party in of_pair:
            raise StatementError(
                "one organisation has stated both shares", got=one.about.party, expected=f"pair {one.about.pair}"
            )
        of_pair[one.about.party] = one
    for pair, of_pair in found.items():
        if set(of_pair) != set(pair):
            raise StatementError(
                "the statement of one organisation is missing", got=", ".join(sorted(of_pair)), expected=f"pair {pair}"
            )
    if assured and len(found) < len(PAIRS):
        raise StatementError("not all pairs have answered", got=", ".join(sorted(found)), expected=", ".join(PAIRS))
    pairs = [(found[pair][pair[0]], found[pair][pair[1]]) for pair in PAIRS if pair in found]
    for first, second in pairs:
        _require_alike(first.about, second.about, (*_ABOUT_PAIR, *_ABOUT_ALL))
        _require_alike(first.about, pairs[0][0].about, _ABOUT_ALL)
    if len({first.about.request for first, _ in pairs}) != len(pairs):
        raise StatementError("two pairs have answered the same request")
    return pairs


def _require_alike(first: Context, second: Context, names: Sequence[str]) -> None:
    for name in names:
        if getattr(first, name) != getattr(second, name):
            raise StatementMismatchError("the statements do not belong together", got=f"different: {name}")


def _require_requests(requests: Sequence[bytes], expected: bytes | Collection[bytes] | None) -> None:
    if expected is None:
        return
    wanted = {expected} if isinstance(expected, bytes) else set(expected)
    if not set(requests) <= wanted:
        raise StatementMismatchError("the statement is about another request", got=requests[0].hex())


def _require_subject(about: Context, salt: bytes, expected: str | None) -> None:
    if expected is None and about.operation in VERIFICATIONS:
        raise StatementMismatchError("a verification counts for the subject that is expected only", got="none expected")
    if expected is not None and about.operation not in VERIFICATIONS:
        raise StatementMismatchError("the statement is about another operation", got=about.operation, expected="verify")
    if expected is not None and subject_digest(salt, expected) != about.subject:
        raise StatementMismatchError("the statement is about another subject")


def _answer(
    first: SealedShare, second: SealedShare, labels: Sequence[str], key: RecipientKey
) -> tuple[tuple[str, ...], bool]:
    """Return whom the probe matches, ("",) for a match without a name, and whether it was valid."""
    about = first.about
    packed, valid = shared_answer(opened(first, key), opened(second, key))
    bits = [packed[i // 8] >> i % 8 & 1 for i in range(about.count)]
    if about.operation not in SEARCHES:
        return ("",) * bits[0], valid
    if labels_digest(labels) != about.labels:
        raise StatementError("the list of subjects is not the one that was stated")
    if about.count != (len(labels).bit_length() if about.operation == "identify" else len(labels)):
        raise StatementError("an answer that does not fit the subjects", got=about.count, expected=len(labels))
    if about.operation == "candidates":
        return tuple(dict.fromkeys(labels[i] for i, bit in enumerate(bits) if bit)), valid
    number = sum(bit << i for i, bit in enumerate(bits))
    if number > len(labels):
        raise StatementError("an answer that names no template", got=number, expected=len(labels))
    return tuple(labels[number - 1 : number]) if number else (), valid


def _subject(operation: Operation, subjects: Sequence[str], expected: str | None) -> str | None:
    if operation in VERIFICATIONS:
        return expected
    return subjects[0] if operation == "identify" and subjects else None


def _text(value: bytes | str) -> str:
    return value.hex() if isinstance(value, bytes) else value[:60]
