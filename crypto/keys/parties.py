"""The three organisations and their pairs.

Organisations a, b, c form the pairs ab, ac and bc; the first letter of a pair is its plus holder, the second its minus
holder, and the third organisation is its dealer. docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from veilmatch.crypto.errors import ParameterError

Party = Literal["a", "b", "c"]
"""An organisation."""
Pair = Literal["ab", "ac", "bc"]
"""Two organisations that answer together: the plus holder, then the minus holder."""
PARTIES: tuple[Party, ...] = ("a", "b", "c")
PAIRS: tuple[Pair, ...] = ("ab", "ac", "bc")


def other_party(pair: Pair, party: Party) -> Party:
    """Return the other holder of `pair`. Raises ParameterError if `party` is not in it."""
    if party not in pair:
        raise ParameterError("not a holder of this pair", got=party, expected=pair)
    return next(p for p in PARTIES if p in pair and p != party)


def dealer_of(pair: Pair) -> Party:
    """Return the key holder outside `pair`, which deals its correlated randomness."""
    return next(p for p in PARTIES if p not in pair)


def pairs_of(party: Party) -> tuple[Pair, ...]:
    """Return the two pairs in which `party` is a holder."""
    return tuple(pair for pair in PAIRS if party in pair)


def pairs_among(parties: Collection[Party]) -> tuple[Pair, ...]:
    """Return the pairs that serve where only these organisations have a matcher."""
    return tuple(pair for pair in PAIRS if all(party in parties for party in pair))


def pairs_without(party: Party) -> tuple[Pair, ...]:
    """Return the pairs that can serve while `party` is down."""
    return tuple(pair for pair in PAIRS if party not in pair)
