"""The last mask against a plus holder that speaks last: what does the seed tell, whatever was sent before?

The minus holder draws a seed under which its own share is not where a carry or a wrap could happen, so a seed tells
that its share is not just there. Here the plus holder adds every error to what it opens, and the distance is that of
the seeds alone, for each error and each of the messages that it had received: the largest that any way of choosing
errors by what is received can get. It does not depend on the error, as the mask is drawn when nothing can be aimed at
it any more.

`known` is the step taken out: the last mask is known from the start, and the minus holder says whether it is at risk.
Then the plus holder knows what an error is multiplied with, but for a secret, and puts the share where it is at risk if
and only if a guess is right: a guess of o * m in a conversion, of a coordinate in an enrolment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import product
from math import gcd
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from tests.attacks.tools import plus_opens_last, tell_risk_under_a_known_mask
from tests.enumeration.conversion import MASK, PROBE, opened_more, session_of
from tests.enumeration.conversion import SECRETS as KEYS
from tests.enumeration.dealt import every_safe_seed, last_masks, wire
from tests.enumeration.enrolment import OFFSET, RISK, SHIFT, SIZE, Step, scaled, step_received
from tests.enumeration.enrolment import SECRETS as TEMPLATES
from tests.enumeration.steps import PLUS, Alter, Run
from tests.enumeration.tiny import TinyParameters, some_stock
from tests.enumeration.views import PLUS_VIEW, Case, Views
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.gates.multiplication import only_valid
from veilmatch.crypto.pair.conversion import Opening, Triple, join_openings, output_share, split_openings
from veilmatch.crypto.pair.converting import Converter
from veilmatch.crypto.pair.messages import GateLayer, LastMask, Openings

#: A conversion in which one w of N is at risk; N of all errors, and of one that is aimed.
RULE, N_OF_ALL, N_OF_AIMED = TinyParameters(headroom=0), 6, 35
#: A guess of o and m that is right for the first secret.
GUESS = (2, 1)
AIMED_AT = (GUESS, (3, 4))
#: A probe whose one coordinate may not lie near the wrap of 2^k, which is where one w of N = 15 lies.
PROBE_RULE, N_OF_PROBE = replace(PROBE, wraps=0), 15
PROBES = ((2, 0), (2, 1), (7, 4), (7, 14))


def received(run: Run) -> tuple[object, ...]:
    """What the plus holder was sent before the first last mask."""
    messages = run.received[PLUS]
    first = next(i for i, message in enumerate(messages) if isinstance(message, LastMask))
    return tuple(getattr(x, name) for x in messages[:first] for name in type(x).__slots__)


def seeds_after(run: Callable[[], Run], *given: int) -> tuple[Run, list[int]]:
    """A run, and the seeds that the minus holder may draw in it first."""
    found: list[list[int]] = []
    with every_safe_seed(found, *given):
        return run(), found[0]


# -- every error ---------------------------------------------------------------------------------


def after_any_error_in_a_conversion() -> Views:
    """Seeds, for every o and m, every error in d and e, and everything received."""
    N, session, rows, known = N_OF_ALL, session_of(PLUS, N_OF_ALL, RULE), [], []
    for of_d, of_e, (o, m), a, b in product(range(N), range(N), KEYS, range(N), range(N)):
        alter = opened_more(of_d, of_e, N)
        run, seeds = seeds_after(partial(session.run, o, m, [(a, b)], ([[MASK]], [], []), alter), *range(N))
        rows.append(seeds)
        known.append((of_d, of_e, received(run)))
    return Views.of(rows, tuple(known))


def after_any_error_in_an_enrolment() -> Views:
    """The same in the last step of an enrolment: errors in each number that it sends."""
    step, rows, known = Step(PLUS, 1, 1, (3, 2, 1), (2, 3, 0), 2), [], []
    masks = scaled(range(SIZE)).tolist()
    for errors, secret, other in product(product(range(SIZE), repeat=3), TEMPLATES, product(range(SIZE), repeat=3)):
        run, seeds = seeds_after(partial(step.run, *secret, other, adding(*errors)), *masks)
        rows.append(seeds)
        known.append((errors, tuple(step_received(run, PLUS))))
    return Views.of(rows, tuple(known))


def adding(to_bit: int, to_share: int, to_lane: int) -> Alter:
    """A plus holder that adds to the one number of its first layer, and to the two of its second one."""

    def alter(message: Any, received: list[Any]) -> Any:
        if not isinstance(message, GateLayer):
            return message
        sent = np.frombuffer(message.payload, dtype="<u8").copy()
        sent += np.uint64(to_bit) if len(sent) == 1 else np.array([to_share, scaled(to_lane)], dtype=np.uint64)
        return GateLayer(sent.tobytes())

    return alter


def after_a_probe() -> Views:
    """Seeds in a search, under the rule on coordinates near the wrap of 2^k, with everything received until then."""
    N = N_OF_PROBE
    session = replace(session_of(PLUS, N, PROBE_RULE), operation="candidates", stock=some_stock(1, PROBE_RULE))
    seen = []
    for o, m in PROBES:
        row: list[object] = []
        for other in product(range(N), repeat=2):
            run, seeds = seeds_after(partial(session.run, o, m, [other], ([[MASK]], [], [])), *range(N))
            row += [(received(run), seed) for seed in seeds]
        seen.append(row)
    return Views.of(seen)


# -- an error that is aimed ----------------------------------------------------------------------


def aimed_error(theirs: Opening) -> int:
    """What to add to e, for the minus holder's w to be N - 1 if the guess is right; 0 if nothing does that."""
    (o, m), N, held = GUESS, N_OF_AIMED, session_of(PLUS, N_OF_AIMED, RULE).held
    triple = Triple(*map(Integer, held.triples[0]))
    mine = Opening((held.z - triple.a) % N, (held.kappa - triple.b) % N)
    w = output_share(triple, mine, theirs, Integer(N), is_plus=True) + MASK - m
    # a_minus, with which the minus holder multiplies the error.
    factor = (held.z - theirs.d - o * m) % N
    return int((N - 1 - w) * pow(factor, -1, N) % N) if gcd(factor, N) == 1 else 0


def plus_last(run: Callable[..., Run], *arguments: Any) -> Run:
    """A session in which the minus holder opens first, as where results are converted: else nothing can be aimed."""
    with patch.object(Converter, "_exact", plus_opens_last(Converter._exact)):
        return run(*arguments)


def aimed_conversion(*, known: bool) -> Views:
    """What a plus holder sees of a session in which it aims."""
    N = N_OF_AIMED

    def alter(message: Any, received: list[Any]) -> Any:
        openings = [x for x in received if isinstance(x, Openings)]
        if not isinstance(message, Openings):
            return message
        (theirs,), (mine,) = (split_openings(x.values, 1, Integer(N)) for x in (openings[0], message))
        return Openings(join_openings([Opening(mine.d, (mine.e + aimed_error(theirs)) % N)], Integer(N)))

    session = session_of(PLUS, N, RULE)
    runs = [
        [
            partial(plus_last, session.run, o, m, [other], ([[MASK]], [], []), alter)
            for other in product(range(N), repeat=2)
        ]
        for o, m in AIMED_AT
    ]
    return _seen_of(runs, received, list(range(N)), known=known)


def aimed_enrolment(*, known: bool) -> Views:
    """What a plus holder sees of the last step of an enrolment in which it aims at one coordinate."""
    step, lane, guess = Step(PLUS, 1, 1, (3, 2, 1), (2, 3, 0), 2), 1, 0
    products, _ = step.material((0, 0, 0))

    def alter(message: Any, received: list[Any]) -> Any:
        layers = [x.payload for x in received if isinstance(x, GateLayer)]
        if not isinstance(message, GateLayer) or len(layers) < 2:
            return message
        own = only_valid(wire(np.array([1])), scaled([lane]), 1, int(scaled(OFFSET)), products, is_plus=True)
        next(own)
        own.send(layers[0])
        try:
            own.send(layers[1])
        except StopIteration as stop:
            share = int(stop.value[0] >> SHIFT)
        # The factor of the minus holder, by which the error is multiplied, if the lane is as guessed.
        factor = (lane - guess - OFFSET - int(np.frombuffer(layers[1], dtype="<u8")[0] >> SHIFT)) % SIZE
        wanted = (-1 - (share - guess - OFFSET + step.mask)) % SIZE
        error = wanted * pow(factor, -1, SIZE) if factor % 2 else 0
        sent = np.frombuffer(message.payload, dtype="<u8").copy()
        sent[:1] += np.uint64(error % SIZE)
        return GateLayer(sent.tobytes())

    runs = [
        [partial(step.run, coordinate, 1, other, alter) for other in product(range(SIZE), repeat=3)]
        for coordinate in (0, 1, 2)
    ]
    return _seen_of(runs, lambda run: tuple(step_received(run, PLUS)), scaled(range(SIZE)).tolist(), known=known)


def _seen_of(
    runs: list[list[Callable[[], Run]]], before: Callable[[Run], tuple[object, ...]], masks: list[int], *, known: bool
) -> Views:
    """What is received before the last mask, and then the seed, or if the mask is known what is said instead."""
    seen = []
    for of_secret in runs:
        row: list[object] = []
        for one in of_secret:
            if not known:
                run, seeds = seeds_after(one, *masks)
                row += [(before(run), seed) for seed in seeds]
                continue
            with pytest.MonkeyPatch.context() as patch, last_masks(*masks):
                tell_risk_under_a_known_mask(patch)
                run = one()
            row.append((before(run), next(x.seed for x in run.received[PLUS] if isinstance(x, LastMask))))
        seen.append(row)
    return Views.of(seen)


def cases() -> Iterator[Case]:
    """Every error, then a probe."""
    holds = "adds any error, given what it is sent"
    yield Case(f"last mask of a record, rule at N, N = {N_OF_ALL}", PLUS_VIEW, holds, after_any_error_in_a_conversion,
               Fraction(1, N_OF_ALL - 1), "risk / (N - risk)")  # fmt: skip
    yield Case("last mask of an enrolment, rule, 2 bits", PLUS_VIEW, holds, after_any_error_in_an_enrolment,
               Fraction(RISK, SIZE - RISK), "risk / (2^width - risk)")  # fmt: skip
    yield Case(f"last mask of a probe, rule on wraps, N = {N_OF_PROBE}", PLUS_VIEW, "one value of all it holds",
               after_a_probe, Fraction(1, N_OF_PROBE - 1), "risk / (N - risk)")  # fmt: skip
