"""Whether something stays as it is: a line through what was seen of it, and how sure the line is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .asked import QUANTILES, Asked, quantile

#: The first part of the time is left out: caches fill, pools grow.
WARM = 0.25
#: Growth in the time that counts, as a part of what was there, below which something is flat.
FLAT = 0.01


def steady(times_s: Sequence[float], values: Sequence[float], *, at_least: float = 0.0) -> dict[str, Any]:
    """Return the line through some values: where it begins and ends, its slope an hour, and whether it is flat.

    Times in seconds since the load began, ascending. The first WARM of them are left out. `error_an_hour` is two
    standard errors of the slope. Flat: even the least slope within that makes less than FLAT of the mean, or than
    `at_least`, in the time that counts. With fewer than four values nothing is known: None.
    """
    warm_s = times_s[0] + WARM * (times_s[-1] - times_s[0]) if len(times_s) else 0.0
    counted = [(at, value) for at, value in zip(times_s, values, strict=True) if at >= warm_s]
    first, last = (values[0], values[-1]) if len(values) else (None, None)
    found = {"first": first, "last": last, "most": max(values, default=None), "slope_an_hour": None,
             "error_an_hour": None, "is_flat": None}  # fmt: skip
    if len(counted) < 4:
        return found
    x, y = (np.array(each, dtype=float) for each in zip(*counted, strict=True))
    middle, lasted_s = x - x.mean(), float(x[-1] - x[0])
    slope = float(middle @ y / (middle @ middle))
    rest = y - y.mean() - slope * middle
    error = 2.0 * float(np.sqrt(rest @ rest / (len(x) - 2) / (middle @ middle)))
    grown = (slope - error) * lasted_s
    return found | {
        "slope_an_hour": 3600.0 * slope, "error_an_hour": 3600.0 * error,
        "is_flat": grown <= max(FLAT * float(y.mean()), at_least),
    }  # fmt: skip


def by_window(asked: Sequence[Asked], window_s: float, lasted_s: float) -> list[dict[str, Any]]:
    """Return the figures of the requests that were due in each window: how many, how long they took, what failed."""
    found = []
    for number in range(max(1, int(np.ceil(lasted_s / window_s - 1e-9)))):
        due = [one for one in asked if number * window_s <= one.came_s < (number + 1) * window_s]
        took = sorted(one.ended_s - one.came_s for one in due if not one.error)
        errors: dict[str, int] = {}
        for one in due:
            if one.error:
                errors[one.error] = errors.get(one.error, 0) + 1
        found.append(
            {"from_s": number * window_s, "due": len(due), "answered": len(took), "errors": errors,
             "wrong": sum(one.wrong for one in due)}
            | {name: quantile(took, part) for name, part in QUANTILES.items()}
        )  # fmt: skip
    return found
