"""A bit of o from each attempt at new shares: the minus holder chooses its mask beside a bound for the sum.

o_plus = o + mask is refused if it is too long, and would wrap below zero. A mask that is a bound less x has it refused
if and only if o >= x, whatever follows. The key stays as it is and people try again, so x can be searched for. Bounds
that are random, and wider than o by 128 bits, refuse one o as often as another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.crypto.ceremony.test_renewal import RenewalTable, dealt_before, secret_order
from tests.crypto.toys import TOY
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony import handing_out
from veilmatch.crypto.ceremony.joint.sizes import Sizes
from veilmatch.crypto.errors import IntegrityError

BITS = Sizes(TOY).order_bits
#: Of the mask, and below what is wrapped.
MASK_BITS, ROOM = BITS + 128, Sizes(TOY).room


def as_before(sums: tuple[Integer, ...], bits: int) -> None:
    """What stood in the place of `_require_sums`."""
    if any(x.bit_length() > bits + 128 + 1 for x in sums):
        raise IntegrityError("too long")


def below_the_bound(x: int) -> Integer:
    return (Integer(2) << MASK_BITS) - x


def below_the_wrap(x: int) -> Integer:
    return ROOM - x


def is_refused(mask: Integer, monkeypatch: pytest.MonkeyPatch, what: str) -> bool:
    """Whether a refuses what it learns under this mask of c, which deviates in nothing else."""
    honest, refused = handing_out.masked, []
    check = handing_out._require_sums

    def masked(seat: Any, x: Any, learner: str, drawer: str, draw: Callable[[], Integer]) -> Any:
        deviates = (seat.party, learner, drawer) == ("c", "a", "c") and seat._name.endswith(what)
        return honest(seat, x, learner, drawer, (lambda: mask) if deviates else draw)

    def checking(sums: tuple[Integer, ...], bits: int) -> None:
        try:
            check(sums, bits)
        except IntegrityError:
            refused.append(bits)
            raise

    with monkeypatch.context() as patched:
        patched.setattr(handing_out, "masked", masked)
        patched.setattr(handing_out, "_require_sums", checking)
        RenewalTable(TOY, lost="c").run()
    return bool(refused)


@pytest.mark.parametrize("mask", [below_the_bound, below_the_wrap])
@pytest.mark.parametrize("what", ["/ac/o", "/ac a/t", "/ac c/t"])
def test_whether_a_mask_is_refused_does_not_depend_on_o(
    mask: Callable[[int], Integer], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    o = secret_order()
    shift = 0 if what.endswith("o") else 128
    # Gamma is random: these two are below and above any product with one of its upper half.
    guesses = (o // 2, 2 * o) if not shift else (1, o << 129)
    bound = mask(0)
    if shift and mask is below_the_bound:
        bound = Integer(2) << (MASK_BITS + 128)
    assert [is_refused(bound - x, monkeypatch, what) for x in guesses] == [True, True]
    monkeypatch.setattr(handing_out, "_require_sums", as_before)
    before = [is_refused(bound - x, monkeypatch, what) for x in guesses]
    assert before == [mask is below_the_bound, mask is below_the_wrap]


def test_with_fixed_bounds_o_is_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_out, "_require_sums", as_before)
    low, high = 1 << (BITS - 1), 1 << BITS
    for _ in range(8):
        x = (low + high) // 2
        low, high = (x, high) if is_refused(below_the_bound(x), monkeypatch, "/ac/o") else (low, x)
    assert low <= secret_order() < high and high - low == 1 << (BITS - 9)
    assert dealt_before()[0].subgroup_order_bits == BITS
