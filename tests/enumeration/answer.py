"""Answers: decision AND valid, its masks, and what of it reaches the dealer's organisation.

The real last step of a query (pair/answers.py) runs at both holders. `candidates` is bit-sliced: a compared slot is
an assignment, the share of the validity bit is the same for all slots of a run. Scores have k = 2 bits here: the sign
and one more.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.enumeration.dealt import EnumeratedMask, bit_material, bits_of, unwire
from tests.enumeration.steps import MINUS, PLUS, Run, run_steps
from tests.enumeration.views import DEALER_VIEW, MINUS_VIEW, PLUS_VIEW, Case, Codes, Views, assignments, joined
from veilmatch.crypto.gates import answer
from veilmatch.crypto.gates.answer import answer_bits, answer_cost
from veilmatch.crypto.gates.decision import decide_cost, only_if_cost
from veilmatch.crypto.pair.answers import answer_of as answering
from veilmatch.crypto.pair.answers import masked
from veilmatch.crypto.pair.exchange import Exchange, Steps
from veilmatch.crypto.pair.messages import Allocation, GateLayer, Reserve, Reserved

K, THRESHOLD = 2, 1
#: Values of 2 * score + carry mod 2^k, and whether the probe is valid.
SECRETS = tuple(product(range(1 << K), (0, 1)))
#: Of `candidates` over many slots: the ANDs of a slot.
ANDS = decide_cost(8, K) + only_if_cost(8)


def decided(
    operation: str, slots: tuple[Codes, Codes], valid: tuple[int, int], triples: tuple[Any, Any],
    masks: tuple[list[Any], list[Any]],
) -> Run:  # fmt: skip
    """Run the step at both holders. masks: the draws of bits at each."""

    def serve(holder: int, action: Reserve) -> Reserved:
        assert action.kind == "bits"
        return Reserved(0, triples[holder])

    scheme: Any = SimpleNamespace(parameters=SimpleNamespace(ring_bits=K))
    steps = []
    for holder in (PLUS, MINUS):
        exchange = Exchange(scheme, (0, 0, 0), is_plus=holder == PLUS)
        exchange.mask = EnumeratedMask([], [], masks[holder])
        share = np.array([valid[holder]], dtype=np.uint8)
        steps.append(_decide(exchange, slots[holder] & ((1 << K) - 1), share, operation, THRESHOLD))
    return run_steps((steps[PLUS], steps[MINUS]), serve)


def _decide(exchange: Exchange, slots: Any, valid: Any, operation: str, threshold: int) -> Steps[None]:
    """The last step of a query, without the check of openings beside it."""
    # The circuit of many slots: its gates are those of the other one, and every one of them is enumerated here.
    with patch.object(answer, "FEW_SLOTS", 0):
        yield from _decided(exchange, slots, valid, operation, threshold)


def _decided(exchange: Exchange, slots: Any, valid: Any, operation: str, threshold: int) -> Steps[None]:
    yield from exchange.allocate({"bits": answer_cost(operation, len(slots), K)})
    running = answering(exchange, slots, valid, operation, threshold)
    yield from running.start()
    packed, all_valid = yield from running.finish()
    yield masked(exchange, packed, answer_bits(operation, len(slots)), all_valid, bytes(32))


def answer_of(score: int, valid: int) -> tuple[bool, int]:
    """What a device learns: 2 * (score - t) + carry is not negative mod 2^k AND valid; and valid."""
    return bool((score - 2 * THRESHOLD) % (1 << K) < 1 << (K - 1) and valid), valid


def layers(run: Run, holder: int) -> list[bytes]:
    """The gate messages that a holder received; of the rest, where stock begins."""
    assert all(isinstance(m, GateLayer | Allocation) for m in run.received[holder])
    return [m.payload for m in run.received[holder] if isinstance(m, GateLayer)]


def candidates_seen_by(holder: int) -> Views:
    """What a holder sees in `candidates`, of one slot, for every score and validity; it knows the masks."""
    sizes = {"slot": 1 << K, "held": 1 << 3 * ANDS, "other": 1 << 2 * ANDS}
    v = assignments(sizes)
    n = len(v["slot"])
    dealt, other = bits_of(v["held"], 3 * ANDS), bits_of(v["other"], 2 * ANDS)
    material = bit_material((dealt[:ANDS], dealt[ANDS : 2 * ANDS], dealt[2 * ANDS :]), other[:ANDS], other[ANDS:])
    codes = []
    for score, valid in SECRETS:
        row = []
        for my_valid in (0, 1):
            mine, theirs = v["slot"], v["slot"] + (-score if holder == PLUS else score)
            slots, flags = (mine, theirs), (my_valid, my_valid ^ valid)
            parts = material
            if holder == MINUS:
                slots, flags, parts = slots[::-1], flags[::-1], parts[::-1]
            draws = [np.zeros(n + 1, dtype=np.uint8)]
            run = decided("candidates", slots, flags, parts, (draws, draws))
            messages = np.concatenate([unwire(payload, n) for payload in layers(run, holder)])
            seen = joined((v["slot"], 1 << K), (v["held"], sizes["held"]), *((bits, 2) for bits in messages),
                          (run.ended[holder].bits, 2))  # fmt: skip
            row.append(2 * seen + my_valid)
        codes.append(np.concatenate(row))
    return Views(np.array(codes))


def leaving(whose: tuple[int, ...], *, masked: bool = True) -> Views:
    """What the dealer sees of the shares of `candidates` that leave the pair, given all that it dealt.

    whose: the holders whose share of the answer and of the validity bit it sees: one, as the organisation of a
    matcher, or both, as a device, which may know the answer.
    """
    sizes = {"slot": 1 << K, "dealt": 1 << 5 * ANDS, "mask": 2}
    v = assignments(sizes)
    n = len(v["slot"])
    dealt = [bits_of(v["dealt"] >> i * ANDS, ANDS) for i in range(5)]
    material = bit_material((dealt[0], dealt[1], dealt[2]), dealt[3], dealt[4])
    codes = []
    for score, valid in SECRETS:
        row = []
        for valid_plus, mask in product((0, 1), (0, 1)):
            draw = np.append(v["mask"], mask) if masked else np.zeros(n + 1)
            draws = [draw.astype(np.uint8)]
            slots = v["slot"], v["slot"] - score
            run = decided("candidates", slots, (valid_plus, valid_plus ^ valid), material, (draws, draws))
            shares = [(run.ended[holder].bits, 2) for holder in whose]
            flags = [(np.full(n, run.ended[holder].valid), 2) for holder in whose]
            row.append(joined((v["dealt"], sizes["dealt"]), *shares, *flags))
        codes.append(np.concatenate(row))
    may_know = tuple(answer_of(*secret) for secret in SECRETS) if len(whose) == 2 else ()
    return Views(np.array(codes), may_know)


def cases() -> Iterator[Case]:
    """Both holders, and the dealer with the share of either or both."""
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case(
            "answer AND valid, a slot", name, "its shares, its triples, masks", lambda h=holder: candidates_seen_by(h)
        )
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case("answer AND valid, a slot", DEALER_VIEW, f"all triples; share of the {name}",
                   lambda h=holder: leaving((h,)))  # fmt: skip
    yield Case("answer AND valid, a slot", DEALER_VIEW, "all triples; both shares (device: knows the answer)",
               lambda: leaving((PLUS, MINUS)))  # fmt: skip
