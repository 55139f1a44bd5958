"""Whole tables of subjects with their embeddings or photos: files of numpy (.npz) and Parquet files.

             .npz, arrays                                   Parquet, columns
embeddings   subjects: n texts; embeddings: numbers [n, D]  subject: text; embedding: list of numbers
photos       subjects: n texts; photos: uint8 [n, h, w, 3]  subject: text; photo: bytes of image files, or what the
                                                            library `datasets` writes of an image

What a file is, its first bytes say. Nothing in one is executed: arrays of Python objects are refused.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from veilmatch.client.capture.source import PhotoFile, is_file
from veilmatch.client.extras import needed
from veilmatch.client.given.quoting import quoted_path
from veilmatch.crypto.errors import InvalidInputError

Kind: TypeAlias = Literal["embedding", "photo"]
TableSource: TypeAlias = "str | os.PathLike[str] | PhotoFile"
"""Path of a table, or a file object that is open for reading its bytes."""

_NPZ, _PARQUET = b"PK\x03\x04", b"PAR1"
_RIGHT_PATH = "Is the path right, and may this user read what is there?"


def is_table(source: object) -> bool:
    """Return whether it names a table, and is none of subjects itself."""
    return isinstance(source, str | os.PathLike) or is_file(source)


def read_table(kind: Kind, source: TableSource) -> list[tuple[str, Any]]:
    """Return the (subject, embedding or photo) pairs of a table, in its order.

    Embeddings are arrays [D]; photos are arrays or bytes of files, which nothing has decoded. Raises InvalidInputError
    if it cannot be read, is no such table, or has other arrays or columns, MissingExtraError for a Parquet file without
    the extra `parquet`.
    """
    data, shown = _content(source)
    if data.startswith(_NPZ):
        subjects, values = _of_npz(kind, data, shown)
    elif data.startswith(_PARQUET):
        subjects, values = _of_parquet(kind, data, shown)
    else:
        raise InvalidInputError("not a table that can be read", got=shown, expected="a .npz or a Parquet file")
    if len(subjects) != len(values):
        raise InvalidInputError(
            f"not one {kind} for each subject",
            got=f"{shown}: {len(subjects)} subjects, {len(values)} {kind}s",
            expected="as many of one as of the other",
        )
    return list(zip(subjects, values, strict=True))


def _content(source: TableSource) -> tuple[bytes, str]:
    """Return all bytes of a table, and what errors call it."""
    try:
        if not isinstance(source, str | os.PathLike):
            shown, data = type(source).__name__, source.read()
        else:
            shown = quoted_path(os.fsdecode(source))
            data = Path(source).expanduser().read_bytes()
    except (OSError, ValueError) as error:
        got = getattr(error, "strerror", None) or type(error).__name__
        raise InvalidInputError("the table cannot be read", got=f"{shown}: {got}", hint=_RIGHT_PATH) from None
    if not isinstance(data, bytes):
        raise InvalidInputError("a file object that does not give bytes", got=shown, expected='open(path, "rb")')
    return data, shown


def _of_npz(kind: Kind, data: bytes, shown: str) -> tuple[list[str], list[Any]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            names = sorted(file.files)
            if not {"subjects", f"{kind}s"} <= set(names):
                raise _other_parts(shown, names, f"arrays `subjects` and `{kind}s`")
            subjects, values = file["subjects"], file[f"{kind}s"]
    except InvalidInputError:
        raise
    except Exception as error:  # a damaged archive raises almost anything; objects, a ValueError
        raise InvalidInputError(
            "the .npz file is damaged, or holds Python objects",
            got=f"{shown}: {type(error).__name__}",
            expected="np.savez(path, subjects=np.array([...]), ...), with arrays of texts and numbers",
        ) from None
    if subjects.ndim != 1 or subjects.dtype.kind != "U":
        got = f"{shown}: {subjects.dtype.name}{list(subjects.shape)}"
        raise InvalidInputError("`subjects` is not a list of texts", got=got, expected="str[n]")
    if values.ndim < 1:
        raise InvalidInputError(f"`{kind}s` is one value", got=f"{shown}: {values.dtype.name}", expected="[n, ...]")
    return [str(subject) for subject in subjects], list(values)


def _of_parquet(kind: Kind, data: bytes, shown: str) -> tuple[list[str], list[Any]]:
    with needed("parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        names = file.schema_arrow.names
        if not {"subject", kind} <= set(names):
            raise _other_parts(shown, names, f"columns `subject` and `{kind}`")
        table = file.read(columns=["subject", kind]).combine_chunks()
    except pa.ArrowException as error:
        raise InvalidInputError(
            "the Parquet file cannot be read", got=f"{shown}: {type(error).__name__}", expected="a whole one"
        ) from None
    for name in ("subject", kind):
        if table.column(name).null_count:
            got = f"{shown}: {table.column(name).null_count} rows without one"
            raise InvalidInputError(f"a row without its {name}", got=got, expected=f"a {name} in every row")
    subjects = table.column("subject")
    if not (pa.types.is_string(subjects.type) or pa.types.is_large_string(subjects.type)):
        raise InvalidInputError("`subject` is not text", got=f"{shown}: {subjects.type}", expected="string")
    values = table.column(kind)
    return subjects.to_pylist(), _vectors(values, shown) if kind == "embedding" else _photos(values, shown)


def _vectors(column: Any, shown: str) -> list[Any]:
    """Return the rows of a column of lists of numbers as arrays [D]."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise InvalidInputError("`embedding` holds no lists", got=f"{shown}: {kind}", expected="lists of numbers")
    if not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise InvalidInputError("`embedding` holds no numbers", got=f"{shown}: {kind}", expected="lists of numbers")
    # One by one: rows may have different lengths, and what is wrong with one is said later, with its subject.
    return [row.values.to_numpy(zero_copy_only=False) for row in column]


def _photos(column: Any, shown: str) -> list[bytes]:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_struct(kind) and "bytes" in [kind.field(i).name for i in range(kind.num_fields)]:
        photos = [row["bytes"] for row in column.to_pylist()]
        if any(photo is None for photo in photos):
            raise InvalidInputError("a photo without its bytes", got=shown, expected="images that are in the file")
        return photos
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InvalidInputError("`photo` holds no bytes", got=f"{shown}: {kind}", expected="binary")
    return list(column.to_pylist())


def _other_parts(shown: str, found: list[str], expected: str) -> InvalidInputError:
    names = ", ".join(name if len(name) <= 64 else "..." for name in found[:10]) or "none"
    return InvalidInputError("the table has other parts", got=f"{shown}: {names}", expected=expected)
