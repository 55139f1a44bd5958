"""Traces of a device's program, by OpenTelemetry: one span for each request that the SDK sends. Extra `telemetry`.

    from veilmatch import Client, traced

    with traced(), Client.from_config("device.toml") as client, tracer.start_as_current_span("door opens"):
        client.verify("alice", "door.jpg")

A span is in the trace of whatever the program does meanwhile, and **links to the trace of its request**, which is what
servers that trace make of it: the id of that trace is the id of the request, behind zeros, at all organisations
(docs/monitoring.md). Nothing is passed on to servers, which take from nobody what they trace, and under which name.

It says the operation, the pair, how it ended and when: no device, no subject, no decision and no text of an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from veilmatch.client import extras
from veilmatch.client.wire import told

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


@contextmanager
def traced(provider: TracerProvider | None = None) -> Iterator[None]:
    """Make spans of all requests of all clients of this process while the body runs.

    provider: whose spans they are; None: the program's, as it has set it. Raises MissingExtraError.
    """
    with extras.needed("telemetry"):
        from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, get_tracer
    tracer = get_tracer("veilmatch", tracer_provider=provider)

    def tell(request: told.Told) -> None:
        number = int(request.id, 16)
        # Of a span there a link needs an id, which no other server knows either: that of the trace is what counts.
        there = SpanContext(number, number, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        span = tracer.start_span(
            f"veilmatch {request.operation}",
            kind=SpanKind.CLIENT,
            links=[Link(there)],
            attributes={
                "veilmatch.operation": request.operation, "veilmatch.pair": request.pair,
                "veilmatch.code": request.code, "veilmatch.request": request.id,
            },
            start_time=request.began,
        )  # fmt: skip
        if request.code != "ok":
            span.set_status(Status(StatusCode.ERROR, request.code))
        span.end(request.ended)

    told.listeners.append(tell)
    try:
        yield
    finally:
        told.listeners.remove(tell)
