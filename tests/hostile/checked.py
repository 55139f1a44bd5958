"""Attacks of one organisation that a check closes, each with its check taken out and with it in.

The attacks are those of tests/attacks, where each is a test. Here they say in a few words what they get.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.attacks import test_aimed_masks as aimed
from tests.attacks import test_dealer_and_answers as answers
from tests.attacks import test_dealer_and_matcher as shares
from tests.attacks import test_opened_validity as validity
from tests.attacks.test_key_extraction import KeyThief
from tests.attacks.tools import secrets_of, take_key_safety_out, take_mask_out, tell_risk_under_a_known_mask
from tests.crypto.toys import TOY, keys_of
from tests.simulator import MINUS, PairSimulator
from veilmatch.crypto.errors import KeySafetyError

NOTHING = "nothing"


@dataclass(frozen=True)
class Attack:
    """who does what; take_out: takes its check out; get: runs it and says what comes of it."""

    who: str
    does: str
    take_out: Callable[[pytest.MonkeyPatch], None]
    get: Callable[[pytest.MonkeyPatch], str]

    def row(self) -> dict[str, Any]:
        """What it gets without its check and with it."""
        found = []
        for out in (True, False):
            with pytest.MonkeyPatch.context() as patch:
                if out:
                    self.take_out(patch)
                found.append(self.get(patch))
        return {"who": self.who, "does": self.does, "without_its_check": found[0], "with_it": found[1]}


# -- dealers ------------------------------------------------------------------------------------------------


def _two_conversions(_: pytest.MonkeyPatch) -> str:
    keys = keys_of("paillier", shares.P)
    got = shares.whole_key(keys, shares.key_from_two_conversions(keys))
    return "the key, one record converted twice" if got else NOTHING


def _enrolment(_: pytest.MonkeyPatch) -> str:
    keys = keys_of("paillier", shares.P)
    for tried in range(1, 6):
        found = shares.read_enrolment(keys, MINUS)
        if found is not None and np.array_equal(found[0], shares.TEMPLATE) and shares.whole_key(keys, found[1]):
            return f"the template and the key, {_times(tried, 'enrolment')}"
    return NOTHING


def _probe_of_zeros(_: pytest.MonkeyPatch) -> str:
    keys = keys_of("paillier", shares.WIDE)
    got = shares.whole_key(keys, shares.key_from_probe_of_zeros(keys, MINUS))
    return "the key, 1 query" if got else NOTHING


def _answers(probe: Any, expected: Any, holders: list[int], *, valid: int) -> str:
    found = answers.ReaderOfAnswers(keys_of("paillier"), probe).read(holders, valid=valid)
    if found is None or not answers.is_right(found, expected):
        return NOTHING
    what = "of an honest answer" if valid else "that were refused to it"
    return f"{int((found >= 0).sum())} of {len(found)} bits {what}, 1 query"


def _honest_answers(_: pytest.MonkeyPatch) -> str:
    return _answers(answers.PROBE, answers.EXPECTED, [MINUS], valid=1)


def _refused_answers(_: pytest.MonkeyPatch) -> str:
    return _answers(answers.LOUD, answers.REFUSED, [0, 1], valid=0)


# -- key holders --------------------------------------------------------------------------------------------


def _validity(patch: pytest.MonkeyPatch) -> str:
    return _predicates(validity.Deviator(keys_of("stand-in"), MINUS, patch)) or NOTHING


def _validity_with_device(patch: pytest.MonkeyPatch) -> str:
    """Its device hears the valid bits of its own templates, which it knows, and not those of other people."""
    deviator = validity.Deviator(keys_of("stand-in"), MINUS, patch)
    for x, holds in zip(validity.TEMPLATES[:8], validity.PREDICATE[:8], strict=True):
        _, ends = deviator.session("enrol", [x])
        assert PairSimulator.opened(ends)[1].tolist() == [int(holds)]
    return _predicates(deviator) or "nothing but the predicate of its own templates, which it knows"


def _predicates(deviator: validity.Deviator) -> str:
    """What it reads of honest templates."""
    count = len(validity.TEMPLATES)
    found = [name for name in ("enrol", "erase", "rotate") if validity.telling_bits(deviator, name)]  # type: ignore[arg-type]
    what = ", ".join(f"{count} of {count} in {name}" for name in found)
    return f"a predicate of a coordinate of each template: {what}" if found else ""


def _key(patch: pytest.MonkeyPatch) -> str:
    keys = keys_of("paillier", TOY)
    thief = KeyThief(keys, patch)
    try:
        return f"the key, {thief.queries} queries" if thief.key() == secrets_of(keys)[0] else NOTHING
    except KeySafetyError:
        return "refused in the first such session"


def _aimed_key(_: pytest.MonkeyPatch) -> str:
    thief = aimed.KeyThief()
    unknown = thief.known.bits
    got = thief.bits_of(aimed.SESSIONS)
    return f"the key, about {unknown * aimed.SESSIONS // got} refused sessions" if got else NOTHING


def _aimed_coordinate(_: pytest.MonkeyPatch) -> str:
    right = aimed.CoordinateReader().told() == aimed.RIGHT
    return "a coordinate of an honest enrolment, one guess each" if right else NOTHING


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


THIRD = "dealer that gets a matcher's shares"
LAST = "plus holder that speaks last"
ALONE = (
    Attack(THIRD, "solves for what is converted twice", take_mask_out, _two_conversions),
    Attack(THIRD, "solves for an honest enrolment", take_mask_out, _enrolment),
    Attack(THIRD, "reads an honest answer", take_mask_out, _honest_answers),
    Attack("key holder", "moves a lane of its input of the range check", validity.open_validity, _validity),
    Attack(LAST, "puts a share near N if the key is as guessed", tell_risk_under_a_known_mask, _aimed_key),
    Attack(LAST, "puts a share near 2^64 if it guesses right", tell_risk_under_a_known_mask, _aimed_coordinate),
)
WITH_A_DEVICE = (
    Attack("key holder", "adds errors to what it opens", take_key_safety_out, _key),
    Attack(THIRD, "encrypts zeros as a probe", take_mask_out, _probe_of_zeros),
    Attack("dealer", "sees both shares of a refused answer", take_mask_out, _refused_answers),
    Attack(
        "key holder", "moves a lane of its input of the range check", validity.open_validity, _validity_with_device
    ),
)  # fmt: skip
