"""What one block of dealt randomness costs to refill: CPU time of all three key holders, messages and bytes.

    python benchmarks/refill.py                  a block of each kind, modulus of 3072 bits
    python benchmarks/refill.py --json PATH      writes the figures as well

The functions and messages are those of the daemons (dealt.py); transport and disk are left out. What the dealer's
commitments to the openings add is printed beside what there is without them: its two hashes, four messages, and at each
holder the hash of what its peer has opened.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dealt import BlockCost, block_cost
from machine import cpu
from rich.console import Console
from rich.table import Table

from veilmatch.crypto.arithmetic import Integer, random_bits
from veilmatch.crypto.dealing import BLOCK_UNITS, STOCK_KINDS

MODULUS_BITS = 3072
REPEATS = 9


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    # Nothing here depends on how the modulus was made.
    modulus = random_bits(MODULUS_BITS) | (Integer(1) << (MODULUS_BITS - 1)) | 1
    costs = {kind: block_cost(kind, modulus, REPEATS) for kind in STOCK_KINDS}
    figures: dict[str, Any] = {
        "cpu": cpu(),
        "modulus_bits": MODULUS_BITS,
        "blocks": {kind: {"units": BLOCK_UNITS[kind]} | asdict(cost) for kind, cost in costs.items()},
    }
    table = Table("of a block", "", *STOCK_KINDS, title=f"refill, {MODULUS_BITS} bits, {figures['cpu']}")
    table.add_row("units", "", *(f"{BLOCK_UNITS[kind]:,}" for kind in STOCK_KINDS))
    for name, part, of in ROWS:
        table.add_row(name, part, *(of(cost) for cost in costs.values()))
    Console(width=120).print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


def _total(*sizes: tuple[int, ...]) -> str:
    return f"{sum(map(sum, sizes)):,}"


def _cpu(cost: BlockCost, *, committing: bool) -> float:
    """All three key holders together."""
    added = cost.committing_s + 2 * cost.comparing_s
    return cost.dealing_s + sum(cost.checking_s) - 2 * cost.comparing_s + (added if committing else 0.0)


#: What is printed: of what, which part of it, and how it is read from the cost of a block.
ROWS = (
    ("CPU, ms", "dealer, deals to both", lambda c: _ms(c.dealing_s)),
    ("", "dealer, commits to both", lambda c: _ms(c.committing_s)),
    ("", "plus holder, checks", lambda c: _ms(c.checking_s[0])),
    ("", "minus holder, checks", lambda c: _ms(c.checking_s[1])),
    ("", "of either: hash of the peer's opening", lambda c: _ms(c.comparing_s)),
    ("", "all three, without commitments", lambda c: _ms(_cpu(c, committing=False))),
    ("", "all three, with them", lambda c: _ms(_cpu(c, committing=True))),
    ("messages", "without", lambda c: str(len(c.dealt) + len(c.checked))),
    ("", "with", lambda c: str(len(c.dealt) + len(c.checked) + len(c.committed))),
    ("bytes", "dealer and holders, blocks", lambda c: _total(c.dealt)),
    ("", "dealer and holders, commitments", lambda c: _total(c.committed)),
    ("", "between the holders", lambda c: _total(c.checked)),
    ("", "all, without commitments", lambda c: _total(c.dealt, c.checked)),
    ("", "all, with them", lambda c: _total(c.dealt, c.checked, c.committed)),
)

if __name__ == "__main__":
    main()
