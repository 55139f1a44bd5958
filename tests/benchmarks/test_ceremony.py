"""What a ceremony costs: what is counted to which part, what is expected, and a whole one of the least size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ceremony import Measured, candidates, expected_tests, held, table
from made_keys import STUDY, checked
from made_keys import table as table_of_keys
from rich.console import Console

from veilmatch.crypto.parameters import ParameterSet

TOY = ParameterSet(dimension=8, scale=60, clip=23, modulus_bits=512)


def shown(renderable: Any) -> str:
    console = Console(width=200, record=True)
    console.print(renderable)
    return console.export_text()


def test_steps_are_counted_to_their_parts() -> None:
    measured = Measured()
    for step, rounds, size in (("small candidates, batch 1", 3, 10), ("small candidates, batch 1: 5 tested", 4, 100)):
        measured.reached(step, 0)
        for _ in range(rounds):
            measured.sent(measured.sent_bytes + size)
    measured.reached("large candidates, batch 1: 2 prime", 0)
    parts = measured.of_parts()
    assert list(parts) == ["meeting", "p and q: search", "P and Q: search"]
    assert (parts["p and q: search"]["rounds"], parts["p and q: search"]["bytes"]) == (7, 430)
    assert parts["P and Q: search"]["rounds"] == 0


def test_as_many_candidates_are_expected_as_the_design_says() -> None:
    small, large = expected_tests(ParameterSet())
    assert small == pytest.approx(12.0, abs=0.1) and large == pytest.approx(53.9, abs=0.1)


def test_a_whole_ceremony_is_measured_and_its_key_passes_all_checks(tmp_path: Path) -> None:
    found = held(TOY, 0.0, keep=tmp_path / "installation")
    assert len(checked(tmp_path / "installation")) == 4
    assert found["large_prime"] >= 2 and found["large_tested"] >= found["large_prime"] and found["batches"] >= 1
    rounds = sum(row["rounds"] for row in found["parts"].values())
    assert 900 < rounds < 4000
    sent = sum(row["bytes"] for row in found["parts"].values())
    # Through the relays goes what is sent, and what TLS and HTTP/2 add.
    of_a = sum(size for way, size in found["carried_bytes"].items() if way.startswith("ceremony-a "))
    assert sent < of_a < 1.2 * sent
    text = shown(table(found)) + shown(candidates([found])) + shown(table_of_keys(512, [found | {"answers": 20}]))
    assert STUDY[512][0] in text and found["key_id"][:8] in text
    assert "P and Q: search" in text and str(found["large_tested"]) in text
