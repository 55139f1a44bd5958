"""Parts of a message to a worker come out as they went in, and what is no such message is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilmatch.crypto.errors import ProtocolError, UnavailableError, VeilmatchError
from veilmatch.server.workers.parts import in_parts, join, outcomes, split

RELAXED = settings(deadline=None)
parts = st.lists(st.binary(max_size=40), max_size=6)


@RELAXED
@given(parts)
def test_parts_come_out_as_they_went_in(joined: list[bytes]) -> None:
    assert split(join(joined)) == joined


@RELAXED
@given(st.binary(max_size=60))
def test_what_is_no_message_of_parts_is_refused(data: bytes) -> None:
    try:
        found = split(data)
    except ProtocolError:
        return
    assert join(found) == data


@RELAXED
@given(parts)
def test_each_part_has_its_own_outcome(asked: list[bytes]) -> None:
    error = UnavailableError("left", needed="another attempt")
    handler = in_parts(lambda given: [error if len(part) % 2 else part * 2 for part in given])
    found = outcomes(handler(join(asked)), len(asked))
    for part, outcome in zip(asked, found, strict=True):
        if len(part) % 2:
            assert isinstance(outcome, UnavailableError) and outcome.fields() == error.fields()
        else:
            assert outcome == part * 2


@RELAXED
@given(st.one_of(st.binary(max_size=60), parts.map(join)), st.integers(0, 4))
def test_an_answer_is_one_outcome_for_each_part_or_refused(answer: bytes, count: int) -> None:
    try:
        found = outcomes(answer, count)
    except ProtocolError:
        return
    assert len(found) == count and all(isinstance(one, bytes | VeilmatchError) for one in found)


def test_an_error_that_cannot_be_read_is_refused() -> None:
    for body in (b"{", b"[]", b"1", b"[" * 100_000, b"\xff"):
        with pytest.raises(ProtocolError):
            outcomes(join([b"e" + body]), 1)
