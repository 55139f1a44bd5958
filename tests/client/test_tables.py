"""Tables for `enrol_many`: .npz and Parquet, from a path or a file object, and what is wrong with others."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from veilmatch import AsyncClient, Client, DeviceSettings
from veilmatch.client.given.tables import Kind, read_table
from veilmatch.crypto.errors import EmbeddingError, InvalidInputError, MissingExtraError

from .conftest import FakeCapture, faces
from .fakes import FakeMatchers

NAMES = ["ada", "bob", "Zoë"]
VECTORS = np.array(faces(3))
PHOTO = bytes(range(256)) * 4


def npz(**arrays: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    buffer.seek(0)
    return buffer


def parquet(**columns: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    buffer.seek(0)
    return buffer


def lists(kind: pa.DataType) -> pa.Array:
    return pa.array(VECTORS.tolist(), kind)


TABLES = {
    "npz": npz(subjects=np.array(NAMES), embeddings=VECTORS),
    "npz, compressed words of single precision": npz(subjects=np.array(NAMES), embeddings=VECTORS.astype(np.float32)),
    "lists": parquet(subject=NAMES, embedding=lists(pa.list_(pa.float64()))),
    "lists of single precision": parquet(subject=NAMES, embedding=lists(pa.list_(pa.float32()))),
    "lists of one size": parquet(subject=NAMES, embedding=lists(pa.list_(pa.float64(), 8)), age=[1, 2, 3]),
    "large": parquet(subject=pa.array(NAMES, pa.large_string()), embedding=lists(pa.large_list(pa.float64()))),
}


@pytest.mark.parametrize("kind", TABLES)
async def test_embeddings_of_a_table_are_enrolled_in_its_order(
    client: AsyncClient, fakes: FakeMatchers, tmp_path: Path, kind: str
) -> None:
    data = TABLES[kind].getvalue()
    (tmp_path / "people").write_bytes(data)
    for source in (str(tmp_path / "people"), tmp_path / "people", io.BytesIO(data)):
        fakes.templates = []
        assert (await client.enrol_many_embeddings(source, model="toy")).templates == 3
        assert fakes.templates == NAMES
    for (_, read), vector in zip(read_table("embedding", io.BytesIO(data)), VECTORS, strict=True):
        np.testing.assert_allclose(read, vector, rtol=1e-6)


@pytest.mark.parametrize(
    "photos",
    [
        parquet(subject=NAMES, photo=[PHOTO] * 3),
        parquet(subject=NAMES, photo=[{"bytes": PHOTO, "path": None}] * 3),
        npz(subjects=np.array(NAMES), photos=np.zeros((3, 30, 20, 3), np.uint8)),
    ],
)
def test_photos_of_a_table_are_enrolled(settings: DeviceSettings, fakes: FakeMatchers, photos: io.BytesIO) -> None:
    with Client(settings, matchers=fakes.all, capture=FakeCapture()) as client:
        assert client.enrol_many(photos).templates == 3
    assert fakes.templates == NAMES


async def test_a_row_that_cannot_be_used_is_named(client: AsyncClient, fakes: FakeMatchers) -> None:
    with pytest.raises(EmbeddingError, match="Zoë"):
        await client.enrol_many_embeddings(
            parquet(subject=NAMES, embedding=[[1.0] * 8, [1.0] * 8, [1.0] * 7]), model="toy"
        )
    assert not fakes.templates


@pytest.mark.parametrize(
    ("kind", "table", "says"),
    [
        ("embedding", npz(names=np.array(NAMES), embeddings=VECTORS), "other parts"),
        ("photo", npz(subjects=np.array(NAMES), embeddings=VECTORS), "other parts"),
        ("embedding", npz(subjects=np.array(NAMES[:2]), embeddings=VECTORS), "not one embedding for each subject"),
        ("embedding", npz(subjects=np.arange(3), embeddings=VECTORS), "not a list of texts"),
        ("embedding", npz(subjects=np.array(NAMES), embeddings=np.float64(1)), "one value"),
        ("embedding", npz(subjects=np.array(NAMES, object), embeddings=VECTORS), "Python objects"),
        ("embedding", io.BytesIO(TABLES["npz"].getvalue()[:200]), "damaged"),
        ("embedding", parquet(name=NAMES, embedding=[[1.0]] * 3), "other parts"),
        ("embedding", parquet(subject=[*NAMES[:2], None], embedding=[[1.0]] * 3), "a row without its subject"),
        ("embedding", parquet(subject=NAMES, embedding=[[1.0], None, [1.0]]), "a row without its embedding"),
        ("embedding", parquet(subject=[1, 2, 3], embedding=[[1.0]] * 3), "not text"),
        ("embedding", parquet(subject=NAMES, embedding=[1.0, 2.0, 3.0]), "no lists"),
        ("embedding", parquet(subject=NAMES, embedding=[["x"]] * 3), "no numbers"),
        ("photo", parquet(subject=NAMES, photo=["x"] * 3), "no bytes"),
        ("photo", parquet(subject=NAMES, photo=[{"bytes": None, "path": "a"}] * 3), "without its bytes"),
        ("embedding", io.BytesIO(TABLES["lists"].getvalue()[:300]), "cannot be read"),
        ("embedding", io.BytesIO(b"subject,embedding\n"), "not a table"),
        ("embedding", io.BytesIO(), "not a table"),
        ("embedding", io.StringIO("subject"), "does not give bytes"),
        ("embedding", "nowhere.npz", "cannot be read"),
        ("embedding", "nowhere\0.npz", "cannot be read"),
    ],
)
def test_other_tables_are_refused(kind: Kind, table: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        read_table(kind, table)


def test_parquet_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as raised:
        read_table("embedding", io.BytesIO(TABLES["lists"].getvalue()))
    assert raised.value.expected == "pip install 'veilmatch[parquet]'"
