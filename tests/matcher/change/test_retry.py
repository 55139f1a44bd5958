"""A retry of an enrolment is told about what the device sends, and never about what is stored.

A matcher that multiplies somebody else's record into its half of a template, as it is made, would have that gated by
every retry: with a key holder that shifts its input of the gate, one coordinate of the victim after the other, without
a right to verify, a threshold or an answer bit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from veilmatch.crypto.errors import DuplicateTokenError
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.matcher.change.mutating import _told_again

#: The change that the first attempt made; and a meeting that is not needed.
DONE = SimpleNamespace(sequence=5)
MEETING = SimpleNamespace()


class _Surroundings:
    def __init__(self) -> None:
        self.sessions: list[tuple[Any, ...]] = []

    def is_plus(self, pair: str) -> bool:
        return pair == "ab"

    @asynccontextmanager
    async def open_session(self, *arguments: Any, **more: Any) -> AsyncIterator[Any]:
        self.sessions.append((*arguments, *more.values()))

        async def template_shares(count: int, told: int) -> Any:
            assert (count, told) == (1, 1)
            return SimpleNamespace(values=np.zeros((1, 4)), valid=b"\x01")

        yield SimpleNamespace(template_shares=template_shares)


class _Gallery:
    state = "state"

    def __init__(self, *places: tuple[int, int], erased_in: int = 0) -> None:
        self._places = list(places)
        self._erased_in = erased_in

    async def erased_after(self, sequence: int) -> bool:
        return self._erased_in > sequence

    async def places_of(self, token: bytes) -> list[tuple[int, int]]:
        return self._places

    async def records(self, *_arguments: Any) -> Any:
        raise AssertionError("the record is of no concern to a retry")


async def test_no_record_enters_the_session_of_a_retry() -> None:
    on, request = _Surroundings(), request_pb2.SignedRequest(ciphertexts=[b"c"])
    checked = SimpleNamespace(token=b"t", pair="ab", unless_known=False)
    assert await _told_again(DONE, checked, request, _Gallery((0, 0)), MEETING, on) == (True, False)  # type: ignore
    assert on.sessions == [(checked, request, "state")]


@pytest.mark.parametrize(("pair", "share"), [("ab", True), ("ac", False)])
async def test_a_template_that_is_gone_takes_no_session(pair: str, share: bool) -> None:
    for unless_known in (False, True):
        on, checked = _Surroundings(), SimpleNamespace(token=b"t", pair=pair, unless_known=unless_known)
        request = request_pb2.SignedRequest()
        told = await _told_again(DONE, checked, request, _Gallery(), MEETING, on)  # type: ignore[arg-type]
        assert told == (share, False) and on.sessions == []


async def test_what_was_known_is_not_said_again_where_something_was_erased_since() -> None:
    on, request = _Surroundings(), request_pb2.SignedRequest(ciphertexts=[b"c"])
    checked = SimpleNamespace(token=b"t", pair="ab", unless_known=True)
    gallery = _Gallery((0, 0), erased_in=DONE.sequence + 1)
    with pytest.raises(DuplicateTokenError):
        await _told_again(DONE, checked, request, gallery, MEETING, on)  # type: ignore[arg-type]
    assert on.sessions == []
