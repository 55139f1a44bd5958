"""Small solutions of linear equations mod N: lattice reduction in exact integers, for a handful of unknowns.

Lenstra, Lenstra, Lovasz, 1982, as in Cohen, "A Course in Computational Algebraic Number Theory", algorithm 2.6.7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer, invert

Row = list[Integer]


@dataclass(frozen=True)
class Relation:
    """sum coefficients[name] * name = value mod N, over named unknowns."""

    coefficients: Mapping[str, Integer]
    value: Integer


def small_solution(relations: Sequence[Relation], bits: Mapping[str, int], N: Integer) -> dict[str, Integer] | None:
    """Return the unknowns of all relations with 0 <= x < 2^bits[x], or None if the shortest vectors hold none.

    Unknowns that `bits` does not name are of any size: each takes one relation. The others are found if all of their
    bits together are clearly fewer than those of the relations that are left.
    """
    names = sorted({name for relation in relations for name in relation.coefficients} - bits.keys()) + list(bits)
    large = len(names) - len(bits)
    rows = [
        [*(relation.coefficients.get(name, Integer(0)) for name in names), relation.value] for relation in relations
    ]
    pivots = _solve(rows, large, N)
    small = _closest([row[large:] for row in rows[large:]], [p - large for p in pivots[large:]], list(bits.values()), N)
    if small is None:
        return None
    rest = [(row[-1] - _dot(row[large:-1], small)) % N for row in rows[:large]]
    return dict(zip([*(names[p] for p in pivots[:large]), *names[large:]], rest + small, strict=True))


def _closest(rows: list[Row], pivots: list[int], bits: list[int], N: Integer) -> list[Integer] | None:
    """Return the x of so many bits that satisfies solved relations, if a short vector shows it. Kannan's embedding."""
    weights = [Integer(1) << (max(bits) - size) for size in bits]
    mark, basis = Integer(1) << max(bits), []
    # Everything is doubled, so that the middle of each range is an integer. Rows of N first.
    for i in sorted(range(len(bits)), key=lambda i: i not in pivots):
        vector = [Integer(0)] * (len(bits) + 1)
        if i in pivots:
            vector[i] = 2 * N * weights[i]
        else:
            vector[i] = 2 * weights[i]
            for pivot, row in zip(pivots, rows, strict=True):
                vector[pivot] = -2 * row[i] * weights[pivot]
        basis.append(vector)
    offset = [-w << size for w, size in zip(weights, bits, strict=True)] + [mark]
    for pivot, row in zip(pivots, rows, strict=True):
        offset[pivot] += 2 * row[-1] * weights[pivot]
    for found in reduced([*basis, offset]):
        if abs(found[-1]) == mark:
            sign = 1 if found[-1] > 0 else -1
            x = [(sign * v // w + (1 << size)) // 2 for v, w, size in zip(found, weights, bits, strict=False)]
            if all(0 <= v < 1 << size for v, size in zip(x, bits, strict=True)):
                return x
    return None


def reduced(rows: Sequence[Row]) -> list[Row]:
    """Return an LLL-reduced basis (3/4) of the lattice of these independent rows."""
    basis = _Basis([list(row) for row in rows])
    k = 1
    while k < len(rows):
        basis.reduce(k, k - 1)
        if basis.swaps(k):
            k = max(1, k - 1)
            continue
        for other in range(k - 2, -1, -1):
            basis.reduce(k, other)
        k += 1
    return basis.rows


class _Basis:
    """Rows with their Gram-Schmidt coefficients in integers: lam[i][j] = d[j+1] * mu[i][j], d[j] a Gram determinant."""

    def __init__(self, rows: list[Row]) -> None:
        n = len(rows)
        self.rows = rows
        self._d = [Integer(1)] * (n + 1)
        self._lam = [[Integer(0)] * n for _ in range(n)]
        for i in range(n):
            for j in range(i + 1):
                u = _dot(rows[i], rows[j])
                for h in range(j):
                    u = (self._d[h + 1] * u - self._lam[i][h] * self._lam[j][h]) // self._d[h]
                if j < i:
                    self._lam[i][j] = u
                else:
                    self._d[i + 1] = u

    def reduce(self, k: int, other: int) -> None:
        """Take the nearest multiple of another row from row k."""
        d, lam = self._d[other + 1], self._lam
        if 2 * abs(lam[k][other]) <= d:
            return
        q = (2 * lam[k][other] + d) // (2 * d)
        self.rows[k] = [x - q * y for x, y in zip(self.rows[k], self.rows[other], strict=True)]
        lam[k][other] -= q * d
        for i in range(other):
            lam[k][i] -= q * lam[other][i]

    def swaps(self, k: int) -> bool:
        """Swap rows k and k-1 if that makes the earlier one shorter by a quarter; whether it did."""
        d, lam, m = self._d, self._lam, self._lam[k][k - 1]
        swapped = (d[k - 1] * d[k + 1] + m * m) // d[k]
        if 4 * (d[k - 1] * d[k + 1] + m * m) >= 3 * d[k] * d[k]:
            return False
        self.rows[k], self.rows[k - 1] = self.rows[k - 1], self.rows[k]
        lam[k][: k - 1], lam[k - 1][: k - 1] = lam[k - 1][: k - 1], lam[k][: k - 1]
        for i in range(k + 1, len(self.rows)):
            old = lam[i][k]
            lam[i][k] = (d[k + 1] * lam[i][k - 1] - m * old) // d[k]
            lam[i][k - 1] = (swapped * old + m * lam[i][k]) // d[k + 1]
        d[k] = swapped
        return True


def _solve(rows: list[Row], large: int, N: Integer) -> list[int]:
    """Give each relation an unknown that only it has, with coefficient 1, the first `large` ones first. Gauss, Jordan.

    Returns which. N has no small factors.
    """
    pivots: list[int] = []
    for at, row in enumerate(rows):
        pivot = at if at < large else next(i for i in range(large, len(row) - 1) if row[i] % N)
        if not row[pivot] % N:  # a large unknown that a later relation has
            other = next(other for other in rows[at + 1 :] if other[pivot] % N)
            row[:], other[:] = other[:], row[:]
        inverse = invert(row[pivot] % N, N)
        row[:] = [x * inverse % N for x in row]
        for other in rows:
            if other is not row and (factor := other[pivot]):
                other[:] = [(x - factor * y) % N for x, y in zip(other, row, strict=True)]
        pivots.append(pivot)
    return pivots


def _dot(x: Sequence[Integer], y: Sequence[Integer]) -> Integer:
    return sum((a * b for a, b in zip(x, y, strict=True)), Integer(0))
