"""Organisation a lies, and has a device: an assured statement about a state that the honest pair never spoke of."""

from __future__ import annotations

import pytest

from tests.relying.stating import CHALLENGE, KEY, NOW_S, SALT, TRUST, pair_states
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.sealed_answer import SealedAnswer
from veilmatch.relying import MemorySeen, Statement


def test_an_assured_statement_is_about_one_state_of_the_gallery() -> None:
    """bc, both honest, say "match" at number 7. Then alice is erased; a turns the "no match" of ab and ac at 8 round.

    The SDK of the device asks those that are behind again and refuses different chains
    (client/wire/pairs/assurance.py): but it is the device that is not believed here. What comes out says
    sequence 8: match.
    """
    later = {"sequence": 8, "chain": b"d" * 32}
    said = (*pair_states("ab", 1, **later), *pair_states("ac", 1, **later), *pair_states("bc", 1))
    with pytest.raises(VeilmatchError):
        found = Statement.open(
            SealedAnswer(said, SALT), TRUST, KEY, seen=MemorySeen(), expect_subject="alice",
            expect_challenge=CHALLENGE, assured=True, now=NOW_S,
        )  # fmt: skip
        print(found.decision, found.sequence, found.pairs)


def test_pairs_that_speak_of_two_galleries_under_one_number_are_refused() -> None:
    """A fork (SDK: `_is_forked`)."""
    said = (*pair_states("ab", 1, chain=b"d" * 32), *pair_states("ac", 1), *pair_states("bc", 1))
    with pytest.raises(VeilmatchError):
        Statement.open(
            SealedAnswer(said, SALT), TRUST, KEY, seen=MemorySeen(), expect_subject="alice",
            expect_challenge=CHALLENGE, assured=True, now=NOW_S,
        )  # fmt: skip
