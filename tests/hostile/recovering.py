"""One party deviates while new shares are made: what the two honest ones have then, with the checks and without them.

Three sessions in memory, c is the fresh machine. Killed processes: tests/recovery and tests/e2e/test_recovery.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from tests.crypto.ceremony.table import Alter
from tests.crypto.ceremony.test_key import minus_of, plus_of, require_safety
from tests.crypto.ceremony.test_renewal import (
    PRODUCTS,
    ROUNDS,
    Keys,
    RenewalTable,
    dealt_before,
    flipping,
    order,
    secret_order,
)
from tests.crypto.toys import TOY
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony import replicated
from veilmatch.crypto.ceremony.joint import pair_check
from veilmatch.crypto.ceremony.joint import renewal as steps
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Party, dealer_of
from veilmatch.crypto.secret_access import SECRET_ACCESS

#: In which round what is opened to a plus holder is shown.
_OPENINGS = 4


@dataclass(frozen=True)
class Outcome:
    """refused: codes of the errors at honest parties, empty if they keep their shares. sound: these convert."""

    refused: frozenset[str]
    sound: bool = False

    def __str__(self) -> str:
        if self.refused:
            return f"refused ({', '.join(sorted(self.refused))}), and all as before"
        return "kept, and sound" if self.sound else "kept, and wrong: the honest pair does not convert, or cannot check"


@dataclass(frozen=True)
class RecoveryDeviation:
    """who does what. patch: has it do so. alter: what it sends instead, if that is it."""

    who: str
    what: str
    party: Party
    patch: Callable[[pytest.MonkeyPatch], None] = field(default=lambda _: None)
    alter: Alter | None = None


def putting_in(party: Party, what: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Another share of o or of kappa."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        honest = steps._own

        def own(seat: Any, renewal: Any, key: Any, owner: Party, kind: str) -> list[Integer]:
            values = honest(seat, renewal, key, owner, kind)
            return [x + 1 for x in values] if (seat.party, kind) == (party, what) else values

        monkeypatch.setattr(steps, "_own", own)

    return patch


def adding_to(party: Party, product: str) -> Callable[[pytest.MonkeyPatch], None]:
    """An error in a product, of those of tests/crypto/ceremony/test_renewal.py."""

    return lambda monkeypatch: adding_error(monkeypatch, party, PRODUCTS.index(product))


def adding_error(monkeypatch: pytest.MonkeyPatch, party: Party, number: int) -> None:
    """Have a party add one to what it sends and keeps of its product of this number, counted from 0."""
    honest, seen = replicated.__dict__["local_products"], [0]

    def products(x: Shared, y: Shared) -> list[Integer]:
        made: list[Integer] = honest(x, y)
        if x.party == party:
            seen[0] += 1
            if seen[0] - 1 == number:
                made = [e + 1 for e in made]
        return made

    monkeypatch.setattr(replicated, "local_products", products)


def believe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take whatever pairs compare in the tests of shares, and second holders of a share, for equal."""
    equal = SimpleNamespace(compare_digest=lambda *_: True)
    for module in (pair_check, replicated):
        monkeypatch.setattr(module, "hmac", equal)
    for name in ("hashes_agree", "proofs_agree"):
        monkeypatch.setattr(pair_check, name, lambda *_: True)


RECOVERY_DEVIATIONS = (
    RecoveryDeviation("one that is left", "puts in another share of o", "b", putting_in("b", "o")),
    RecoveryDeviation("one that is left", "puts in another share of kappa", "b", putting_in("b", "kappa")),
    RecoveryDeviation("one that is left", "adds an error to Gamma*o of others", "b", adding_to("b", "t ac a")),
    RecoveryDeviation("one that is left", "adds an error to Gamma*kappa of others", "b", adding_to("b", "tag ac c")),
    RecoveryDeviation("fresh machine", "adds an error to Gamma*o of others", "c", adding_to("c", "t ab a")),
    RecoveryDeviation("fresh machine", "alters its hash of what b shows", "c", alter=flipping(_OPENINGS, "a")),
    RecoveryDeviation("one that is left", "alters what it shows of a share", "b", alter=flipping(_OPENINGS, "a")),
)  # fmt: skip


def outcome(deviation: RecoveryDeviation, *, believing: bool) -> Outcome:
    """Run it. believing: what is compared in the tests of shares, and of what is opened, is taken for equal."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        deviation.patch(monkeypatch)
        if believing:
            believe(monkeypatch)
        table = RenewalTable(TOY, deviation.party, deviation.alter, lost="c").run()
    honest = [party for party in PARTIES if party != deviation.party]
    if table.errors:
        return Outcome(frozenset(table.errors[p].code for p in honest if p in table.errors))
    return Outcome(frozenset(), is_sound(table.made, honest))


def messages_in_turn() -> Counter[str]:
    """Alter one message at a time, of each round, by each party, to each peer: how often what came of it."""
    found: Counter[str] = Counter()
    for number in range(ROUNDS):
        for deviates in PARTIES:
            for to in (party for party in PARTIES if party != deviates):
                table = RenewalTable(TOY, deviates, flipping(number, to), lost="c").run()
                if not table.was_altered:
                    continue
                honest = [party for party in PARTIES if party != deviates]
                codes = frozenset(table.errors[party].code for party in honest if party in table.errors)
                if codes:
                    found[str(Outcome(codes))] += 1
                elif table.errors:
                    found["refused by itself alone"] += 1
                else:
                    found[str(Outcome(codes, is_sound(table.made, honest)))] += 1
    return found


def is_sound(keys: Keys, honest: list[Party]) -> bool:
    """Whether the pair of the honest two converts and checks, by plain arithmetic."""
    (pair,) = (pair for pair in PAIRS if set(pair) == set(honest))
    plus, minus, o, N = plus_of(pair), minus_of(pair), secret_order(), int(dealt_before()[0].modulus)
    shares, safety = ((getattr(keys[plus], of)(pair), getattr(keys[minus], of)(pair)) for of in ("share", "safety"))
    kappa = shares[0].kappa(SECRET_ACCESS) - shares[1].kappa(SECRET_ACCESS)
    gammas = keys[dealer_of(pair)].dealer_gammas(SECRET_ACCESS)
    try:
        require_safety(pair, o, N, shares, safety, gammas)
    except AssertionError:
        return False
    return order(keys, keys, pair) == o and kappa * o % N == 1
