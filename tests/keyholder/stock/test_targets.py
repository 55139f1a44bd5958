"""The stock follows the largest search, as far as the disk may be used for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from veilmatch.crypto.dealing import STOCK_KINDS, Kind
from veilmatch.server.keyholder.stock.targets import Targets

LEAST: dict[Kind, int] = {"triples": 1000, "bits": 5000, "products": 300}


def test_until_a_large_search_comes_it_is_what_the_settings_say() -> None:
    targets = Targets(LEAST, 4, 1 << 30, 384)
    assert dict(targets) == LEAST
    targets.note({"triples": 4, "bits": 4907, "products": 128})
    assert targets["triples"] == 1000
    assert (targets["bits"], targets["products"]) == (4 * 4907, 512)


def test_it_follows_the_largest_search_and_not_the_last_one() -> None:
    targets = Targets(LEAST, 4, 1 << 30, 384)
    targets.note({"triples": 9013, "bits": 23_600_000, "products": 128})
    targets.note({"triples": 13, "bits": 38_642})
    assert dict(targets) == {"triples": 36052, "bits": 94_400_000, "products": 512}


def test_no_more_searches_than_the_disk_may_hold_and_it_is_said() -> None:
    one: dict[Kind, int] = {"triples": 9013, "bits": 23_600_000, "products": 128}
    size = 9013 * 3 * 384 + 23_600_000 * 3 + 128 * 16
    assert Targets(LEAST, 4, 0, 384).bytes_of(one) == size
    for searches in range(5):
        targets = Targets(LEAST, 4, searches * size + 1, 384)
        with capture_logs() as logs:
            targets.note(one)
        assert targets["triples"] == max(1000, searches * 9013)
        assert [log["searches"] for log in logs] == ([searches] if searches < 4 else [])


def test_stock_that_is_not_to_follow_stays() -> None:
    targets = Targets(LEAST, 0, 1 << 30, 384)
    targets.note({"triples": 90_000})
    assert dict(targets) == LEAST


@given(
    st.lists(st.fixed_dictionaries({}, optional={kind: st.integers(0, 10**7) for kind in STOCK_KINDS}), max_size=8),
    st.integers(0, 9),
    st.integers(0, 1 << 32),
)
def test_never_less_than_the_least_nor_more_than_the_disk(
    sessions: list[dict[Kind, int]], searches: int, disk_bytes: int
) -> None:
    targets = Targets(LEAST, searches, disk_bytes, 384)
    for used in sessions:
        before = dict(targets)
        targets.note(used)
        assert all(targets[kind] >= LEAST[kind] for kind in STOCK_KINDS)
        beyond = {kind: targets[kind] for kind in STOCK_KINDS if targets[kind] > LEAST[kind]}
        assert targets.bytes_of(beyond) <= disk_bytes
        if all(used.get(kind, 0) == 0 for kind in STOCK_KINDS):
            assert dict(targets) == before
