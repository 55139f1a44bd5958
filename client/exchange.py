"""One question to two matchers: sent at once, answered by both or by an error; and the next pair if need be.

Every wait here ends: with both answers, with the first error that says something, or at the deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from veilmatch.client.transport import Matcher
from veilmatch.crypto.errors import IntegrityError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys import Pair

#: When one matcher says only that somebody is missing, the other gets this long to say what is wrong:
#: a matcher that refuses a request leaves the other one, for an instant, merely without its partner.
GRACE_S = 0.25
#: The same where another pair can be tried: a refusal would come out there as well.
GRACE_WITH_ALTERNATIVES_S = 0.05

_R = TypeVar("_R")


async def ask_both(
    matchers: tuple[Matcher, Matcher], ask: Callable[[Matcher], Awaitable[_R]], timeout_s: float
) -> tuple[_R, _R]:
    """Return the answers of matcher a and matcher b to the same question.

    If one ends with an error the other is cancelled, and the more specific error of the two is raised:
    anything before UnavailableError, one that names alternatives before one that does not. At the
    deadline: UnavailableError naming the first matcher that has not answered. No call is left running.
    """
    ends = time.monotonic() + timeout_s
    tasks = [asyncio.ensure_future(ask(matcher)) for matcher in matchers]
    try:
        _, running = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_EXCEPTION)
        errors = _errors(tasks, matchers)
        if running and errors and isinstance(errors[0], UnavailableError):
            grace_s = GRACE_WITH_ALTERNATIVES_S if errors[0].alternatives else GRACE_S
            await asyncio.wait(running, timeout=max(0.0, min(grace_s, ends - time.monotonic())))
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


async def with_fallback(pairs: Sequence[Pair], attempt: Callable[[Pair, float], Awaitable[_R]], timeout_s: float) -> _R:
    """Return what `attempt` returns for the first pair that can serve.

    attempt: makes a fresh request for a pair, to be answered within the seconds given. pairs: tried in this
    order, each once; after the first only those that the last UnavailableError names as alternatives. Any
    other error is raised at once, and so is UnavailableError when no pair or no time is left.
    """
    ends = time.monotonic() + timeout_s
    pair, *left = pairs
    while True:
        try:
            return await attempt(pair, ends - time.monotonic())
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
    if not isinstance(error, UnavailableError):
        return 0
    return 1 if error.alternatives else 2
