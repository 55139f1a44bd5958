"""Share conversion: one Beaver multiplication by the key, in itself and in whole sessions.

The functions of pair/conversion.py run on arrays of numbers, one column for each assignment, so that every value of
what is not known is taken, and for N = 6 every value of what is held as well. Sessions (`rotate` of a record without
its gate: hello, conversion, last mask, key-safety check, shares for the matchers) run once for each. Last masks
that the minus holder rejects do not occur: of those that are left each is as likely.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import gcd
from typing import Any

import numpy as np

from tests.enumeration.dealt import RejectedError, last_masks
from tests.enumeration.steps import MINUS, PLUS, Alter, Run
from tests.enumeration.tiny import Held, Tiny, TinyParameters, some_stock
from tests.enumeration.views import DEALER_VIEW, MINUS_VIEW, PLUS_VIEW, Case, Views, assignments, joined
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.pair.conversion import Triple, open_masked, output_share
from veilmatch.crypto.pair.messages import Coins, Hello, Openings, ProbeShare, TemplateShare

#: a, b, ab of the holder whose view it is, for N = 15.
TRIPLE = (4, 7, 11)
#: o and m of sessions, at N = 6.
SECRETS = ((1, 1), (5, 1), (1, 4), (5, 3))
#: Rules of the minus holder: no w of the top two of N; no lane, the lowest two bits of w, of 3.
AT_THE_MODULUS = TinyParameters(headroom=1)
AT_A_CARRY = TinyParameters(lane_bits=2, risk=1)
#: The masks of a session and the last one, where they are not enumerated.
MASK, LAST = 5, 2
#: A probe of one coordinate.
PROBE = TinyParameters(lane_bits=8)
#: o and m of sessions with rules, at N = 10.
SHIFTED = ((3, 0), (3, 1), (7, 4), (9, 7))


def units(N: int) -> list[int]:
    """What o can be."""
    return [x for x in range(1, N) if gcd(x, N) == 1]


def opened_to(holder: int, N: int, *, reused: bool = False) -> Views:
    """What a holder gets, and its w, for every o and m. reused: for two ciphertexts, 1 and m, with one triple."""
    whole = {"a": N, "b": N, "ab": N} if N <= 6 else {}
    sizes = {"z": N, "kappa": N, "other a": N, "other b": N} | whole
    v = assignments(sizes)
    a, b, ab = (v[x] if whole else np.full_like(v["z"], some) for x, some in zip(("a", "b", "ab"), TRIPLE, strict=True))
    difference = (a - v["other a"]) * (b - v["other b"])
    other_ab = ab - difference if holder == PLUS else ab + difference
    triples = Triple(a, b, ab), Triple(v["other a"], v["other b"], other_ab % N)  # type: ignore[arg-type]
    sign, codes = 1 if holder == PLUS else -1, []
    for o, m in product(units(N), range(N)):
        theirs = (v["z"] - sign * o * m) % N, (v["kappa"] - sign * pow(o, -1, N)) % N
        mine = open_masked(v["z"], v["kappa"], triples[0], N)  # type: ignore[arg-type]
        opening = open_masked(*theirs, triples[1], N)  # type: ignore[arg-type]
        w = output_share(triples[0], mine, opening, N, is_plus=holder == PLUS)
        other_w = output_share(triples[1], opening, mine, N, is_plus=holder != PLUS)
        assert (((w - other_w) * sign - m) % N == 0).all(), "shares of m"
        seen: list[Any] = [opening.d, opening.e, w]
        if reused:
            again = open_masked((v["z"] - sign * o) % N, theirs[1], triples[1], N)  # type: ignore[arg-type]
            seen.append(again.d)
        held = [(v["z"], N), (v["kappa"], N), *((v[x], size) for x, size in whole.items())]
        codes.append(joined(*held, *((part, N) for part in seen)))
    return Views(np.array(codes))


# -- sessions ------------------------------------------------------------------------------------


def seen_in(run: Run, holder: int) -> tuple[object, ...]:
    """All that a holder is sent, and what it ended with.

    What is not enumerated is left out: hellos and coins, which are random bytes.
    """
    messages = [message for sender, message in run.sent if sender != holder and not isinstance(message, Hello | Coins)]
    return (*(tuple(getattr(x, name) for name in type(x).__slots__) for x in messages), handed(run, holder))


def handed(run: Run, holder: int) -> object:
    """What the matcher of a holder is handed, or how the session ended."""
    end = run.ended[holder]
    if isinstance(end, ProbeShare):
        return end.exponents.tobytes()
    return (end.lanes.tobytes(), end.valid.tobytes()) if isinstance(end, TemplateShare) else end


def session_of(holder: int, N: int, parameters: TinyParameters) -> Tiny:
    """A session of a holder with some share of the key, some z and some triple."""
    return Tiny(N, holder, Held(8 % N, 3, [(4, 7, 1)]), parameters=parameters)


def session_seen_by(
    holder: int,
    parameters: TinyParameters | None = None,
    alter: Alter | None = None,
    secrets: tuple[tuple[int, int], ...] = SECRETS,
    N: int = 6,
) -> Views:
    """What a holder sees of a session, for some secrets and for every last mask."""
    session, seen = session_of(holder, N, parameters or TinyParameters()), []
    for o, m in secrets:
        row: list[object] = []
        for last, a, b in product(range(N), repeat=3):
            # Both know the last mask, as a number, once the minus holder has drawn it.
            with suppress(RejectedError), last_masks(last):
                row.append((last, *seen_in(session.run(o, m, [(a, b)], ([[MASK]], [], []), alter=alter), holder)))
        seen.append(row)
    return Views.of(seen)


def with_rule_seen_by(holder: int, rule: TinyParameters) -> Views:
    """The same at N = 10, with a rule of the minus holder."""
    return session_seen_by(holder, rule, secrets=SHIFTED, N=10)


def told_by_a_rule(rule: TinyParameters, N: int) -> Fraction:
    """How far m of SHIFTED are apart by a last mask: the part of all safe ones of m that are not safe for m'."""
    with rule.set_for(N):

        def risky(w: int) -> bool:
            return lanes.wraps_modulus([Integer(w)], Integer(N)) or lanes.at_risk(
                lanes.unpack([Integer(w)], rule), rule
            )

        safe = [{last for last in range(N) if not risky((last - m) % N)} for _, m in SHIFTED]
    return max(Fraction(len(one - two), len(one)) for one in safe for two in safe)


def opened_more(of_d: int, of_e: int, N: int) -> Alter:
    """A holder that adds something to its d and its e, a byte each."""

    def alter(message: Any, received: list[Any]) -> Any:
        if not isinstance(message, Openings):
            return message
        d, e = message.values
        return Openings(bytes([(d + of_d) % N, (e + of_e) % N]))

    return alter


def leaving(whose: int, parameters: TinyParameters | None = None, *, masked: bool = True) -> Views:
    """What leaves from one holder to a matcher of the dealer's organisation, which dealt the triple, for every o and m.

    Key shares and z are fixed: a mask alone has to hide them. Without a rule it is that of the session, whatever
    the last one is; with a rule it is the last one, whatever that of the session is.
    """
    N = 15
    session = session_of(PLUS, N, parameters or TinyParameters())
    seen = []
    for o, m in product(units(N), range(N)):
        row: list[object] = []
        for mask in range(N):
            both = (mask, LAST) if parameters is None else (MASK, mask)
            of_session, last = both if masked else (0, 0)
            with suppress(RejectedError), last_masks(last):
                row.append(handed(session.run(o, m, [(2, 9)], ([[of_session]], [], [])), whose))
        seen.append(row)
    return Views.of(seen)


def probe_leaving(whose: int, *, masked: bool = True) -> Views:
    """The same for the share of a probe that a holder's matcher gets in a search, for some o and every m."""
    N = 15
    session = replace(session_of(PLUS, N, PROBE), operation="candidates", stock=some_stock(1, PROBE))
    seen = []
    for o, m in product((2, 7), range(N)):
        row = []
        for mask in range(N):
            of_session, last = (mask, LAST) if masked else (0, 0)
            with last_masks(last):
                row.append(handed(session.run(o, m, [(2, 9)], ([[of_session]], [], [])), whose))
        seen.append(row)
    return Views.of(seen)


def cases() -> Iterator[Case]:
    """Beaver alone at two sizes, then sessions without and with the rule of the minus holder."""
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case("conversion, N = 6", name, "key share, z, triple: all values", lambda h=holder: opened_to(h, 6))
        yield Case("conversion, N = 15", name, "key share, z: all values; one of its triple",
                   lambda h=holder: opened_to(h, 15))  # fmt: skip
        yield Case("session of a record, N = 6", name, "one value of all it holds", lambda h=holder: session_seen_by(h))
        yield Case("session of a record, N = 6", name, "alters what it opens",
                   lambda h=holder: session_seen_by(h, alter=opened_more(0, 1, 6)))  # fmt: skip
        yield Case("session of a record, N = 15", DEALER_VIEW, f"both triples; share of the {name}",
                   lambda h=holder: leaving(h))  # fmt: skip
        yield Case("share of a probe, N = 15", DEALER_VIEW, f"both triples; share of the {name}",
                   lambda h=holder: probe_leaving(h))  # fmt: skip
    rules = (
        (AT_THE_MODULUS, "min(risk, m - m') / (N - risk)"),
        (AT_A_CARRY, "(masks that are safe for m and not for m') / (those that are safe for m)"),
    )
    for (rule, formula), what in zip(rules, ("rule at N", "rule at a carry"), strict=True):
        yield Case(f"session of a record, {what}, N = 10", PLUS_VIEW, "one value of all it holds",
                   lambda r=rule: with_rule_seen_by(PLUS, r), told_by_a_rule(rule, 10), formula)  # fmt: skip
        yield Case(f"session of a record, {what}, N = 10", MINUS_VIEW, "one value of all it holds",
                   lambda r=rule: with_rule_seen_by(MINUS, r))  # fmt: skip
    yield Case("session of a record, rule at N, N = 15", DEALER_VIEW, f"both triples; share of the {PLUS_VIEW}",
               lambda: leaving(PLUS, AT_THE_MODULUS), Fraction(2, 13), "min(risk, m - m') / (N - risk)")  # fmt: skip
    yield Case("session of a record, rule at N, N = 15", DEALER_VIEW, f"both triples; share of the {MINUS_VIEW}",
               lambda: leaving(MINUS, AT_THE_MODULUS))  # fmt: skip
