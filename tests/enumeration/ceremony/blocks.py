"""Every block of a joint ceremony, and what each of the three sees of it.

Replicated numbers modulo 3 and 5, two parties with a dealer modulo 2^2 - 1 and 2^3 - 1, trial division by 3 and by 5.
Commitments are ideal, and coins fixed. What a block makes of its numbers is compared with plain arithmetic in
tests/crypto/ceremony; here it is what is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import product
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from tests.enumeration.ceremony.tape import Block, Rightfully, Tape, nothing, seen_by, sharing, split_in_two
from tests.enumeration.views import Case, Views
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony import replicated
from veilmatch.crypto.ceremony.inversion import inverses, random_units
from veilmatch.crypto.ceremony.joint.renewal import shared_secrets
from veilmatch.crypto.ceremony.masking import masked
from veilmatch.crypto.ceremony.rounds import Round, Steps
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.trial_division import without_small_factors
from veilmatch.crypto.ceremony.two import checking
from veilmatch.crypto.ceremony.two.checking import CheckedComputation
from veilmatch.crypto.ceremony.two.computation import Computation, Part, Roles
from veilmatch.crypto.ceremony.two.fermat import ALL_ROLES, _number_of_three
from veilmatch.crypto.ceremony.two.field import Field
from veilmatch.crypto.ceremony.two.zeros import any_zero
from veilmatch.crypto.keys.parties import PARTIES, Party

Steps3 = Callable[[Seat], Steps[Any]]
ROLES: Roles = ALL_ROLES[0]
ROLE_NAMES = dict(zip(ROLES, ("first", "second", "dealer"), strict=True))
#: Of an integer that is opened under a mask of so many bits: the values that are compared.
MASK_BITS, INTEGERS = 3, (0, 1, 3)


# -- replicated ---------------------------------------------------------------------------------------------


def multiply(m: int) -> Block:
    """One product of x and y."""

    def block(tape: Tape, secret: tuple[int, int]) -> Steps3:
        x, y = (sharing(tape, name, value, m) for name, value in zip("xy", secret, strict=True))
        return lambda seat: replicated.multiply(seat, x[seat.party], y[seat.party])

    return block


def share(m: int, owner: Party) -> Block:
    """What one party shares."""

    def block(tape: Tape, secret: int) -> Steps3:
        return lambda seat: replicated.share(
            seat, owner, [Integer(secret)] if seat.party == owner else [], 1, Integer(m)
        )

    return block


def open_to(m: int, receiver: Party) -> Block:
    """An opening to one party."""

    def block(tape: Tape, secret: int) -> Steps3:
        x = sharing(tape, "x", secret, m)
        return lambda seat: replicated.open_to(seat, x[seat.party], receiver)

    return block


def inverse(m: int) -> Block:
    """1/x, with a mask r that is a unit: a secret is x, and r runs through all units."""

    def block(tape: Tape, secret: int) -> Steps3:
        r = 1 + tape.draw((frozenset(), "r", 0), m - 1)
        x, mask = sharing(tape, "x", secret, m), sharing(tape, "r", r, m)
        return lambda seat: inverses(seat, x[seat.party], mask[seat.party])

    return block


def units_seen_by(viewer: Party, m: int) -> Views:
    """What a party sees while a unit is made, by the unit that comes out."""
    from tests.crypto.ceremony.table import combined, play
    from tests.enumeration.ceremony.tape import TapeRandomness

    rows: dict[int, list[Any]] = {}
    for held in range(4):
        tape = Tape(viewer, held)
        for _ in tape.runs():
            at = {party: Seat(party, TapeRandomness(tape, party)) for party in PARTIES}
            played = play(lambda seat: random_units(seat, 1, Integer(m)), at)
            (unit,) = combined(played.of_all())
            seen = [tuple(sorted(r.sent.items())) for r in played.received[viewer]]
            rows.setdefault(unit, []).append((held, *seen))
    return Views.of(list(rows.values()))


def old_shares(m: int) -> Block:
    """What two holders put in of o and of kappa for new shares: o of plus and minus, kappa of plus and minus."""
    renewal: Any = SimpleNamespace(source="ab", room=Integer(m), public_key=SimpleNamespace(modulus=Integer(m)))

    def block(tape: Tape, secret: tuple[int, int, int, int]) -> Steps3:
        def key(party: Party) -> Any:
            at = "ab".find(party)
            own = SimpleNamespace(
                stored_exponent=lambda _: Integer(secret[at]), kappa=lambda _: Integer(secret[2 + at])
            )
            return SimpleNamespace(share=lambda _: own) if at >= 0 else None

        return lambda seat: shared_secrets(seat, renewal, key(seat.party))

    return block


def own_old_share(party: Party, secret: tuple[int, int, int, int]) -> object:
    """Each of the two its own; the third nothing."""
    at = "ab".find(party)
    return (secret[at], secret[2 + at]) if at >= 0 else None


def masked_number(modulus: int, learner: Party, drawer: Party, draw: Callable[[Seat], Integer]) -> Block:
    """A number that `learner` learns under a mask of `drawer`."""

    def block(tape: Tape, secret: int) -> Steps3:
        x = sharing(tape, "x", secret, modulus)
        return lambda seat: masked(seat, x[seat.party], learner, drawer, lambda: draw(seat))

    return block


# -- trial division -----------------------------------------------------------------------------------------


def division(primes: tuple[int, ...]) -> Block:
    """x = 1 + 2*(E_a + E_b + E_c); a secret is the three E."""

    def block(tape: Tape, secret: tuple[int, int, int]) -> Steps3:
        own = dict(zip(PARTIES, secret, strict=True))
        return lambda seat: without_small_factors(seat, [Integer(own[seat.party])], primes)

    return block


def divides(primes: tuple[int, ...]) -> Rightfully:
    """Its own E; whether there is a factor; c, which factors there are."""

    def known(party: Party, secret: tuple[int, int, int]) -> object:
        which = tuple((1 + 2 * sum(secret)) % r == 0 for r in primes)
        return secret[PARTIES.index(party)], which if party == "c" else any(which)

    return known  # type: ignore[return-value]


# -- two parties and a dealer -----------------------------------------------------------------------------------


def computation(
    k: int, steps: Callable[[Computation, Sequence[Part]], Steps[Any]], made: type[Computation] = Computation
) -> Block:
    """Steps on shared numbers of the field of 2^k - 1; a secret is a tuple of them."""
    field = Field(k)

    def block(tape: Tape, secret: tuple[int, ...]) -> Steps3:
        parts = [split_in_two(tape, f"x{i}", x, int(field.prime), ROLES) for i, x in enumerate(secret)]
        return lambda seat: steps(made(seat, field, ROLES, 1), [part[seat.party] for part in parts])

    return block


def times(at: Computation, x: Sequence[Part]) -> Steps[Part]:
    """x*y, with y made ready before."""
    return (yield from at.times(x[0], (yield from at.operand(x[1]))))


def square(at: Computation, x: Sequence[Part]) -> Steps[Part]:
    """x^2."""
    return at.square(x[0])


def square_times(at: Computation, x: Sequence[Part]) -> Steps[Part]:
    """x^2 * y."""
    return (yield from at.square_times(x[0], (yield from at.operand(x[1]))))


def zeros(at: Computation, x: Sequence[Part]) -> Steps[list[bool]]:
    """Whether x or y is 0."""
    return any_zero(at, x)


def known_product(k: int, of_three: bool) -> Block:
    """A product of what each party knows, or two of them."""

    def block(tape: Tape, secret: tuple[int, int, int]) -> Steps3:
        own = dict(zip(ROLES, secret, strict=True))

        def steps(seat: Seat) -> Steps[Part]:
            at = Computation(seat, Field(k), ROLES, 1)
            mine = [Integer(own[seat.party])]
            return at.product_of_three(mine) if of_three else at.product_of_two([] if at.is_dealer else mine)

        return steps

    return block


def number(k: int) -> Block:
    """m of the summands of three."""

    def block(tape: Tape, secret: tuple[int, int, int]) -> Steps3:
        own = dict(zip(ROLES, secret, strict=True))
        return lambda seat: _number_of_three(Computation(seat, Field(k), ROLES, 1), [Integer(own[seat.party])])

    return block


def own_number(party: Party, secret: tuple[int, int, int]) -> int:
    """What a party puts in."""
    return secret[ROLES.index(party)]


def whether_zero(party: Party, secret: tuple[int, ...]) -> object:
    """Whether there is a zero; the dealer, how many there are."""
    return sum(x == 0 for x in secret) if party == ROLES[2] else 0 in secret


def checked_zero(at: CheckedComputation, x: Sequence[Part]) -> Steps[list[bool]]:
    """Whether x is 0, by two who do not believe the dealer."""
    return at.any_zero(x)


def is_zero(party: Party, secret: tuple[int, ...]) -> object:
    """Whether it is 0; the dealer learns nothing."""
    return None if party == ROLES[2] else secret[0] == 0


def _swapped(seat: Seat, members: Sequence[Party], value: bytes) -> Steps[dict[Party, bytes]]:
    """Ideal commitments: values change hands at once."""
    if seat.party not in members:
        yield Round()
        return {}
    peers = [party for party in members if party != seat.party]
    received = yield Round(dict.fromkeys(peers, value), dict.fromkeys(peers, len(value)))
    return {**received.sent, seat.party: value}


def _fixed_coin(_seat: Seat) -> Steps[bytes]:
    yield Round()
    return bytes(31) + b"\2"


@contextmanager
def ideal_commitments() -> Iterator[None]:
    """Commitments that hide and bind perfectly; what is hashed to be compared is seen itself."""
    with patch.multiple(checking, committed=_swapped, coin=_fixed_coin):
        yield


def checked_zero_seen_by(viewer: Party, k: int) -> Views:
    """The outcome without a referee."""
    secrets = [(x,) for x in range((1 << k) - 1)]
    with ideal_commitments():
        return seen_by(viewer, computation(k, checked_zero, CheckedComputation), secrets, is_zero, holdings=1)  # type: ignore[arg-type]


# -- the table ----------------------------------------------------------------------------------------------------


def cases() -> Iterator[Case]:
    """Each block, seen by each party."""
    for m in (3, 5):
        everything = list(product(range(m), repeat=2))
        yield from _of_all(f"product mod {m}", "shares of x and y", multiply(m), everything)
        for owner in PARTIES:
            yield from _of_all(f"what {owner} shares, mod {m}", "", share(m, owner), range(m), _owns(owner), {owner})
            yield from _of_all(
                f"opening to {owner} mod {m}", "a share", open_to(m, owner), range(m), _owns(owner), {owner}
            )
        yield from _of_all(f"inverse mod {m}", "shares of x and r", inverse(m), range(1, m))
        for viewer in PARTIES:
            yield Case(f"unit mod {m}", viewer, "", lambda v=viewer, m=m: units_seen_by(v, m))
    yield from _masked()
    some = [(0, 0, 0, 0), (1, 0, 0, 2), (2, 1, 1, 0), (1, 2, 2, 2), (1, 0, 0, 1), (2, 1, 1, 2)]
    yield from _of_all("old shares for new ones, mod 3", "its share", old_shares(3), some, own_old_share, holdings=1)
    yield from _of_all("trial division by 3", "its E", division((3,)), list(product(range(3), repeat=3)), divides((3,)))
    some = [(1, 2, 3), (2, 1, 3), (1, 4, 3), (1, 2, 5), (7, 2, 0), (1, 9, 4), (1, 6, 0)]
    yield from _of_all("trial division by 3, 5", "its E", division((3, 5)), some, divides((3, 5)), holdings=1)
    two, three = (list(product(range(3), repeat=n)) for n in (2, 3))
    yield from _of_all("product mod 3 of two parties' shares", "shares", computation(2, times), two)
    yield from _of_all("square mod 3", "a share", computation(2, square), [(x,) for x in range(3)])
    yield from _of_all("square by a product mod 3", "shares", computation(2, square_times), two, holdings=1)
    yield from _of_all("m mod 3 of three summands", "its summand", number(2), three, own_number)
    yield from _of_all("product mod 3 of two known numbers", "one", known_product(2, False), three[::2], own_number)
    yield from _of_all(
        "product mod 3 of three known numbers", "one", known_product(2, True), three[::3], own_number, holdings=1
    )
    yield from _of_all("zero among two mod 3", "shares", computation(2, zeros), two, whether_zero, holdings=2)
    some = [(0, 0), (3, 5), (6, 1), (0, 4)]
    yield from _of_all("product mod 7 of two parties' shares", "shares", computation(3, times), some, holdings=1)
    yield from _of_all("square mod 7", "a share", computation(3, square), [(x,) for x in range(7)], holdings=1)
    some = [(0, 0, 0), (0, 6, 3), (4, 0, 3), (4, 6, 0), (4, 6, 3)]
    yield from _of_all("m mod 7 of three summands", "its summand", number(3), some, own_number, holdings=1)
    yield from _of_all(
        "product mod 7 of two known numbers", "one", known_product(3, False), some, own_number, holdings=1
    )
    for viewer in PARTIES:
        yield Case("zero, dealer not believed, mod 3", viewer, "a share", lambda v=viewer: checked_zero_seen_by(v, 2))


def _masked() -> Iterator[Case]:
    """Numbers under masks: uniform ones, and ones that are a few bits longer where production has 128."""
    for learner, drawer in product(PARTIES, repeat=2):
        if learner == drawer:
            continue
        name = f"to {learner} under a mask of {drawer}"
        uniform = masked_number(3, learner, drawer, lambda seat: seat.own.below(Integer(3)))
        yield from _of_all(f"residue mod 3 {name}", "shares", uniform, range(3))
        longer = masked_number(16, learner, drawer, lambda seat: seat.own.bits(MASK_BITS))
        for viewer in PARTIES:
            distance = Fraction(max(INTEGERS), 1 << MASK_BITS) if viewer == learner else Fraction(0)
            yield Case(
                f"integer {name}", viewer, "shares",
                lambda v=viewer, block=longer: seen_by(v, block, INTEGERS, holdings=1),
                distance, "(x - x') / 2^bits" if viewer == learner else "0",
            )  # fmt: skip


def _owns(owner: Party) -> Rightfully:
    return lambda party, secret: secret if party == owner else None


def _of_all(
    name: str,
    holds: str,
    block: Block,
    secrets: Sequence[Any],
    may_know: Rightfully = nothing,
    left_out: Collection[Party] = (),
    holdings: int = 4,
) -> Iterator[Case]:
    """A case for each party. left_out: who is not asked, because it knows the secret."""
    for viewer in PARTIES:
        if viewer not in left_out:
            yield Case(
                name, viewer, holds,
                lambda v=viewer: seen_by(v, block, secrets, may_know, holdings=holdings),
            )  # fmt: skip
