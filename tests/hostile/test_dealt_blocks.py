"""Who deviates in the check of dealt blocks reads nothing, and has no block kept that is not right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.dealt_blocks import BLOCK_DEVIATIONS, BLOCKS, BlockDeviation, outcome

#: Whom an honest holder names: for two of them not the one that deviates, which it cannot know (docs/limitations.md).
NAMED = {
    "plus holder alters what it opens": "keyholder-a",
    "minus holder alters what it opens": "keyholder-b",
    "minus holder misstates its values": "keyholder-c",
    "dealer deals wrong words": "keyholder-c",
    "dealer commits to other openings": "keyholder-b",
    "dealer keeps silent when it hears the coin": "keyholder-c",
}


def name(deviation: BlockDeviation) -> str:
    return f"{deviation.who} {deviation.what}"


@pytest.mark.parametrize("deviation", BLOCK_DEVIATIONS, ids=name)
def test_a_block_in_whose_check_somebody_deviates_is_dropped_and_a_party_named(
    deviation: BlockDeviation, tmp_path: Path
) -> None:
    found = outcome(deviation, tmp_path / "x", believing=False)
    assert (found.read, found.kept, found.named) == (0, 0, {NAMED[name(deviation)]})


@pytest.mark.parametrize("deviation", BLOCK_DEVIATIONS[:2], ids=name)
def test_where_openings_are_believed_bits_of_kept_blocks_are_read(deviation: BlockDeviation, tmp_path: Path) -> None:
    found = outcome(deviation, tmp_path / "x", believing=True)
    assert found.read == found.kept > 0 and (found.kept == BLOCKS or deviation.who == "minus holder")
