"""Bytes as pictures hold those bytes and nothing else."""

from __future__ import annotations

import base64
import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from veilmatch.client.web import pictures


def pixels(address: str) -> np.ndarray:
    assert address.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


@given(st.binary(min_size=1, max_size=3000))
def test_noise_is_the_bytes_in_their_order(data: bytes) -> None:
    shown = pixels(pictures.noise(data)).tobytes()
    assert data.startswith(shown) and (len(shown) ** 0.5 + 1) ** 2 > len(data)


@given(st.binary(min_size=1, max_size=100), st.integers(1, 900))
def test_bits_come_lowest_first_and_no_more_than_count(packed: bytes, count: int) -> None:
    found = pictures.bits(packed, count)
    assert len(found) == min(count, 8 * len(packed), pictures.MAX_SQUARES)
    assert found == [packed[i // 8] >> i % 8 & 1 for i in range(len(found))]


@given(st.lists(st.integers(0, 1), min_size=1, max_size=200))
def test_a_strip_has_a_pixel_for_each_bit(values: list[int]) -> None:
    shown = pixels(pictures.strip(values))
    assert shown.ravel()[: len(values)].tolist() == [255 * value for value in values]
    assert set(shown.ravel()[len(values) :].tolist()) <= {128} and shown.shape[1] <= pictures.ROW
