"""Where a passphrase comes from: the file, then the environment, then a prompt; never from nowhere."""

from __future__ import annotations

import getpass
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from veilmatch.crypto.errors import ConfigurationError
from veilmatch.server.installation.passphrase import VARIABLE, read_passphrase


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a user types at the prompts; must be used up."""
    answers: list[str] = []
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: answers.pop(0))
    yield answers
    assert answers == []


def file_of(directory: Path, data: bytes) -> Path:
    path = directory / "passphrase"
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def test_the_file_goes_before_the_environment_and_that_before_the_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str]
) -> None:
    typed.append("from the prompt")
    assert read_passphrase(None) == "from the prompt"
    monkeypatch.setenv(VARIABLE, "from the environment")
    assert read_passphrase(None) == "from the environment"
    assert read_passphrase(file_of(tmp_path, b"from the file\n")) == "from the file"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"x", "x"),
        (b"x\n", "x"),
        (b"x\n\n", "x\n"),
        (b"x\r\n", "x"),
        (b"x\r", "x\r"),
        (b" x \n", " x "),
        (b"\nx", "\nx"),
        (b"a\r\nb\n", "a\r\nb"),
        ("schlüssel\n".encode(), "schlüssel"),
    ],
)
def test_exactly_one_newline_is_stripped(
    data: bytes, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_passphrase(file_of(tmp_path, data)) == expected
    monkeypatch.setenv(VARIABLE, data.decode())
    assert read_passphrase(None) == expected


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n"])
def test_an_empty_passphrase_is_refused_wherever_it_comes_from(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        read_passphrase(file_of(tmp_path, data))
    monkeypatch.setenv(VARIABLE, data.decode())
    with pytest.raises(ConfigurationError, match="empty"):
        read_passphrase(None)


def test_an_empty_answer_is_refused(typed: list[str]) -> None:
    typed.append("")
    with pytest.raises(ConfigurationError, match="empty"):
        read_passphrase(None)


def test_without_any_source_and_without_a_terminal_there_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for stdin in (io.StringIO("not read\n"), None):
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(ConfigurationError, match=VARIABLE):
            read_passphrase(None)


def test_a_file_that_cannot_be_read_is_not_made_up_for_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "from the environment")
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ConfigurationError) as caught:
            read_passphrase(path)
        assert str(path) in str(caught.value)


def test_what_is_not_text_is_refused_without_quoting_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "hush\udcff")
    for source in (None, file_of(tmp_path, b"hush\xff\n")):
        with pytest.raises(ConfigurationError, match="not text") as caught:
            read_passphrase(source)
        assert caught.value.__context__ is None
        assert "hush" not in str(caught.value)


def test_a_new_passphrase_is_asked_for_twice(typed: list[str]) -> None:
    typed += ["same", "same"]
    assert read_passphrase(None, confirm=True) == "same"
    typed += ["one", "other"]
    with pytest.raises(ConfigurationError, match="differ"):
        read_passphrase(None, confirm=True)


def test_a_terminal_that_closes_is_a_typed_error(typed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: str) -> str:
        raise EOFError

    monkeypatch.setattr(getpass, "getpass", closed)
    with pytest.raises(ConfigurationError, match="no passphrase"):
        read_passphrase(None)
