"""Where a passphrase comes from: a file, then the environment, then a terminal; never from nowhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from veilmatch.crypto.errors import ConfigurationError
from veilmatch.server.installation import passphrase as module
from veilmatch.server.installation.passphrase import VARIABLE, read_passphrase


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)


def type_at_the_terminal(monkeypatch: pytest.MonkeyPatch, *typed: str) -> list[str]:
    """Let there be a terminal where this is typed; return what is asked."""
    asked: list[str] = []
    answers: Iterator[str] = iter(typed)

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return next(answers)

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(module.getpass, "getpass", ask)
    return asked


@pytest.mark.parametrize(
    ("content", "passphrase"),
    [("word", "word"), ("word\n", "word"), ("word\n\n", "word\n"), (" two words \n", " two words "), ("ä\n", "ä")],
)
def test_a_file_gives_its_text_without_the_last_newline(tmp_path: Path, content: str, passphrase: str) -> None:
    (tmp_path / "p").write_text(content, encoding="utf-8")
    assert read_passphrase(tmp_path / "p") == passphrase


def test_the_file_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p").write_text("of the file")
    monkeypatch.setenv(VARIABLE, "of the environment")
    assert read_passphrase(tmp_path / "p") == "of the file"
    assert read_passphrase(None) == "of the environment"


def test_the_environment_goes_before_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = type_at_the_terminal(monkeypatch, "typed")
    monkeypatch.setenv(VARIABLE, "of the environment")
    assert read_passphrase(None) == "of the environment"
    assert asked == []


def test_the_terminal_is_asked_once_to_open_and_twice_to_make(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(type_at_the_terminal(monkeypatch, "typed")) == 0
    assert read_passphrase(None) == "typed"
    asked = type_at_the_terminal(monkeypatch, "typed", "typed")
    assert read_passphrase(None, confirm=True) == "typed"
    assert len(asked) == 2


def test_two_different_passphrases_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    type_at_the_terminal(monkeypatch, "typed one", "typed two")
    with pytest.raises(ConfigurationError) as caught:
        read_passphrase(None, confirm=True)
    assert "typed" not in str(caught.value)


def test_no_source_at_all_is_an_error_that_names_them() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_passphrase(None)
    assert VARIABLE in str(caught.value)
    assert "--passphrase-file" in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_passphrase_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "p").write_text(content)
    with pytest.raises(ConfigurationError):
        read_passphrase(tmp_path / "p")
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(ConfigurationError):
        read_passphrase(None)
    type_at_the_terminal(monkeypatch, "")
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ConfigurationError):
        read_passphrase(None)


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "binary"):
        with pytest.raises(ConfigurationError) as caught:
            read_passphrase(path)
        assert str(path) in str(caught.value)


def test_a_passphrase_that_is_no_text_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, b"secret\xff".decode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError) as caught:
        read_passphrase(None)
    assert "secret" not in str(caught.value)
