"""The page of all benchmarks."""

from __future__ import annotations

import copy
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks import quantisation
from benchmarks.page import NO_CHANCE, Run, bars, latency, learns, page, remarks, tiles
from benchmarks.run import BENCHMARKS, DRAWING, HERE, figures_of, run

WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
#: Of earlier runs: what was measured then, in the form that it has.
RECORDED = {path.stem: json.loads(path.read_text()) for path in (HERE / "results").glob("*.json")}


def test_page_names_machine_commands_and_what_was_printed() -> None:
    text = page([Run("kernel", "python benchmarks/kernel.py", 0, 12.3, "a < b\n")], {}, "2 cores of X", WHEN)
    assert "2 cores of X, 2026-01-02 03:04 UTC" in text
    assert "<code>python benchmarks/kernel.py</code>, 12 s" in text
    assert "<pre>a &lt; b\n</pre>" in text
    assert "failed" not in text and "What was missed" not in text and 'class="tiles"' not in text


def test_plots_are_in_the_page_itself() -> None:
    runs = [Run("scaling", "x", 0, 1.0, "", b"<svg></svg>"), Run("gates", "x", 0, 1.0, "")]
    text = page(runs, {}, "X", WHEN)
    assert text.count("<img") == 1
    assert "data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=" in text


def test_a_benchmark_that_fails_is_reported_with_its_errors(tmp_path: Path) -> None:
    done = run("gates", "benchmarks/gates.py --no-such-option", tmp_path)
    assert done.status != 0
    assert "no-such-option" in done.printed
    assert figures_of([done], tmp_path) == {}
    text = page([done], {}, "X", WHEN)
    assert f"failed with status {done.status}" in text and "gates failed" in text and "<details open>" in text


def test_what_counts_comes_first_and_everything_odd_has_words() -> None:
    runs = [Run(name, name, 0, 1.0, name) for name in RECORDED]
    text = page(runs, RECORDED, "X", WHEN)
    assert text.index('class="tiles"') < text.index("<svg") < text.index("<details")
    assert "http" not in text.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")
    missed = [bar for bar in RECORDED["peers"]["bars"] if not bar["met"]]
    large = [case for case in RECORDED["constant_time"]["cases"] if abs(case["t"]) > 4.5]
    costly = [one for one in remarks({"quantisation": RECORDED["quantisation"]}) if one.what in text]
    said = list(remarks(RECORDED))
    assert len(said) == len(missed) + len(costly) + len(large) and min(map(len, (missed, costly, large))) > 1
    assert all(len(one.why) > 40 for one in said)
    assert sum("As it should be" in one.why for one in said) == 2, "code that is not constant time is found out"
    assert next(tile.value for tile in tiles(RECORDED)).endswith(" ms")


def costly(shipped: float, others: float) -> dict[str, Any]:
    """The figures of quantisation.py, if each shipped set cost as much, and each other one."""
    figures: dict[str, Any] = copy.deepcopy(RECORDED["quantisation"])
    for one in figures["sets"]:
        one["rotated"] |= {"points": shipped, "standard_error": 0.02}
        for choice in one["choices"]:
            is_shipped = (choice["scale"], choice["clip"]) == (one["scale"], one["clip"])
            choice |= {"points": shipped if is_shipped else others, "standard_error": 0.02}
    return figures


@pytest.mark.parametrize(
    "figures", [RECORDED["quantisation"], costly(0.05, 0.1), costly(0.05, 0.3), costly(0.12, 0.0), costly(0.3, 0.3)]
)
def test_every_set_that_missed_the_bar_has_a_word_why(
    figures: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    quantisation._show(figures)
    printed = re.findall(r"\bmissed\b", capsys.readouterr().out, re.I)
    said = list(remarks({"quantisation": figures}))
    assert len(said) == len(printed)
    assert all(re.search(r"coarser than|standard errors", one.why) and "long run" in one.why for one in said)


def test_a_shipped_set_that_misses_by_more_than_luck_has_to_be_looked_at() -> None:
    whys = [[one.why for one in remarks({"quantisation": costly(at, 0.0)})] for at in (0.1, 0.13, 0.15)]
    assert [len(why) for why in whys] == [0, 6, 6], "four rows of their own, and one among the others of each dimension"
    assert not any("looked at" in why for why in whys[1]) and all("looked at" in why for why in whys[2])


@pytest.mark.parametrize(
    ("t", "is_excused"), [(4.6, True), (NO_CHANCE, True), (NO_CHANCE + 0.1, False), (300.0, False)]
)
@pytest.mark.parametrize("code", ["ifma power", "gmpy2.powmod_sec"])
def test_a_t_that_is_too_large_for_chance_has_no_excuse(code: str, t: float, is_excused: bool) -> None:
    case = {"code": code, "secret": "exponent", "fixed_us": 300.0, "random_us": 300.5, "t": t}
    (said,) = remarks({"constant_time": {"bound": 4.5, "cases": [case]}})
    assert ("come and go" in said.why) is is_excused
    assert ("This is not chance, and has to be looked at" in said.why) is not is_excused


def test_a_system_that_is_slower_says_so() -> None:
    slow = RECORDED["system"] | {"verify_total_s": 1.5}
    assert next(tiles({"system": slow})).value == "1500 ms"


@pytest.mark.parametrize("score_to", sorted({peer["score_to"] for peer in RECORDED["peers"]["peers"].values()}))
def test_who_learns_a_score_has_a_colour_and_words(score_to: str) -> None:
    colour, hatch, words = learns(score_to)
    assert "see the table" not in words and colour.startswith("#")
    assert hatch or score_to == "nobody", "told apart without colour, too"


def test_pictures_have_every_peer_and_size() -> None:
    names = {label.get_text() for label in bars(RECORDED["peers"]).axes[0].get_yticklabels()}
    assert names == set(RECORDED["peers"]["peers"])
    (axes,) = latency(RECORDED["scaling"]["cells"]).axes
    assert "[s]" in axes.get_ylabel()
    points = {int(x) for line in axes.lines for x in line.get_xdata()}
    assert points == {cell["identities"] for cell in RECORDED["scaling"]["cells"]}


def test_every_benchmark_is_there() -> None:
    scripts = [command.split()[0] for _, command in BENCHMARKS if not command.startswith("-m")]
    assert scripts and all((HERE.parent / script).is_file() for script in scripts)
    assert set(DRAWING) <= {name for name, _ in BENCHMARKS}
    assert len({name for name, _ in BENCHMARKS}) == len(BENCHMARKS)
