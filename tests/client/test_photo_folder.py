"""A folder of photos: everything in it is enrolled, told, or one of the few things that are passed over."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from veilmatch.client.given.photo_folder import read_folder
from veilmatch.crypto.errors import InvalidInputError


def photo(file_format: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, file_format)
    return buffer.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *(
            f"ada.{suffix}"
            for suffix in ("jpg", "JPEG", "jpe", "jfif", "mpo", "png", "webp", "bmp", "tif", "tiff", "gif")
        ),
        *(f"ada.{suffix}" for suffix in ("ppm", "pgm", "avif", "heic", "HEIF")),
        "ada/IMG_0001.HEIC",
        "ada/1.jfif",
    ],
)
def test_a_file_that_is_named_like_a_photo_is_one(tmp_path: Path, name: str) -> None:
    found = read_folder(fill(tmp_path, {name: b"not decoded here"}))
    assert found.photos == (("ada", tmp_path / name),)
    assert found.left_out == ()


@pytest.mark.parametrize("name", ["ada", "ada.photo", "ada/1", "ada/1.dat"])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM"])
def test_a_file_that_begins_like_a_photo_is_one(tmp_path: Path, name: str, file_format: str) -> None:
    assert read_folder(fill(tmp_path, {name: photo(file_format)})).photos == (("ada", tmp_path / name),)


def test_everything_else_is_left_out_by_name_and_reason(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "ada.jpg": photo(),
            "bob/1.jpg": photo(),
            "bob/notes.txt": b"tall",
            "bob/2024/1.jpg": photo(),
            "list.csv": b"subject,photo\n",
            "cyd\u3000d.jpg": photo(),
            "empty": b"",
        },
    )
    (tmp_path / "nobody").mkdir()
    os.mkfifo(tmp_path / "dan.jpg")
    (tmp_path / "eve.jpg").symlink_to("nowhere")
    (tmp_path / "flo.jpg").symlink_to("ada.jpg")
    found = read_folder(tmp_path)
    assert [subject for subject, _ in found.photos] == ["ada", "bob", "flo"]
    said = {entry.path: entry.reason for entry in found.left_out}
    assert {name: reason for name, reason in said.items() if "cyd" not in name} == {
        "bob/notes.txt": "not a photo",
        "bob/2024": "a folder in the folder of a subject",
        "list.csv": "not a photo",
        "empty": "not a photo",
        "nobody": "a folder without photos",
        "dan.jpg": "a pipe",
        "eve.jpg": "a link that leads nowhere",
    }
    assert "U+3000 IDEOGRAPHIC SPACE" in said["cyd?d.jpg"]


def test_what_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    left = (".DS_Store", "._ada.jpg", "Thumbs.db", "desktop.ini", "__MACOSX/ada.jpg", ".hidden/1.jpg", "bob/thumbs.DB")
    found = read_folder(fill(tmp_path, {"ada.jpg": photo(), "bob/1.jpg": photo()} | dict.fromkeys(left, photo())))
    assert [subject for subject, _ in found.photos] == ["ada", "bob"]
    assert found.left_out == ()


def test_both_forms_of_a_name_are_one_subject(tmp_path: Path) -> None:
    found = read_folder(fill(tmp_path, {"e\u0301va.jpg": photo(), "\u00e9va/1.jpg": photo()}))
    assert [subject for subject, _ in found.photos] == ["éva", "éva"]


def test_names_that_are_no_text_can_be_shown(tmp_path: Path) -> None:
    fill(tmp_path, {"ada.jpg": photo()})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xffb.jpg")).write_bytes(photo())
    (entry,) = read_folder(tmp_path).left_out
    assert entry.path == "b?b.jpg" and "U+DCFF" in entry.reason
    str(entry).encode()


@pytest.mark.parametrize("name", ["absent", "file.jpg", "nothing", "x" * 5000, "\0"])
def test_what_is_no_folder_of_photos_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.jpg").write_bytes(photo())
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InvalidInputError) as caught:
        read_folder(tmp_path / name)
    assert len(str(caught.value)) < 500
