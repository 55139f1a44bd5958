"""What is written reads back the same."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from veilmatch.server.installation.toml import to_toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUE = TEXT | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
FIELDS = st.dictionaries(
    TEXT, VALUE | st.lists(TEXT, max_size=3) | st.dictionaries(TEXT, VALUE, max_size=3), max_size=5
)


@given(FIELDS)
def test_what_is_written_reads_back_the_same(fields: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(fields)) == fields
