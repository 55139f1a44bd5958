"""Bytes as pictures: a ciphertext is noise, a share is a strip of black and white squares."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from PIL import Image

#: A strip has so many squares at most; the rest is not drawn.
MAX_SQUARES = 512
#: Squares in a row of a strip.
ROW = 64


def noise(data: bytes) -> str:
    """Return a PNG of data, a grey pixel for each byte in a square, as a data URL. data: at least one byte."""
    side = math.isqrt(len(data))
    pixels = np.frombuffer(data[: side * side], dtype=np.uint8).reshape(side, side)
    return _png(Image.fromarray(pixels))


def bits(packed: bytes, count: int) -> list[int]:
    """Return the first bits of an answer, the lowest of each byte first, MAX_SQUARES at most. count: how many count."""
    count = min(count, MAX_SQUARES, 8 * len(packed))
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), bitorder="little", count=count).tolist()


def strip(values: list[int]) -> str:
    """Return a PNG of bits, a pixel each, white for 1, in rows of ROW, as a data URL. values: at least one."""
    width = min(len(values), ROW)
    rows = -(-len(values) // width)
    pixels = np.full(rows * width, 128, dtype=np.uint8)
    pixels[: len(values)] = np.array(values, dtype=np.uint8) * 255
    return _png(Image.fromarray(pixels.reshape(rows, width)))


def _png(image: Image.Image) -> str:
    written = io.BytesIO()
    image.save(written, "PNG")
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()
