"""Writes what the benchmarks draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from veilmatch.client.evaluation.figures.curves import png, svg


def write(folder: Path, name: str, figure: Any) -> None:
    """Write a matplotlib figure as NAME.svg and NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.svg").write_text(svg(figure))
    (folder / f"{name}.png").write_bytes(png(figure))
