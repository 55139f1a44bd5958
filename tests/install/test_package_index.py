"""Face models come from the index that pip is configured for, without pip."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from veilmatch.client.models.catalogue import Archive
from veilmatch.client.models.index import DEFAULT_INDEX, IndexSettings, Source
from veilmatch.client.models.index_download import fetch
from veilmatch.crypto.errors import ConfigurationError, ModelError

USER, PASSWORD = "reader", "hunter2"


def archive_bytes(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("thing/face.onnx", text)
    return buffer.getvalue()


WHEEL = archive_bytes("the pinned one")
OTHER = archive_bytes("another one")
NAME = "facething-1.0-py3-none-any.whl"
PINNED = Archive("facething", "1.0", "wheel", hashlib.sha256(WHEEL).hexdigest())


class Index(SimpleHTTPRequestHandler):
    """A folder served as files and simple pages, to whoever knows the password if there is one."""

    locked = False

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.locked and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


class LockedIndex(Index):
    locked = True


def serve(folder: Path, handler: type[Index]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return laid_out(tmp_path / "index", WHEEL)


def laid_out(root: Path, content: bytes) -> Path:
    project = root / "simple" / "facething"
    project.mkdir(parents=True)
    (project / NAME).write_bytes(content)
    (project / "index.html").write_text(f'<a href="{NAME}#sha256={hashlib.sha256(content).hexdigest()}">{NAME}</a>')
    return root


@pytest.fixture
def index(files: Path) -> Iterator[str]:
    yield from serve(files, Index)


@pytest.fixture
def locked(files: Path) -> Iterator[str]:
    yield from serve(files, LockedIndex)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing configured, and a home of its own."""
    import os

    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "XDG_CONFIG")) or name.lower().endswith("_proxy") or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "xdg"))
    (tmp_path / "home" / ".config" / "pip").mkdir(parents=True)
    return tmp_path / "home"


def test_nothing_configured_means_the_public_index() -> None:
    assert IndexSettings.read().sources[-1] == Source(DEFAULT_INDEX, is_index=True)


@pytest.mark.parametrize("variable", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"])
def test_an_index_from_the_environment(variable: str, index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "EXTRA" in variable:
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv(variable, f"http://{index}/simple/")
    assert fetch(PINNED) == WHEEL


@pytest.mark.parametrize("variable", ["UV_INDEX", "UV_EXTRA_INDEX_URL"])
def test_named_indexes_of_uv(variable: str, index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv(variable, f"inner=http://{index}/simple http://127.0.0.1:9/other")
    assert fetch(PINNED) == WHEEL


@pytest.mark.parametrize("place", [".config/pip/pip.conf", ".pip/pip.conf"])
@pytest.mark.parametrize("section", ["global", "download"])
def test_an_index_from_the_users_file(place: str, section: str, index: str, home: Path) -> None:
    (home / place).parent.mkdir(parents=True, exist_ok=True)
    (home / place).write_text(f"[{section}]\nindex-url = http://{index}/simple\ntimeout = 5\n")
    assert fetch(PINNED) == WHEEL


def test_a_file_named_by_the_environment_takes_the_place_of_the_users(
    index: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".config/pip/pip.conf").write_text("[global]\nno-index = true\n")
    (tmp_path / "own.conf").write_text(f"[global]\nindex_url = http://{index}/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "own.conf"))
    assert fetch(PINNED) == WHEEL


def test_the_environment_goes_before_files_and_pip_before_uv(
    index: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".config/pip/pip.conf").write_text("[global]\nindex-url = http://127.0.0.1:9/file\n")
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/uv")
    assert IndexSettings.read().sources[-1].place == "http://127.0.0.1:9/uv"
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{index}/simple")
    assert IndexSettings.read().sources[-1].place == f"http://{index}/simple"


@pytest.mark.parametrize("link", ["folder", "page", "file"])
def test_find_links(link: str, files: Path, index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = files / "simple" / "facething"
    links = {"folder": folder, "page": f"http://{index}/simple/facething/", "file": folder / NAME}
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", f"/nonexistent {links[link]}")
    assert fetch(PINNED) == WHEEL


def test_an_index_of_files(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", (files / "simple").as_uri())
    assert fetch(PINNED) == WHEEL


def test_credentials_in_the_address_and_in_netrc(locked: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{USER}:{PASSWORD}@{locked}/simple")
    assert fetch(PINNED) == WHEEL
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{locked}/simple")
    with pytest.raises(ModelError, match="401"):
        fetch(PINNED)
    (home / ".netrc").write_text(f"machine {locked.split(':')[0]} login {USER} password {PASSWORD}\n")
    (home / ".netrc").chmod(0o600)
    assert fetch(PINNED) == WHEEL


def test_an_index_that_is_down_does_not_keep_the_next_from_being_asked(
    index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://127.0.0.1:9/b\nhttp://{index}/simple")
    assert fetch(PINNED) == WHEEL


def test_another_archive_of_that_name_is_passed_over(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(laid_out(tmp_path / "other", OTHER) / "simple" / "facething"))
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{index}/simple")
    assert fetch(PINNED) == WHEEL
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError, match=f"only with another sha256: {NAME}"):
        fetch(PINNED)


def test_a_failure_names_every_index_and_no_password(
    index: str, locked: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{index}/elsewhere")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://me:secret@127.0.0.1:9/simple http://me:secret@{locked}/simple")
    with pytest.raises(ModelError) as caught:
        fetch(PINNED)
    text = f"{caught.value}{caught.value.__cause__}{capsys.readouterr()}"
    for part in (f"{index}/elsewhere", "404", "127.0.0.1:9", "401", "veilmatch models install", "VEILMATCH_CACHE"):
        assert part in text
    assert "secret" not in text


def test_no_index_at_all_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "true")
    with pytest.raises(ModelError, match="no-index"):
        fetch(PINNED)


@pytest.mark.parametrize("text", ["index-url = x\n", "[global]\nindex-url http\nsecret:word\n[global]\n"])
def test_a_file_that_is_no_configuration_is_named_and_not_quoted(text: str, home: Path) -> None:
    (home / ".config/pip/pip.conf").write_text(text)
    with pytest.raises(ConfigurationError, match=r"pip\.conf") as caught:
        fetch(PINNED)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("variable", "value"), [("PIP_CERT", "/nonexistent.pem"), ("PIP_TIMEOUT", "soon")])
def test_a_setting_that_cannot_be_followed_is_named(
    variable: str, value: str, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{index}/simple")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=value):
        fetch(PINNED)


def test_a_configured_proxy_is_asked(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "index.invalid")
    monkeypatch.setenv("PIP_PROXY", f"http://{index}")
    with pytest.raises(ModelError, match="404"):  # from what stands in for the proxy, which sees the whole address
        fetch(PINNED)


def test_without_a_home_the_other_files_and_the_environment_hold(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_uid: int) -> None:
        raise KeyError("no such user")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{index}/simple")
    assert fetch(PINNED) == WHEEL
