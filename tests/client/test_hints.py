"""Hints: every class of the tree has one, and it says what helps in the cases that people meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from veilmatch.common.hints import HINTS, hint
from veilmatch.common.known_fields import FIELDS
from veilmatch.crypto import errors
from veilmatch.crypto.errors import BudgetExceededError, OverloadedError, UnavailableError, VeilmatchError
from veilmatch.server.admission.budgets import budgets_of
from veilmatch.server.config import KeyHolderBudgets, MatcherBudgets


def tree(root: type[VeilmatchError] = VeilmatchError) -> Iterator[type[VeilmatchError]]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__.startswith(errors.__name__):
            yield from tree(kind)


def test_every_class_of_the_tree_has_a_hint_of_its_own() -> None:
    assert set(HINTS) == set(tree())
    for kind in tree():
        for error in (kind("x"), kind("x", party="keyholder-b", retry_after_s=90.0, alternatives=("ac",))):
            text = hint(error)
            assert len(text) > 20 and text.endswith(".") and "None" not in text, kind


def test_a_class_that_is_not_in_the_tree_has_the_hint_of_the_one_above_it() -> None:
    class OwnError(errors.NoFaceError):
        code = "own"

    assert hint(OwnError("x")) == hint(errors.NoFaceError("x"))


@pytest.mark.parametrize("party", ["keyholder-b", "matcher-a"])
def test_a_budget_error_says_where_the_budget_is_set(party: str) -> None:
    model, file = (MatcherBudgets, "matcher.toml") if party == "matcher-a" else (KeyHolderBudgets, "keyholder.toml")
    for budget in budgets_of(model().model_dump()):
        setting = f"{budget.scope}_{budget.measure}.{budget.window}"
        error = BudgetExceededError("full", budget=str(budget), limit=3, setting=setting, party=party, retry_after_s=30)
        text = hint(VeilmatchError.from_fields(error.fields()))
        assert f"{setting} in [budgets] of {file} at {party}" in text
        assert "in 30 seconds" in text
        assert setting.split(".")[0] in model.model_fields and "budgets" in FIELDS[file]


@pytest.mark.parametrize(
    ("error", "says", "says_not"),
    [
        (errors.UnknownGalleryError("no such gallery here", got="mian", expected="main"), "`gallery`", "public key"),
        (errors.MissingExtraError("no eval", expected="pip install 'veilmatch[eval]'"), "pip install", "models"),
        (errors.UnfitModelError("128", got=128, expected=512), "parameter set", "public key"),
        (errors.OtherInstallationError("another"), "one installation", "present signing key"),
        (errors.HandshakeError("no", party="matcher-a"), "certificate", "Try again later"),
        (OverloadedError("busy", retry_after_s=4), "in 4 seconds", "missing"),
        (UnavailableError("gone", party="keyholder-c", alternatives=("ab",)), "keyholder-c is missing", "certificate"),
        (errors.StorageError("full", party="keyholder-b"), "keyholder-b", "Try again"),
        (errors.RequestExpiredError("late", party="keyholder-b"), "keyholder-b", "None"),
    ],
)
def test_the_hint_fits_the_case(error: VeilmatchError, says: str, says_not: str) -> None:
    assert says in hint(error) and says_not not in hint(error)
