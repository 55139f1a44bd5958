"""What is counted and timed where it happens. What can be read off a daemon at any time is in `readings.py`.

    meters.synced("ledger", seconds)

No label is a device, a subject or anything that a caller may choose, and nothing here depends on a decision: that is
nowhere in a server (docs/monitoring.md, "What metrics tell"). One registry for the process, as a daemon is one. Any
thread may count. A count takes a microsecond.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

#: What is scraped.
REGISTRY = CollectorRegistry()
#: Where an operation or a code is not known.
UNKNOWN = "unknown"

# One more series for each, which says when it began: `process_start_time_seconds` does.
disable_created_metrics()  # type: ignore[no-untyped-call]
ProcessCollector(registry=REGISTRY)

_REQUEST_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_STAGE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)
_SYNC_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

#: Of devices, at a matcher, and of its organisation's matcher, at a key holder. code: "ok", or that of the error.
REQUESTS = Counter(
    "veilmatch_requests", "Requests that ended, by operation and code.", ["operation", "code"], registry=REGISTRY
)
REQUEST_SECONDS = Histogram(
    "veilmatch_request_seconds", "How long requests that were served took here.", ["operation"],
    buckets=_REQUEST_S, registry=REGISTRY,
)  # fmt: skip
STAGE_SECONDS = Histogram(
    "veilmatch_stage_seconds", "How long the stages of requests took here.", ["stage"],
    buckets=_STAGE_S, registry=REGISTRY,
)  # fmt: skip
IN_PROGRESS = Gauge("veilmatch_calls_in_progress", "Calls that have begun here and not ended.", ["method"],
                    registry=REGISTRY)  # fmt: skip
CALLS = Counter(
    "veilmatch_calls", "Calls that ended, of devices and of other servers, by method and code.", ["method", "code"],
    registry=REGISTRY,
)  # fmt: skip
#: By gallery and reason, at each matcher of the pair that erased them.
RETAINED = Counter(
    "veilmatch_templates_due_erased", "Templates that were due and were erased.", ["gallery", "reason"],
    registry=REGISTRY,
)  # fmt: skip
_DEVICE_CALLS = Counter(
    "veilmatch_device_calls", "Calls of devices that began, by the version of the protocol that both speak.",
    ["version"], registry=REGISTRY,
)  # fmt: skip
_BUDGET_USED = Counter(
    "veilmatch_budget_used", "What was charged to budgets, of everybody together.", ["scope", "measure"],
    registry=REGISTRY,
)  # fmt: skip
_SYNC_SECONDS = Histogram(
    "veilmatch_sync_seconds", "How long a batch took to be on disk.", ["of"], buckets=_SYNC_S, registry=REGISTRY
)
_SYNCED_ENTRIES = Counter("veilmatch_synced_entries", "Entries in these batches.", ["of"], registry=REGISTRY)
_BLOCKS_CHECKED = Counter(
    "veilmatch_stock_blocks_checked", "Blocks of dealt stock that passed their check.", ["pair", "kind"],
    registry=REGISTRY,
)  # fmt: skip
_BLOCKS_REFUSED = Counter(
    "veilmatch_stock_blocks_refused", "Blocks whose check failed, and which of the two others is named.",
    ["pair", "kind", "named"], registry=REGISTRY,
)  # fmt: skip
_CONNECTIONS_CLOSED = Counter(
    "veilmatch_connections_closed", "Connections that were closed here: without a call, or too many of one caller.",
    ["why"], registry=REGISTRY,
)  # fmt: skip
_BUSY = Counter("veilmatch_worker_busy_seconds", "How long workers have computed, all together.", registry=REGISTRY)


def charged(scopes: Mapping[str, str], cost: Mapping[str, int]) -> None:
    """Count what one request was charged. scopes: whose budgets, by scope; whose they are is not looked at."""
    for scope in scopes:
        for measure, amount in cost.items():
            if amount:
                _BUDGET_USED.labels(scope, measure).inc(amount)


def device_called(version: str) -> None:
    """Note that a call of a device has begun. version: that both speak, "none" if there is none."""
    _DEVICE_CALLS.labels(version).inc()


def synced(of: str, entries: int, seconds: float) -> None:
    """Note that a batch of a log or database is on disk."""
    _SYNC_SECONDS.labels(of).observe(seconds)
    _SYNCED_ENTRIES.labels(of).inc(entries)


def block_checked(pair: str, kind: str) -> None:
    """Note that a block of dealt stock has passed its check."""
    _BLOCKS_CHECKED.labels(pair, kind).inc()


def block_refused(pair: str, kind: str, named: str) -> None:
    """Note that the check of a block has failed. named: the party that may deviate."""
    _BLOCKS_REFUSED.labels(pair, kind, named).inc()


def connection_closed(why: str) -> None:
    """Note that this daemon has closed a connection."""
    _CONNECTIONS_CLOSED.labels(why).inc()


def worked(seconds: float) -> None:
    """Note that a worker has computed for so long."""
    _BUSY.inc(seconds)
