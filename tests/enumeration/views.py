"""Views, the distance between their distributions, and the cases that the table lists."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
#: The three organisations of a session, and what a row of the table calls them.
PLUS_VIEW, MINUS_VIEW, DEALER_VIEW = "plus holder", "minus holder", "dealer"


class ViewsDifferError(AssertionError):
    """An organisation can tell two secrets apart better than it may."""


@dataclass(frozen=True)
class Views:
    """What is seen, int64[secrets, outcomes]: a row for each secret, a number for each of equally likely outcomes.

    Equal numbers stand for equal views. Outcomes run over all that the organisation does not know, and over
    as much as is said of what it holds: equal joint distributions are equal ones given what it holds. may_know: of
    each row, what the organisation learns of its secret rightfully, or what it did and saw; only rows with equal ones
    are compared.
    """

    codes: Codes
    may_know: tuple[Hashable, ...] = ()

    @staticmethod
    def of(seen: Sequence[Sequence[Hashable]], may_know: tuple[Hashable, ...] = ()) -> Views:
        """The same from any values that can be compared, as a list of outcomes for each secret."""
        numbers: dict[Hashable, int] = {}
        return Views(np.array([[numbers.setdefault(view, len(numbers)) for view in row] for row in seen]), may_know)

    @property
    def count(self) -> int:
        """How many views were compared."""
        return self.codes.size

    def distance(self) -> Fraction:
        """The largest statistical distance between the distributions of any two secrets."""
        groups: dict[Hashable, list[int]] = {}
        for i, known in enumerate(self.may_know or (None,) * len(self.codes)):
            groups.setdefault(known, []).append(i)
        return max(_distance(self.codes[group]) for group in groups.values())

    def require(self, bound: Fraction = Fraction(0)) -> None:
        """Raise ViewsDifferError if two secrets are further apart than `bound`."""
        if (found := self.distance()) > bound:
            raise ViewsDifferError(f"two secrets are {found} apart, not {bound}")


def _distance(codes: Codes) -> Fraction:
    secrets, outcomes = codes.shape
    values, places = np.unique(codes, return_inverse=True)
    at = places.reshape(secrets, outcomes) + len(values) * np.arange(secrets)[:, None]
    counts = np.bincount(at.ravel(), minlength=secrets * len(values)).reshape(secrets, len(values))
    if (counts == counts[0]).all():
        return Fraction(0)
    worst = max(int(np.abs(counts - row).sum(axis=1).max()) for row in counts)
    return Fraction(worst, 2 * outcomes)


@dataclass(frozen=True)
class Case:
    """A line of the table: who sees what, and how far two secrets may be apart."""

    block: str
    organisation: str
    #: What it holds or does, beside what the block makes it see.
    holds: str
    views: Callable[[], Views]
    #: Exactly how far apart the worst two secrets are.
    distance: Fraction = field(default=Fraction(0))
    formula: str = "0"


def joined(*parts: tuple[NDArray[np.generic], int]) -> Codes:
    """One number for several: each array with how many values it can have."""
    code, size = np.zeros(np.broadcast_shapes(*(part.shape for part, _ in parts)), dtype=np.int64), 1
    for part, values in parts:
        code = code + part.astype(np.int64) * size
        size *= values
    assert size < 1 << 63, "these do not fit one number"
    return code


def assignments(sizes: Mapping[str, int]) -> dict[str, Codes]:
    """Every assignment of some variables, each below its size: int64[product of sizes] for each of them."""
    grids = np.indices(tuple(sizes.values())).reshape(len(sizes), -1)
    return dict(zip(sizes, grids.astype(np.int64), strict=True))
