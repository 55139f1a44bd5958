"""Randomness of a table of three that is enumerated in place of AES and of the operating system.

Every number that is drawn has a place: whose it is, of which stream, and the how manyeth. What the party whose view
it is has, or has in common, is fixed by a number (`held`); all else runs through every value.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.crypto.ceremony.table import of_parts, play
from tests.enumeration.views import Views
from veilmatch.crypto.arithmetic import Integer, gcd
from veilmatch.crypto.ceremony.rounds import Steps
from veilmatch.crypto.ceremony.seats import Randomness, Residues, Seat, Stream, ahead_of
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.keys.parties import PARTIES, Party

Place = tuple[frozenset[Party], str, int]


@dataclass
class Tape:
    """Who looks, what it holds, and which streams are left out: nothing but zeros."""

    viewer: Party
    held: int
    left_out: Collection[str] = ()
    _digits: list[int] = field(default_factory=list)
    _sizes: list[int] = field(default_factory=list)
    _read: dict[Place, int] = field(default_factory=dict)
    _at: int = 0

    def runs(self) -> Iterator[None]:
        """Go through all values: draw within the loop."""
        while True:
            self._at, self._read = 0, {}
            yield
            assert self._at == len(self._digits), "every run draws as much"
            while self._digits and self._digits[-1] == self._sizes[-1] - 1:
                self._digits.pop(), self._sizes.pop()
            if not self._digits:
                return
            self._digits[-1] += 1

    def draw(self, place: Place, size: int) -> int:
        """The number of a place, below `size`; the same for whoever reads it again."""
        if place not in self._read:
            self._read[place] = self._drawn(place, size)
        assert self._read[place] < size
        return self._read[place]

    def _drawn(self, place: Place, size: int) -> int:
        parties, label, _ = place
        if label.rpartition("/")[2] in self.left_out:
            return 0
        if self.viewer in parties:
            return random.Random(f"{self.held} {sorted(parties)} {place[1:]}").randrange(size)
        if self._at == len(self._digits):
            self._digits.append(0)
            self._sizes.append(size)
        assert self._sizes[self._at] == size, "every value is as likely"
        self._at += 1
        return self._digits[self._at - 1]


class TapeStream(Stream):
    """A stream of a tape."""

    def __init__(self, tape: Tape, parties: frozenset[Party], label: str) -> None:
        self._tape, self._place, self._count = tape, (parties, label), 0

    def below(self, count: int, bound: Integer) -> list[Integer]:
        return [Integer(self._next(int(bound))) for _ in range(count)]

    def bits(self, count: int, bits: int) -> list[Integer]:
        return self.below(count, Integer(1) << bits)

    def modulo_mersenne(self, count: int, bits: int) -> list[Integer]:
        return self.below(count, (Integer(1) << bits) - 1)

    def residues(self, count: int, moduli: Residues) -> Residues:
        return np.array([[self._next(int(r)) for r in moduli] for _ in range(count)], dtype=np.uint64)

    def order(self, count: int) -> list[int]:
        left, order = list(range(count)), []
        while left:
            order.append(left.pop(self._next(len(left))))
        return order

    def octets(self, count: int) -> bytes:
        raise AssertionError("bytes are not enumerated")

    def _next(self, size: int) -> int:
        self._count += 1
        return self._tape.draw((*self._place, self._count), size)


class TapeRandomness(Randomness):
    """One party's randomness, of a tape."""

    def __init__(self, tape: Tape, party: Party) -> None:
        super().__init__(bytes(32), {})
        self._tape, self._party, self._count = tape, party, 0

    def common(self, peer: Party, label: str) -> Stream:
        assert (peer, label) not in self._used
        self._used.add((peer, label))
        return TapeStream(self._tape, frozenset((self._party, peer)), label)

    def below(self, bound: Integer) -> Integer:
        self._count += 1
        return Integer(self._tape.draw((frozenset((self._party,)), "own", self._count), int(bound)))

    def bits(self, bits: int) -> Integer:
        if bits >= 128:  # salts and parts of coins, which are ideal here
            return Integer(0)
        return self.below(Integer(1) << bits)

    def unit(self, modulus: Integer) -> Integer:
        units = [Integer(x) for x in range(int(modulus)) if gcd(Integer(x), modulus) == 1]
        return units[int(self.below(Integer(len(units))))]


def sharing(tape: Tape, name: str, value: int, modulus: int) -> dict[Party, Shared]:
    """A number that is shared: the party that looks has two shares, and the third follows from the number."""
    lacks = ahead_of(tape.viewer)  # the share that this one has with the party ahead of it
    rng = random.Random(f"{tape.held} {name}")
    ahead = {party: [Integer(rng.randrange(modulus))] for party in PARTIES if party != lacks}
    ahead[lacks] = [Integer((value - sum(x for (x,) in ahead.values())) % modulus)]
    return of_parts(ahead, modulus)


def split_in_two(tape: Tape, name: str, value: int, prime: int, roles: Sequence[Party]) -> dict[Party, list[Integer]]:
    """A number that two share: of the two, the one that looks has a share that is fixed. A dealer has none."""
    fixed = roles[1] if tape.viewer == roles[1] else roles[0]
    other = roles[0] if fixed == roles[1] else roles[1]
    share = random.Random(f"{tape.held} {name}").randrange(prime)
    return {fixed: [Integer(share)], other: [Integer((value - share) % prime)], roles[2]: []}


#: Makes every party's steps of one run, for a secret.
Block = Callable[[Tape, Any], Callable[[Seat], Steps[Any]]]
#: What a party learns of a secret rightfully.
Rightfully = Callable[[Party, Any], Hashable]


def nothing(_party: Party, _secret: object) -> None:
    """Nothing is learnt."""


def seen_by(
    viewer: Party,
    block: Block,
    secrets: Sequence[Any],
    may_know: Rightfully = nothing,
    *,
    holdings: int = 4,
    left_out: Collection[str] = (),
) -> Views:
    """What a party sees of a block, for every secret and all that it does not know, and several of what it has."""
    rows: list[list[Hashable]] = []
    for secret in secrets:
        row: list[Hashable] = []
        for held in range(holdings):
            tape = Tape(viewer, held, left_out)
            for _ in tape.runs():
                at: Mapping[Party, Seat] = {party: Seat(party, TapeRandomness(tape, party)) for party in PARTIES}
                played = play(block(tape, secret), at)
                played.of_all()
                received = played.received[viewer]
                row.append((held, *((*r.sent.items(), *r.told.items()) for r in received)))
        rows.append(row)
    return Views.of(rows, tuple(may_know(viewer, secret) for secret in secrets))
