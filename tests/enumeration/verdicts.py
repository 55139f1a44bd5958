"""A plus holder that lets the minus holder's rule answer questions, and a rule that does not answer.

The minus holder says "again" when its masked share is where a carry or a wrap could happen. Where the plus holder
knows the mask before it sends its last message, and what an error in that message is multiplied with but for a
secret, it can choose the error so that the share is there if and only if its guess is right. The verdict is then a
test of the guess: of o * m in a conversion, of a coordinate in an enrolment. Bounds here are those of a plus holder
that sends what it should.

`masked_after` is another rule: the minus holder always sends a fresh mask, drawn after the last message of the plus
holder, with which its share is not at risk. Nothing can be aimed at a mask that is not drawn yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import gcd
from typing import Any

import numpy as np

from tests.enumeration.conversion import SECRETS as KEYS
from tests.enumeration.conversion import seen_in, session_of
from tests.enumeration.dealt import wire
from tests.enumeration.enrolment import OFFSET, SHIFT, Step, scaled, step_seen
from tests.enumeration.steps import PLUS
from tests.enumeration.tiny import TinyParameters
from tests.enumeration.views import PLUS_VIEW, Case, Codes, Views
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.gates.multiplication import only_valid
from veilmatch.crypto.pair.conversion import Opening, Triple, join_openings, output_share, split_openings
from veilmatch.crypto.pair.messages import GateLayer, Openings

#: A conversion in which one w of N is at risk, and a guess of o and m that is right for the first secret.
N, RULE = 35, TinyParameters(headroom=0)
MASK, GUESS = 5, (2, 1)
SECRETS = (GUESS, (3, 4))
assert GUESS in KEYS


def aimed_error(theirs: Opening) -> int:
    """What to add to e, for the minus holder's w to be N - 1 if the guess is right; 0 if nothing does that."""
    (o, m), held = GUESS, session_of(PLUS, N, RULE).held
    triple = Triple(*map(Integer, held.triples[0]))
    mine = Opening((held.z - triple.a) % N, (held.kappa - triple.b) % N)
    w = output_share(triple, mine, theirs, Integer(N), is_plus=True) + MASK - m
    # a_minus, with which the minus holder multiplies the error.
    factor = (held.z - theirs.d - o * m) % N
    return int((N - 1 - w) * pow(factor, -1, N) % N) if gcd(factor, N) == 1 else 0


def conversion_seen() -> Views:
    """What a plus holder sees of a session in which it aims."""

    def alter(message: Any, received: list[Any]) -> Any:
        openings = [x for x in received if isinstance(x, Openings)]
        if not isinstance(message, Openings) or len(openings) > 1:
            return message
        (theirs,), (mine,) = (split_openings(x.values, 1, Integer(N)) for x in (openings[0], message))
        return Openings(join_openings([Opening(mine.d, (mine.e + aimed_error(theirs)) % N)], Integer(N)))

    session, seen = session_of(PLUS, N, RULE), []
    for o, m in SECRETS:
        others = product(range(N), repeat=2)
        runs = (session.run(o, m, [ab] + [(1, 1)] * 7, ([[MASK]] * 8, [], []), alter=alter) for ab in others)
        seen.append([seen_in(run, PLUS) for run in runs])
    return Views.of(seen)


def enrolment_seen(risk: int = 1) -> Views:
    """What a plus holder sees of the last step of an enrolment in which it aims at one coordinate."""
    k = 64 - int(SHIFT)
    step, guess = Step(PLUS, 5, 1, (3, 6, 1), (2, 7, 4), 6, risk), 0
    products, _ = step.material((0, 0, 0))

    def alter(message: Any, received: list[Any]) -> Any:
        layers = [x.payload for x in received if isinstance(x, GateLayer)]
        if not isinstance(message, GateLayer) or len(layers) < 2:
            return message
        own = only_valid(wire(np.array([1])), scaled([5]), 1, int(scaled(OFFSET)), products, is_plus=True)
        next(own)
        own.send(layers[0])
        try:
            own.send(layers[1])
        except StopIteration as stop:
            share = int(stop.value[0] >> SHIFT)
        # The factor of the minus holder, by which the error is multiplied, if the lane is as guessed.
        factor = (5 - guess - OFFSET - int(np.frombuffer(layers[1], dtype="<u8")[0] >> SHIFT)) % (1 << k)
        wanted = (-1 - (share - guess - OFFSET + step.mask)) % (1 << k)
        error = wanted * pow(factor, -1, 1 << k) if factor % 2 else 0
        sent = np.frombuffer(message.payload, dtype="<u8").copy()
        sent[:1] += np.uint64(error % (1 << k))
        return GateLayer(sent.tobytes())

    others = list(product(range(1 << k), repeat=3))
    return Views.of([[step_seen(step.run(x, 1, other, alter), PLUS) for other in others] for x in (0, 1, 2)])


def masked_after(size: int, risk: int) -> Views:
    """What a plus holder learns of a share that is whatever it made it, for every share of a ring of this size.

    The minus holder draws a mask until share + mask is not among the highest `risk`, and sends it.
    """
    masks: Codes = np.arange(size)
    return Views(np.array([masks[(share + masks) % size < size - risk] for share in range(size)]))


def cases() -> Iterator[Case]:
    """Not closed: what a plus holder that sends what it should cannot get."""
    yield Case("session of a record, rule at N, N = 35", PLUS_VIEW, "aims what it opens at the rule", conversion_seen,
               Fraction(2, N), "2 * min(risk, m - m') / N", not_closed=True)  # fmt: skip
    yield Case("enrolment, last step, rule, 3 bits", PLUS_VIEW, "aims what it opens at the rule", enrolment_seen,
               Fraction(2, 8), "2 * min(risk, x - x') / 2^width", not_closed=True)  # fmt: skip
