"""The verification gate: does a shared probe reach the threshold with any of a subject's shared templates?

All vectors were converted together, and each is q_plus - q_minus lane by lane, mod 2^64 where nothing carries or wraps.
The score of the probe q with a template x is then an inner product of what each holder knows,

    <q, x> = sum (q_plus - q_minus)(x_plus - x_minus)
           = sum q_plus x_plus + q_minus x_minus - q_plus x_minus - x_plus q_minus,

one layer of dealt products mod 2^64. Of score - threshold the lowest k - 1 bits are compared (`lookup.reaches`): it
lies within 2^(k-2) for vectors of the set, and has no carry, as nothing was cut out of a slot. Beside that runs the
validity gate, for the probe and for those records that a device encrypted; the others are valid or zero by
construction, and zero reaches no threshold.

The answer is valid probe AND (OR over the templates: reaches AND valid record). With several views of the probe it is
the same over all of "a view with a template", and the probe is valid if all views are. Bits of a few templates at a
time become one in a layer, by a table of the other holder's bits (lookup.py), and the last of them takes the validity
of the probe in: five layers for up to 64 templates that matchers made, or up to 4 that a device encrypted.
docs/protocol.md.

Verifications that go together are computed side by side, a column each: those with as many templates share a table.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.dealing import Products
from veilmatch.crypto.gates.boolean import Circuit, Evaluator, Layer, together
from veilmatch.crypto.gates.lookup import (
    Bits,
    Lookup,
    all_one,
    as_numbers,
    lookup_cost,
    lookups,
    reaches,
    reaches_cost,
)
from veilmatch.crypto.gates.multiplication import Multiplication, multiply
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet

#: Bits that one table takes, beside the validity of the views of the probe.
_AT_ONCE = 8


def inner_products(
    probes: Array, templates: Array, parameters: ParameterSet, products: Products, *, is_plus: bool
) -> Multiplication:
    """One layer: return shares mod 2^64 of the score of each of n templates with its probe, uint64[n].

    probes, templates: this holder's lanes of them, int64[n*D] each; int64[D] is one probe of all. products:
    `inner_products_cost` of them.
    """
    offset = parameters.offset if is_plus else 0
    x = (templates - offset).astype(np.uint64).reshape(-1, parameters.dimension)
    q = np.broadcast_to((probes - offset).astype(np.uint64).reshape(-1, parameters.dimension), x.shape)
    known = np.concatenate([q, x] if is_plus else [x, q]).ravel()
    crossed = yield from multiply(known, products, is_plus=is_plus)
    own = q * x if is_plus else np.uint64(0) - q * x
    return np.asarray((own - crossed.reshape(2, *x.shape).sum(axis=0)).sum(axis=1), dtype=np.uint64)


def inner_products_cost(templates: int, dimension: int) -> int:
    """Return how many products `inner_products` uses."""
    return 2 * templates * dimension


def reached(
    probes: Array,
    templates: Array,
    thresholds: Array,
    parameters: ParameterSet,
    products: Products,
    evaluator: Evaluator,
) -> Circuit:
    """Circuit: return shares of "score >= threshold" of each template, uint8[n] of 0 or 1; three layers up to k = 22.

    probes, templates, products: of `inner_products`. thresholds: int64[n]. Uses `reached_cost` triple bytes.
    """
    is_plus, bits = evaluator.is_plus, parameters.ring_bits - 1
    scores = yield from inner_products(probes, templates, parameters, products, is_plus=is_plus)
    inputs = scores - thresholds.astype(np.uint64) if is_plus else np.uint64(0) - scores
    return (yield from reaches((inputs & np.uint64((1 << bits) - 1)).astype(np.int64), bits, evaluator))


def any_reached(
    validity: Circuit,
    reaching: Circuit,
    gated: Sequence[NDArray[np.bool_]],
    evaluator: Evaluator,
    views: Sequence[int] | None = None,
) -> Layer:
    """Circuit: return shares of the answers of m requests, and of the validity of their probes, uint8[m] of 0 or 1.

    validity: the circuit of the validity of each view of a probe, and after them of those of its records that are
    gated, packed. reaching: that of `reached`, of the records of all, for one view after the other. gated: of each
    request which of these records are, bool[views * n]. views: of each probe; None: one each. Uses `any_reached_cost`
    triple bytes beside theirs.
    """
    of_probe = [1] * len(gated) if views is None else views
    kinds = _kinds(gated, of_probe)
    # Nothing waits for a gate that is not there.
    packed, found = yield from together(validity, _joined_ungated(reaching, kinds, evaluator))
    sizes = [n + int(of_one.sum()) // n for of_one, n in zip(gated, of_probe, strict=True)]
    valid = np.unpackbits(packed, count=sum(sizes), bitorder="little")
    by_request, of_probes = [], []
    for of_request, of_one, n in zip(np.split(valid, np.cumsum(sizes)[:-1]), gated, of_probe, strict=True):
        of_probes.append(of_request[:n])
        by_request.append(_of_records(np.tile(of_request[n:], n), of_one, evaluator))
    rows = []
    for kind, bits in zip(kinds, _by_kind(found, kinds), strict=True):
        if kind.gated:
            # Every record has a bit beside its own, which is one where there is no gate.
            bits = np.concatenate([bits, np.stack([by_request[i] for i in kind.requests], axis=1)[None]])
        rows.append(bits)
    rows = yield from _joined(rows, evaluator)
    valids = [np.stack([of_probes[i] for i in kind.requests], axis=1) for kind in kinds]
    asked = [_any(bits, of_kind) for bits, of_kind in zip(rows, valids, strict=True)]
    # Whether several views are all valid, in the same layer.
    asked += [all_one(as_numbers(of_kind), len(of_kind)) for of_kind in valids if len(of_kind) > 1]
    looked_up = iter((yield from lookups(asked, evaluator)))
    answers, are_valid = np.zeros(len(gated), dtype=np.uint8), np.zeros(len(gated), dtype=np.uint8)
    for kind in kinds:
        answers[kind.requests] = next(looked_up)[0]
    for kind, of_kind in zip(kinds, valids, strict=True):
        are_valid[kind.requests] = next(looked_up)[0] if len(of_kind) > 1 else of_kind[0]
    return [answers, are_valid]


def any_reached_cost(gated: Sequence[NDArray[np.bool_]], views: Sequence[int] | None = None) -> int:
    """Return how many triple bytes `any_reached` uses."""
    used = 0
    for kind in _kinds(gated, [1] * len(gated) if views is None else views):
        height, templates, count = 1 + kind.gated, kind.templates, len(kind.requests)
        while height * templates > _AT_ONCE:
            sizes = _sizes(height, templates)
            used += sum(lookup_cost(count, height * size, 1) for size in sizes)
            height, templates = 1, len(sizes)
        used += lookup_cost(count, height * templates + kind.views, 1)
        used += lookup_cost(count, kind.views, 1) if kind.views > 1 else 0
    return used


def reached_cost(templates: int, parameters: ParameterSet) -> int:
    """Return how many triple bytes `reached` uses."""
    return reaches_cost(templates, parameters.ring_bits - 1)


class _Kind(NamedTuple):
    """Requests of one shape, by place: so many views, so many templates for all of these together, and whether any of
    them is gated.

    columns: of each template of each request its place among all, int64[templates, requests].
    """

    requests: list[int]
    templates: int
    gated: bool
    views: int
    columns: Array

    @property
    def joined(self) -> int:
        """How many bits a request has left when those that need not wait for a gate are joined."""
        left = self.templates
        while not self.gated and left > _AT_ONCE:
            left = len(_sizes(1, left))
        return left


def _kinds(gated: Sequence[NDArray[np.bool_]], views: Sequence[int]) -> list[_Kind]:
    starts = np.cumsum([0, *map(len, gated)])
    found: dict[tuple[int, bool, int], list[int]] = {}
    for place, (of_one, n) in enumerate(zip(gated, views, strict=True)):
        found.setdefault((len(of_one), bool(of_one.any()), n), []).append(place)
    return [
        _Kind(places, templates, any_gated, n, np.arange(templates)[:, None] + starts[places])
        for (templates, any_gated, n), places in found.items()
    ]


def _joined_ungated(reaching: Circuit, kinds: Sequence[_Kind], evaluator: Evaluator) -> Circuit:
    """Circuit: return the bits of all kinds, joined where there is no gate to wait for, one kind after the other."""
    found = yield from reaching
    rows = [found[kind.columns][None] for kind in kinds]
    joined = iter(
        (yield from _joined([bits for kind, bits in zip(kinds, rows, strict=True) if not kind.gated], evaluator))
    )
    return np.concatenate(
        [(bits if kind.gated else next(joined)).ravel() for kind, bits in zip(kinds, rows, strict=True)]
    )


def _by_kind(found: Bits, kinds: Sequence[_Kind]) -> list[Bits]:
    """Return what `_joined_ungated` returns, uint8[1, templates, requests] of each kind."""
    ends = np.cumsum([kind.joined * len(kind.requests) for kind in kinds])[:-1]
    parts = np.split(found, ends)
    return [part.reshape(1, kind.joined, -1) for kind, part in zip(kinds, parts, strict=True)]


def _of_records(valid: Bits, gated: NDArray[np.bool_], evaluator: Evaluator) -> Bits:
    """Return shares of whether each record of a request is valid. valid: of those that are gated."""
    found = np.full(len(gated), evaluator.is_plus, dtype=np.uint8)
    found[gated] = valid
    return found


def _joined(rows: list[Bits], evaluator: Evaluator) -> Generator[bytes, bytes, list[Bits]]:
    """Circuit: of each kind as few columns as one table takes of which one is all one if and only if one of its is.

    rows: shares, uint8[height, columns, requests] of 0 or 1 of each kind.
    """
    while large := [at for at, bits in enumerate(rows) if _is_large(bits)]:
        groups = [np.split(rows[at], np.cumsum(_sizes(*rows[at].shape[:2]))[:-1], axis=1) for at in large]
        asked = [_any(group, group[0, :0]) for of_one in groups for group in of_one]
        found = iter((yield from lookups(asked, evaluator)))
        for at, of_one in zip(large, groups, strict=True):
            rows[at] = np.concatenate([next(found) for _ in of_one])[None]
    return rows


def _is_large(rows: Bits) -> bool:
    height, columns, _ = rows.shape
    return bool(height * columns > _AT_ONCE)


def _sizes(height: int, columns: int) -> list[int]:
    """How many columns become one, in each of the groups of a layer."""
    step = _AT_ONCE // height
    return [min(step, columns - at) for at in range(0, columns, step)]


def _any(rows: Bits, valid: Bits) -> Lookup:
    """Return the lookup of whether a column is all one, and all of `valid` is, uint8[1, n].

    rows: shares, uint8[height, columns, n] of 0 or 1. valid: shares, uint8[views, n], or uint8[0, n] if that is not
    asked.
    """
    height, columns, count = rows.shape
    bits = np.concatenate([rows.swapaxes(0, 1).reshape(height * columns, count), valid])
    mine = as_numbers(bits)

    def tables(values: Array) -> NDArray[np.bool_]:
        both, whole = values ^ mine, (1 << height) - 1
        found = np.any([both >> height * at & whole == whole for at in range(columns)], axis=0)
        return np.asarray(found & (both >> height * columns == (1 << len(valid)) - 1))[None]

    return Lookup(mine, len(bits), 1, tables)
