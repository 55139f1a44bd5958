"""What of the defaults is too small for a gallery is said in words, and nothing is said of a small one."""

from __future__ import annotations

import pytest

from veilmatch.crypto.parameters import DEFAULT
from veilmatch.server.check.report import Report
from veilmatch.server.check.sizes import note_searches


def notes(templates: int) -> list[str]:
    report = Report()
    note_searches("main", templates, -(-templates // DEFAULT.slots), DEFAULT, report)
    assert not report.findings
    return report.notes


@pytest.mark.parametrize("templates", [0, 1, 1000, 20_000])
def test_nothing_is_said_of_a_small_gallery(templates: int) -> None:
    assert notes(templates) == []


def test_bits_that_end_before_searches_do_are_named_with_their_settings() -> None:
    (bits,) = notes(20_001)
    assert "a device 99 searches a day (device_bits)" in bits and "999 searches (gallery_bits)" in bits
    assert "docs/budgets.md" in bits and "`identify` asks for 15 bits" in bits


def test_what_a_search_of_a_million_takes_is_said() -> None:
    bits, stock = notes(1_000_000)
    assert "a device 2 searches a day" in bits and "20 searches (gallery_bits)" in bits
    assert "takes 71 MB of dealt stock" in stock and "stock_searches" in stock and "stock_disk_bytes" not in stock


def test_a_gallery_that_nobody_can_search_with_the_defaults() -> None:
    bits, stock = notes(30_000_000)
    assert "a device 0 searches a day" in bits and "together 0 searches" in bits
    assert "stock_disk_bytes holds only 0 of them" in stock
