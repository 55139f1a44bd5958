"""The tree of errors: one code each, drawn as it is, and the same error at both ends of a wire."""

from __future__ import annotations

import json
import re

import pytest

from veilmatch.crypto import errors
from veilmatch.crypto.errors import BudgetExceededError, Details, UnavailableError, VeilmatchError


def tree(root: type[VeilmatchError] = VeilmatchError) -> list[type[VeilmatchError]]:
    return [
        root,
        *(kind for sub in root.__subclasses__() for kind in tree(sub) if kind.__module__.startswith(errors.__name__)),
    ]


KINDS = tree()


def test_codes_are_unique_and_exit_statuses_say_failure() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)
    assert all(2 < kind.exit_status < 64 for kind in KINDS)


def test_docstring_draws_the_tree_as_it_is() -> None:
    drawn, parents = {}, {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"( +)(\w+Error)\b", line):
            depth = len(found[1]) // 4
            parents[depth] = found[2]
            drawn[found[2]] = parents.get(depth - 1)
    actual = {kind.__name__: next((b.__name__ for b in kind.__bases__ if b in KINDS), None) for kind in KINDS}
    assert drawn == actual


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_error_is_the_same_at_the_other_end(kind: type[VeilmatchError]) -> None:
    common = Details(
        got=3, expected="4", party="keyholder-c", alternatives=("ab", "bc"), retry_after_s=12.5, request_id="0123abcd",
        said_by=("keyholder-a", "matcher-a"), hint="Look there.",
    )  # fmt: skip
    own = {"budget": "requests of a device", "limit": 60} if issubclass(kind, BudgetExceededError) else {}
    sent = kind("is wrong", **common, **own)
    received = VeilmatchError.from_fields(json.loads(json.dumps(sent.fields())))
    assert type(received) is kind
    assert received.fields() == sent.fields() and str(received) == str(sent)
    plain = kind("is wrong")
    assert str(plain) == "is wrong" == str(VeilmatchError.from_fields(plain.fields()))


def test_unavailable_party_and_alternatives_are_fields() -> None:
    error = UnavailableError("down", party="c", needed=2, available=1, alternatives=("ab",))
    assert (error.party, error.needed, error.available, error.alternatives) == ("c", "2", "1", ("ab",))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1, 10**400, True, "12", None, [1]])
def test_a_number_that_cannot_be_one_does_not_come_through(number: object) -> None:
    fields = {"code": "budget_exceeded", "message": "m", "limit": number, "retry_after_s": number}
    error = VeilmatchError.from_fields(fields)
    assert isinstance(error, BudgetExceededError) and (error.limit, error.retry_after_s) == (None, None)


@pytest.mark.parametrize("fields", [{}, {"code": "of a newer peer", "message": "m"}, {"code": None}, {"code": ["x"]}])
def test_error_of_a_newer_peer_is_still_an_error(fields: dict[str, object]) -> None:
    assert type(VeilmatchError.from_fields(fields)) is VeilmatchError


def test_message_shows_what_was_expected_and_what_came() -> None:
    assert str(VeilmatchError("odd", got=0, expected=1)) == "odd (expected 1, got 0)"
    assert str(VeilmatchError("odd", got="")) == "odd (got )"
