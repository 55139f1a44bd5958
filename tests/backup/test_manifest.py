"""backup.json is read as what anybody may have written: what is no manifest is refused, with one kind of error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilmatch.crypto.errors import IntegrityError
from veilmatch.server.backup.manifest import FORMAT, Manifest, decode
from veilmatch.server.backup.parts import is_allowed

GOOD: dict[str, Any] = {
    "format": FORMAT,
    "version": "0.1.0",
    "party": "matcher-a",
    "installation": "00" * 16,
    "key_id": "11" * 16,
    "parameters": "d128-s126-c38-l46-n3072",
    "made_at": "2026-01-31T03:00:00Z",
    "galleries": [{"name": "main", "sequence": 3, "chain": "22" * 32}],
    "files": [{"name": "gallery.db", "bytes": 5, "sha256": "33" * 32}],
    "left_out": {"data/ledger.db": "because"},
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def test_what_is_written_is_read() -> None:
    manifest = Manifest.model_validate(GOOD)
    assert decode(manifest.encode()) == manifest
    assert (manifest.letter, manifest.names) == ("a", {"gallery.db"})


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from([*GOOD, "another"]), value=VALUES)
def test_a_field_of_another_kind_is_refused_or_read(name: str, value: object) -> None:
    try:
        found = decode(json.dumps(GOOD | {name: value}).encode())
    except IntegrityError:
        return
    assert name in GOOD and decode(found.encode()) == found


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode(data)


@pytest.mark.parametrize("party", ["keyholder-a", "matcher-a"])
@pytest.mark.parametrize(
    "name",
    [
        "data/stock.db", "stock.db", "../share.key", "/etc/passwd", "share.key.next", "share.key.old", "tls-key.pem",
        "devices/../share.key", "devices/.x.cert", "devices/a/b.cert", "revoked/../x.revoked", "audit/ledger.db", "",
    ],
)  # fmt: skip
def test_names_that_no_backup_takes(party: str, name: str) -> None:
    assert not is_allowed(party, name)


def test_each_kind_of_party_has_files_of_its_own() -> None:
    for name in ("share.key", "certifier.key", "keyholder.toml", "audit/audit-000000000000.jsonl"):
        assert is_allowed("keyholder-b", name) and not is_allowed("matcher-b", name)
    for name in ("gallery.db", "matcher.toml"):
        assert is_allowed("matcher-b", name) and not is_allowed("keyholder-b", name)
