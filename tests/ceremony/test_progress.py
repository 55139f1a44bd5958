"""What people see who wait: a line for each step, each reason for waiting once, and JSON where it was asked for."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from veilmatch.server.ceremony.progress import COLUMNS, Bar, Lines, shown


def test_a_line_for_each_step_and_each_reason_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for _ in range(3):
        lines.waiting("b", "no answer")
    lines.waiting("b", "it has expired")
    lines.reached("large candidates, batch 1: 157 tested", 4608)
    for total in (10, 20, 30):
        lines.sent(total)
    lines.say("finished")
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" s  ")[1] for line in err.splitlines()] == [
        "waiting for keyholder-b: no answer",
        "waiting for keyholder-b: it has expired",
        "large candidates, batch 1: 157 tested",
        "finished",
    ]


def test_json_has_a_document_for_each_step_with_rounds_and_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(as_json=True) as progress:
        progress.reached("modulus", 30)
        progress.sent(1000)
        progress.reached("key shares", 15)
    documents = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["step"] for one in documents] == ["modulus", "key shares"]
    assert (documents[1]["rounds"], documents[1]["sent_bytes"], documents[1]["expected_rounds"]) == (1, 1000, 15)


def test_what_is_no_terminal_gets_lines() -> None:
    with shown(as_json=False) as progress:
        assert isinstance(progress, Lines)


def test_a_terminal_gets_a_bar_for_each_step_with_what_was_sent() -> None:
    text = io.StringIO()
    with Bars(*COLUMNS, console=Console(file=text, force_terminal=True, width=120)) as bars:
        bar = Bar(bars)
        bar.waiting("c", "no answer")
        bar.waiting("c", "no answer")
        bar.sent(7)
        bar.reached("large candidates, batch 1: 157 tested", 3)
        bar.sent(2_000_000)
        bar.reached("writing", 0)
        bar.say("finished")
    assert [(task.description, task.total, task.completed) for task in bars.tasks] == [
        ("large candidates, batch 1: 157 tested", 1, 1),
        ("writing", None, 0),
    ]
    assert text.getvalue().count("waiting for keyholder-c") == 1
    assert "2 MB sent" in text.getvalue() and "finished" in text.getvalue()
