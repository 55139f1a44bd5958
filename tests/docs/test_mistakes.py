"""The table of mistakes in docs/troubleshooting.md says what a user sees today."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs.mistakes import CASES, Bench, bench, row, seen, written


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, orl: Callable[[int, int], Path]) -> Iterator[Bench]:
    orl(1, 1)
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(bench(tmp_path_factory.mktemp("mistakes")))


@pytest.mark.parametrize("did", CASES)
def test_what_is_written_is_what_is_said(made: Bench, did: str) -> None:
    """If this fails because a message was made better: `python -m tests.docs.mistakes`."""
    assert row(did, seen(CASES[did], made), made) in written().splitlines()


def test_every_line_is_of_a_mistake_that_is_made_here() -> None:
    assert [line.split(" | ")[0].removeprefix("| ") for line in written().splitlines()[3:-1]] == list(CASES)


def test_a_sideways_photo_is_no_mistake(made: Bench) -> None:
    """It is turned; one that cannot be is refused as a tilted face."""
    with made.world.client() as client:
        assert client.identify(made.photo("sideways.jpg")).subject == "ada"
