"""Budgets: never more than the limit in any window, exactly the limit under load, and nothing given away by a clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from tests.transport.disks import full
from tests.transport.ledgers import Budgets
from veilmatch.crypto.errors import BudgetExceededError, StorageError
from veilmatch.server.admission.budgets import PARTS, Budget, budgets_of, metadata
from veilmatch.server.config import WINDOW_S, KeyHolderBudgets, MatcherBudgets, Window

USED = metadata.tables["used"]
DOOR = {"device": "door-1"}
ONE = {"requests": 1}


class Clock:
    def __init__(self, now: float = 1.7e9) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path


def opened(folder: Path, clock: Clock, *budgets: Budget) -> Budgets:
    chosen = list(budgets) or [Budget("device", "requests", "minute", 5)]
    return Budgets(folder, chosen, "keyholder-a", ("bc",), clock)


def admitted(budgets: Budgets, names: dict[str, str] = DOOR, cost: dict[str, int] = ONE) -> bool:
    try:
        budgets.admit(names, cost)
    except BudgetExceededError:
        return False
    return True


def refusal(budgets: Budgets, names: dict[str, str] = DOOR, cost: dict[str, int] = ONE) -> BudgetExceededError:
    with pytest.raises(BudgetExceededError) as caught:
        budgets.admit(names, cost)
    return caught.value


def test_the_limit_is_admitted_and_nothing_more(folder: Path, clock: Clock) -> None:
    budgets = opened(folder, clock)
    assert [admitted(budgets) for _ in range(8)] == [True] * 5 + [False] * 3
    assert admitted(budgets, {"device": "door-2"}) and admitted(budgets, {"gallery": "door-1"})
    error = refusal(budgets)
    assert (error.budget, error.limit, error.got) == ("requests of a device in a minute", 5, "6")
    assert (error.code, error.exit_status) == ("budget_exceeded", 9)


def test_a_request_is_admitted_again_when_the_error_said_so_and_not_before(folder: Path, clock: Clock) -> None:
    budgets = opened(folder, clock)
    clock.now += 0.4
    for _ in range(5):
        budgets.admit(DOOR, ONE)
        clock.now += 7
    wait_s = refusal(budgets).retry_after_s
    assert wait_s is not None and 25 < wait_s <= 27
    clock.now += wait_s - 0.002
    assert not admitted(budgets)
    clock.now += 0.003
    assert admitted(budgets) and not admitted(budgets)


def test_what_is_left_is_told_of_one_alone_and_eases_when_it_says(folder: Path, clock: Clock) -> None:
    minute, day = Budget("device", "requests", "minute", 5), Budget("device", "bits", "day", 100)
    budgets = opened(folder, clock, minute, day, Budget("gallery", "requests", "day", 9))
    assert [(left.budget, left.used, left.eases_s) for left in budgets.left("device", "door-1")] == [
        (minute, 0, 0.0), (day, 0, 0.0),
    ]  # fmt: skip
    clock.now += 0.4
    budgets.admit({"device": "door-1", "gallery": "main"}, {"requests": 1, "bits": 40})
    clock.now += 7
    for _ in range(4):
        budgets.admit({"device": "door-1", "gallery": "main"}, {"requests": 1})
    of_minute, of_day = budgets.left("device", "door-1")
    assert (of_minute.used, of_day.used) == (5, 40) and 86_000 < of_day.eases_s <= 86_400 * 61 / 60
    assert [left.used for left in budgets.left("device", "door-2")] == [0, 0], "of nobody else"
    assert not admitted(budgets, {"device": "door-1"})
    clock.now += of_minute.eases_s - 0.002
    assert budgets.left("device", "door-1")[0].used == 5
    clock.now += 0.003
    assert budgets.left("device", "door-1")[0].used == 4 and admitted(budgets, {"device": "door-1"})


@pytest.mark.parametrize("window", WINDOW_S)
@pytest.mark.parametrize("seed", range(2))
def test_no_span_as_long_as_a_window_ever_holds_more_than_the_limit(
    folder: Path, clock: Clock, window: Window, seed: int
) -> None:
    rng, length_s, limit = random.Random(seed), WINDOW_S[window], 7
    budgets = opened(folder, clock, Budget("device", "bits", window, limit))
    served: list[tuple[float, int]] = []
    for _ in range(80):
        clock.now += rng.choice([0.0, 0.01, rng.random() * length_s / 4])
        cost = rng.randrange(1, 4)
        held = sum(c for at, c in served if at > clock.now - length_s)
        sure = sum(c for at, c in served if at > clock.now - length_s * (PARTS + 1) / PARTS)
        if admitted(budgets, cost={"bits": cost}):
            served.append((clock.now, cost))
            assert held + cost <= limit
        else:
            assert sure + cost > limit
    assert len(served) > 8


def test_a_refused_request_is_not_counted_in_any_budget(folder: Path, clock: Clock) -> None:
    budgets = opened(
        folder, clock, Budget("device", "requests", "minute", 100), Budget("device", "bits", "day", 10),
        Budget("gallery", "bits", "day", 1000),
    )  # fmt: skip
    names = {"device": "door-1", "gallery": "main"}
    budgets.admit(names, {"requests": 1, "bits": 8})
    for _ in range(20):
        refusal(budgets, names, {"requests": 1, "bits": 3})
    with budgets._engine.connect() as connection:
        rows = connection.execute(select(USED.c.measure + USED.c.scope, USED.c.amount))
        found = dict(iter(rows))
    assert found == {"requestsdevice": 1, "bitsdevice": 8, "bitsgallery": 8}


def test_the_longest_wait_is_named(folder: Path, clock: Clock) -> None:
    budgets = opened(
        folder, clock, Budget("device", "requests", "minute", 1), Budget("gallery", "requests", "day", 1),
        Budget("device", "requests", "hour", 1),
    )  # fmt: skip
    names = {"device": "door-1", "gallery": "main"}
    budgets.admit(names, ONE)
    error = refusal(budgets, names)
    assert error.budget == "requests of a gallery in a day"
    assert error.retry_after_s is not None and 86400 <= error.retry_after_s <= 86400 * (1 + 1 / PARTS)


@pytest.mark.parametrize("seed", range(3))
def test_a_look_says_what_admission_would_say_and_writes_nothing(folder: Path, clock: Clock, seed: int) -> None:
    rng = random.Random(seed)
    budgets = opened(
        folder, clock, Budget("device", "requests", "minute", 6), Budget("device", "bits", "hour", 40),
        Budget("gallery", "bits", "day", 90),
    )  # fmt: skip

    def written() -> list[object]:
        with budgets._engine.connect() as connection:
            return [*connection.execute(select(USED)), *connection.execute(text("SELECT * FROM clock"))]

    def said(ask: Callable[[dict[str, str], dict[str, int]], None]) -> dict[str, object] | None:
        try:
            ask(names, cost)
        except BudgetExceededError as error:
            return error.fields()
        return None

    refused = 0
    for _ in range(60):
        clock.now += rng.choice([0.0, 0.5, 9.0, 400.0])
        names = {"device": rng.choice(["door-1", "door-2"]), "gallery": "main"}
        cost = {"requests": 1, "bits": rng.randrange(0, 45)}
        before = written()
        looked = said(budgets.look)
        assert written() == before
        assert looked == said(budgets.admit)
        refused += looked is not None
    assert 5 < refused < 55


def test_a_clock_that_is_set_back_gives_nothing_away_at_a_look(folder: Path, clock: Clock) -> None:
    budgets = opened(folder, clock)
    assert all(admitted(budgets) for _ in range(5))
    clock.now -= 1e6
    with pytest.raises(BudgetExceededError):
        budgets.look(DOOR, ONE)


@pytest.mark.parametrize("limit", [0, 9])
def test_a_request_larger_than_the_budget_is_told_not_to_wait(folder: Path, clock: Clock, limit: int) -> None:
    budgets = opened(folder, clock, Budget("device", "bits", "day", limit), Budget("device", "requests", "day", 1))
    error = refusal(budgets, cost={"requests": 1, "bits": 10})
    assert error.retry_after_s is None and error.limit == limit
    assert admitted(budgets, cost={"requests": 1, "bits": 0})


def test_threads_at_the_limit_are_admitted_exactly_the_limit(folder: Path, clock: Clock) -> None:
    budgets = opened(folder, clock, Budget("device", "requests", "hour", 37))
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda _: admitted(budgets), range(120))) == 37


def test_counts_survive_a_restart(folder: Path, clock: Clock) -> None:
    for served in (True, True, True, True, True, False):
        budgets = opened(folder, clock)
        assert admitted(budgets) is served
        budgets.close()


def test_a_clock_that_is_set_back_gives_nothing_away_not_even_after_a_restart(folder: Path, clock: Clock) -> None:
    budgets = opened(folder, clock)
    start = clock.now
    assert all(admitted(budgets) for _ in range(4))
    clock.now = start - 1e6
    assert admitted(budgets) and not admitted(budgets)
    budgets.close()
    budgets = opened(folder, clock)
    assert not admitted(budgets)
    clock.now = start + 62
    assert all(admitted(budgets) for _ in range(5)) and not admitted(budgets)


def test_a_clock_that_is_right_again_after_it_ran_ahead_stops_the_windows_and_admits_the_limit_once(
    folder: Path, clock: Clock
) -> None:
    budgets = opened(folder, clock)
    clock.now += 500
    assert admitted(budgets)
    clock.now -= 500
    assert [admitted(budgets) for _ in range(6)] == [True] * 4 + [False] * 2
    clock.now += 400
    assert not admitted(budgets)
    clock.now += 162
    assert admitted(budgets)


def test_what_no_window_holds_any_more_is_deleted(folder: Path, clock: Clock) -> None:
    budgets = opened(folder, clock, Budget("device", "requests", "minute", 10), Budget("device", "requests", "hour", 9))
    for i in range(300):
        clock.now += 10
        budgets.admit({"device": f"d{i}"}, ONE)
    with budgets._engine.connect() as connection:
        rows = connection.execute(select(func.count()).select_from(USED)).scalar_one()
    assert rows < 500


def test_counts_that_cannot_be_written_refuse_and_name_who_could_serve(folder: Path, clock: Clock) -> None:
    budgets = opened(folder, clock)
    for number in range(200):
        budgets.admit({"device": f"door-{number}"}, ONE)
    full(budgets._engine)
    with pytest.raises(StorageError) as caught:
        for number in range(200, 2000):
            budgets.admit({"device": f"door-{number}"}, ONE)
    assert (caught.value.party, caught.value.alternatives) == ("keyholder-a", ("bc",))


def test_the_defaults_are_read_as_scope_measure_and_window() -> None:
    found = budgets_of(KeyHolderBudgets().model_dump())
    assert (
        Budget("device", "searches", "day", 100) in found and Budget("gallery", "bits", "month", 200_000_000) in found
    )
    assert {b.scope for b in budgets_of(MatcherBudgets().model_dump())} == {"subject"}
    for budget in found:
        shorter = [b for b in found if (b.scope, b.measure) == (budget.scope, budget.measure)]
        assert [b.limit for b in shorter] == sorted(b.limit for b in shorter)
