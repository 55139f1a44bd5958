"""A shared integer that one party learns under another one's mask.

Then each of the two has an additive part of it, with which it computes in exponents. All three pairs do so, one after
the other in the circle, each with a mask of its own: a party that deviates is outside of one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony.replicated import open_to, share
from veilmatch.crypto.ceremony.rounds import Round, Steps, packed, size_below, unpacked
from veilmatch.crypto.ceremony.seats import Seat, ahead_of
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.secret_access import SecretHolder


@dataclass(frozen=True, slots=True, repr=False)
class Masked(SecretHolder):
    """x + mask, which the learner has, and the mask, which its drawer has.

    mine: this party's number of the two, none at the third party. of_learner, of_drawer: the two numbers, still shared.
    """

    mine: tuple[Integer, ...]
    of_learner: Shared
    of_drawer: Shared


def masked(seat: Seat, x: Shared, learner: Party, drawer: Party, draw: Callable[[], Integer]) -> Steps[Masked]:
    """Let the learner learn x + mask modulo x's modulus, for one x and a mask that `drawer` draws. Two rounds.

    Uniform masks below the modulus hide x perfectly; masks of b bits hide an integer x below 2^l up to 2^(l - b), and
    x + mask is their sum as integers if the modulus is larger than that. Raises as `open_to` does.
    """
    assert x.modulus is not None
    drawn = [draw()] if seat.party == drawer else []
    mask = yield from share(seat.named("mask"), drawer, drawn, 1, x.modulus)
    total = x.plus(mask)
    opened = yield from open_to(seat.named("opened"), total, learner)
    return Masked((*opened, *drawn), total, mask)


def shown_by_two(
    seat: Seat, holder: Party, compute: Callable[[], list[Integer]], count: int, modulus: Integer
) -> Steps[tuple[list[Integer], list[Integer]]]:
    """Return, at all three, what the holder and the party ahead of it tell: `count` residues each. One round.

    compute: called at these two.
    """
    size = count * size_below(modulus)
    speakers = holder, ahead_of(holder)
    mine = compute() if seat.party in speakers else []
    received = yield Round(told=packed(mine, modulus), heard={party: size for party in speakers if party != seat.party})
    of_holder, of_masker = (
        mine if party == seat.party else unpacked(received.told[party], modulus) for party in speakers
    )
    return of_holder, of_masker
