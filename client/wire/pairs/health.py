"""Which pairs a client tries last, because one of their organisations failed a short while ago.

Two kinds of failure are remembered, so that an outage costs one wait and not one a call.

A *matcher* that cannot be reached, or gives no sign of life, is lost: this end knows by itself. Pairs with its
organisation are tried last until somebody finds it again, see lookout.py.

Whatever else failed is the word of one matcher: about the key holder of its organisation, about another organisation.
Pairs that the error does without come first for 30 s. Then one call tries the pair of the settings again, while others
still go round it; if it fails, the next time is twice as long, up to five minutes. An error that says when its cause
will be over, as stock that is being dealt, can make the first time shorter, and nothing makes it longer.

A pair that says that it has too much to do is waited for, and not gone round: another one may have as much to do. But
who says so without end must not keep a device from the others. So the second time in a row counts like a failure of
that pair.

Nobody is ever left out: where only such pairs are left, they are tried. Used in one event loop.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from veilmatch.crypto.errors import DealtStockError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PAIRS, Pair, Party

#: How long a pair is tried last after its first failure, and at most.
FIRST_S, LONGEST_S = 30.0, 300.0
#: A call asks again once where there is too much to do; then the next one tries another pair first.
_REFUSALS = 2


@dataclass(slots=True)
class _Suspicion:
    """What one failure says about some pairs; they share it, as they share the organisation that failed."""

    seconds: float = 0.0
    until: float = 0.0

    def last(self, now: float, seconds: float) -> None:
        """Let it last for so long from now."""
        self.seconds = min(seconds, LONGEST_S)
        self.until = now + self.seconds


class PairHealth:
    """The pairs as one client knows them. now: a monotonic clock, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._suspected: dict[Pair, _Suspicion] = {}
        self._lost: set[Party] = set()
        #: How often in a row a pair has had too much to do.
        self._refusals: Counter[Pair] = Counter()

    def in_order(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Return the pairs in the order in which the next call tries them.

        If the first is one whose time is over, that call finds out about it: later ones go round it until then.
        """
        order = self.likely(pairs)
        suspicion = self._suspected.get(order[0])
        if suspicion is not None and not self._is_avoided(order[0]):
            suspicion.last(self._now(), 2 * suspicion.seconds)
        return order

    def likely(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Return the pairs in the same order, for whoever does not ask for it to find out about one."""
        return sorted(pairs, key=lambda pair: (len(self._lost & set(pair)), self._is_avoided(pair)))

    def failed(self, pair: Pair, error: VeilmatchError) -> None:
        """Note an error of this pair that names others; those that it does not name share the blame."""
        if self._is_avoided(pair):
            # Another call said so before, or this one was to find out.
            return
        self._suspect([other for other in PAIRS if other == pair or other not in error.alternatives], _first_s(error))

    def overloaded(self, pair: Pair) -> None:
        """Note that this pair has said that it has too much to do, whoever of it that is about."""
        self._refusals[pair] += 1
        if self._refusals[pair] >= _REFUSALS and not self._is_avoided(pair):
            self._suspect([pair], FIRST_S)

    def deviated(self, pair: Pair) -> None:
        """Note that a deviation in this pair was reported after the call had ended."""
        self._suspect([pair], FIRST_S)

    def served(self, pair: Pair) -> None:
        """Note that both organisations of this pair have answered."""
        self._lost -= set(pair)
        del self._refusals[pair]
        suspicion = self._suspected.get(pair)
        if suspicion is not None:
            self._suspected = {other: one for other, one in self._suspected.items() if one is not suspicion}

    def lost(self, party: Party) -> None:
        """Note that the matcher of an organisation gives no sign of life."""
        self._lost.add(party)

    def found(self, party: Party) -> None:
        """Note that the matcher of an organisation is there again."""
        self._lost.discard(party)

    def _suspect(self, pairs: Sequence[Pair], seconds: float) -> None:
        suspicion = _Suspicion()
        suspicion.last(self._now(), seconds)
        self._suspected |= dict.fromkeys(pairs, suspicion)

    def _is_avoided(self, pair: Pair) -> bool:
        suspicion = self._suspected.get(pair)
        return suspicion is not None and self._now() < suspicion.until


def _first_s(error: VeilmatchError) -> float:
    """Return how long a pair is tried last after this error. Only for missing parties and stock can an error tell."""
    says_when = type(error) is UnavailableError or isinstance(error, DealtStockError)
    return min(FIRST_S, error.retry_after_s) if says_when and error.retry_after_s is not None else FIRST_S
