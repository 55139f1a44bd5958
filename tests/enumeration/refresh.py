"""Shares of the key before and after a refresh: what one organisation has of both epochs, and what a thief has who was
inside one organisation before it and inside another one after it.

The real splits (keys/ceremony.py) and refreshes (keys/refreshing.py) run with every value of what they draw, at tiny
sizes: |o| of three bits, N = 15, masks that are `EXCESS` bits longer than what they hide where production has 128.
That makes the distances of differences over the integers visible. They have to be exactly those of the formula
in which 2^-128 stands for them. What is shared mod N is uniform.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from tests.enumeration.steps import MINUS, PLUS
from tests.enumeration.views import DEALER_VIEW, MINUS_VIEW, PLUS_VIEW, Case, Views
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.keys import ceremony, refreshing
from veilmatch.crypto.keys.ceremony import _split, split_safety
from veilmatch.crypto.keys.refreshing import CommonSeed, RefreshName, refreshed_safety, refreshed_share
from veilmatch.crypto.keys.shares import DealerGammas, PairShare, SafetyShare
from veilmatch.crypto.secret_access import SECRET_ACCESS

N, EXCESS = 15, 2
O_BITS, GAMMA_BITS = 3, 1
#: Values of o, units mod N; the largest difference decides.
SECRETS = (4, 7)
FURTHEST = max(SECRETS) - min(SECRETS)
MASK = 1 << (O_BITS + EXCESS)
T_MASK = 1 << (O_BITS + GAMMA_BITS + EXCESS)
NAME = RefreshName(bytes(32), bytes(16), 2, "ab")
PUBLIC_KEY: Any = SimpleNamespace(
    modulus=Integer(N), subgroup_order_bits=O_BITS, randomiser_bits=O_BITS + EXCESS, parameters=None
)


class GivenSeed(CommonSeed):
    """A common seed whose values are given, by label; what is not given is 0."""

    __slots__ = ("given",)

    def __init__(self, given: dict[str, int]) -> None:
        super().__init__(NAME, b"")
        object.__setattr__(self, "given", given)

    def bits(self, what: str, bits: int) -> Integer:
        value = self.given.get(what, 0)  # type: ignore[attr-defined]
        assert 0 <= value < 1 << bits
        return Integer(value)

    def below(self, what: str, bound: Integer) -> Integer:
        return Integer(self.given.get(what, 0)) % bound  # type: ignore[attr-defined]


@contextmanager
def drawing(*values: int) -> Iterator[None]:
    """Let a ceremony draw these numbers, one after the other."""
    left = deque(map(Integer, values))
    with (
        patch.multiple(ceremony, STATISTICAL_BITS=EXCESS, GAMMA_BITS=GAMMA_BITS),
        patch.multiple(ceremony, random_bits=lambda _: left.popleft(), random_below=lambda _: left.popleft()),
        patch.object(refreshing, "GAMMA_BITS", GAMMA_BITS),
    ):
        yield
        assert not left


def split(o: int, o_minus: int, kappa_minus: int) -> tuple[PairShare, PairShare]:
    """Shares of o and of its inverse, for what is drawn."""
    with drawing(o_minus, kappa_minus):
        return _split("ab", Integer(o), Integer(pow(o, -1, N)), PUBLIC_KEY)


def numbers(share: PairShare) -> tuple[int, int]:
    """o_* and kappa_*."""
    return int(share.stored_exponent(SECRET_ACCESS)), int(share.kappa(SECRET_ACCESS))


def organisation_seen(holder: int) -> Views:
    """What one holder has of both epochs: its shares, and what was added to them. Of kappa some values."""
    seen = []
    for o in SECRETS:
        row = []
        for o_minus, kappa_minus, r, x in product(range(MASK), range(N), range(0, MASK, 8), range(0, N, 4)):
            old = split(o, o_minus, kappa_minus)[holder]
            new = refreshed_share(old, GivenSeed({"o": r, "kappa": x}), PUBLIC_KEY)
            row.append((*numbers(old), *numbers(new), r, x))
        seen.append(row)
    return Views.of(seen)


def exponents_stolen(of_old: int, *, refreshed: bool = True) -> Views:
    """o_* of one holder before a refresh and of the other one after it."""
    return Views.of([
        [
            (
                numbers((old := split(o, o_minus, 0))[of_old])[0],
                numbers(refreshed_share(old[1 - of_old], GivenSeed({"o": r if refreshed else 0}), PUBLIC_KEY))[0],
            )
            for o_minus, r in product(range(MASK), repeat=2)
        ]
        for o in SECRETS
    ])  # fmt: skip


def kappas_stolen(of_old: int, *, refreshed: bool = True) -> Views:
    """kappa_* of one holder before a refresh and of the other one after it."""
    return Views.of([
        [
            (
                numbers((old := split(o, 0, kappa_minus))[of_old])[1],
                numbers(refreshed_share(old[1 - of_old], GivenSeed({"kappa": x if refreshed else 0}), PUBLIC_KEY))[1],
            )
            for kappa_minus, x in product(range(N), repeat=2)
        ]
        for o in SECRETS
    ])  # fmt: skip


# -- the key-safety check ------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """What a ceremony draws for the check: Gamma and t_minus of each verifier, and its key of the other's kappa."""

    gammas: tuple[int, int]
    t_minus: tuple[int, int]
    keys: tuple[int, int]


def safety(o: int, kappa_minus: int, drawn: Drawn) -> tuple[tuple[SafetyShare, SafetyShare], DealerGammas]:
    """Both holders' parts of the check, and the dealer's."""
    shares = split(o, 0, kappa_minus)
    with drawing(*drawn.gammas, *drawn.t_minus, *drawn.keys):
        return split_safety(shares, Integer(o), Integer(N))


def safety_numbers(share: SafetyShare) -> tuple[int, ...]:
    """Gamma, both t, key and tag."""
    parts = share.gamma, share.kappa_key, share.kappa_tag
    return (*(int(part(SECRET_ACCESS)) for part in parts), *map(int, share.stored_exponents(SECRET_ACCESS)))


def safety_seen(holder: int) -> Views:
    """What a holder has of both epochs, as verifier and as prover, with its kappa; Gammas at their largest.

    t is drawn for both directions alike: one is enumerated, as verifier, and then the other.
    """
    verifier = holder
    seen = []
    for o in SECRETS:
        row: list[tuple[int, ...]] = []
        for t, key, kappa, x in product(range(T_MASK), range(N), range(0, N, 2), (0, 4)):
            kappa_minus = kappa if holder == MINUS else (kappa - pow(o, -1, N)) % N
            t_minus = (t, 0) if verifier == PLUS else (0, t)
            # As prover only its tag is enumerated: tag = key + Gamma * kappa.
            keys = [0, 0]
            keys[1 - verifier] = key
            both, _ = safety(o, kappa_minus, Drawn((1, 1), t_minus, (keys[0], keys[1])))
            new = _refreshed(both[holder], x)
            row.append((kappa, x, *_of_verifier(both[holder]), *_of_verifier(new)))
        seen.append(row)
    return Views.of(seen)


def _of_verifier(share: SafetyShare) -> tuple[int, ...]:
    """All of it but t as prover, which is not enumerated together with this."""
    gamma, key, tag, verifying, _ = safety_numbers(share)
    return gamma, key, tag, verifying


def _refreshed(share: SafetyShare, x: int) -> SafetyShare:
    with patch.object(refreshing, "GAMMA_BITS", GAMMA_BITS):
        return refreshed_safety(share, GivenSeed({"kappa": x, "t a verifies": 5, "t b verifies": 9}), PUBLIC_KEY)


def dealer_seen() -> Views:
    """What the dealer has of the pair, in both epochs: its Gammas. They stay."""
    seen = []
    for o in SECRETS:
        drawn = [Drawn(gammas, (0, 0), (0, 0)) for gammas in product(range(1 << GAMMA_BITS), repeat=2)]
        dealers = [safety(o, 1, one)[1] for one in drawn]
        row = [tuple(int(d.of_verifier(is_plus=p, access=SECRET_ACCESS)) for p in (True, False)) for d in dealers]
        seen.append(row)
    return Views.of(seen)


def cases() -> Iterator[Case]:
    """Each organisation, then a thief."""
    o_distance, t_distance = Fraction(FURTHEST, MASK), Fraction(FURTHEST, T_MASK)
    formula = "(o - o') / 2^(|o| + excess)"
    both = "o and kappa of both epochs, what was added"
    yield Case("refresh, N = 15", PLUS_VIEW, both, lambda: organisation_seen(PLUS), o_distance, formula)
    yield Case("refresh, N = 15", MINUS_VIEW, both, lambda: organisation_seen(MINUS))
    yield Case("refresh, key-safety check", PLUS_VIEW, "its part in both epochs, its kappa", lambda: safety_seen(PLUS),
               t_distance, "Gamma * (o - o') / 2^(|o| + |Gamma| + excess)")  # fmt: skip
    yield Case(
        "refresh, key-safety check", MINUS_VIEW, "its part in both epochs, its kappa", lambda: safety_seen(MINUS)
    )
    yield Case("refresh, key-safety check", DEALER_VIEW, "its part in both epochs", dealer_seen)
    yield Case("refresh, thief", "minus before, plus after", "kappa", lambda: kappas_stolen(MINUS))
    yield Case("refresh, thief", "plus before, minus after", "kappa", lambda: kappas_stolen(PLUS))
    yield Case("refresh, thief", "minus before, plus after", "o", lambda: exponents_stolen(MINUS), o_distance, formula)
    twice = 1 - (1 - o_distance) ** 2
    yield Case("refresh, thief", "plus before, minus after", "o", lambda: exponents_stolen(PLUS), twice,
               "1 - (1 - (o - o') / 2^(|o| + excess))^2")  # fmt: skip
