"""What an error may say of what a caller gave: enough to find it, and never a photo.

Callers pass photos as texts: base64, data URLs, bytes read as a text, by intent or in the place of another argument.
Errors end up in logs, so no text is quoted that could be one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from veilmatch.crypto.errors import UnknownSubjectError, VeilmatchError

#: Longer texts are not quoted: names and paths are shorter, photos and embeddings are not.
_PATH_CHARACTERS = 255
_NAME_CHARACTERS = 64
#: The alphabets of base64, without the dot that file names have. The smallest image takes more than 64 of them.
_LIKE_BASE64 = re.compile(r"[A-Za-z0-9+/=_\-\s]{65,}")


def quoted_path(path: str) -> str:
    """Return a path as errors show it; of a text that may be a photo only its length."""
    usual = path.isprintable() and len(path) <= _PATH_CHARACTERS and not path.startswith("data:")
    if (usual and not _LIKE_BASE64.fullmatch(path)) or os.path.lexists(path):
        return path
    return f"a text of {len(path)} characters"


def quoted_name(name: object) -> str:
    """Return a name as errors show it; of anything that cannot be one only its type or length."""
    if not isinstance(name, str):
        return f"a {type(name).__name__}"
    return name if name.isprintable() and len(name) <= _NAME_CHARACTERS else f"a name of {len(name)} characters"


def quoted_photo(photo: object, number: int, total: int) -> str:
    """Return which of several photos is meant: its number, and the name of its file if it has one that is no photo."""
    which = f"photo {number} of {total}"
    try:
        path = os.fsdecode(photo) if isinstance(photo, str | os.PathLike) else ""
    except Exception:  # of a path of another library
        path = ""
    return f"{which} ({os.path.basename(path)})" if path and quoted_path(path) == path else which  # noqa: PTH119


def about(what: str, error: VeilmatchError) -> VeilmatchError:
    """Return the same error, saying what it is about."""
    return VeilmatchError.from_fields(error.fields() | {"message": f"{what}: {error.message}"})


@contextmanager
def naming(subject: str) -> Iterator[None]:
    """Let an error about an unknown subject name it: servers do not, for their logs hold no names."""
    try:
        yield
    except UnknownSubjectError as error:
        raise about(quoted_name(subject), error) from None
