"""What is under way at a server that others send requests to: bounded, half for one name, refused at once beyond."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilmatch.crypto.errors import OverloadedError
from veilmatch.server.bounds import AdmissionLimits, SessionLimits
from veilmatch.server.ground.at_once import AtOnce


def test_what_is_beyond_all_or_beyond_the_half_of_one_is_refused_and_names_the_server() -> None:
    bound = AtOnce(4, "keyholder-b")
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(bound.one("kiosk"))
        with pytest.raises(OverloadedError, match="at most 2") as caught, bound.one("kiosk"):
            pass
        assert (caught.value.party, caught.value.alternatives) == ("keyholder-b", ())
        assert caught.value.retry_after_s == 0.5
        for name in ("door", "gate"):
            held.enter_context(bound.one(name))
        with pytest.raises(OverloadedError, match="at most 4, got 4 requests in progress"), bound.one("hall"):
            pass
    with bound.one("hall"):
        assert bound.count == 1


def test_whoever_is_refused_is_told_to_come_when_those_before_have_ended() -> None:
    now = [0.0]
    bound = AtOnce(1, "keyholder-b", now=lambda: now[0])
    for _ in range(100):
        with bound.one("door"):
            now[0] += 3.0
    with bound.one("door"), pytest.raises(OverloadedError) as caught, bound.one("gate"):
        pass
    assert caught.value.retry_after_s == pytest.approx(3.0, abs=0.1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60), st.integers(1, 6))
def test_never_more_than_there_may_be_whoever_comes_and_goes(steps: list[tuple[str, bool]], count: int) -> None:
    bound, inside = AtOnce(count, "keyholder-b"), list[tuple[str, ExitStack]]()
    for name, comes in steps:
        if comes:
            stack = ExitStack()
            own = sum(one == name for one, _ in inside)
            refused = len(inside) >= count or own >= (count + 1) // 2
            try:
                stack.enter_context(bound.one(name))
                inside.append((name, stack))
                assert not refused
            except OverloadedError:
                assert refused
        elif inside:
            inside.pop(0)[1].close()
        assert bound.count == len(inside) <= count


def test_limits_that_are_not_given_follow_the_cores_and_fit_together() -> None:
    """A key holder takes all that its matcher leads, and follows of two others."""
    limits = AdmissionLimits()
    assert limits.most_followed(2) == 24 and AdmissionLimits(followed=7).most_followed(2) == 7
    assert limits.most_verifications_followed(2) == 64
    assert AdmissionLimits(followed=7).most_verifications_followed(2) == 7
    assert SessionLimits().resolved(2) == 64 and SessionLimits(in_progress=5).resolved(2) == 5
    assert SessionLimits().verifying_at_once(2) == 160 and SessionLimits(verifying=5).verifying_at_once(2) == 5
    for cores in (1, 2, 16, 17, 64):
        bounds = SessionLimits()
        assert limits.resolved(cores)[0] + 2 * limits.most_followed(cores) <= bounds.resolved(cores)
        verifications = limits.verifying_at_once(cores) + 2 * limits.most_verifications_followed(cores)
        assert verifications <= bounds.verifying_at_once(cores)
