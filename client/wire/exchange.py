"""One question to the two matchers of a pair: sent at once, answered by both or by an error; then the next pair.

Every wait here ends: with both answers, with an error, or at the deadline. Whoever ends a request leaves its
partners without one, and their errors may come first. So a vague error waits for a better one for a moment,
and of two errors the one nearer to the cause is raised, whichever came first (`_vagueness`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from veilmatch.client.wire.statuses import late
from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.errors import (
    HandshakeError,
    IntegrityError,
    KeySafetyError,
    OverloadedError,
    ServerDeviationError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import Pair

#: How long the other matcher gets to name a cause, by the vagueness of the first error: none after a cause,
#: longest after "somebody left", because whoever left is about to say why.
GRACE_S = (0.0, 0.0, 0.25, 0.25, 0.25, 1.0)
#: The same where another pair will be tried: a refusal would come out there as well.
GRACE_BEFORE_NEXT_PAIR_S = 0.05
#: Errors that say that somebody deviates from the protocol: nothing may hide them.
DEVIATIONS = (KeySafetyError, ServerDeviationError)

_R = TypeVar("_R")


async def ask_both(
    matchers: tuple[Matcher, Matcher],
    ask: Callable[[Matcher], Awaitable[_R]],
    timeout_s: float,
    others: Sequence[Pair] = (),
    give_up: Callable[[asyncio.Future[_R]], None] | None = None,
) -> tuple[_R, _R]:
    """Return the answers of two matchers to the same question, in their order.

    If one ends with an error, the error nearer to the cause is raised, and what still runs at the other is handed to
    `give_up` or, without it, cancelled. others: pairs that the caller will try if they are named as alternatives. At
    the deadline: UnavailableError naming the first matcher that has not answered. Whoever cancels this cancels both.
    """
    outcome = await _outcome(matchers, ask, timeout_s, others, give_up)
    # Raised here, where the calls are gone: an error that is kept must not keep connections open (processes.py).
    if isinstance(outcome, VeilmatchError):
        raise outcome
    return outcome


async def with_fallback(
    pairs: Sequence[Pair],
    attempt: Callable[[Pair, float, Sequence[Pair]], Awaitable[_R]],
    timeout_s: float,
    requests_left: Callable[[], int],
) -> _R:
    """Return what `attempt` returns for the first pair that can serve.

    attempt: makes a fresh request for a pair, to be answered within the seconds given; told which pairs are
    left. pairs: tried in this order, each once; after the first only those that the last error names as
    alternatives, see `leads_elsewhere`. Any other error is raised at once. requests_left: of the call, see OneCall.
    When no pair, no time or no request is left, of all errors the one nearest to the cause is raised, and no longer
    names pairs that were tried.

    A server that deviates can make a device repeat by it. It could by not answering as well; each request is a fresh
    one, of which it learns what it learns of any, and is counted by the budgets.
    """
    ends = time.monotonic() + timeout_s
    pair, *left = pairs
    tried, errors = [pair], list[VeilmatchError]()
    while True:
        try:
            return await attempt(pair, ends - time.monotonic(), left)
        except VeilmatchError as error:
            if not leads_elsewhere(error):
                raise
            errors.append(error)
            left = [other for other in left if other in error.alternatives]
        if not left or time.monotonic() >= ends or requests_left() <= 0:
            break
        pair, *left = left
        tried.append(pair)
    # The last of equals: it is what stood in the way in the end.
    nearest = nearest_to_the_cause(errors[::-1])
    nearest.alternatives = tuple(other for other in nearest.alternatives if other not in tried)
    raise nearest


def leads_elsewhere(error: VeilmatchError) -> bool:
    """Return whether another pair is asked after this error: one that says which pairs can do without who failed.

    Never after an error that says that somebody deviates, which nothing may hide, nor because a server is busy: the
    next pair would be as busy, and the more for it.
    """
    return bool(error.alternatives) and not isinstance(error, (*DEVIATIONS, OverloadedError))


def nearest_to_the_cause(errors: Sequence[VeilmatchError]) -> VeilmatchError:
    """Return the error that tells most about what happened; of equals one that says when to ask again, or the first."""
    return min(errors, key=lambda error: (_vagueness(error), error.retry_after_s is None))


async def _outcome(
    matchers: tuple[Matcher, Matcher],
    ask: Callable[[Matcher], Awaitable[_R]],
    timeout_s: float,
    others: Sequence[Pair],
    give_up: Callable[[asyncio.Future[_R]], None] | None,
) -> tuple[_R, _R] | VeilmatchError:
    ends = time.monotonic() + timeout_s
    given_up = set[asyncio.Future[_R]]()
    tasks = [asyncio.ensure_future(_said(ask, matcher)) for matcher in matchers]
    try:
        _, running = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_EXCEPTION)
        errors = _errors(tasks, matchers)
        if running and errors:
            grace_s = min(_grace_s(errors[0], others), ends - time.monotonic())
            await asyncio.wait(running, timeout=max(0.0, grace_s))
            errors = _errors(tasks, matchers)
        elif running and not errors:
            errors = [late(m.party, timeout_s) for t, m in zip(tasks, matchers, strict=True) if t in running]
        if errors and give_up is not None:
            given_up = {task for task in tasks if not task.done()}
            for task in given_up:
                give_up(task)
    finally:
        ending = [task for task in tasks if task not in given_up]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
    return nearest_to_the_cause(errors) if errors else (tasks[0].result(), tasks[1].result())


async def _said(ask: Callable[[Matcher], Awaitable[_R]], matcher: Matcher) -> _R:
    """Ask a matcher. Anybody can be accused by it, so the text of an accusation says who accuses."""
    try:
        return await ask(matcher)
    except DEVIATIONS as error:
        accusation = VeilmatchError.from_fields(error.fields() | {"message": f"{matcher.party} says: {error.message}"})
    raise accusation


def _errors(tasks: Sequence[asyncio.Future[_R]], matchers: Sequence[Matcher]) -> list[VeilmatchError]:
    found = [_error_of(t, m) for t, m in zip(tasks, matchers, strict=True) if t.done()]
    return [error for error in found if error is not None]


def _error_of(task: asyncio.Future[_R], matcher: Matcher) -> VeilmatchError | None:
    if task.cancelled():
        return UnavailableError(f"the call to {matcher.party} was cancelled", party=matcher.party)
    error = task.exception()
    if error is None or isinstance(error, VeilmatchError):
        return error
    # The text of an unforeseen error may quote the request.
    return IntegrityError(f"the call to {matcher.party} failed", got=type(error).__name__, party=matcher.party)


def _vagueness(error: VeilmatchError) -> int:
    """Return how far from the cause an error is: 1 for a cause, 5 for one who only says that another is gone.

    0 is for somebody who deviates: no other error hides that.
    """
    if isinstance(error, DEVIATIONS):
        return 0
    if not isinstance(error, UnavailableError):
        return 2 if isinstance(error, IntegrityError) else 1
    if isinstance(error, HandshakeError):  # a certificate is wrong, and waiting for somebody does not mend that
        return 2
    if error.alternatives:
        return 3
    return 4 if error.available is not None else 5


def _grace_s(error: VeilmatchError, others: Sequence[Pair]) -> float:
    if leads_elsewhere(error) and any(pair in error.alternatives for pair in others):
        return GRACE_BEFORE_NEXT_PAIR_S
    return GRACE_S[_vagueness(error)]
