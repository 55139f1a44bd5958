"""Private trial division: has a shared number a small factor? One bit of each comes out, for all small primes at once.

x = 1 + 2*(E_a + E_b + E_c), and each party knows its E. Modulo a small prime r, c hands its part to b under a mask
that it has in common with a. Then a and b have x = x_a + x_b, and send rho*x_a + tau and -rho*x_b + tau to c, with a
unit rho and a number tau of a stream that c has not: they are equal if r divides x, and otherwise their difference is
a uniform unit. c says which numbers have no such r, and learns which r divide the others; these are thrown away. Of
numbers that are kept it learns that no r does. Everything is 2^-176 from uniform for each number drawn.

A c that lies keeps candidates that fail the primality test later, or rejects good ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony.rounds import Received, Round, Steps, bits_packed, bits_unpacked
from veilmatch.crypto.ceremony.seats import Residues, Seat, Stream
from veilmatch.crypto.errors import ProtocolError

_RESIDUE_BYTES = 2
#: A long number is reduced modulo products of so many primes first.
_CHUNK = 64


def without_small_factors(seat: Seat, summands: Sequence[Integer], primes: tuple[int, ...]) -> Steps[list[bool]]:
    """Return of each x = 1 + 2*(E_a + E_b + E_c) whether none of the primes divides it. Three rounds.

    summands: this party's E, not negative. primes: odd, below 2^16, at least one. Raises ProtocolError for a residue
    that is none.
    """
    r, count = np.array(primes, dtype=np.uint64), len(summands)
    size = _RESIDUE_BYTES * count * len(primes)
    doubled = _residues_of(summands, primes) * 2 % r
    if seat.party == "c":
        mask = seat.common("a", "mask").residues(count, r)
        yield Round({"b": _packed((doubled + r - mask) % r)})
        received = yield Round(awaited={"a": size, "b": size})
        of_a, of_b = (_unpacked(received.sent[party], r) for party in ("a", "b"))
        kept = [bool(x) for x in ~(of_a == of_b).any(axis=1)]
        yield Round(told=bits_packed(kept))
        return kept
    blinds = _Blinds(seat.common("b" if seat.party == "a" else "a", "blinds"), count, r)
    if seat.party == "a":
        yield Round()
        part = (doubled + 1 + seat.common("c", "mask").residues(count, r)) % r
    else:
        received = yield Round(awaited={"c": size})
        part = (r - (doubled + _unpacked(received.sent["c"], r)) % r) % r
    yield Round({"c": _packed(blinds.applied_to(part))})
    outcome: Received = yield Round(heard={"c": count})
    return bits_unpacked(outcome.told["c"])


class _Blinds:
    """rho and tau of each number and each prime."""

    def __init__(self, stream: Stream, count: int, r: Residues) -> None:
        self._units = 1 + stream.residues(count, r - 1)
        self._summands, self._r = stream.residues(count, r), r

    def applied_to(self, x: Residues) -> Residues:
        """Return rho*x + tau."""
        return (self._units * x + self._summands) % self._r


@cache
def _chunks(primes: tuple[int, ...]) -> list[tuple[tuple[int, ...], int]]:
    """Groups of primes with their products."""
    groups = [primes[k : k + _CHUNK] for k in range(0, len(primes), _CHUNK)]
    return [(group, math.prod(group)) for group in groups]


def _residues_of(numbers: Sequence[Integer], primes: tuple[int, ...]) -> Residues:
    """Return uint64[numbers, primes]: by products of primes first, which is several times as fast."""
    rows = []
    for x in numbers:
        row: list[int] = []
        for group, product in _chunks(primes):
            y = int(x % product)
            row += [y % r for r in group]
        rows.append(row)
    return np.array(rows, dtype=np.uint64).reshape(len(numbers), len(primes))


def _packed(residues: Residues) -> bytes:
    return residues.astype("<u2").tobytes()


def _unpacked(data: bytes, r: Residues) -> Residues:
    residues = np.frombuffer(data, dtype="<u2").astype(np.uint64).reshape(-1, len(r))
    if (residues >= r).any():
        raise ProtocolError("a residue of a trial division is not reduced", expected="below its prime")
    return residues
