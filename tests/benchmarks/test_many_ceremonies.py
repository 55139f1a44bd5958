"""Many ceremonies: a sound one counts as such, what is wrong with a key is named, and odd numbers stand out."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import many_ceremonies
import pytest
from many_ceremonies import SMALL_PRIMES, SUSPICIOUS, Outcome, Primes, compared, distribution, gathered, held, show
from rich.console import Console

from veilmatch.crypto.ceremony.joint import search, sizes
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.rings.primes import random_prime


def primes_of(count: int, bits: int = 64, kept: int = 0) -> list[int]:
    """Primes with their two top bits set; kept: modulo 3, 0 for any."""
    found: list[int] = []
    while len(found) < count:
        if not kept or int(p := random_prime(bits)) % 3 == kept:
            found.append(int(p) if kept else int(random_prime(bits)))
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches and a pool that are as small as one of 512 bits may be, and patience that does not end by chance."""
    monkeypatch.setitem(sizes._BATCHES, 256, 40)
    monkeypatch.setattr(sizes, "_PATIENCE", 40)
    for module in (sizes, search):
        monkeypatch.setattr(module, "POOL", 3)
        monkeypatch.setattr(module, "BASES_OF_A_PAIR", 2)


def test_one_ceremony_is_sound_and_another_key_would_be_named(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, named = many_ceremonies._faults, []

    def both(sessions, primes):  # type: ignore[no-untyped-def]
        named.extend(checked(sessions, replace(primes, large=[primes.large[0] + 4, primes.large[1]])))
        return checked(sessions, primes)

    monkeypatch.setattr(many_ceremonies, "_faults", both)
    one = held(512)
    assert one.primes and not one.failed and not one.unsound and "N = PQ" in named
    assert one.batches >= 1 and one.large_tested > one.large_prime >= 2 and one.small_tested > 3
    figures = compared(512, [one], [one.primes])
    assert (figures["keys"], figures["unexplained"], figures["unsound"]) == (1, 0, [])
    console = Console(width=160, record=True)
    show(console, figures)
    assert "1 ceremonies of 512 bits: 1 keys, 0 unsound, 0 failures" in console.export_text()
    assert gathered(tmp_path / "none") == gathered(None) == []


def test_what_was_gathered_counts_but_for_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "gathered"
    path.write_text(
        '\n{"cpu_s": 1.0, "rounds": 3, "primes": {"small": [5, 7], "large": [11, 23]}}\n{"failed": "x", "primes": null}'
        '\n{"cpu_s": 1'
    )
    assert gathered(path) == [Outcome(1.0, 3, primes=Primes([5, 7], [11, 23])), Outcome(failed="x")]


def test_failures_are_explained_or_not() -> None:
    given_up = IntegrityError("too few primes in the search of a key ceremony", got="1 of 400", expected="2")
    outcomes = [Outcome(failed=str(given_up)), Outcome(failed="something else"), Outcome(unsound=["N = PQ"])]
    figures = compared(512, outcomes, [])
    assert figures["unexplained"] == 1 and figures["unsound"] == [["N = PQ"]]
    assert {one["error"]: bool(one["explained"]) for one in figures["failures"]} == {
        str(given_up): True, "something else": False,
    }  # fmt: skip


def test_primes_alike_are_not_told_apart_and_others_are() -> None:
    random.seed(1)
    same = distribution(primes_of(400), primes_of(400), 1)
    assert [row["modulo"] for row in same["residues"]] == list(SMALL_PRIMES)
    assert all(row["p_alike"] > 1e-9 and row["p_uniform"] > 1e-9 for row in same["residues"])
    biased = distribution(primes_of(200, kept=2), primes_of(200), 1)
    assert biased["residues"][0]["p_alike"] < SUSPICIOUS and biased["residues"][0]["p_uniform"] < SUSPICIOUS
    fixed = distribution([p | 1 << 20 for p in primes_of(60)], primes_of(60), 0)
    assert fixed["bits_set"]["p_worst"] < SUSPICIOUS < same["bits_set"]["p_worst"] + 1e-3
