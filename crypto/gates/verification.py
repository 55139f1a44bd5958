"""The verification gate: does a shared probe reach the threshold with any of a subject's shared templates?

All vectors were converted together, and each is q_plus - q_minus lane by lane, mod 2^64 where nothing carries or wraps.
The score of the probe q with a template x is then an inner product of what each holder knows,

    <q, x> = sum (q_plus - q_minus)(x_plus - x_minus)
           = sum q_plus x_plus + q_minus x_minus - q_plus x_minus - x_plus q_minus,

one layer of dealt products mod 2^64. Of score - threshold the lowest k - 1 bits are compared (`lookup.reaches`): it
lies within 2^(k-2) for vectors of the set, and has no carry, as nothing was cut out of a slot. Beside that runs the
validity gate, for the probe and for those records that a device encrypted; the others are valid or zero by
construction, and zero reaches no threshold.

The answer is valid probe AND (OR over the templates: reaches AND valid record). Bits of a few templates at a time
become one in a layer, by a table of the other holder's bits (lookup.py), and the last of them takes the validity of the
probe in: five layers for up to 64 templates that matchers made, or up to 4 that a device encrypted. docs/protocol.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.dealing import Products
from veilmatch.crypto.gates.boolean import Circuit, Evaluator, Layer, Wire, together
from veilmatch.crypto.gates.lookup import Bits, lookup, lookup_cost, reaches, reaches_cost
from veilmatch.crypto.gates.multiplication import Multiplication, multiply
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet

#: Bits that one table takes, beside the validity of the probe.
_AT_ONCE = 8


def inner_products(
    probe: Array, templates: Array, parameters: ParameterSet, products: Products, *, is_plus: bool
) -> Multiplication:
    """One layer: return shares mod 2^64 of the score of a probe with each of n templates, uint64[n].

    probe, templates: this holder's lanes of them, int64[D] and int64[n*D]. products: `inner_products_cost` of them.
    """
    offset = parameters.offset if is_plus else 0
    q = (probe - offset).astype(np.uint64)
    x = (templates - offset).astype(np.uint64).reshape(-1, parameters.dimension)
    of_probe = np.tile(q, len(x))
    known = np.concatenate([of_probe, x.ravel()] if is_plus else [x.ravel(), of_probe])
    crossed = yield from multiply(known, products, is_plus=is_plus)
    own = q * x if is_plus else np.uint64(0) - q * x
    return np.asarray((own - crossed.reshape(2, *x.shape).sum(axis=0)).sum(axis=1), dtype=np.uint64)


def inner_products_cost(templates: int, dimension: int) -> int:
    """Return how many products `inner_products` uses."""
    return 2 * templates * dimension


def reached(
    probe: Array,
    templates: Array,
    threshold: int,
    parameters: ParameterSet,
    products: Products,
    evaluator: Evaluator,
) -> Circuit:
    """Circuit: return shares of "score >= threshold" of each template, uint8[n] of 0 or 1; three layers up to k = 22.

    probe, templates, products: of `inner_products`. Uses `reached_cost` triple bytes.
    """
    is_plus, bits = evaluator.is_plus, parameters.ring_bits - 1
    scores = yield from inner_products(probe, templates, parameters, products, is_plus=is_plus)
    inputs = scores - np.uint64(threshold) if is_plus else np.uint64(0) - scores
    return (yield from reaches((inputs & np.uint64((1 << bits) - 1)).astype(np.int64), bits, evaluator))


def any_reached(validity: Circuit, reaching: Circuit, gated: NDArray[np.bool_], evaluator: Evaluator) -> Layer:
    """Circuit: return shares of the answer, one bit, and of the validity of the probe, each in the lowest of one byte.

    validity: the circuit of the validity of the probe, and after it of the records that are gated, packed. reaching:
    that of `reached`. gated: bool[n], which of the n records are. Uses `any_reached_cost` triple bytes beside theirs.
    """
    # Nothing waits for a gate that is not there.
    alone = reaching if gated.any() else _joined_alone(reaching, evaluator)
    packed, found = yield from together(validity, alone)
    valid = np.unpackbits(packed, count=1 + int(gated.sum()), bitorder="little")
    rows = found[None]
    if gated.any():
        # Every record has a bit beside its own, which is one where there is no gate.
        of_records = np.full(len(gated), evaluator.is_plus, dtype=np.uint8)
        of_records[gated] = valid[1:]
        rows = yield from _joined(np.stack([found, of_records]), evaluator)
    answer = yield from _any(rows, valid[:1], evaluator)
    return [answer, valid[:1]]


def any_reached_cost(templates: int, *, gated: bool) -> int:
    """Return how many triple bytes `any_reached` uses for so many templates, of which some are gated or none."""
    used, height = 0, 1 + gated
    while height * templates > _AT_ONCE:
        sizes = _sizes(height, templates)
        used += sum(lookup_cost(1, height * size, 1) for size in sizes)
        height, templates = 1, len(sizes)
    return used + lookup_cost(1, height * templates + 1, 1)


def reached_cost(templates: int, parameters: ParameterSet) -> int:
    """Return how many triple bytes `reached` uses."""
    return reaches_cost(templates, parameters.ring_bits - 1)


def _joined_alone(reaching: Circuit, evaluator: Evaluator) -> Circuit:
    found = yield from reaching
    return np.asarray((yield from _joined(found[None], evaluator))[0])


def _joined(rows: Bits, evaluator: Evaluator) -> Circuit:
    """Circuit: as few columns as one table takes of which one is all one if and only if one of the given ones is.

    rows: shares, uint8[height, n] of 0 or 1.
    """
    while rows.size > _AT_ONCE:
        ends = np.cumsum(_sizes(*rows.shape))[:-1]
        none = np.zeros(0, dtype=np.uint8)
        rows = np.stack([
            np.concatenate(
                (yield from together(*(_any(group, none, evaluator) for group in np.split(rows, ends, axis=1))))
            )
        ])  # fmt: skip
    return rows


def _sizes(height: int, columns: int) -> list[int]:
    """How many columns become one, in each of the groups of a layer."""
    step = _AT_ONCE // height
    return [min(step, columns - at) for at in range(0, columns, step)]


def _any(rows: Bits, valid: Bits, evaluator: Evaluator) -> Circuit:
    """One layer: return shares of whether a column is all one, and `valid` is, uint8[1] of 0 or 1.

    rows: shares, uint8[height, n] of 0 or 1. valid: shares, uint8[1], or uint8[0] if that is not asked.
    """
    height, columns = rows.shape
    bits: Wire = np.concatenate([rows.T.ravel(), valid])
    mine = np.array([int(bits.astype(np.int64) @ (1 << np.arange(len(bits))))])

    def tables(values: Array) -> NDArray[np.bool_]:
        both, whole = values ^ mine, (1 << height) - 1
        found = np.any([both >> height * at & whole == whole for at in range(columns)], axis=0)
        return np.asarray(found & ((both >> height * columns == 1) | (not len(valid))))[None]

    return np.asarray((yield from lookup(mine, len(bits), 1, tables, evaluator))[0])
