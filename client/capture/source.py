"""Where a photo is: a file, a pipe, a file object or a data URL becomes bytes, or an error that says what was there.

    photo_bytes("door.jpg", MAX_IMAGE_BYTES)
    photo_bytes("data:image/jpeg;base64,...", MAX_IMAGE_BYTES)

A file is read once, from what was opened: nobody can put another kind of thing into its place in between. Nothing is
fetched from a network. No error quotes a text that could itself be a photo.
"""

from __future__ import annotations

import binascii
import errno
import inspect
import os
import re
import select
import stat
from pathlib import Path
from typing import Protocol, TypeGuard
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from veilmatch.client.given.quoting import quoted_path
from veilmatch.common.system import READING
from veilmatch.crypto.errors import ImageError

#: How long a pipe or a device may say nothing. A program that makes a photo is given this long to begin.
PIPE_PATIENCE_S = 30.0

#: What to do where there is no photo to look at.
RIGHT_PATH = "Is the path right, and may this user read what is there?"
_FETCH = "Fetch the photo first, and give the file."

_STEP_BYTES = 1 << 16
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
}


def photo_bytes(source: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Return the bytes of a photo, at least one and at most max_bytes.

    source: path of a file, pipe or character device; a `file://` URL of this machine; or, as str, a data URL
    (`data:image/jpeg;base64,...`). A leading `~` is the home folder unless a file is called so. Raises ImageError,
    naming what is there, for anything else: nothing, a folder, a socket, a web address, something that may not be read,
    is empty or too large, or a pipe that is silent for PIPE_PATIENCE_S.
    """
    try:
        text = os.fsdecode(source)
    except Exception:  # of a path of another library
        raise ImageError("a path that cannot be read", got=type(source).__name__) from None
    if isinstance(source, str) and text[:5].lower() == "data:":
        return _from_data_url(text, max_bytes)
    return _from_file(_path(text), max_bytes)


class PhotoFile(Protocol):
    """A file object that is open for reading bytes: of `open(..., "rb")`, of an upload, an io.BytesIO."""

    def read(self, size: int = -1, /) -> bytes:
        """Return what comes next, at most so many bytes; b"" at the end."""


def is_file(source: object) -> TypeGuard[PhotoFile]:
    """Return whether a photo is given as a file object."""
    return callable(getattr(source, "read", None))


def file_bytes(file: PhotoFile, max_bytes: int) -> bytes:
    """Return what a file object holds from where it stands, at least one byte and at most max_bytes.

    Raises ImageError for one that is closed, not open for reading bytes, asynchronous, at its end or too large.
    """
    kind, data = type(file).__name__, bytearray()
    expected = 'a file that is open for reading bytes: open(path, "rb")'
    while len(data) <= max_bytes:
        try:
            step: object = file.read(max_bytes + 1 - len(data))
        except Exception as error:  # of whichever library the object is from
            raise ImageError(
                "the file object cannot be read", got=f"{kind}: {type(error).__name__}", expected=expected
            ) from None
        if inspect.isawaitable(step):
            if inspect.iscoroutine(step):
                step.close()
            raise ImageError("a file object that is read with await", got=kind, expected="its bytes: await file.read()")
        if not isinstance(step, bytes):
            raise ImageError("a file object that does not give bytes", got=type(step).__name__, expected=expected)
        if not step:
            break
        data += step
    if not data:
        raise ImageError(
            "there is nothing to read in the file object",
            got=kind,
            expected="a photo from where it stands",
            hint="It may have been read before: file.seek(0) goes back to its beginning.",
        )
    require_size(len(data), max_bytes)
    return bytes(data)


def require_size(size: int, max_bytes: int) -> None:
    """Raise ImageError unless an image file of so many bytes may be read."""
    if not size:
        raise ImageError("the image is empty", got="0 bytes", hint=RIGHT_PATH)
    if size > max_bytes:
        raise ImageError("the image file is too large", expected=f"at most {max_bytes} bytes")


def _path(text: str) -> str:
    if url := _URL.match(text):
        scheme = url[1].lower()
        if scheme != "file":
            raise ImageError(
                "a web address and not a photo", got=f"{scheme}://", expected="a file, or its bytes", hint=_FETCH
            )
        try:
            parts = urlsplit(text)
            host, path = parts.netloc, url2pathname(parts.path)
        except ValueError:
            host, path = "?", ""
        if host not in ("", "localhost"):
            raise ImageError(
                "a file of another machine", got=quoted_path(text), expected="file:///folder/photo.jpg", hint=_FETCH
            )
        return path
    if text.startswith("~") and not os.path.lexists(text):
        return os.path.expanduser(text)  # noqa: PTH111 - that of pathlib raises where there is no home
    return text


def _from_file(path: str, max_bytes: int) -> bytes:
    shown = quoted_path(path)
    try:
        # Without O_NONBLOCK a pipe that nobody writes to is never opened.
        file = os.open(path, READING)
    except (OSError, ValueError) as error:
        raise _not_opened(path, error) from None
    try:
        kind = stat.S_IFMT(os.fstat(file).st_mode)
        if kind == stat.S_IFREG:
            with open(file, "rb", closefd=False) as regular:
                data = regular.read(max_bytes + 1)
        elif kind in (stat.S_IFIFO, stat.S_IFCHR):
            data = _from_pipe(file, max_bytes, shown)
        else:
            raise ImageError(f"{_KINDS.get(kind, 'something else')} and not an image file", got=shown, hint=RIGHT_PATH)
    except OSError as error:
        raise ImageError("the image file cannot be read", got=f"{shown}: {error.strerror}", hint=RIGHT_PATH) from None
    finally:
        os.close(file)
    if not data:
        raise ImageError("the image file is empty", got=shown, hint=RIGHT_PATH)
    require_size(len(data), max_bytes)
    return data


def _not_opened(path: str, error: OSError | ValueError) -> ImageError:
    shown = quoted_path(path)
    if isinstance(error, ValueError):  # a NUL in it, or a lone surrogate
        return ImageError("there is no such image file: not a path", got=shown, hint=RIGHT_PATH)
    if error.errno == errno.ENOENT:
        broken = Path(path).is_symlink()
        where = ": the link leads nowhere" if broken else ""
        return ImageError(f"there is no such image file{where}", got=shown, hint=RIGHT_PATH)
    if error.errno == errno.ENAMETOOLONG:
        return ImageError("there is no such image file: too long for a path", got=shown, hint=RIGHT_PATH)
    try:
        kind = _KINDS.get(stat.S_IFMT(Path(path).stat().st_mode))
    except OSError:
        kind = None
    if error.errno == errno.ENXIO and kind is not None:
        return ImageError(f"{kind} and not an image file", got=shown, hint=RIGHT_PATH)
    return ImageError("the image file cannot be read", got=f"{shown}: {error.strerror}", hint=RIGHT_PATH)


def _from_pipe(file: int, max_bytes: int, shown: str) -> bytes:
    data = bytearray()
    while len(data) <= max_bytes:
        if not _has_something(file):
            raise ImageError(
                "no photo came out of the pipe",
                got=shown,
                expected=f"within {PIPE_PATIENCE_S:.0f} s",
                hint="See that the program at the other end of the pipe writes a photo, and closes the pipe.",
            )
        try:
            step = os.read(file, _STEP_BYTES)
        except BlockingIOError:  # another reader was faster
            continue
        if not step:
            break
        data += step
    return bytes(data)


def _has_something(file: int) -> bool:
    """Wait for a pipe, PIPE_PATIENCE_S at most; False if it said nothing. Windows can only read it."""
    if not hasattr(select, "poll"):
        return True
    waiting = select.poll()
    waiting.register(file, select.POLLIN)
    return bool(waiting.poll(PIPE_PATIENCE_S * 1000))


def open_photo(file: int, max_bytes: int, shown: str) -> bytes:
    """Return what an open descriptor gives, max_bytes + 1 at most: a file, a pipe or a terminal, which is waited for.

    Raises ImageError if a pipe is silent for PIPE_PATIENCE_S, or it cannot be read. shown: what errors call it.
    """
    try:
        mode = os.fstat(file).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            return _from_pipe(file, max_bytes, shown)
        with open(file, "rb", closefd=False) as whole:
            return whole.read(max_bytes + 1)
    except OSError as error:
        raise ImageError("the photo cannot be read", got=f"{shown}: {error.strerror}") from None


def _from_data_url(text: str, max_bytes: int) -> bytes:
    head, _, body = text.partition(",")
    if not head.lower().endswith(";base64"):
        raise ImageError(
            "a data URL that is not in base64", got=f"a text of {len(text)} characters", expected="data:...;base64,..."
        )
    if len(body) > 2 * max_bytes + 1024:  # base64 with line ends takes less
        raise ImageError("the image file is too large", expected=f"at most {max_bytes} bytes")
    encoded = unquote_to_bytes(body) if "%" in body else body.encode(errors="replace")
    try:
        data = binascii.a2b_base64(b"".join(encoded.split()), strict_mode=True)
    except ValueError:
        raise ImageError("a data URL with damaged base64", got=f"a text of {len(text)} characters") from None
    require_size(len(data), max_bytes)
    return data
