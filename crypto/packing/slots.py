"""Slots: the same coordinate, or the score, of many identities in one ciphertext. docs/parameters.md.

Coordinate ciphertext i of a pack holds sum_j 2*x_(j,i) * 2^(B*j) over its slots j. The factor 2
makes the score of a slot even, so that the carry of a conversion cannot change a comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import Words
from veilmatch.crypto.errors import ParameterError
from veilmatch.crypto.packing.fields import Array, cut, join
from veilmatch.crypto.parameters import ParameterSet


def pack(templates: Array, parameters: ParameterSet) -> list[Integer]:
    """Return the D plaintexts of one pack of up to `slots` templates, int64[n, D] in [-c, c]."""
    if templates.ndim != 2 or templates.shape[1] != parameters.dimension or len(templates) > parameters.slots:
        raise ParameterError(
            "templates do not fit a pack",
            got=templates.shape,
            expected=f"(<={parameters.slots}, {parameters.dimension})",
        )
    return [join((2 * column).tolist(), parameters.slot_bits) for column in templates.T]


def lane_column(
    lanes: Words, slot: int, parameters: ParameterSet, *, is_plus: bool, erase: bool = False
) -> list[Integer]:
    """Return this holder's part of one template's column, D integers to be encrypted and multiplied in.

    lanes: this holder's part of each lane, uint64[D], used as integers and never reduced mod 2^k: the parts of
    both add up to exactly 2*x * 2^(B*slot). erase: the negative of it.
    """
    factor = -2 if erase else 2
    shift = parameters.slot_bits * slot
    values = ((value - parameters.offset) if is_plus else -value for value in lanes.tolist())
    return [Integer(factor * value) << shift for value in values]


def half(parameters: ParameterSet) -> Integer:
    """Return sum_j 2^(B-1) * 2^(B*j): added to the scores so that no slot is negative."""
    return join([1 << (parameters.slot_bits - 1)] * parameters.slots, parameters.slot_bits)


def unpack(shares: Sequence[Integer], parameters: ParameterSet) -> Array:
    """Return this holder's slots mod 2^k, int64[packs, slots], from its w of every result.

    The difference of both holders' slots is 2*score + carry mod 2^k, carry in {0, 1}.
    """
    return cut(shares, parameters.slot_bits, parameters.slots, parameters.ring_bits)
