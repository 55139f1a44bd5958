"""Assured answers: one question to all three pairs at once, and an answer only where the three say the same.

A lying organisation sits in two of the three pairs, and can turn the answers of both. So two that agree prove nothing,
and there is no majority: one pair has nobody but honest ones in it, and what it says is the truth. If all three say the
same, they say that. One organisation can make an assured answer fail, and cannot make it wrong.
docs/decisions/0021-assured-answers.md.

All three answers have to be about one state of the gallery, or a liar in the two newer ones could take away whom the
oldest cannot know. A change between two of them is no lie: the pairs that were behind are asked again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from veilmatch.client.wire.connection import Answered
from veilmatch.client.wire.exchange import GRACE_S, nearest_to_the_cause
from veilmatch.crypto.errors import (
    DisagreementError,
    GalleryMismatchError,
    IntegrityError,
    KeyMismatchError,
    OverloadedError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PAIRS, Pair
from veilmatch.crypto.requests import request_digest
from veilmatch.protos.v1 import matcher_pb2 as pb

_log = logging.getLogger(__name__)
#: How often those that were behind are asked again.
_TIMES_AGAIN = 2
#: Errors about who serves and how: their text says which pair they are of. Others say what is wrong with the question.
_ABOUT_SERVERS = (IntegrityError, KeyMismatchError, OverloadedError, UnavailableError)

_O = TypeVar("_O")
_Answer = Answered[pb.MatchReply, _O]


async def assured(
    ask: Callable[[Pair, float], Awaitable[_Answer[_O]]],
    said: Callable[[_Answer[_O]], object],
    question: str,
    timeout_s: float,
) -> dict[Pair, _Answer[_O]]:
    """Return the answers of all three pairs, which say the same about one state of the gallery.

    ask: asks one pair, with a request of its own, for an answer within the seconds given. said: what an answer says,
    in a form that can be compared; asked once all have answered, and may raise. question: its name, for the log.
    Raises DisagreementError if the answers differ, GalleryMismatchError if the gallery changes all the time, and the
    error of a pair that gives none: no other stands in for it.
    """
    ends = time.monotonic() + timeout_s
    answers = await _all(PAIRS, ask, ends)
    for _ in range(_TIMES_AGAIN):
        newest = max(_sequence(answer) for answer in answers.values())
        behind = [pair for pair in PAIRS if _sequence(answers[pair]) < newest]
        if not behind:
            break
        answers |= await _all(behind, ask, ends)
    if _differ(answers, said) or _is_forked(answers):
        raise _disagreement(answers, said, question)
    if len(states := {_sequence(answer) for answer in answers.values()}) > 1:
        raise GalleryMismatchError(
            "the gallery changed while the three pairs were asked",
            got=f"sequences {', '.join(map(str, sorted(states)))}",
            expected="answers about one state of the gallery",
            hint="Repeat the call; if it stays, tell the operators of the matchers that one of them is behind.",
        )
    return answers


async def _all(
    pairs: Sequence[Pair], ask: Callable[[Pair, float], Awaitable[_Answer[_O]]], ends: float
) -> dict[Pair, _Answer[_O]]:
    outcome = await _outcome(pairs, ask, max(ends - time.monotonic(), 0.001))
    # Raised here, where the calls are gone: an error that is kept must not keep connections open (processes.py).
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def _outcome(
    pairs: Sequence[Pair], ask: Callable[[Pair, float], Awaitable[_Answer[_O]]], left_s: float
) -> dict[Pair, _Answer[_O]] | BaseException:
    asked = {pair: asyncio.ensure_future(ask(pair, left_s)) for pair in pairs}
    try:
        _, running = await asyncio.wait(asked.values(), return_when=asyncio.FIRST_EXCEPTION)
        if running:
            # One has failed; another may be about to say why, or that somebody deviates.
            await asyncio.wait(running, timeout=max(GRACE_S))
        ended = {pair: task for pair, task in asked.items() if task.done()}
        failed = {pair: error for pair, task in ended.items() if (error := task.exception()) is not None}
        if not failed:
            return {pair: task.result() for pair, task in asked.items()}
        unforeseen = [error for error in failed.values() if not isinstance(error, VeilmatchError)]
        return unforeseen[0] if unforeseen else _failure(failed)
    finally:
        for task in asked.values():
            task.cancel()
        await asyncio.gather(*asked.values(), return_exceptions=True)


def _failure(failed: Mapping[Pair, BaseException]) -> VeilmatchError:
    """Return the error of the pair that is nearest to the cause, saying that no other pair stands in for it."""
    errors = {pair: error for pair, error in failed.items() if isinstance(error, VeilmatchError)}
    error = nearest_to_the_cause(list(errors.values()))
    pair = next(pair for pair, other in errors.items() if other is error)
    error.alternatives = ()
    if not isinstance(error, _ABOUT_SERVERS):
        return error
    told = f"no assured answer, for pair {pair} gives none: {error.message}"
    return VeilmatchError.from_fields(error.fields() | {"message": told})


def _sequence(answer: _Answer[_O]) -> int:
    return answer.replies[0].sequence


def _differ(answers: Mapping[Pair, _Answer[_O]], said: Callable[[_Answer[_O]], object]) -> bool:
    first, *others = (said(answer) for answer in answers.values())
    return any(other != first for other in others)


def _is_forked(answers: Mapping[Pair, _Answer[_O]]) -> bool:
    """Return whether two answers are about different galleries of one number: an organisation vouches for both."""
    states = {(answer.replies[0].sequence, answer.replies[0].chain) for answer in answers.values()}
    return len({sequence for sequence, _ in states}) < len(states)


def _disagreement(
    answers: Mapping[Pair, _Answer[_O]], said: Callable[[_Answer[_O]], object], question: str
) -> DisagreementError:
    """Return the error, and log it: which requests they were and who differs from whom, nothing of what was said."""
    alike: list[tuple[object, list[Pair]]] = []
    for pair, answer in answers.items():
        what = said(answer)
        found = next((pairs for other, pairs in alike if other == what), None)
        if found is None:
            alike.append((what, [pair]))
        else:
            found.append(pair)
    sides = " against ".join(" and ".join(pairs) for _, pairs in alike)
    if len(alike) == 1:
        sides = "all three, about different galleries of one number"
    digests = ", ".join(f"{pair} {request_digest(answer.request.body).hex()}" for pair, answer in answers.items())
    _log.warning("the pairs disagree about %s: %s; requests %s", question, sides, digests)
    return DisagreementError(
        "the three pairs of organisations do not say the same: one organisation lies, or a gallery is damaged",
        got=sides,
        expected="one answer of ab, ac and bc",
        said={pair: said(answer) for pair, answer in answers.items()},
        request_ids={pair: answer.request_id for pair, answer in answers.items()},
        request_id=answers[PAIRS[0]].request_id,
    )
