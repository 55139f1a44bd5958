"""The benchmarks are scripts, and import each other by the names that they have in their folder."""

from __future__ import annotations

import sys

from benchmarks.run import HERE

sys.path.append(str(HERE))
