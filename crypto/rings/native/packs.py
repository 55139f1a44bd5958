"""Packs of a gallery on the native kernel: side by side in the lanes of groups, and compressed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy

import numpy as np

from veilmatch.crypto.arithmetic import Integer, to_bytes
from veilmatch.crypto.rings.native.groups import Groups
from veilmatch.crypto.rings.native.limbs import Limbs, empty, empty_bytes, one_by_one, side_by_side
from veilmatch.crypto.rings.programs import Program, compile_program


class NativePackGroup:
    """As many packs as there are lanes, side by side and compressed. An empty lane holds zeros."""

    def __init__(self, ring: Groups, dimension: int) -> None:
        self._ring = ring
        self._dimension = dimension
        nothing = empty(ring.group_shape(dimension))
        nothing[...] = 0
        self._rows = ring.compress(nothing)

    def put(self, lane: int, pack: Sequence[Integer]) -> None:
        """Keep a pack of D numbers in a lane."""
        self.load({lane: b"".join(to_bytes(c, self._ring.number_bytes) for c in pack)})

    def load(self, packs: Mapping[int, bytes]) -> None:
        """Keep packs in their lanes, each D big-endian numbers of 2*|N| bytes."""
        groups = empty(self._ring.group_shape(self._dimension))
        if len(packs) < self._ring.lanes:
            groups = self._ring.expand(self._rows, self._dimension)
        for lane, pack in packs.items():
            groups[:, :, :, lane] = one_by_one(self._ring.enter_bytes(pack), self._dimension)
        self._ring.compress(groups, self._rows)

    def get(self, lane: int) -> list[Integer]:
        """Return the pack of a lane."""
        values = np.ascontiguousarray(self._ring.expand(self._rows, self._dimension)[:, :, :, lane])
        return self._ring.leave(side_by_side(values, self._ring.lanes), self._dimension)

    def copy(self) -> NativePackGroup:
        """Return a group with the same packs."""
        twin = copy(self)
        twin._rows = empty_bytes(self._rows.nbytes)
        twin._rows[:] = self._rows
        return twin

    def products_of_powers(self, exponents: Sequence[int], exponent_bits: int) -> list[Integer]:
        """Return prod pack[i]^exponents[i] of every lane, 0 for an empty one; 0 <= exponents[i] < 2^exponent_bits."""
        return self._leave(self.run(compile_program(exponents, exponent_bits), range(self._ring.lanes)))

    def products(self, compiled: bytes, lanes: Sequence[int]) -> list[Integer]:
        """Return what a program of `NativeRing.compile` makes of the packs of these lanes, in their order."""
        return self._leave(self.run(Program.from_bytes(compiled), lanes))

    def run(self, program: Program, lanes: Sequence[int]) -> Limbs:
        """Return what a program makes of the packs of these lanes, uint64[len(lanes), 2, n]."""
        on, first = self._working_on(lanes)
        if program.result is None:
            out = on.ones()
        elif len(program.steps):
            out = on.run(self._rows, self._ring.lanes, first, program)
        else:  # a base as it is
            on, first = self._ring, 0
            out = self._base(program.result)
        numbers: Limbs = one_by_one(out, on.lanes)[[lane - first for lane in lanes]]
        return numbers

    def _leave(self, numbers: Limbs) -> list[Integer]:
        parts = self._ring.parts(len(numbers))
        return [x for on, part in parts for x in on.leave(side_by_side(numbers[part], on.lanes), len(numbers[part]))]

    def _working_on(self, lanes: Sequence[int]) -> tuple[Groups, int]:
        """Return the narrowest backend that has all these lanes in one group, and the first lane of it."""
        few = self._ring.few
        if few is None or len({lane // few.lanes for lane in lanes}) != 1:
            return self._ring, 0
        return few, lanes[0] // few.lanes * few.lanes

    def _base(self, number: int) -> Limbs:
        bases: Limbs = self._ring.expand(self._rows, self._dimension)
        return bases[number : number + 1]
