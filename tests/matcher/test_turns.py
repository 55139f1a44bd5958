"""Turns of a matcher: never more at once, a short queue, fair between devices, and an error that says when."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, ExitStack

import pytest

from veilmatch.crypto.errors import OverloadedError
from veilmatch.server.bounds import AdmissionLimits
from veilmatch.server.matcher.turns import Turns


class Served:
    """Requests that take turns; `order` says whose were served, `most` how many at once."""

    def __init__(self, turns: Turns, takes_s: float = 0.01) -> None:
        self.turns, self.takes_s = turns, takes_s
        self.order: list[str] = []
        self.now = self.most = 0

    async def ask(self, device: str) -> None:
        async with self.turns.turn(device):
            self.now += 1
            self.most = max(self.most, self.now)
            self.order.append(device)
            await asyncio.sleep(self.takes_s)
            self.now -= 1


def turns(at_once: int = 2, waiting: int = 100, wait_s: float = 5.0) -> Turns:
    return Turns(at_once, waiting, wait_s, "matcher-a")


async def test_no_more_are_served_at_once_than_may_be_and_all_get_their_turn() -> None:
    served = Served(turns(at_once=3))
    await asyncio.gather(*(served.ask(f"door-{n % 7}") for n in range(40)))
    assert (served.most, len(served.order)) == (3, 40)


async def test_a_device_that_asks_a_lot_delays_another_by_one_request_and_not_by_all() -> None:
    served = Served(turns(at_once=1))
    greedy = [asyncio.create_task(served.ask("kiosk")) for _ in range(16)]
    await asyncio.sleep(0)
    await served.ask("door")
    assert served.order.index("door") <= 2
    await asyncio.gather(*greedy)


async def test_devices_that_ask_alike_are_served_in_turn() -> None:
    served = Served(turns(at_once=1))
    await asyncio.gather(*(served.ask(device) for device in ("a", "b", "c") for _ in range(5)))
    for at in range(0, 12, 3):
        assert Counter(served.order[at : at + 3]).most_common(1)[0][1] <= 2


async def test_beyond_the_places_to_wait_a_request_is_refused_at_once_and_told_when_to_come_again() -> None:
    one = turns(at_once=1, waiting=4)
    served = Served(one, takes_s=0.2)
    busy = [asyncio.create_task(served.ask(device)) for device in ("a", "b", "c", "d", "e")]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError) as caught:
        async with asyncio.timeout(0.05):
            await served.ask("f")
    error = caught.value
    assert (error.party, error.alternatives, error.got) == ("matcher-a", (), "1 requests in progress and 4 that wait")
    assert error.retry_after_s is not None and error.retry_after_s >= 0.5
    await asyncio.gather(*busy)
    await served.ask("f")


async def test_one_device_takes_half_of_the_places_to_wait_at_most() -> None:
    one = turns(at_once=1, waiting=4)
    served = Served(one, takes_s=0.1)
    kiosk = [asyncio.create_task(served.ask("kiosk")) for _ in range(9)]
    await asyncio.sleep(0)
    door = [asyncio.create_task(served.ask("door")) for _ in range(2)]
    outcomes = await asyncio.gather(*kiosk, return_exceptions=True)
    assert sum(isinstance(outcome, OverloadedError) for outcome in outcomes) == 6
    await asyncio.gather(*door)


async def test_two_devices_that_fill_all_places_keep_no_third_one_out() -> None:
    one = turns(at_once=2, waiting=6)
    served = Served(one, takes_s=0.05)
    greedy = [asyncio.create_task(served.ask(device)) for device in ("a", "b") for _ in range(4)]
    await asyncio.sleep(0)
    assert sum(map(len, one._queues.values())) == 6
    async with asyncio.timeout(1):
        await served.ask("door")
    outcomes = await asyncio.gather(*greedy, return_exceptions=True)
    assert sum(isinstance(outcome, OverloadedError) for outcome in outcomes) == 1, "one had to make room"
    assert not one._queues and one._in_progress.total() == 0


async def test_a_full_queue_of_devices_that_ask_alike_takes_no_other_one() -> None:
    one = turns(at_once=1, waiting=3)
    served = Served(one, takes_s=0.05)
    alike = [asyncio.create_task(served.ask(device)) for device in "abcd"]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError), one.coming("e"):
        pass
    await asyncio.gather(*alike)
    with one.coming("e"):
        pass


async def test_whoever_waits_too_long_is_refused_and_leaves_no_place_taken() -> None:
    one = turns(at_once=1, wait_s=0.05)
    held = asyncio.Event()

    async def hold() -> None:
        async with one.turn("a"):
            await held.wait()

    holding = asyncio.create_task(hold())
    await asyncio.sleep(0)
    for _ in range(3):
        with pytest.raises(OverloadedError):
            async with one.turn("b"):
                pass
    held.set()
    await holding
    async with asyncio.timeout(1), one.turn("b"):
        pass
    assert not one._queues and one._in_progress.total() == 0


@pytest.mark.parametrize("at", range(6))
async def test_a_device_that_leaves_gives_its_turn_back_whenever_it_leaves(at: int) -> None:
    one = turns(at_once=1)
    served = Served(one, takes_s=0.01)
    asking = [asyncio.create_task(served.ask("a")) for _ in range(4)]
    for _ in range(at):
        await asyncio.sleep(0.005)
    for task in asking[1:]:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    async with asyncio.timeout(1):
        await served.ask("b")
    assert not one._queues and one._in_progress.total() == 0


def test_limits_that_are_not_given_follow_the_cores() -> None:
    assert AdmissionLimits().resolved(2) == (6, 96)
    assert AdmissionLimits(in_progress=4, waiting=10).resolved(2) == (4, 10)
    assert [AdmissionLimits().verifying_at_once(cores) for cores in (1, 2, 16, 64)] == [16, 32, 256, 256]
    assert AdmissionLimits(verifying=5).verifying_at_once(2) == 5


async def test_where_nobody_waits_one_device_has_half_of_the_places_too() -> None:
    """As at the matcher that follows: it only bounds how many are held there."""
    one = turns(at_once=6, waiting=0)
    served = Served(one, takes_s=0.1)
    kiosk = [asyncio.create_task(served.ask("kiosk")) for _ in range(6)]
    await asyncio.sleep(0)
    await served.ask("door")
    outcomes = await asyncio.gather(*kiosk, return_exceptions=True)
    assert sum(isinstance(outcome, OverloadedError) for outcome in outcomes) == 3


async def test_the_error_says_which_bound_it_was() -> None:
    """Of one device, of all that wait, of the wait itself, and of a place that another device needed more."""
    one = turns(at_once=1, waiting=4, wait_s=0.3)
    served = Served(one, takes_s=0.6)
    kiosk = [asyncio.create_task(served.ask("kiosk")) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="at most 3 requests of one device, got 3 of this device"):
        await served.ask("kiosk")
    others = [asyncio.create_task(served.ask(name)) for name in ("door", "gate")]
    await asyncio.sleep(0)
    third = asyncio.create_task(served.ask("hall"))  # the kiosk has two that wait: one of them goes
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="at most 4 that wait, got 1 requests in progress and 4 that wait"):
        await served.ask("yard")
    ends = await asyncio.gather(*kiosk, *others, third, return_exceptions=True)
    late = [str(error) for error in ends if error is not None]
    assert sum("took the place" in text for text in late) == 1
    assert sum("a turn within 0.3 s" in text for text in late) >= 3


# -- whose turn is not going to come in time -------------------------------------------------------


class Clocked:
    """Turns by a clock that is set, each of which has taken a second so far."""

    def __init__(self, at_once: int = 2, wait_s: float = 2.0) -> None:
        self.now = 0.0
        self.turns = Turns(at_once, 100, wait_s, "matcher-a", now=lambda: self.now)
        self.turns._length_s = 1.0

    def comes(self, stack: ExitStack, *devices: str) -> list[bool]:
        """Whether a request of each is let in, one after the other; they stay on their way."""
        let_in = []
        for device in devices:
            try:
                stack.enter_context(self.turns.coming(device))
                let_in.append(True)
            except OverloadedError as error:
                assert "is not going to come in time" in str(error) and error.retry_after_s
                let_in.append(False)
        return let_in


async def test_a_request_whose_turn_is_not_going_to_come_in_time_is_refused_as_it_comes() -> None:
    """Two at once, a second each: two seconds are enough for four that wait, and not for five."""
    clocked = Clocked()
    async with clocked.turns.turn("x"), clocked.turns.turn("y"):
        with ExitStack() as stack:
            assert clocked.comes(stack, "a", "b", "c", "d", "e") == [True, True, True, True, False]
    with ExitStack() as stack:
        assert all(clocked.comes(stack, *"abcdefgh")), "while a turn is free nobody is refused for the time"


async def test_a_device_that_has_come_with_many_does_not_make_another_ones_turn_late() -> None:
    clocked = Clocked(at_once=4, wait_s=3.0)
    async with AsyncExitStack() as held:
        for device in "wxyz":
            await held.enter_async_context(clocked.turns.turn(device))
        with ExitStack() as stack:
            greedy = clocked.comes(stack, *["kiosk"] * 40)
            assert sum(greedy) == 12, "as many as have their turn in three seconds"
            assert clocked.comes(stack, "door") == [True], "it goes second"


async def test_what_came_and_went_counts_no_more() -> None:
    clocked = Clocked()
    for _ in range(50):
        with ExitStack() as stack:
            assert clocked.comes(stack, "a") == [True]
    assert not clocked.turns._coming
