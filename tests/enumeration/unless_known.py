"""An enrolment unless known: what nobody sees of whether the face was known.

Three enumerations of what such a session adds to a search and to an enrolment. The tree of `known` over two templates,
AND valid, at both holders. The end of the session (pair/unless_known.py), from shares of valid and of known on: the
vector is multiplied by their sum, mod 2^k as in enrolment.py, and both bits are masked for the device. And what leaves
towards the dealer's organisation, which knows all that it dealt: the last gates of the search run as well, because
without a mask it is by these that a share shows what it is a share of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import product
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.enumeration.answer import K as SCORE_BITS
from tests.enumeration.dealt import EnumeratedMask, RejectedError, bit_material, bits_of, last_masks
from tests.enumeration.enrolment import OFFSET, RISK, SHIFT, SIZE, K, Step, scaled, step_received, three_times
from tests.enumeration.steps import MINUS, PLUS, Alter, Run, run_circuits, run_steps
from tests.enumeration.views import DEALER_VIEW, MINUS_VIEW, PLUS_VIEW, Case, Views
from veilmatch.crypto.gates.answer import answer_cost
from veilmatch.crypto.gates.any_of import any_of, any_of_cost
from veilmatch.crypto.gates.boolean import Circuit, Evaluator
from veilmatch.crypto.gates.decision import only_if, only_if_cost
from veilmatch.crypto.gates.multiplication import only_valid_cost
from veilmatch.crypto.pair import unless_known
from veilmatch.crypto.pair.answers import Found, answer_of
from veilmatch.crypto.pair.exchange import Exchange, Steps
from veilmatch.crypto.pair.messages import Reserve, Reserved

#: Returns what a search has found, after the messages that it takes.
Search = Callable[[Exchange, int], Steps[Found]]


# -- known, of two templates ---------------------------------------------------------------------

#: ANDs of the table of two bits, and of AND valid: a byte each.
ANDS = (3, 1)
#: Values of a holder's shares and triples.
HELD = 2


def _known(found: int, valid: int, evaluator: Evaluator, *, opened: bool) -> Circuit:
    anybody = yield from any_of(np.array([found], dtype=np.uint8), 2, evaluator)
    known = yield from only_if(np.array([valid], dtype=np.uint8), anybody, evaluator)
    if opened:
        yield (known & np.uint8(1)).tobytes()
    return known


def known_seen_by(holder: int, *, opened: bool = False) -> Views:
    """What a holder sees, for each two comparisons and validity of the probe. opened: known is shown to the peer."""
    assert (any_of_cost(2), only_if_cost(1)) == (1, 1)
    others, seen = bits_of(np.arange(1 << 2 * sum(ANDS)), 2 * sum(ANDS)).T, []
    for secret in product(range(4), (0, 1)):
        row: list[object] = []
        for number, other in product(range(HELD), others):
            row.append((number, *_seen_of_known(holder, number, secret, other, opened=opened)))
        seen.append(row)
    return Views.of(seen)


def _seen_of_known(holder: int, number: int, secret: tuple[int, int], other: Any, *, opened: bool) -> list[int]:
    """The bits that a holder receives, and its share. Those of a byte that are no gate are left out: nothing but its
    own triple is in them.

    number: of what it holds. other: a and b of the other one, bits.
    """
    rng = np.random.default_rng(number)
    mine, held = (int(rng.integers(4)), int(rng.integers(2))), rng.integers(0, 2, (3, 2, 8), dtype=np.uint8)
    a, b = np.zeros((2, 2, 8), dtype=np.uint8)
    for part, values in zip((a, b), np.split(other, 2), strict=True):
        part[0, : ANDS[0]], part[1, : ANDS[1]] = values[: ANDS[0]], values[ANDS[0] :]
    both = mine, (mine[0] ^ secret[0], mine[1] ^ secret[1])
    material = bit_material((held[0], held[1], held[2]), a, b)
    if holder == MINUS:
        both, material = both[::-1], material[::-1]
    circuits = [_known(*both[at], Evaluator(material[at], is_plus=at == PLUS), opened=opened) for at in (PLUS, MINUS)]
    run = run_circuits(circuits[PLUS], circuits[MINUS], holder)
    # Both operands of a layer are in its message, one behind the other; a bit that is opened is alone.
    bits = [int(run.ended[holder][0]) & 1]
    for payload, gates in zip(run.received[holder], (*ANDS, 1), strict=False):
        bits += [byte >> i & 1 for byte in payload for i in range(gates)]
    return bits


# -- the end of the session ----------------------------------------------------------------------

#: coordinate, whether it is valid, whether it is known as well: what an enrolment may be about.
SECRETS = ((0, 1, 0), (1, 1, 0), (2, 1, 0), (1, 1, 1), (2, 1, 1), (1, 0, 0))
#: Of what the device is told.
TOLD_MASK = 1


def _ended(exchange: Exchange, search: Search) -> Steps[None]:
    """The steps of the protocol, behind a search."""

    def found(exchange: Exchange, *rest: Any) -> Steps[Found]:
        return (yield from search(exchange, rest[-1]))

    with patch.object(unless_known, "searched", found):
        steps = unless_known.unless_known_steps(exchange, None, 1, 1)  # type: ignore[arg-type]
        action = next(steps)
    while True:
        try:
            action = steps.send((yield action))
        except StopIteration:
            return


def _exchange(holder: int, risk: int, words: int, told: int, ring_bits: int = SCORE_BITS) -> Exchange:
    parameters = SimpleNamespace(
        dimension=1, offset=int(scaled(OFFSET)), lane_risk=max(1, risk << int(SHIFT)), ring_bits=ring_bits
    )
    scheme: Any = SimpleNamespace(parameters=parameters)
    exchange = Exchange(scheme, (0, 0, 0), is_plus=holder == PLUS)
    exchange.mask = EnumeratedMask([], [[int(scaled(words))]], [[told & 1, told >> 1]])
    return exchange


def _lanes(lane: int) -> Any:
    return SimpleNamespace(lanes=scaled([lane % SIZE]))


class Ending(Step):
    """The end of the session at both holders. A flag has two bits: valid, and known above it."""

    def steps(self, at: int, lane: int, flag: int) -> Any:
        def given(exchange: Exchange, products: int) -> Steps[Found]:
            assert products == only_valid_cost(1, 1)
            yield from exchange.allocate({"products": products})
            valid, known = (np.array([bit], dtype=np.uint8) for bit in (flag & 1, flag >> 1))
            return Found(known, 1, valid, _lanes(lane))

        return _ended(_exchange(at, self.risk, self.mask, TOLD_MASK), given)


def ending_seen_by(holder: int, risk: int = RISK, alter: Alter | None = None, *, opened: bool = False) -> Views:
    """What a holder sees, for every factor of the other one, at two values of what it holds.

    opened: it is shown the other's share of the bit by which the vector is multiplied.
    """
    endings = Ending(holder, 1, 2, (3, 2, 1), (2, 3, 0), 2, risk), Ending(holder, 2, 1, (0, 1, 1), (0, 3, 3), 1, risk)
    seen = []
    for coordinate, valid, known in SECRETS:
        row: list[object] = []
        for ending, last, *others in product(endings, *[range(SIZE)] * 4):
            flags = valid | known << 1
            with suppress(RejectedError), last_masks(int(scaled(last))):
                run = ending.run(coordinate, flags, (others[0], others[1], others[2]), alter)
                share = run.ended[holder]
                shown = (ending.flag ^ flags) % 2 ^ (ending.flag ^ flags) >> 1 if opened else 0
                words, told = int(share.lanes[0] >> SHIFT), share.valid.tobytes()
                row.append((ending.mask, last, *step_received(run, holder), words, told, shown))
        seen.append(row)
    return Views.of(seen)


# -- what leaves ---------------------------------------------------------------------------------

#: Values of all that was dealt, and of the shares that go into the last gates.
DEALT = 3
#: coordinate, score, and whether the probe is valid: twice one that is known, and one that is not.
ASKED = ((1, 1, 1), (2, 1, 1), (1, 0, 1), (2, 0, 1), (1, 1, 0))


class Whole:
    """From the score on: the last gates of the search, and the end of the session. All dealt values are `number`'s."""

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng(number)
        cost = answer_cost("known", 1, SCORE_BITS)
        a, b, c, other_a, other_b = rng.integers(0, 2, (5, cost, 8), dtype=np.uint8)
        self._bits = bit_material((a, b, c), other_a, other_b)
        factor, share, other = rng.integers(0, SIZE, (3, only_valid_cost(1, 1)))
        self._products = Step(PLUS, 0, 0, tuple(factor), tuple(share), 0).material(tuple(other))
        self._shares = [tuple(int(x) for x in rng.integers(0, (SIZE, 1 << SCORE_BITS, 2))) for _ in range(2)]

    def run(self, asked: tuple[int, int, int], number: int, words: int, told: int) -> Run:
        """Run both holders. number: of the plus holder's shares. words, told: the session's mask."""
        coordinate, score, valid = asked
        lane, slot, flag = self._shares[number]
        theirs = (lane - coordinate - OFFSET) % SIZE, (slot - 2 * score) % (1 << SCORE_BITS), flag ^ valid

        def searching(lane: int, slot: int, flag: int) -> Search:
            def search(exchange: Exchange, products: int) -> Steps[Found]:
                counts = {"bits": answer_cost("known", 1, SCORE_BITS), "products": products}
                yield from exchange.allocate(counts)  # type: ignore[arg-type]
                shares = np.array([slot]), np.array([flag], dtype=np.uint8)
                answering = answer_of(exchange, *shares, "known", 1)
                yield from answering.start()
                bits, all_valid = yield from answering.finish()
                return Found(bits, 1, all_valid, _lanes(lane))

            return search

        def serve(at: int, action: Reserve) -> Reserved:
            return Reserved(0, {"bits": self._bits, "products": self._products}[action.kind][at])

        steps = [
            _ended(_exchange(at, 0, words, told), searching(*values))
            for at, values in enumerate(((lane, slot, flag), theirs))
        ]
        # The session's mask alone has to hide what leaves.
        with last_masks(0):
            return run_steps((steps[PLUS], steps[MINUS]), serve)


def opened(run: Run) -> tuple[int, int, int]:
    """The coordinate that is stored, whether the probe is valid, and whether it is known."""
    plus, minus = run.ended
    stored = (plus.lanes - minus.lanes >> SHIFT).tolist()[0] - OFFSET
    valid, known = (plus.valid ^ minus.valid).tolist()
    return stored % SIZE, valid, known


def leaving(words_of: int, told_of: tuple[int, ...], *, words: bool = True, told: bool = True) -> Views:
    """What leaves towards the dealer's organisation, which dealt everything, for all that can be asked.

    words_of: the holder whose share of the vector it sees. told_of: those whose share of the two bits it sees; with
    both, as a device, it may know them. words, told: whether they are masked.
    """
    wholes, seen, may_know = [Whole(number) for number in range(DEALT)], [], []
    for asked in ASKED:
        row = []
        for (number, whole), shares, word, bits in product(enumerate(wholes), range(2), range(SIZE), range(4)):
            run = whole.run(asked, shares, word if words else 0, bits if told else 0)
            left = [run.ended[at].valid.tobytes() for at in told_of]
            row.append((number, int(run.ended[words_of].lanes[0] >> SHIFT), *left))
        seen.append(row)
        may_know.append(opened(run)[1:] if len(told_of) == 2 else None)
    return Views.of(seen, tuple(may_know))


def stored_is_right() -> bool:
    """Whether the vector comes out unless it is known, and both bits are true."""
    for asked, shares in product(ASKED, range(2)):
        coordinate, score, valid = asked
        if opened(Whole(9).run(asked, shares, 3, 2)) != (
            coordinate if valid and not score else 0, valid, int(score and valid),
        ):  # fmt: skip
            return False
    return True


def cases() -> Iterator[Case]:
    """Both holders in the tree and in the end of the session, and the dealer."""
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case("known of 2 templates, AND valid", name, f"{HELD} values of its shares and triples",
                   lambda h=holder: known_seen_by(h))  # fmt: skip
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case(f"enrolment unless known, end, {K} bits", name, "2 values of all it holds, masks",
                   lambda h=holder: ending_seen_by(h, 0))  # fmt: skip
        yield Case(f"enrolment unless known, end, {K} bits", name, "alters what it opens",
                   lambda h=holder: ending_seen_by(h, 0, three_times))  # fmt: skip
    what, holds = f"enrolment unless known, end, rule, {K} bits", "2 values of all it holds, masks"
    yield Case(what, PLUS_VIEW, holds, lambda: ending_seen_by(PLUS), Fraction(RISK, SIZE - RISK),
               "min(risk, x - x') / (2^width - risk)")  # fmt: skip
    yield Case(what, MINUS_VIEW, holds, lambda: ending_seen_by(MINUS))
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case("enrolment unless known, last gates and end", DEALER_VIEW,
                   f"{DEALT} values of all dealt; shares of the {name}", lambda h=holder: leaving(h, (h,)))  # fmt: skip
        yield Case("enrolment unless known, last gates and end", DEALER_VIEW,
                   f"{DEALT} values of all dealt; shares of the {name}; device: knows if it is valid and known",
                   lambda h=holder: leaving(h, (PLUS, MINUS)))  # fmt: skip
