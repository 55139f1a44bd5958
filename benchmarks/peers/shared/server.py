"""One of the three servers, written as its own program: what it computes, sends and waits for.

A program is a generator. It yields what it sends in a round, by receiver, and gets what was sent to it, by sender. It
touches its own shares and randomness alone, so what it learns of others is what it was sent.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.shared.shares import SERVERS, Bits, Numbers, Randomness, Stored, Words, planes

#: Numbers or words.
Message = NDArray[Any]
T = TypeVar("T")
Program = Generator[dict[int, Message], dict[int, Message], T]


@dataclass(frozen=True, repr=False)
class Server:
    """index: 0, 1 or 2. gallery: its part of `share_out`.

    own, after: the streams that it has in common with the server before it and with the one after it, in turn.
    width: scores are compared mod 2^width, at most 16, so |score - threshold| must be below 2^(width-1).
    """

    index: int
    gallery: Stored
    own: Randomness
    after: Randomness
    width: int

    def below(self, own: Numbers, after: Numbers, threshold: int) -> Program[Bits]:
        """Return shares of one plane, a bit for each identity: 1 if its score is below the threshold.

        own, after: this server's shares of the probe, numbers [D].
        """
        return (yield from self.signs(self.products(own, after), threshold))

    def products(self, own: Numbers, after: Numbers) -> Numbers:
        """Return numbers [n]; those of the three servers add up to the scores. No message.

        Of the nine products of shares, x_i * (y_i + y_(i+1)) + x_(i+1) * y_i are the three that fall to server i.
        """
        factors = np.concatenate([own + after, own])
        return np.concatenate([np.einsum("dn,d->n", part, factors) for part in self.gallery])

    def signs(self, scores: Numbers, threshold: int) -> Program[Bits]:
        """Return shares of the sign bits of score - threshold. scores: this server's summand of each score."""
        one, other = yield from self._summands(scores, threshold)
        carry = yield from self._carry(one[: self.width - 1], other[: self.width - 1])
        return one[self.width - 1 :] ^ other[self.width - 1 :] ^ carry

    def _summands(self, scores: Numbers, threshold: int) -> Program[tuple[Bits, Bits]]:
        """Return shared bits of two numbers that add up to score - threshold. Two rounds.

        Servers 0 and 1 come to know one summand each, which server 2 has masked, and share out its bits: two numbers
        for the adder where three shares would need one layer of gates more. Every message is under a mask that its
        receiver does not have.
        """
        shape = (self.width, -(-len(scores) // 64))
        zero = np.zeros(shape, np.uint64)
        if self.index == 0:
            first, second = self.own.words(*shape), self.after.words(*shape)
            got = yield {}
            rest: Words = planes(scores + got[2], self.width) ^ first
            yield {1: rest}
            return Bits(first, rest), Bits(zero, second)
        if self.index == 1:
            mask, second = self.after.numbers(len(scores)), self.own.words(*shape)
            rest = planes(scores - mask - np.uint16(threshold), self.width) ^ second
            yield {2: rest}
            got = yield {}
            return Bits(got[0], zero), Bits(second, rest)
        mask, first = self.own.numbers(len(scores)), self.after.words(*shape)
        got = yield {0: scores + mask}
        yield {}
        return Bits(zero, first), Bits(got[1], zero)

    def _carry(self, x: Bits, y: Bits) -> Program[Bits]:
        """Return the carry out of x + y: neighbours are joined in a tree, one round a level.

        A stretch of planes makes a carry, or passes on the one that enters it; nothing enters the lowest.
        """
        passes, makes = x ^ y, (yield from self._and(x, y))
        while len(makes) > 1:
            pairs = len(makes) // 2
            upper, low = passes[1::2], makes[0::2][:pairs]
            joined = yield from self._and(Bits.join(upper, upper[1:]), Bits.join(low, passes[2::2][: pairs - 1]))
            odd = slice(2 * pairs, None)
            makes = Bits.join(makes[1::2] ^ joined[:pairs], makes[odd])
            # What the lowest stretch passes on is never asked: any plane will do in its place.
            passes = Bits.join(upper[:1], joined[pairs:], passes[odd])
        return makes

    def _and(self, x: Bits, y: Bits) -> Program[Bits]:
        """Return shares of x and y, bit by bit: one bit sent for each, one round (Araki et al., CCS 2016).

        The two streams make it uniform: those of all servers cancel.
        """
        shape = x.own.shape
        product = (x.own & (y.own ^ y.after)) ^ (x.after & y.own) ^ self.own.words(*shape) ^ self.after.words(*shape)
        got = yield {(self.index - 1) % SERVERS: product}
        return Bits(product, got[(self.index + 1) % SERVERS])
