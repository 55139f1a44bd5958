"""device.toml: which matchers there are, and which pairs that makes."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest

from veilmatch import ConfigurationError, DeviceSettings

PAIRS = ("ab", "ac", "bc")


def load(folder: Path, matchers: str, more: str = "") -> DeviceSettings:
    """Return the settings of the usual file with these matchers and these lines."""
    text = (folder / "device.toml").read_text()
    addresses = "".join(f'{party} = "localhost:{number}"\n' for number, party in enumerate(matchers, 1))
    text = re.sub(r"\[matchers\].*?(?=\[tls\])", f"[matchers]\n{addresses}", text, flags=re.S)
    (folder / "other.toml").write_text(f"{more}\n{text}")
    return DeviceSettings.load(folder / "other.toml")


@pytest.fixture
def folder(settings: DeviceSettings, tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("matchers", ["abc", *map("".join, combinations("abc", 2))])
def test_pairs_are_those_of_the_matchers_that_are_there(folder: Path, matchers: str) -> None:
    assert load(folder, matchers).pairs == [pair for pair in PAIRS if set(pair) <= set(matchers)]


def test_an_order_of_pairs_is_kept(folder: Path) -> None:
    assert load(folder, "abc", 'pairs = ["bc", "ab"]').pairs == ["bc", "ab"]
    assert load(folder, "ab", 'pairs = ["ab"]').pairs == ["ab"]


def test_the_environment_may_name_a_matcher(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEILMATCH_MATCHERS__C", "localhost:9")
    settings = load(folder, "ab")
    assert settings.matchers["c"] == "localhost:9" and settings.pairs == list(PAIRS)


@pytest.mark.parametrize("matchers", ["", "a", "c"])
def test_one_matcher_is_too_few(folder: Path, matchers: str) -> None:
    with pytest.raises(ConfigurationError, match="matchers must name at least two of a, b and c"):
        load(folder, matchers)


@pytest.mark.parametrize(("matchers", "pair", "lacking"), [("ab", "ac", "c"), ("bc", "ab", "a"), ("ac", "bc", "b")])
def test_a_pair_without_a_matcher_is_refused(folder: Path, matchers: str, pair: str, lacking: str) -> None:
    with pytest.raises(ConfigurationError, match=f"do without {lacking}, which matchers does not name: not {pair}"):
        load(folder, matchers, f'pairs = ["{pair}"]')


def test_pairs_are_different_and_some(folder: Path) -> None:
    for pairs in ('["ab", "ab"]', "[]", '["ba"]'):
        with pytest.raises(ConfigurationError, match="pairs"):
            load(folder, "abc", f"pairs = {pairs}")


def test_hedging_and_assurance_are_off_by_default(folder: Path) -> None:
    settings = load(folder, "abc")
    assert (settings.hedge, settings.assurance) == (False, "one-pair")
    settings = load(folder, "abc", 'hedge = true\nassurance = "all-pairs"')
    assert (settings.hedge, settings.assurance) == (True, "all-pairs")


@pytest.mark.parametrize("matchers", ["ab", "ac", "bc"])
def test_assurance_takes_all_three(folder: Path, matchers: str) -> None:
    with pytest.raises(ConfigurationError, match="assurance must be one-pair unless matchers names all three"):
        load(folder, matchers, 'assurance = "all-pairs"')
