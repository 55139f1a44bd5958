"""What distance costs: the line through the times, what is compared, and the whole benchmark on small keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from network import headline, line
from network_chart import draw

from benchmarks.run import HERE
from tests.e2e.world import ENVIRONMENT
from veilmatch.client.evaluation.figures.curves import svg

DELAYS = (0.0, 5.0, 10.0, 25.0, 50.0)


@given(st.integers(0, 100), st.floats(0.001, 10.0))
def test_trips_are_the_slope_of_the_fastest_times(trips: int, fixed_s: float) -> None:
    # Something else keeps the machine busy while delays are short.
    noises = {delay: (0.0, 9.0, 10.0 / (1 + delay)) for delay in DELAYS}
    times = {delay: [fixed_s + trips * delay / 1e3 + noise for noise in noises[delay]] for delay in DELAYS}
    found = line(times)
    assert found["trips"] == pytest.approx(trips, abs=1e-6)
    assert found["fixed_s"] == pytest.approx(fixed_s)
    assert found["worst_s"] == pytest.approx(0.0, abs=1e-9)
    assert found["by_delay_ms"]["0"]["median_s"] == pytest.approx(fixed_s + 9.0)


def test_a_time_off_the_line_is_told() -> None:
    times = {0.0: [0.1], 10.0: [0.2], 20.0: [0.3], 30.0: [0.5]}
    assert line(times)["worst_s"] == pytest.approx(0.04)


def test_one_delay_gives_no_trips_and_neither_a_figure_of_them() -> None:
    found = {"operations": {"verify": line({10.0: [0.3, 0.1, 0.2]})}}
    assert found["operations"]["verify"]["trips"] is None
    assert headline(found) == {"verify, 10 ms apart [ms]": 200.0}


def test_chart_names_operations_trips_and_units() -> None:
    operations = {name: line({d: [0.1 + 0.01 * d] for d in DELAYS}) for name in ("verify", "assured", "erase")}
    text = svg(draw(operations))
    for words in ("verify: 10.0 trips in a row", "erase", "delay between organisations, each way [ms]", "median [ms]"):
        assert words in text


def test_the_benchmark_measures_and_draws_a_request(tmp_path: Path) -> None:
    figures, picture = tmp_path / "figures.json", tmp_path / "request.svg"
    done = subprocess.run(
        [
            sys.executable, HERE / "network.py", "--parameters", "UNSAFE-d128-s126-c38-n1024", "--identities", "9",
            "--delays", "0", "40", "--repetitions", "1", "--operations", "verify", "erase", "--json", figures,
            "--timeline", picture, "--timeline-delay", "40",
        ],
        env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(figures.read_text())
    for operation in ("verify", "erase"):
        assert document["operations"][operation]["by_delay_ms"]["40"]["median_s"] >= 4 * 0.040
    timeline = document["timeline"]
    chain = timeline["chain"]
    assert chain[0]["from"] == chain[-1]["to"] == "device"
    assert [message["to"] for message in chain[:-1]] == [message["from"] for message in chain[1:]]
    distant = [m for m in chain if "device" not in (m["from"], m["to"]) and m["from"][-1] != m["to"][-1]]
    # The matchers meet, and so do the key holders.
    kinds = {m["from"].split("-")[0] for m in distant}
    assert kinds == {"matcher", "keyholder"} and timeline["trips"] == len(distant) >= 8
    assert all(m["taken_s"] - m["sent_s"] >= 0.040 for m in distant)
    assert timeline["took_s"] >= 0.040 * timeline["trips"]
    text = picture.read_text()
    for words in ("matcher-a", "keyholder-b", "secret powers", "commit: ledger", "MatchRequest", "device began [ms]"):
        assert words in text
