"""The validity gate: what each holder sees of the comparison of one lane with its range.

`deviations` is the part of the gate that works on lanes, here of three bits with coordinates of [-1, 1]. It is
bit-sliced: a lane is an assignment. What follows it in the gate, parities, an AND tree and a comparison of norms, is
made of the same layers of ANDs as the decision gate; its result is followed to the matchers in enrolment.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.enumeration.dealt import bit_material, bits_of, pattern, unwire
from tests.enumeration.decision import flipped
from tests.enumeration.steps import MINUS, PLUS, Alter, run_circuits
from tests.enumeration.views import MINUS_VIEW, PLUS_VIEW, Case, Views, assignments, joined
from veilmatch.crypto.gates.boolean import Evaluator
from veilmatch.crypto.gates.validity import deviations

CLIP, WIDTH = 1, 3
#: ANDs of a lane: two tables of 2^h for h = 2 low bits, and the carry into every other bit.
LOW_BITS = 2
ANDS = 2 * (1 << LOW_BITS) + WIDTH - LOW_BITS
#: Lanes that a holder can have; those of the minus holder are below the risk of a carry.
LANES = {PLUS: 1 << WIDTH, MINUS: (1 << WIDTH) - (1 << LOW_BITS)}
#: Those of the holder whose view it is.
HELD = (1, 2)


def seen_by(holder: int, alter: Alter | None = None, *, reused: bool = False) -> Views:
    """What a holder sees, for every lane of the other one. reused: one triple for all gates of the other."""
    v = assignments({"lane": len(HELD), "other": 1 << 2 * ANDS})
    n = len(v["lane"])
    mine = np.array(HELD)[v["lane"]]
    held, other = np.split(pattern(3 * ANDS, n, 1), 3), bits_of(v["other"], 2 * ANDS)
    if reused:
        other = np.concatenate([np.repeat(other[at : at + 1], ANDS, axis=0) for at in (0, ANDS)])
    material = bit_material((held[0], held[1], held[2]), other[:ANDS], other[ANDS:])
    codes = []
    for secret in range(LANES[1 - holder]):
        lanes = {holder: mine, 1 - holder: np.full(n, secret)}
        circuits = [
            deviations(lanes[at], CLIP, WIDTH, Evaluator(material[at != holder], is_plus=at == PLUS))
            for at in (PLUS, MINUS)
        ]
        run = run_circuits(circuits[PLUS], circuits[MINUS], holder, alter)
        messages = np.concatenate([unwire(payload, n) for payload in run.received[holder]])
        assert len(messages) == 2 * ANDS
        outputs = np.unpackbits(run.ended[holder], axis=1, bitorder="little")
        codes.append(joined((v["lane"], len(HELD)), *((row, 2) for row in (*messages, *outputs))))
    return Views(np.array(codes))


def with_validity_opened(shift: int) -> Views:
    """What a plus holder sees if the gate's result is opened to it, for three lanes that are all valid.

    shift: what it adds to its lane, which turns the result into a predicate of the coordinate.
    """
    lane, n = 4, 8
    # Nothing dealt is enumerated: the opened result alone tells the lanes apart.
    a, b, c, other_a, other_b = np.split(pattern(5 * ANDS, n, 2), 5)
    material = bit_material((a, b, c), other_a, other_b)
    codes = []
    for coordinate in range(-CLIP, CLIP + 1):
        own = np.full(n, lane + shift), np.full(n, lane - coordinate - CLIP - 1)
        circuits = [
            deviations(own[at], CLIP, WIDTH, Evaluator(material[at], is_plus=at == PLUS)) for at in (PLUS, MINUS)
        ]
        run = run_circuits(circuits[PLUS], circuits[MINUS])
        misfits = np.bitwise_or.reduce(run.ended[PLUS] ^ run.ended[MINUS], axis=0)
        codes.append(np.unpackbits(misfits).astype(np.int64))
    return Views(np.array(codes))


def cases() -> Iterator[Case]:
    """Both holders."""
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case(
            "validity of a lane",
            name,
            f"{len(HELD)} values of its lane, one of its triples",
            lambda h=holder: seen_by(h),
        )
        yield Case("validity of a lane", name, "alters what it opens", lambda h=holder: seen_by(h, flipped))
