"""What is left of a device's budgets: behind `budgets` of the clients. docs/budgets.md.

Each organisation counts by itself what it takes part in, and a pair serves what both of it still give. So every matcher
is asked for its organisation's counts, and of a pair the smaller rest counts.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping

from veilmatch.client.results import Budget, Budgets
from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.errors import IntegrityError, UnavailableError, VeilmatchError, VersionError
from veilmatch.crypto.keys.parties import Pair, Party
from veilmatch.crypto.versions import Feature
from veilmatch.protos.v1 import matcher_pb2

#: As servers write them; what else there is, is left out: a limit that is not known here.
MEASURES = ("requests", "searches", "bits")
WINDOWS = ("minute", "hour", "day", "month")


async def budgets(matchers: Mapping[Party, Matcher], pairs: Collection[Pair], timeout_s: float) -> Budgets:
    """Return what is left at each organisation, and so of each pair. matchers: of the pairs, by organisation.

    An organisation that does not answer is in `missing` with its error; if none does, the first error is raised.
    """
    answers = await asyncio.gather(*(_told(one, timeout_s) for one in matchers.values()), return_exceptions=True)
    told: dict[Party, tuple[Budget, ...]] = {}
    missing: dict[Party, VeilmatchError] = {}
    for party, answer in zip(matchers, answers, strict=True):
        if isinstance(answer, VeilmatchError):
            missing[party] = answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            told[party] = answer
    if not told:
        raise next(iter(missing.values()), None) or UnavailableError("no matcher is configured", expected="[matchers]")
    return Budgets(
        pairs={pair: _smaller(told[pair[0]], told[pair[1]]) for pair in pairs if not set(pair) & set(missing)},  # type: ignore[index]
        organisations=told,
        missing=missing,
    )


async def _told(matcher: Matcher, timeout_s: float) -> tuple[Budget, ...]:
    """Return what a matcher says. Raises VersionError if it is of before, IntegrityError for what has no sense."""
    hello = await matcher.speaks(timeout_s)
    if hello is not None and not hello.has(Feature.DEVICE_BUDGETS):
        raise VersionError(
            f"{matcher.party} has to be updated: it does not tell what is left of budgets",
            got=f"{matcher.party} without {Feature.DEVICE_BUDGETS}",
            expected=str(Feature.DEVICE_BUDGETS),
            party=matcher.party,
        )
    return _read(await matcher.budgets(timeout_s), matcher.party)


def _read(reply: matcher_pb2.BudgetsReply, party: str) -> tuple[Budget, ...]:
    found: dict[tuple[int, int], Budget] = {}
    for one in reply.budgets:
        if one.measure not in MEASURES or one.window not in WINDOWS:
            continue
        if not (math.isfinite(one.eases_s) and one.eases_s >= 0):
            raise IntegrityError(f"{party} says of a budget what has no sense", got=one.window, party=party)
        place = MEASURES.index(one.measure), WINDOWS.index(one.window)
        left = max(0, one.limit - one.used)
        found[place] = Budget(one.measure, one.window, one.limit, left, one.eases_s)
    return tuple(found[place] for place in sorted(found))


def _smaller(one: tuple[Budget, ...], other: tuple[Budget, ...]) -> tuple[Budget, ...]:
    """Return of each budget that either organisation has the one with less left: both have to serve."""
    found: dict[tuple[str, str], Budget] = {}
    for budget in (*one, *other):
        known = found.setdefault((budget.measure, budget.window), budget)
        if (budget.left, -budget.eases_s) < (known.left, -known.eases_s):
            found[budget.measure, budget.window] = budget
    return tuple(sorted(found.values(), key=lambda b: (MEASURES.index(b.measure), WINDOWS.index(b.window))))
