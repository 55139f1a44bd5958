"""One question to two matchers: sent at once, answered by both or by an error; and the next pair if need be.

Every wait here ends: with both answers, with an error, or at the deadline. Whoever ends a request leaves its
partners without one, and their errors may come first. So a vague error waits for a better one for a moment,
and of two errors the one nearer to the cause is raised, whichever came first (`_vagueness`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.errors import IntegrityError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.shares import Pair

#: How long the other matcher gets to name a cause, by the vagueness of the first error: none after a cause,
#: longest after "somebody left", because whoever left is about to say why.
GRACE_S = (0.0, 0.25, 0.25, 0.25, 1.0)
#: The same where another pair will be tried: a refusal would come out there as well.
GRACE_BEFORE_NEXT_PAIR_S = 0.05

_R = TypeVar("_R")


async def ask_both(
    matchers: tuple[Matcher, Matcher],
    ask: Callable[[Matcher], Awaitable[_R]],
    timeout_s: float,
    others: Sequence[Pair] = (),
) -> tuple[_R, _R]:
    """Return the answers of matcher a and matcher b to the same question.

    If one ends with an error the other is cancelled, and the error nearer to the cause is raised. others:
    pairs that the caller will try if they are named as alternatives. At the deadline: UnavailableError naming
    the first matcher that has not answered. No call is left running.
    """
    ends = time.monotonic() + timeout_s
    tasks = [asyncio.ensure_future(ask(matcher)) for matcher in matchers]
    try:
        _, running = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_EXCEPTION)
        errors = _errors(tasks, matchers)
        if running and errors:
            grace_s = min(_grace_s(errors[0], others), ends - time.monotonic())
            await asyncio.wait(running, timeout=max(0.0, grace_s))
            errors = _errors(tasks, matchers)
        elif running and not errors:
            errors = [_late(m) for t, m in zip(tasks, matchers, strict=True) if t in running]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if errors:
        raise min(errors, key=_vagueness)
    return tasks[0].result(), tasks[1].result()


async def with_fallback(
    pairs: Sequence[Pair], attempt: Callable[[Pair, float, Sequence[Pair]], Awaitable[_R]], timeout_s: float
) -> _R:
    """Return what `attempt` returns for the first pair that can serve.

    attempt: makes a fresh request for a pair, to be answered within the seconds given; told which pairs are
    left. pairs: tried in this order, each once; after the first only those that the last UnavailableError
    names as alternatives. Any other error is raised at once, and so is UnavailableError when no pair or no
    time is left.
    """
    ends = time.monotonic() + timeout_s
    pair, *left = pairs
    while True:
        try:
            return await attempt(pair, ends - time.monotonic(), left)
        except UnavailableError as error:
            left = [other for other in left if other in error.alternatives]
            if not left or time.monotonic() >= ends:
                raise
            pair, *left = left


def _late(matcher: Matcher) -> VeilmatchError:
    return UnavailableError(f"{matcher.party} did not answer in time", party=matcher.party, needed=matcher.party)


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
    return IntegrityError(f"the call to {matcher.party} failed", got=type(error).__name__)


def _vagueness(error: VeilmatchError) -> int:
    """Return how far from the cause an error is: 0 for a cause, 4 for one who only says that another is gone."""
    if not isinstance(error, UnavailableError):
        return 1 if isinstance(error, IntegrityError) else 0
    if error.alternatives:
        return 2
    return 3 if error.available is not None else 4


def _grace_s(error: VeilmatchError, others: Sequence[Pair]) -> float:
    if isinstance(error, UnavailableError) and any(pair in error.alternatives for pair in others):
        return GRACE_BEFORE_NEXT_PAIR_S
    return GRACE_S[_vagueness(error)]
