"""From w to what a matcher is handed: an enrolment, its masks, and the rule of the minus holder on words.

Two enumerations. The last step of records.py, which multiplies a vector by its validity bit and masks it, is run for
every value of what a holder does not know. It works mod 2^64, here on multiples of 2^(64 - k): those form a group
like the integers mod 2^k, on which additions, comparisons with the top of the range, and products with any word do
what they do mod 2^k; so with the offset and the risk multiplied in the same way the step is that of words of k bits,
rule and all.

And whole sessions of an enrolment, with a gate of eight bits a lane, for what leaves them towards the dealer's
organisation: all dealt randomness is fixed, and the masks alone have to hide vector and validity.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.enumeration.dealt import EnumeratedMask, RejectedError, last_masks, product_material, wire
from tests.enumeration.steps import MINUS, PLUS, Alter, Run, run_steps
from tests.enumeration.tiny import Held, Tiny, TinyParameters, some_stock
from tests.enumeration.views import DEALER_VIEW, MINUS_VIEW, PLUS_VIEW, Case, Views
from veilmatch.crypto.gates.multiplication import only_valid_cost
from veilmatch.crypto.pair.exchange import Exchange
from veilmatch.crypto.pair.messages import Allocation, GateLayer, LastMask, Reserve, Reserved, TemplateShare
from veilmatch.crypto.pair.records import only_if_valid

#: Bits of a word, and how many of the highest words are at risk.
K, RISK = 2, 1
SIZE = 1 << K
SHIFT = np.uint64(64 - K)
#: coordinate and validity: what a device may have encrypted.
SECRETS = ((0, 1), (1, 1), (2, 1), (1, 0))
OFFSET = 1


def scaled(numbers: Any) -> Any:
    """Numbers of k bits as words."""
    return np.asarray(numbers).astype(np.uint64) << SHIFT


class Step:
    """The multiplication of one coordinate by its validity bit at both holders, one of which has what it has."""

    def __init__(self, holder: int, lane: int, flag: int, factors: tuple[int, int, int], shares: tuple[int, int, int],
                 mask: int, risk: int = RISK) -> None:  # fmt: skip
        """factors, shares: of the holder, of three products: bits, and two cross terms."""
        self.holder, self.lane, self.flag, self.mask, self.risk = holder, lane, flag, mask, risk
        self._factors, self._shares = np.array(factors), np.array(shares)

    def material(self, others: tuple[int, int, int]) -> tuple[Any, Any]:
        """Products of this holder and of the other one. What masks a lane or is a product with one is a multiple."""
        is_plus = self.holder == PLUS
        mine, theirs = self._factors.astype(np.uint64), np.array(others).astype(np.uint64)
        shares = np.array([self._shares[0], *scaled(self._shares[1:])], dtype=np.uint64)
        # The second product is of the plus holder's bit and the minus holder's lane, the third the other way round.
        lane_of_plus, lane_of_minus = 2, 1
        (mine if is_plus else theirs)[lane_of_plus] <<= SHIFT
        (theirs if is_plus else mine)[lane_of_minus] <<= SHIFT
        return product_material((mine, shares), theirs, is_plus=is_plus)

    def steps(self, at: int, lane: int, flag: int) -> Any:
        """The step of one holder."""
        parameters = SimpleNamespace(dimension=1, offset=int(scaled(OFFSET)), lane_risk=max(1, self.risk << int(SHIFT)))
        scheme: Any = SimpleNamespace(parameters=parameters)
        exchange = Exchange(scheme, (0, 0, 0), is_plus=at == PLUS)
        exchange.mask = EnumeratedMask([], [[int(scaled(self.mask))]], [])
        yield from exchange.allocate({"products": only_valid_cost(1, 1)})
        return (yield from only_if_valid(exchange, scaled([lane % SIZE]), wire(np.array([flag]))))

    def run(self, coordinate: int, valid: int, others: tuple[int, int, int], alter: Alter | None = None) -> Run:
        """Run it, given the factors of the other holder."""
        me, sign = self.holder, 1 if self.holder == PLUS else -1
        both = {me: (self.lane, self.flag), 1 - me: (self.lane - sign * (coordinate + OFFSET), self.flag ^ valid)}
        material = dict(zip((me, 1 - me), self.material(others), strict=True))
        steps = [self.steps(at, *both[at]) for at in (PLUS, MINUS)]

        def serve(at: int, action: Reserve) -> Reserved:
            assert action.kind == "products"
            return Reserved(0, material[at])

        return run_steps((steps[PLUS], steps[MINUS]), serve, me, alter)


def step_received(run: Run, holder: int) -> list[int]:
    """What a holder is sent of gates, as numbers of k bits."""
    seen: list[int] = []
    for sender, message in run.sent:
        if isinstance(message, GateLayer) and sender != holder:
            numbers = np.frombuffer(message.payload, dtype="<u8")
            # Of a bit or a share of one only the lowest k bits have a meaning, of a lane the highest k.
            at = PLUS if holder == MINUS else MINUS
            lane = {PLUS: 1, MINUS: 0}[at] if len(numbers) == 2 else None
            seen += [int(x >> SHIFT) if i == lane else int(x) % SIZE for i, x in enumerate(numbers)]
        else:
            assert isinstance(message, Allocation | GateLayer | LastMask)
    return seen


def step_seen(run: Run, holder: int) -> tuple[int, ...]:
    """The same, and its share at the end."""
    return *step_received(run, holder), int(run.ended[holder][0, 0] >> SHIFT)


def step_seen_by(holder: int, risk: int = RISK, alter: Alter | None = None) -> Views:
    """What a holder sees, for every factor of the other one, at two values of what it holds."""
    steps = Step(holder, 1, 1, (3, 2, 1), (2, 3, 0), 2, risk), Step(holder, 2, 0, (0, 1, 1), (0, 3, 3), 1, risk)
    seen = []
    for secret in SECRETS:
        row: list[object] = []
        for step, last, *others in product(steps, *[range(SIZE)] * 4):
            other = others[0], others[1], others[2]
            # The session's mask of a step tells which of the two it is.
            with suppress(RejectedError), last_masks(int(scaled(last))):
                row.append((step.mask, last, *step_seen(step.run(*secret, other, alter), holder)))
        seen.append(row)
    return Views.of(seen)


def three_times(message: Any, received: list[Any]) -> Any:
    """A holder that sends three times what it should: what is a multiple stays one."""
    if not isinstance(message, GateLayer):
        return message
    return GateLayer((np.frombuffer(message.payload, dtype="<u8") * np.uint64(3)).tobytes())


# -- sessions ------------------------------------------------------------------------------------

#: N of two small primes. Lanes of eight bits hold coordinate + 2, for coordinates of [-1, 1]; norm 1 is valid.
ENROLMENT = TinyParameters(lane_bits=8, risk=8, headroom=3)
MODULUS = 253
#: Of w: some value with which no w of the minus holder is at risk.
MASK = 77
#: The last mask of words.
LAST = 2
#: Values of everything dealt.
DEALT = 4
#: Plaintexts: both valid ones, a norm of 0, and three that are out of range.
PLAINTEXTS = (1, 3, 2, 0, 4, 97)


def enrolment(number: int) -> Tiny:
    """A session of an enrolment in which everything dealt is fixed by `number`."""
    return Tiny(MODULUS, PLUS, Held(8, 3, [(4, 7, 1)]), "enrol", ENROLMENT, some_stock(number, ENROLMENT))


def opened(run: Run) -> tuple[int, int]:
    """Coordinate and validity that come out, as a device and the other matcher together would see them."""
    plus, minus = run.ended
    assert isinstance(plus, TemplateShare) and isinstance(minus, TemplateShare)
    return int(plus.lanes[0]) - int(minus.lanes[0]) - ENROLMENT.offset, int(plus.valid[0] ^ minus.valid[0])


def leaving(words_of: int, bits_of: tuple[int, ...], *, words: bool = True, bits: bool = True) -> Views:
    """What leaves an enrolment towards the dealer's organisation, which dealt everything, for every plaintext.

    words_of: the holder whose share of the vector it sees, mod 2^k. bits_of: those whose share of the validity
    bit it sees; with both, as a device, it may know it. words, bits: whether they are masked.
    """
    sessions, seen, may_know = [enrolment(number) for number in range(DEALT)], [], []
    for m in PLAINTEXTS:
        row = []
        for number, word, bit in product(range(DEALT), range(SIZE), (0, 1)):
            draws = [[MASK]], [[word if words else 0]], [[bit if bits else 0]]
            # Last masks of w and of words: whatever they are.
            with last_masks(0, LAST if words else 0):
                run = sessions[number].run(2, m, [(2, 9)], draws)
            shares = [run.ended[at].valid.tobytes() for at in bits_of]
            row.append((number, int(run.ended[words_of].lanes[0]) % SIZE, *shares))
        seen.append(row)
        may_know.append(opened(run)[1] if len(bits_of) == 2 else None)
    return Views.of(seen, tuple(may_know))


def cases() -> Iterator[Case]:
    """Both holders in the last step, without and with the rule; then what leaves."""
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case(f"enrolment, last step, {K} bits", name, "2 values of all it holds, mask",
                   lambda h=holder: step_seen_by(h, 0))  # fmt: skip
        yield Case(f"enrolment, last step, {K} bits", name, "alters what it opens",
                   lambda h=holder: step_seen_by(h, 0, three_times))  # fmt: skip
    risk, what, holds = (
        Fraction(RISK, SIZE - RISK),
        f"enrolment, last step, rule, {K} bits",
        "2 values of all it holds, mask",
    )
    yield Case(what, PLUS_VIEW, holds, lambda: step_seen_by(PLUS), risk, "min(risk, x - x') / (2^width - risk)")
    yield Case(what, MINUS_VIEW, holds, lambda: step_seen_by(MINUS))
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case("enrolment, session, N = 253", DEALER_VIEW, f"{DEALT} values of all dealt; shares of the {name}",
                   lambda h=holder: leaving(h, (h,)))  # fmt: skip
        yield Case("enrolment, session, N = 253", DEALER_VIEW,
                   f"{DEALT} values of all dealt; shares of the {name}; device: knows if it is valid",
                   lambda h=holder: leaving(h, (PLUS, MINUS)))  # fmt: skip
