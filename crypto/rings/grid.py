"""Exponents of many bases that are products of few numbers, and prod base^exponent by them.

Bases stand in rows of eight, and the exponent of one is the weight of its row times the weight of its column. So the
product is that of its columns, prod over rows of base^row, each to the weight of the column. On the kernel a row is a
group, or two of four lanes, and one program of products serves all columns at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

#: On every backend: who computes with a grid may be told of it by a party on another one.
WIDTH = 8
#: Of the weight of a row or a column.
WEIGHT_BYTES = 8


@dataclass(frozen=True, slots=True)
class Grid(Sequence[int]):
    """The exponents rows[i // WIDTH] * columns[i % WIDTH] for i in 0..size. Public.

    rows: as many weights as `size` needs; columns: WIDTH of them; all in [0, 2^64).
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    size: int

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self[i] for i in range(self.size)[index]]
        row, column = divmod(range(self.size)[index], WIDTH)
        return self.rows[row] * self.columns[column]


def rows_of(count: int) -> int:
    """Return how many rows `count` bases fill."""
    return -(-count // WIDTH)
