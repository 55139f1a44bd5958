"""What bulk enrolments hold together, and what a device gets of it."""

from __future__ import annotations

import pytest

from veilmatch.crypto.errors import InvalidInputError, OverloadedError
from veilmatch.server.matcher.bulk_room import PER_DEVICE, BulkRoom


def room() -> BulkRoom:
    return BulkRoom(100, 150, "matcher-a")


def test_a_device_has_a_bounded_number_at_once() -> None:
    bulk = room()
    with bulk.stream("desk"), bulk.stream("desk"):
        assert PER_DEVICE == 2
        with pytest.raises(OverloadedError, match="no room") as caught, bulk.stream("desk"):
            pytest.fail("one too many")
        assert caught.value.party == "matcher-a" and caught.value.retry_after_s
        with bulk.stream("other"):
            pass
    with bulk.stream("desk"), bulk.stream("desk"):
        pass


def test_one_holds_no_more_than_one_may() -> None:
    with room().stream("desk") as stream:
        stream.take(100)
        with pytest.raises(InvalidInputError, match="too large"):
            stream.take(1)


def test_all_together_hold_no_more_than_all_may_and_what_has_ended_makes_room() -> None:
    bulk = room()
    with bulk.stream("desk") as first:
        first.take(100)
        with bulk.stream("other") as second:
            second.take(50)
            with pytest.raises(OverloadedError) as caught:
                second.take(1)
            assert caught.value.expected == "<= 150 bytes of all together"
            assert bulk.held_bytes == 150
        assert bulk.held_bytes == 100
    assert bulk.held_bytes == 0


def test_a_stream_that_ends_in_an_error_leaves_nothing() -> None:
    bulk = room()
    for _ in range(5):
        with pytest.raises(ValueError, match="whatever"), bulk.stream("desk") as stream:
            stream.take(90)
            raise ValueError("whatever")
    assert bulk.held_bytes == 0
