"""How long a holder waits after a check of dealt blocks that failed, before it takes part in the next one of that pair.

A failed check drops its block and names a party: the dealer, or the other holder of the pair. It may name the wrong one
of the two (crypto/dealing/check.py), so nobody is refused for ever. Stock that is already here is served meanwhile.

The wait doubles with every failure for which the same party is named, from FIRST_WAIT_S to LONGEST_WAIT_S. A check that
succeeds resets it, but no sooner than LONGEST_WAIT_S after the last failure: otherwise a dealer could deal a good block
after each bad one, and try again at once. Whoever is named, all checks of the pair wait. Three kinds at once
included, no name fails more than 207 times a day (tests/keyholder/stock/test_standing.py). A dealer can choose which of
two is named; a wrong block passes with 2^-45; that is 2^-28 a year. A dealer that keeps silent when it hears the coin
has failed as well: by then it can tell whether its block would pass. So has one that dies at that moment, which nobody
can tell from silence; the first wait is as long as its next start takes, because right after a refresh there is no
stock to go on with. Nobody has failed in a check that ends with its stock (stock.py). A dealer that leads as many
refreshes as it may (refresh/pace.py) can end three checks by each: 2^-27 a year with these.

It is kept in memory: a restart forgets it. docs/security-argument.md; docs/decisions/0014-dealt-blocks-are-checked.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from veilmatch.crypto.dealing import BlockName
from veilmatch.crypto.errors import DealtStockError, UnavailableError, VeilmatchError
from veilmatch.server.ground.own_failures import said
from veilmatch.server.monitoring import meters

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 3600.0

#: What a check can fail with: both have `party` and `retry_after_s`.
Failure = DealtStockError | UnavailableError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Failed:
    """failures: in a row. last_s, until_s: on the clock of the standing."""

    failures: int
    last_s: float
    until_s: float
    error: Failure


class Standing:
    """Of the two other parties of the checks of one pair, for all kinds of stock."""

    def __init__(self, names: Collection[str], now: Callable[[], float] = time.monotonic) -> None:
        """names: the other holder of the pair, and its dealer."""
        self._names = names
        self._now = now
        self._failed: dict[str, _Failed] = {}

    def require_good(self) -> None:
        """Raise the error of the failure that keeps checks waiting longest, if one does."""
        if self._failed:
            longest = max(self._failed.values(), key=lambda failed: failed.until_s)
            if (wait_s := longest.until_s - self._now()) > 0:
                raise _again(longest.error, wait_s)

    def lose(self, at: BlockName, error: Failure) -> VeilmatchError:
        """Note that the check of a block has failed, and return the error with the time of the next one in it.

        Raises ValueError if it names neither of the two.
        """
        name = error.party
        if name is None or name not in self._names:
            raise ValueError("a failed check that names none of the two who may have failed it")
        now, before = self._now(), self._failed.get(name)
        failures = 1 if before is None else before.failures + 1
        wait_s = FIRST_WAIT_S
        for _ in range(failures - 1):
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        self._failed[name] = _Failed(failures, now, now + wait_s, error)
        meters.block_refused(at.pair, at.kind, name)
        _log.error(
            "dealt block refused", pair=at.pair, block=f"{at.kind} {at.number}", named=name, code=error.code,
            reason=error.message, failures=failures, retry_after_s=wait_s,
        )  # fmt: skip
        return _again(error, wait_s)

    def win(self) -> None:
        """Note that a check has succeeded."""
        forgotten = self._now() - LONGEST_WAIT_S
        self._failed = {party: failed for party, failed in self._failed.items() if failed.last_s > forgotten}


def _again(error: Failure, retry_after_s: float) -> VeilmatchError:
    """Return the error as it is now: the same, with another time to wait. It was logged when the block was lost."""
    return said(VeilmatchError.from_fields(error.fields() | {"retry_after_s": round(retry_after_s, 1)}))
