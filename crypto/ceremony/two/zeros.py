"""Which rows of shared numbers have a zero, and nothing else of them."""

from __future__ import annotations

from collections.abc import Sequence

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony.rounds import Round, Steps, bits_packed, bits_unpacked, packed, size_below, unpacked
from veilmatch.crypto.ceremony.two.computation import Computation, Part


def any_zero(computation: Computation, columns: Sequence[Part]) -> Steps[list[bool]]:
    """Return of each row whether one of its numbers is 0, with the dealer as referee. Two rounds.

    For each number the computing parties draw a unit rho and a number tau that the dealer has not: the first sends
    rho*x_first + tau, the second tau - rho*x_second, the numbers of a row in an order that they draw as well. The
    dealer compares: their difference is rho*x, 0 or a uniform unit. It learns the outcome and how many zeros there
    are, of which no row here has two, and tells the outcome. A dealer that lies decides on the outcome.
    """
    count, F = computation.count, computation.field.prime
    size = count * len(columns) * size_below(F)
    if computation.is_dealer:
        received = yield Round(awaited={computation.first: size, computation.second: size})
        of_first, of_second = (unpacked(received.sent[p], F) for p in (computation.first, computation.second))
        equal = [u == v for u, v in zip(of_first, of_second, strict=True)]
        found = [any(equal[row * len(columns) : (row + 1) * len(columns)]) for row in range(count)]
        yield Round(told=bits_packed(found))
        return found
    blinded = _blinded(computation, columns)
    yield Round({computation.dealer: packed(blinded, F)})
    outcome = yield Round(heard={computation.dealer: count})
    return bits_unpacked(outcome.told[computation.dealer])


def _blinded(computation: Computation, columns: Sequence[Part]) -> list[Integer]:
    stream = computation.seat.common(computation.peer, "zeros")
    F, reduce, sign = computation.field.prime, computation.field.reduce, 1 if computation.is_first else -1
    blinded = []
    for row in zip(*columns, strict=True):
        units, masks = stream.below(len(row), F - 1), stream.modulo_mersenne(len(row), computation.field.bits)
        values = [reduce(sign * (1 + u) * x + t) for x, u, t in zip(row, units, masks, strict=True)]
        blinded += [values[place] for place in stream.order(len(row))]
    return blinded
