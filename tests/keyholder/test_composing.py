"""Which verifications go together: devices have turns, and a session has a bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from veilmatch.crypto.pair.request import MAX_TOGETHER
from veilmatch.server.keyholder.session.composing import MOST_CIPHERTEXTS, Waiting


@dataclass(frozen=True)
class Size:
    """As much of a part as counts here."""

    ciphertexts: tuple[int, ...]


class One:
    def __init__(self, owner: str, size: int = 4) -> None:
        self.owner = owner
        self.part: Any = Size((0,) * size)


def waiting(*ones: One) -> Waiting[One]:
    made: Waiting[One] = Waiting()
    for one in ones:
        made.put(one)
    return made


def test_those_of_one_device_go_in_their_order() -> None:
    ones = [One("a") for _ in range(5)]
    assert waiting(*ones).take() == ones


def test_a_device_that_asks_often_goes_with_one_of_each_other_first() -> None:
    greedy, others = [One("greedy") for _ in range(40)], [One(f"device-{i}") for i in range(5)]
    made = waiting(*greedy, *others)
    first = made.take()
    assert len(first) == MAX_TOGETHER and set(others) < set(first)
    assert first[:6] == [greedy[0], *others]
    assert made.take() == greedy[11:27]


def test_more_ciphertexts_than_a_session_has_wait_for_the_next_one() -> None:
    small, large, last = One("a"), One("b", MOST_CIPHERTEXTS - 3), One("c")
    made = waiting(small, large, last)
    assert made.take() == [small]
    assert made.take() == [large]
    assert made.take() == [last] and not made


def test_one_that_is_dropped_goes_with_nobody() -> None:
    ones = [One("a"), One("b"), One("a")]
    made = waiting(*ones)
    made.drop(ones[0])
    made.drop(One("c"))
    assert made.take() == [ones[2], ones[1]]
    made.drop(ones[1])
    assert not made and made.take() == []


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, MOST_CIPHERTEXTS + 9)), max_size=60))
def test_everybody_goes_once_and_no_device_is_behind_by_more_than_a_turn(asked: list[tuple[str, int]]) -> None:
    ones = [One(*one) for one in asked]
    made, gone = waiting(*ones), []
    while made:
        taken = made.take()
        assert 1 <= len(taken) <= MAX_TOGETHER
        assert len(taken) == 1 or sum(len(one.part.ciphertexts) for one in taken) <= MOST_CIPHERTEXTS
        gone += taken
    assert sorted(map(id, gone)) == sorted(map(id, ones))
    for owner in "abcd":
        assert [one for one in gone if one.owner == owner] == [one for one in ones if one.owner == owner]
        # Who still waits has had as many turns as any other, but for one.
        last = max((i for i, one in enumerate(gone) if one.owner == owner), default=-1)
        mine = sum(one.owner == owner for one in gone[: last + 1])
        for other in "abcd":
            assert sum(one.owner == other for one in gone[: last + 1]) <= mine + 1
