"""What is written reads back the same, and an entry goes into a file without disturbing the rest."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilmatch.server.installation.toml import to_toml, with_entry

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUE = TEXT | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
FIELDS = st.dictionaries(
    TEXT, VALUE | st.lists(TEXT, max_size=3) | st.dictionaries(TEXT, VALUE, max_size=3), max_size=5
)


@given(FIELDS)
def test_what_is_written_reads_back_the_same(fields: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(fields)) == fields


@given(FIELDS, TEXT, TEXT)
def test_an_entry_is_added_and_nothing_else_changes(fields: dict[str, Any], key: str, value: str) -> None:
    fields["devices"] = {"device-1": "ab"}
    fields["devices"].pop(key, None)
    edited = with_entry(to_toml(fields), "devices", key, value)
    assert tomllib.loads(edited) == fields | {"devices": fields["devices"] | {key: value}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[t]\n", '[t]\nk = "v"\n'),
        ("[t]", '[t]\nk = "v"\n'),
        ("# c\n[t] # d\na = 1 # e\n[u]\n", '# c\n[t] # d\nk = "v"\na = 1 # e\n[u]\n'),
        (" [ t ]\r\na = 1\r\n", ' [ t ]\r\nk = "v"\na = 1\r\n'),
        ("a = 1\n", 'a = 1\n\n[t]\nk = "v"\n'),
        ("t = {a = 1}\n", '\n[t]\nk = "v"\na = 1\n'),
        ('s = """\n[t]\n"""\n[t]\n', 's = "[t]\\n"\n\n[t]\nk = "v"\n'),
    ],
)
def test_comments_and_order_stay_where_they_can(text: str, expected: str) -> None:
    assert with_entry(text, "t", "k", "v") == expected


@pytest.mark.parametrize(
    "text", ["t = 7\n", "when = 1979-05-27\nt = {}\n", "x = nan\nt = {}\n", "[[y]]\nz = {a = {}}\n", "["]
)
def test_what_cannot_be_rewritten_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        with_entry(text, "t", "k", "v")
