"""Veilmatch beside what people would use instead: the same 1:N search, in one run, each on one core.

    python -m benchmarks.peers                 D = 128 and 512; 100, 1,000 and 10,000 identities (half an hour or so)
    python -m benchmarks.peers --quick         D = 128; 100 and 1,000 identities, the cheaper variants (minutes)
    python -m benchmarks.peers --json PATH     writes the figures as well, --plots FOLDER a chart
    python -m benchmarks.peers --only numpy --only Veilmatch    peers in whose names that stands

The main figure is the CPU time of one query over all parties, for each identity of the gallery. Latency is wall
time on one core and means something only on a machine that does nothing else. What takes longer than the time box
is not measured but extrapolated and marked x; 1,000,000 identities always are. TenSEAL, LightPHE and phe are
optional (`pip install -c constraints.txt -e ".[peers,phe]"`): one that is missing is reported as missing.
docs/comparison.md says what each peer does, encrypts and reveals.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from benchmarks.peers.chart import draw
from benchmarks.peers.report import show
from benchmarks.peers.runs import run
from benchmarks.plots import write

__all__ = ["main", "run"]


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cells")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--plots", type=Path, help="write the chart to this folder, as SVG and PNG")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="peers in whose names this stands")
    options = parser.parse_args()
    console = Console(stderr=True)
    figures = run(options.quick, progress=console.print, only=options.only)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.plots:
        write(options.plots, "peers", draw(figures))
