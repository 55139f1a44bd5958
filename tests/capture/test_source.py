"""Where photos are: files of every kind, pipes, data URLs, and errors that show no byte of a photo."""

from __future__ import annotations

import base64
import io
import os
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from veilmatch.client.capture import source
from veilmatch.client.capture.image import load_image
from veilmatch.client.capture.source import photo_bytes
from veilmatch.client.given.quoting import quoted_name, quoted_path, quoted_photo
from veilmatch.crypto.errors import ImageError

GRADIENT = (np.arange(24 * 16 * 3) % 251).astype(np.uint8).reshape(24, 16, 3)


def png(pixels: np.ndarray = GRADIENT) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def data_url(data: bytes, media: str = "image/png") -> str:
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


def everything_said(error: ImageError) -> str:
    return f"{error} {error!r} {error.fields()}"


# -- data URLs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url,
        lambda url: url.replace("data:image/png", "DATA:image/PNG"),
        lambda url: url.replace("image/png", "image/png;charset=utf-8"),
        lambda url: url[:60] + "\r\n" + url[60:],
        lambda url: url.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D").replace("image%2Fpng", "image/png"),
    ],
)
def test_a_data_url_is_a_photo(change: Any) -> None:
    np.testing.assert_array_equal(load_image(change(data_url(png()))), GRADIENT)


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,", "data:image/png,abc", "data:;base64,????", "data:", "data:,"]
)
def test_a_data_url_without_a_photo_is_refused(url: str) -> None:
    with pytest.raises(ImageError):
        load_image(url)


def test_a_data_url_has_the_byte_limit_of_a_file() -> None:
    data = png()
    assert load_image(data_url(data), max_bytes=len(data)).shape == GRADIENT.shape
    for limit in (len(data) - 1, 10):
        with pytest.raises(ImageError, match="too large"):
            load_image(data_url(data), max_bytes=limit)


# -- what may be a photo is not quoted -----------------------------------------------------------------

NOISE = np.random.default_rng(8).integers(0, 256, 4000, dtype=np.uint8).tobytes()


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(NOISE).decode(),
        base64.urlsafe_b64encode(NOISE).decode(),
        base64.urlsafe_b64encode(NOISE[:120]).decode(),
        base64.b64encode(NOISE[:150]).decode(),
        "/9j/" + base64.b64encode(NOISE).decode(),
        "data:image/jpeg;base64," + base64.b64encode(NOISE).decode()[:-1] + "!",
        "data:image/jpeg;base64," + base64.b64encode(NOISE).decode(),
        NOISE.decode("latin-1"),
        NOISE.hex(),
        "file:///" + base64.urlsafe_b64encode(NOISE).decode(),
        "~/" + base64.b64encode(NOISE).decode(),
        "https://door.example/" + base64.urlsafe_b64encode(NOISE).decode(),
    ],
    ids=lambda text: text[:12],
)
def test_no_part_of_a_text_that_may_be_a_photo_is_in_the_error(text: str) -> None:
    sources = [text, Path(text)] if "\0" not in text else [text]
    for given_source in sources:
        with pytest.raises(ImageError) as caught:
            load_image(given_source)
        said = everything_said(caught.value)
        assert len(said) < 1000
        body = text.partition(",")[2] or text
        pieces = [body[i : i + 12] for i in range(20, len(body) - 12, 12)]
        assert not any(piece in said for piece in pieces)


@given(st.binary(min_size=49, max_size=3000))
def test_no_base64_is_quoted(data: bytes) -> None:
    for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode(), data_url(data)):
        assert quoted_path(text) == f"a text of {len(text)} characters"
        assert quoted_photo(text, 1, 2) == "photo 1 of 2"
        assert quoted_name(text) == f"a name of {len(text)} characters"


def test_names_of_files_are_quoted(tmp_path: Path) -> None:
    long = (
        tmp_path / "a-folder-with-a-long-name-in-which-tests-keep-what-they-need" / "no-dot-and-longer-than-sixty-four"
    )
    long.mkdir(parents=True)
    for path in ("door.jpg", "/srv/photos/2024/door-camera-1/ada lovelace 1.jpeg", str(long)):
        assert quoted_path(path) == path
    assert quoted_photo("folder/door.jpg", 2, 3) == "photo 2 of 3 (door.jpg)"
    assert quoted_photo(Path("door.jpg"), 2, 3) == "photo 2 of 3 (door.jpg)"
    assert quoted_photo(GRADIENT, 2, 3) == "photo 2 of 3"


# -- files that are none -------------------------------------------------------------------------------


def test_what_is_there_in_place_of_a_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.jpg"))
        for name, said in (
            ("", "a folder"),
            ("empty.jpg", "empty"),
            ("broken.jpg", "the link leads nowhere"),
            ("loop.jpg", "cannot be read"),
            ("socket.jpg", "a socket"),
            ("absent.jpg", "no such image file"),
            ("absent/1.jpg", "no such image file"),
            ("empty.jpg/1.jpg", "cannot be read"),
        ):
            with pytest.raises(ImageError, match=said) as caught:
                load_image(tmp_path / name)
            assert name in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is readable for root")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(png())
    (tmp_path / "secret.jpg").chmod(0)
    with pytest.raises(ImageError, match=r"secret\.jpg: Permission denied"):
        load_image(tmp_path / "secret.jpg")


def test_a_file_url_is_a_file_of_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "a photo.png"
    file.write_bytes(png())
    for url in (file.as_uri(), file.as_uri().replace("file://", "FILE://localhost")):
        np.testing.assert_array_equal(load_image(url), GRADIENT)
    with pytest.raises(ImageError, match="another machine"):
        load_image("file://elsewhere/photo.png")


def test_a_web_address_is_called_one() -> None:
    with pytest.raises(ImageError, match="a web address") as caught:
        load_image("https://user:password@door.example/photo.jpg?token=1234")
    assert "password" not in everything_said(caught.value) and "1234" not in everything_said(caught.value)


def test_a_leading_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "me.png").write_bytes(png())
    np.testing.assert_array_equal(load_image("~/me.png"), GRADIENT)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~me.png").write_bytes(png(GRADIENT[::-1].copy()))
    np.testing.assert_array_equal(load_image("~me.png"), GRADIENT[::-1])
    with pytest.raises(ImageError, match="no such image file"):
        load_image("~nobody-of-this-name/me.png")


class _Odd(os.PathLike[str]):
    def __init__(self, path: object) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        if isinstance(self.path, Exception):
            raise self.path
        return self.path


def test_paths_of_other_libraries_are_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(png())
    for path in (str(tmp_path / "1.png"), os.fsencode(tmp_path / "1.png")):
        np.testing.assert_array_equal(load_image(_Odd(path)), GRADIENT)
    for wrong in (RuntimeError("0.1 0.2"), 7, None):
        with pytest.raises(ImageError) as caught:
            load_image(_Odd(wrong))
        assert "0.1" not in everything_said(caught.value)


# -- pipes ---------------------------------------------------------------------------------------------


def test_a_pipe_is_read_to_its_end_however_slowly_it_fills(tmp_path: Path) -> None:
    pipe, data = tmp_path / "pipe", png(np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb", buffering=0) as file:
            for start in range(0, len(data), 50_000):
                file.write(data[start : start + 50_000])

    late = threading.Timer(0.2, write)
    late.start()
    assert photo_bytes(pipe, 1 << 24) == data
    late.join()


def test_a_pipe_to_which_nobody_writes_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "PIPE_PATIENCE_S", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="no photo came out of the pipe"):
        load_image(tmp_path / "pipe")


def test_an_open_pipe_is_read_by_its_name() -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, png())
        os.close(writing)
        np.testing.assert_array_equal(load_image(f"/dev/fd/{reading}"), GRADIENT)
    finally:
        os.close(reading)


def test_devices_are_read_within_the_byte_limit() -> None:
    with pytest.raises(ImageError, match="too large"):
        load_image("/dev/zero", max_bytes=1 << 20)
    with pytest.raises(ImageError, match="empty"):
        load_image("/dev/null")
