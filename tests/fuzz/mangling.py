"""Bytes that are nearly right: valid messages with bits flipped, parts cut, doubled, exchanged or put in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

#: Bytes at which lengths, tags and numbers turn over.
EDGES = (
    b"\0",
    b"\x01",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff" * 4,
    b"\xff" * 8,
    b"\x80" + b"\0" * 7,
    b"\xff" * 9 + b"\x01",
)


@st.composite
def mangled(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds after up to four changes, parts of other seeds among them; or bytes that never were one."""
    if draw(st.integers(0, 7)) == 0:
        return draw(st.binary(max_size=200))
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        change = draw(st.sampled_from(CHANGES))
        data = change(draw, data, seeds)
    return data


def _span(draw: st.DrawFn, data: bytes) -> tuple[int, int]:
    start = draw(st.integers(0, len(data)))
    return start, draw(st.integers(start, min(len(data), start + 40)))


def _flip(draw: st.DrawFn, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = draw(st.integers(0, len(data) - 1))
    return data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]


def _truncate(draw: st.DrawFn, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: draw(st.integers(0, len(data)))]


def _extend(draw: st.DrawFn, data: bytes, _: Sequence[bytes]) -> bytes:
    return data + draw(st.binary(max_size=20))


def _delete(draw: st.DrawFn, data: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _span(draw, data)
    return data[:start] + data[stop:]


def _double(draw: st.DrawFn, data: bytes, _: Sequence[bytes]) -> bytes:
    start, stop = _span(draw, data)
    return data[:stop] + data[start:stop] + data[stop:]


def _edge(draw: st.DrawFn, data: bytes, _: Sequence[bytes]) -> bytes:
    """Write an edge over what is there."""
    start, edge = draw(st.integers(0, len(data))), draw(st.sampled_from(EDGES))
    return data[:start] + edge + data[start + len(edge) :]


def _splice(draw: st.DrawFn, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """The beginning of this one and the end of another."""
    other = draw(st.sampled_from(seeds))
    return data[: draw(st.integers(0, len(data)))] + other[draw(st.integers(0, len(other))) :]


def _join(draw: st.DrawFn, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Two messages in one: in protobuf, every field is there twice."""
    return data + draw(st.sampled_from(seeds))


Change = Callable[[st.DrawFn, bytes, Sequence[bytes]], bytes]
CHANGES: tuple[Change, ...] = (_flip, _truncate, _extend, _delete, _double, _edge, _splice, _join)
