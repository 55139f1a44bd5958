"""What each organisation can tell apart: `python -m tests.enumeration [--markdown PATH]`. Takes about half a minute.

Prints every case with the number of views that were compared and the largest statistical distance between two
secrets, and the same as Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.enumeration.table import HEADINGS, Measured, all_cases, markdown, merged


def main() -> None:
    """Measure everything, print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", type=Path, help="write the Markdown to this file as well")
    options = parser.parse_args()
    progress = Console(stderr=True)
    rows = merged([Measured.of(case) for case in track(list(all_cases()), "enumerating", console=progress)])
    table = Table(*HEADINGS)
    for row in rows:
        table.add_row(*row)
    Console(width=180).print(table)
    text = markdown(rows)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n")


if __name__ == "__main__":
    main()
