"""The decision gate: what each holder sees of the comparison of one score with the threshold.

Bit-sliced: a slot is an assignment of everything that is enumerated, and the gate runs on all of them at once. k = 3
is enumerated in full, holdings and all; for k = 4 the holder's dealt bits are fixed at a few values, and everything
that it does not know is enumerated for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.enumeration.dealt import Bits, bit_material, bits_of, pattern, unwire
from tests.enumeration.steps import MINUS, PLUS, Alter, Run, run_circuits
from tests.enumeration.views import MINUS_VIEW, PLUS_VIEW, Case, Codes, Views, assignments, joined
from veilmatch.crypto.gates.boolean import Evaluator
from veilmatch.crypto.gates.decision import decide, decide_cost, decision_input

THRESHOLD = 1
#: Values of the dealt bits of a holder for k = 4.
PATTERNS = 8


def gates(k: int) -> int:
    """How many ANDs the comparison of one slot takes."""
    return decide_cost(8, k)


def decided(k: int, slots: tuple[Codes, Codes], held: tuple[Bits, Bits, Bits], a: Bits, b: Bits, holder: int,
            alter: Alter | None = None) -> Run:  # fmt: skip
    """Run the gate at both holders. held: dealt bits of `holder`; a, b: those of the other one."""
    material = bit_material(held, a, b)
    parts = material if holder == PLUS else material[::-1]
    circuits = [
        decide(decision_input(part, THRESHOLD, k, is_plus=is_plus), k, Evaluator(triples, is_plus=is_plus))
        for part, triples, is_plus in zip(slots, parts, (True, False), strict=True)
    ]
    return run_circuits(circuits[PLUS], circuits[MINUS], holder, alter)


def seen_by(holder: int, k: int, alter: Alter | None = None, *, reused: bool = False) -> Views:
    """What a holder sees, for every 2 * score + carry mod 2^k. reused: the other has one triple for all gates."""
    ands = gates(k)
    whole = k <= 3
    sizes = {"slot": 1 << k, "other": 1 << 2 * ands} | ({"held": 1 << 3 * ands} if whole else {"held": PATTERNS})
    v = assignments(sizes)
    n = len(v["slot"])
    if whole:
        dealt = bits_of(v["held"], 3 * ands)
    else:
        dealt = np.stack([pattern(3 * ands, 1, number)[:, 0] for number in range(PATTERNS)], axis=1)[:, v["held"]]
    held = dealt[:ands], dealt[ands : 2 * ands], dealt[2 * ands :]
    other = bits_of(v["other"], 2 * ands)
    if reused:
        other = np.concatenate([np.repeat(other[at : at + 1], ands, axis=0) for at in (0, ands)])
    codes = []
    for score in range(1 << k):
        # slot_plus - slot_minus = 2 * score + carry
        mine, theirs = v["slot"], v["slot"] + (-score if holder == PLUS else score)
        slots = (mine, theirs) if holder == PLUS else (theirs, mine)
        run = decided(k, slots, held, other[:ands], other[ands:], holder, alter)
        messages = np.concatenate([unwire(payload, n) for payload in (*run.received[holder], run.ended[holder])])
        assert len(messages) == 2 * ands + 1
        codes.append(joined((v["slot"], 1 << k), (v["held"], sizes["held"]), *((row, 2) for row in messages)))
    return Views(np.array(codes))


def flipped(payload: bytes, received: list[bytes]) -> bytes:
    """A holder that sends something else than it should, and lets it depend on what it has received."""
    return (np.frombuffer(payload, np.uint8) ^ 0xFF ^ np.frombuffer(received[-1], np.uint8)).tobytes()


def cases() -> Iterator[Case]:
    """Both holders; what leaves for the dealer's matcher is in answer.py."""
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case("decision, k = 3", name, "its slot, its triples", lambda h=holder: seen_by(h, 3))
        yield Case("decision, k = 3", name, "alters what it opens", lambda h=holder: seen_by(h, 3, flipped))
        yield Case(
            "decision, k = 4", name, f"its slot, {PATTERNS} values of its triples", lambda h=holder: seen_by(h, 4)
        )
