"""Load: what is counted from when, what fails, whose CPU time it is, and the whole benchmark on small keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from installation import Gallery, newcomer
from loads import generators
from loads.asked import MIX, Asked, cpu_of_a_request, quantile, summary
from loads.chart import draw

from benchmarks.run import HERE
from tests.crypto.toys import TOY
from tests.e2e.world import ENVIRONMENT
from veilmatch.client.evaluation.figures.curves import svg
from veilmatch.crypto.errors import OverloadedError


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_one_of_the_values_and_so_many_are_not_above_it(values: list[float], part: float) -> None:
    ordered = sorted(values)
    found = quantile(ordered, part)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= part * len(ordered)
    assert sum(value < found for value in ordered) < part * len(ordered)


def test_nobody_has_no_quantile() -> None:
    assert quantile([], 0.5) is None


def test_figures_tell_what_was_answered_from_what_failed() -> None:
    asked = [Asked("verify", 0, float(i), i + 0.1 * (i + 1)) for i in range(10)]
    asked += [Asked("enrol", 1, 9.0, 12.5, error="overloaded"), Asked("verify", 1, 2.0, 2.3, wrong=True)]
    found = summary(asked, 10.0)
    assert (found["arrived"], found["answered"], found["wrong"]) == (12, 11, 1)
    assert found["errors"] == {"overloaded": 1} and found["operations"] == {"verify": 11, "enrol": 1}
    assert found["lasted_s"] == 12.5
    assert found["p50_s"] == pytest.approx(0.5) and found["most_s"] == pytest.approx(1.0)
    assert found["answered_by_window"] == [6, 5]
    json.dumps(found)


def test_answers_a_second_are_those_of_a_steady_load() -> None:
    # Twenty at once, each answered after 5 s: four a second, whatever comes before the first and after the last.
    asked = [Asked("verify", n, 5.0 * turn + n / 4, 5.0 * (turn + 1) + n / 4) for n in range(20) for turn in range(4)]
    assert summary([a for a in asked if a.came_s < 20.0], 20.0)["answered_a_second"] == 4.0
    failed = [Asked("verify", 0, 10.0, 11.0, error="overloaded")]
    assert summary(failed, 20.0)["answered_a_second"] == 0.0


def test_cpu_time_is_told_by_daemon_kind_and_devices() -> None:
    before = {"matcher-a": 1.0, "matcher-b": 2.0, "keyholder-a": 3.0}
    after = {"matcher-a": 2.0, "matcher-b": 4.0, "keyholder-a": 8.0}
    found = cpu_of_a_request(before, after, 0.5, 10)
    assert found["by_daemon_s"] == {"matcher-a": 0.1, "matcher-b": 0.2, "keyholder-a": 0.5}
    assert (found["matchers_s"], found["keyholders_s"], found["daemons_s"]) == pytest.approx((0.3, 0.5, 0.8))
    assert found["devices_s"] == 0.05
    assert cpu_of_a_request(before, after, 0.5, 0)["daemons_s"] == 8.0


def test_the_parts_of_a_mix_are_all_of_it() -> None:
    assert sum(MIX.values()) == pytest.approx(1.0)


def load() -> generators._Load:
    made = generators._Load({0: object(), 1: object()}, Gallery(TOY, 4))  # type: ignore[dict-item]
    made.begin(time.perf_counter(), 7)
    return made


async def test_a_stall_counts_for_everybody_who_was_due_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stalled = False

    async def ask(*_: Any) -> bool:
        nonlocal stalled
        if not stalled:
            stalled = True
            time.sleep(0.3)  # nothing else of this process goes on meanwhile
        return True

    monkeypatch.setattr(generators, "ask", ask)
    one = load()
    await one.open([0, 1], {"verify": 1.0}, 200.0, 0.3)
    first = min(one.asked, key=lambda a: a.came_s)
    stall_ends_s = first.came_s + 0.3
    during = [a for a in one.asked if a.came_s < stall_ends_s]
    assert len(during) > 10
    for a in during:
        assert a.ended_s >= stall_ends_s
    assert max(a.ended_s - a.came_s for a in during) >= 0.3


async def test_an_open_loop_waits_for_no_answer_and_a_closed_one_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way = most = 0

    async def ask(*_: Any) -> bool:
        nonlocal under_way, most
        under_way, most = under_way + 1, max(most, under_way + 1)
        await generators.asyncio.sleep(0.2)
        under_way -= 1
        return True

    monkeypatch.setattr(generators, "ask", ask)
    one = load()
    await one.closed([generators.Loop(0, {"verify": 1.0}), generators.Loop(1, {"verify": 1.0}, at_once=2)], 0.1)
    assert most == 3 and len(one.asked) == 3
    most = 0
    one.begin(time.perf_counter(), 8)
    await one.open([0], {"verify": 1.0}, 200.0, 0.1)
    assert most > 3


async def test_what_fails_is_told_by_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(*_: Any) -> bool:
        raise OverloadedError("too many")

    monkeypatch.setattr(generators, "ask", ask)
    one = load()
    await one.open([0], {"verify": 1.0}, 500.0, 0.05)
    assert one.asked and {a.error for a in one.asked} == {OverloadedError("x").code}


def test_a_gallery_knows_what_a_search_has_to_find() -> None:
    gallery = Gallery(TOY, 5)
    vector = gallery.vectors[2]
    matching = [f"p{i}" for i in range(5) if gallery.score(gallery.templates[i], vector) >= gallery.threshold]
    assert "p2" in matching
    assert gallery.is_right("candidates", vector, matching)
    assert gallery.is_right("identify", vector, ["p2"])
    assert not gallery.is_right("candidates", vector, [])
    assert not gallery.is_right("identify", vector, [])
    assert not gallery.is_right("identify", vector, [next(f"p{i}" for i in range(5) if i != 2)])
    # One who joined is found if it matches, and not otherwise.
    theirs = newcomer("e1", TOY)
    others = [f"p{i}" for i in range(5) if gallery.score(gallery.templates[i], theirs) >= gallery.threshold]
    assert gallery.is_right("candidates", theirs, [*others, "e1"])
    assert not gallery.is_right("candidates", -theirs, ["e1"])


def test_charts_name_operations_and_units() -> None:
    cpu = cpu_of_a_request({"matcher-a": 0.0}, {"matcher-a": 1.0}, 0.5, 10)
    asked = [Asked("verify", 0, float(i), 1.1 * i + 0.1) for i in range(10)]
    loads = [("verify", 1), ("verify", 4), ("mix", 1), ("mix", 4)]
    closed = [{"operation": name, "devices": n, "cpu": cpu} | summary(asked[-n:], 10.0) for name, n in loads]
    opened = [{"operation": "verify", "rate": n / 10, "cpu": cpu} | summary(asked[:n], 10.0) for n in (10, 0)]
    text = svg(draw(closed, opened))
    for words in ("verify", "mix, 4 at once", "answers a second", "CPU time of an answer [ms]", "verify, 99 %"):
        assert words in text


def test_the_benchmark_measures_every_kind_of_load(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [
            sys.executable, HERE / "load.py", "--parameters", "UNSAFE-d128-s126-c38-n1024", "--identities", "9",
            "--devices", "3", "--operations", "mix", "candidates", "--open", "verify", "--rates", "5", "--seconds", "2",
            "--processes", "2", "--json", figures,
        ],
        env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(figures.read_text())
    assert [(load["operation"], load["devices"]) for load in document["closed"]] == [("mix", 3), ("candidates", 3)]
    assert [(load["operation"], load["rate"]) for load in document["open"]] == [("verify", 5.0)]
    for load in (*document["closed"], *document["open"]):
        assert load["answered"] > 0 and load["wrong"] == 0
        assert 0 < load["p50_s"] <= load["p95_s"] <= load["p99_s"] <= load["most_s"]
        assert set(load["cpu"]["by_daemon_s"]) == {f"{kind}-{x}" for kind in ("matcher", "keyholder") for x in "abc"}
        assert load["cpu"]["matchers_s"] > 0 and load["cpu"]["keyholders_s"] > 0 and load["cpu"]["devices_s"] > 0
