"""Verification on records: inner products of shared vectors, and the tables that make one answer of what they say.

`inner_products` runs mod 2^k, as products do (multiplication.py), here of vectors of one coordinate: what a holder is
sent are the other one's shares of probe and template, each less a factor of its own. It holds all its shares and some
values of its dealt products.

The last layer joins "reaches the threshold" of one template, or two, with the validity of the probe, by a table of the
other holder's bits. It runs once for every value of what a holder does not know. What leaves it is masked like every
answer: the dealer is shown the share of one holder, or of both with a device, which may know the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.enumeration.dealt import EnumeratedMask, bit_material, bits_of, product_material
from tests.enumeration.multiplication import altered, words
from tests.enumeration.steps import MINUS, PLUS, Alter, Run, run_circuits
from tests.enumeration.views import DEALER_VIEW, MINUS_VIEW, PLUS_VIEW, Case, Codes, Views, assignments, joined
from veilmatch.crypto.gates.boolean import Circuit, Evaluator, Wire
from veilmatch.crypto.gates.verification import any_reached, any_reached_cost, inner_products, inner_products_cost
from veilmatch.crypto.pair.answers import masked
from veilmatch.crypto.pair.exchange import Exchange

#: Of one template of one coordinate: the plus holder's probe by the minus holder's template, and the other way round.
FACTORS = inner_products_cost(1, 1)
OFFSET = 2
#: What a holder has of its dealt products.
HELD = 8
#: Values of the triples of a holder for the last layer, and of all that was dealt for it.
TRIPLES, DEALT = 4, 4


# -- inner products ------------------------------------------------------------------------------


def inner_product_seen_by(holder: int, k: int, alter: Alter | None = None, *, reused: bool = False) -> Views:
    """What a holder sees of a score, for each probe and template. reused: one factor of the other masks both."""
    size = 1 << k
    names = ["other 0", "other 1"]
    v = assignments({"template": size, "held": HELD} | dict.fromkeys(names, size))
    n = len(v["held"])
    rng = np.random.default_rng(7)
    factors, products = (rng.integers(0, size, (FACTORS, HELD))[:, v["held"]] for _ in range(2))
    others = [v["other 0"], v["other 0" if reused else "other 1"]]
    material = product_material((factors.ravel(), products.ravel()), np.concatenate(others), is_plus=holder == PLUS)
    codes = []
    for probe, template in product(range(size), repeat=2):
        row = []
        for mine in range(size):
            run = _scored(holder, (mine, v["template"]), (probe, template), material, size, alter)
            seen = [words(payload, size).reshape(-1, n) for payload in (*run.received[holder], run.ended[holder])]
            assert sum(map(len, seen)) == FACTORS + 1
            held = (v["template"], size), (v["held"], HELD), (np.full(n, mine), size)
            row.append(joined(*held, *((part, size) for part in np.concatenate(seen))))
        codes.append(np.concatenate(row))
    return Views(np.array(codes))


def _scored(
    holder: int, mine: tuple[int, Codes], secret: tuple[int, int], material: tuple[Any, Any], size: int,
    alter: Alter | None = None,
) -> Run:  # fmt: skip
    """Score one probe with templates of which a holder has these lanes, all of the same vector."""
    sign = -1 if holder == PLUS else 1
    theirs = tuple(part + sign * (x + OFFSET) for part, x in zip(mine, secret, strict=True))
    parameters: Any = SimpleNamespace(dimension=1, offset=OFFSET)
    circuits = [
        inner_products(
            np.atleast_1d(probe) % size, np.atleast_1d(templates) % size, parameters, material[at],
            is_plus=(at == 0) == (holder == PLUS),
        )
        for at, (probe, templates) in enumerate((mine, theirs))
    ]  # fmt: skip
    ordered = circuits if holder == PLUS else circuits[::-1]
    return run_circuits(ordered[PLUS], ordered[MINUS], holder, alter)


def scores_are_right(k: int) -> bool:
    """Whether the inner product mod 2^k comes out: the circuits that are enumerated are those of the protocol."""
    size, n = 1 << k, 16
    rng = np.random.default_rng(8)
    held = rng.integers(0, size, FACTORS * n), rng.integers(0, size, FACTORS * n)
    material = product_material(held, rng.integers(0, size, FACTORS * n), is_plus=True)
    for probe, template, mine in product(range(size), repeat=3):
        run = _scored(PLUS, (mine, rng.integers(0, size, n)), (probe, template), material, size)
        scores = (run.ended[PLUS] - run.ended[MINUS]).astype(np.int64) % size
        if not np.array_equal(scores, np.full(n, probe * template % size)):
            return False
    return True


# -- the answer ----------------------------------------------------------------------------------


def secrets(templates: int) -> list[tuple[int, ...]]:
    """Whether each of some templates reaches the threshold, and whether the probe is valid."""
    return list(product((0, 1), repeat=templates + 1))


def _joined(bits: tuple[int, ...], evaluator: Evaluator) -> Circuit:
    """The last layer at one holder, with its shares of what comes out of the layers before."""

    def done(values: tuple[int, ...]) -> Circuit:
        yield from ()
        return np.array(values, dtype=np.uint8)

    *found, valid = bits
    gated = np.zeros(len(found), dtype=np.bool_)
    return any_reached(done((valid,)), done(tuple(found)), [gated], evaluator)  # type: ignore[return-value]


def _answered(bits: tuple[tuple[int, ...], tuple[int, ...]], material: tuple[Any, Any], deviates: int = PLUS) -> Run:
    circuits = [_joined(bits[at], Evaluator(material[at], is_plus=at == PLUS)) for at in (PLUS, MINUS)]
    return run_circuits(circuits[PLUS], circuits[MINUS], deviates)


def answer_seen_by(holder: int) -> Views:
    """What a holder sees of the last layer about one template, for every outcome of the layers before.

    The bits of a byte that are no gate are left out: nothing but its own triple is in them.
    """
    ands = (1 << 2) - 1  # the table of two bits
    assert any_reached_cost([np.zeros(1, dtype=np.bool_)]) == 1
    others = bits_of(np.arange(1 << 2 * ands), 2 * ands).T
    seen = []
    for secret in secrets(1):
        row: list[object] = []
        for number, column, mine in product(range(TRIPLES), others, secrets(1)):
            a, b = np.zeros((2, 1, 8), dtype=np.uint8)
            a[0, :ands], b[0, :ands] = column[:ands], column[ands:]
            held = np.random.default_rng(number).integers(0, 2, (3, 1, 8), dtype=np.uint8)
            both = mine, tuple(x ^ y for x, y in zip(mine, secret, strict=True))
            material = bit_material((held[0], held[1], held[2]), a, b)
            if holder == MINUS:
                both, material = both[::-1], material[::-1]
            run = _answered(both, material, holder)
            payloads = [bytes(x & ((1 << ands) - 1) for x in payload) for payload in run.received[holder]]
            row.append((number, mine, *payloads, *(int(part[0]) & 1 for part in run.ended[holder])))
        seen.append(row)
    return Views.of(seen)


#: Values of its shares and triples of a holder for two that go together.
HELD_OF_TWO = 4


def answers_seen_by(holder: int) -> Views:
    """What a holder sees of the last layer about two verifications that go together, one template each.

    What it sees is linear in what masks it, so a run for each bit of that gives all of them.
    """
    ands = (1 << 2) - 1  # of each
    assert any_reached_cost([np.zeros(1, dtype=np.bool_)] * 2) == 1
    unit = np.concatenate([np.zeros((1, 4 * ands), dtype=np.uint8), np.eye(4 * ands, dtype=np.uint8)])
    combinations = bits_of(np.arange(1 << 4 * ands), 4 * ands).T
    seen = []
    for secret in product(secrets(1), repeat=2):
        row = []
        for number in range(HELD_OF_TWO):
            rng = np.random.default_rng(number)
            mine, held = rng.integers(0, 2, (2, 2)), rng.integers(0, 2, (3, 1, 8), dtype=np.uint8)
            runs = np.array([_seen_of_two(holder, mine, np.array(secret), held, masks) for masks in unit])
            views = runs[0] ^ (combinations @ (runs[1:] ^ runs[0])) % 2
            for at in rng.integers(0, len(views), 4):  # linear, as is said
                assert np.array_equal(views[at], _seen_of_two(holder, mine, np.array(secret), held, combinations[at]))
            row.append(number + HELD_OF_TWO * (views @ (1 << np.arange(views.shape[1]))))
        seen.append(np.concatenate(row))
    return Views(np.array(seen))


def _seen_of_two(holder: int, mine: Any, secret: Any, held: Any, masks: Any) -> Any:
    """The bits of two requests that a holder receives: what it ends with it computes of them.

    mine, secret: of each request, whether it is found and the probe valid.
    """
    ands = len(masks) // 2
    a, b = np.zeros((2, 1, 8), dtype=np.uint8)
    a[0, :ands], b[0, :ands] = masks[:ands], masks[ands:]
    both, material = (mine, mine ^ secret), bit_material((held[0], held[1], held[2]), a, b)
    if holder == MINUS:
        both, material = both[::-1], material[::-1]

    def done(values: Any) -> Circuit:
        yield from ()
        return np.asarray(values, dtype=np.uint8)

    gated = [np.zeros(1, dtype=np.bool_)] * 2
    circuits = [
        any_reached(
            done(np.packbits(both[at][:, 1], bitorder="little")), done(both[at][:, 0]), gated,
            Evaluator(material[at], is_plus=at == PLUS),
        )
        for at in (PLUS, MINUS)
    ]  # fmt: skip
    run = run_circuits(circuits[PLUS], circuits[MINUS], holder)  # type: ignore[arg-type]
    (payload,) = run.received[holder]
    received = np.unpackbits(np.frombuffer(payload, dtype=np.uint8).reshape(2, 1), axis=1, bitorder="little")
    return received[:, :ands].ravel().astype(np.int64)


def leaving(whose: tuple[int, ...], *, under_mask: bool = True) -> Views:
    """What the dealer sees of the shares of an answer about two templates, for every share that goes into it.

    It knows all that it dealt. whose: of which holders: one, or both, as a device, which may know the answer and
    whether the probe is valid.
    """
    seen = []
    for secret in secrets(2):
        row: list[object] = []
        for number, mine, draw in product(range(DEALT), secrets(2), product((0, 1), repeat=2)):
            theirs = tuple(x ^ y for x, y in zip(mine, secret, strict=True))
            run = _answered((mine, theirs), _dealt(number))
            left = [_left(run.ended[at], at, draw if under_mask else (0, 0)) for at in whose]
            row.append((number, *((int(share.bits[0]), share.valid) for share in left)))
        seen.append(row)
    may_know = tuple((any(found) and bool(valid), valid) for *found, valid in secrets(2))
    return Views.of(seen, may_know if len(whose) == 2 else ())


def _dealt(number: int) -> tuple[Any, Any]:
    """Some triples for the table of three bits: a byte."""
    a, b, c, other_a, other_b = np.random.default_rng(number).integers(0, 2, (5, 1, 8), dtype=np.uint8)
    return bit_material((a, b, c), other_a, other_b)


def _left(ended: list[Wire], at: int, draw: tuple[int, int]) -> Any:
    exchange = Exchange(None, (0, 0, 0), is_plus=at == PLUS)  # type: ignore[arg-type]
    exchange.mask = EnumeratedMask([], [], [np.array(draw, dtype=np.uint8)])
    return masked(exchange, ended[0], 1, ended[1], bytes(32))


def answers_are_right() -> bool:
    """Whether valid AND any of the templates comes out."""
    for secret, mine in product(secrets(2), secrets(2)):
        run = _answered((mine, tuple(x ^ y for x, y in zip(mine, secret, strict=True))), _dealt(9))
        answer, valid = (int(x[0] ^ y[0]) for x, y in zip(run.ended[PLUS], run.ended[MINUS], strict=True))
        if (answer, valid) != (int(any(secret[:-1]) and secret[-1]), secret[-1]):
            return False
    return True


def cases() -> Iterator[Case]:
    """Both holders, and the dealer with the share of either or both."""
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case("inner product, mod 4", name, f"its shares, {HELD} values of its products",
                   lambda h=holder: inner_product_seen_by(h, 2))  # fmt: skip
        yield Case("inner product, mod 4", name, "alters what it opens",
                   lambda h=holder: inner_product_seen_by(h, 2, altered))  # fmt: skip
        yield Case("answer of verify, a template", name, f"its shares, {TRIPLES} values of its triples",
                   lambda h=holder: answer_seen_by(h))  # fmt: skip
        yield Case("answers of two verifications together", name, f"{HELD_OF_TWO} values of its shares and triples",
                   lambda h=holder: answers_seen_by(h))  # fmt: skip
        yield Case("answer of verify, 2 templates", DEALER_VIEW, f"{DEALT} values of all dealt; share of the {name}",
                   lambda h=holder: leaving((h,)))  # fmt: skip
    yield Case("answer of verify, 2 templates", DEALER_VIEW,
               f"{DEALT} values of all dealt; both shares (device: knows the answer)",
               lambda: leaving((PLUS, MINUS)))  # fmt: skip
