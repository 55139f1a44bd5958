"""Photos given as file objects: read from where they stand, once, and refused where they cannot be a photo."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from veilmatch.client.capture.image import MAX_IMAGE_BYTES, fetched, load_image, photo_digest
from veilmatch.client.capture.source import file_bytes
from veilmatch.crypto.errors import ImageError

PIXELS = (np.arange(24 * 16 * 3) % 251).astype(np.uint8).reshape(24, 16, 3)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    return buffer.getvalue()


class Dripping:
    """Gives a byte at a time, as a socket may."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(min(size, 1))


class Upload:
    """Is read as uploads of web frameworks for asyncio are."""

    async def read(self, size: int = -1, /) -> bytes:
        return png()


def test_every_kind_of_file_object_is_a_photo(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
    with (
        (tmp_path / "a.png").open("rb") as buffered,
        (tmp_path / "a.png").open("rb", buffering=0) as raw,
        zipfile.ZipFile(tmp_path / "a.zip") as archive,
        archive.open("a.png") as member,
        tempfile.SpooledTemporaryFile() as spooled,
    ):
        spooled.write(png())
        spooled.seek(0)
        for file in (io.BytesIO(png()), buffered, raw, member, spooled, Dripping(png())):
            np.testing.assert_array_equal(load_image(file), PIXELS)


def test_it_is_read_from_where_it_stands_and_once() -> None:
    file = io.BytesIO(b"a header" + png())
    file.seek(8)
    kept = fetched(file)
    assert kept == png() and photo_digest(kept) == photo_digest(png())
    with pytest.raises(ImageError, match="nothing to read") as raised:
        load_image(file)
    assert "seek(0)" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (io.StringIO("photo"), "does not give bytes"),
        (Upload(), "read with await"),
        (io.BytesIO(), "nothing to read"),
        (io.BytesIO(b"no photo at all"), "not an image"),
    ],
)
def test_what_cannot_be_a_photo_is_refused(file: Any, says: str) -> None:
    with pytest.raises(ImageError) as raised:
        load_image(file)
    assert says in raised.value.message or "format" in raised.value.message


def test_a_closed_file_and_a_large_one_are_refused() -> None:
    closed = io.BytesIO(png())
    closed.close()
    with pytest.raises(ImageError, match="cannot be read"):
        load_image(closed)
    with pytest.raises(ImageError, match="too large"):
        file_bytes(io.BytesIO(bytes(101)), 100)
    assert len(file_bytes(io.BytesIO(bytes(100)), 100)) == 100
    assert MAX_IMAGE_BYTES > 1 << 20
