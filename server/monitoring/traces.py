"""Traces, if they are asked for: one of each request at each daemon, with its stages, by OpenTelemetry.

The id of a trace is the id of its request (ground/request_id.py), behind zeros: every party computes it from the
request, so the traces of all organisations join, and are found by the id that logs and errors have. Nothing is passed
on: no server takes from a stranger whether or under which name it is to trace. Servers with the same `sample` trace the
same requests.

A span says the method, the operation, how it ended and when: what the log says as well. docs/monitoring.md.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from veilmatch.crypto.errors import MissingExtraError
from veilmatch.server.monitoring import calls
from veilmatch.server.monitoring.settings import TracesSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

#: Of the standard environment of OpenTelemetry.
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_DISABLED = "OTEL_SDK_DISABLED"
_INSTALL = "pip install 'veilmatch[telemetry]'"

_log = structlog.get_logger(__name__)


@contextmanager
def tracing(settings: TracesSettings | None, party_name: str) -> Iterator[None]:
    """Send traces while the body runs, if `[traces]` or the environment of OpenTelemetry says where.

    Raises MissingExtraError if `[traces]` does and the extra is not installed.
    """
    if not _is_wanted(settings):
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        if settings is not None:
            raise MissingExtraError(
                "traces need the extra `telemetry` of Veilmatch", got=f"no module {error.name}", expected=_INSTALL
            ) from None
        _log.info("no traces", reason=f"the environment asks for them: {_INSTALL}")
        yield
        return
    chosen = settings or TracesSettings()
    exporter = OTLPSpanExporter(endpoint=chosen.endpoint)
    with traced_by(BatchSpanProcessor(exporter), party_name, chosen.sample):
        _log.info("traces", sample=chosen.sample)
        yield


@contextmanager
def traced_by(processor: SpanProcessor, party_name: str, sample: float = 1.0) -> Iterator[None]:
    """Give the spans of every call about a request to a processor while the body runs; it is shut down then."""
    tracer = _Tracer(processor, party_name, sample)
    calls.listeners.append(tracer.tell)
    try:
        yield
    finally:
        calls.listeners.remove(tracer.tell)
        tracer.shutdown()


def _is_wanted(settings: TracesSettings | None) -> bool:
    if os.environ.get(_DISABLED, "").lower() == "true":
        return False
    return settings is not None or any(os.environ.get(name) for name in _ENDPOINTS)


class _Tracer:
    """Makes the spans of a call once it has ended."""

    def __init__(self, processor: SpanProcessor, party_name: str, sample: float) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider
        from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

        self._ids = _request_ids()
        self._provider: TracerProvider = TracerProvider(
            sampler=TraceIdRatioBased(sample),
            # Of the environment only what names this service otherwise is taken.
            resource=Resource.create({"service.name": "veilmatch", "service.instance.id": party_name}),
            id_generator=self._ids,
            span_limits=SpanLimits(),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("veilmatch")
        self._making = threading.Lock()

    def tell(self, call: calls.Call) -> None:
        """Make the spans of a call that has ended, if it was about a request."""
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        if call.request is None:
            return
        attributes = {
            "rpc.system": "grpc", "rpc.method": call.method, "veilmatch.operation": call.operation,
            "veilmatch.code": call.code, "veilmatch.request": call.request,
        }  # fmt: skip
        with self._making:
            self._ids.trace_id = int(call.request, 16)
            span = self._tracer.start_span(
                call.method, context=Context(), kind=SpanKind.SERVER, attributes=attributes, start_time=call.began
            )
        inside = set_span_in_context(span, Context())
        for stage, began, ended in call.stages:
            self._tracer.start_span(stage, context=inside, start_time=began).end(ended)
        if call.code != "ok":
            span.set_status(Status(StatusCode.ERROR, call.code))
        span.end(call.ended)

    def shutdown(self) -> None:
        """Send what waits, and end."""
        self._provider.shutdown()


def _request_ids() -> Any:
    """Return what makes ids: that of a trace is what it was told last. A class of the library, imported when needed."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class RequestIds(RandomIdGenerator):
        trace_id = 0

        def generate_trace_id(self) -> int:
            return self.trace_id or super().generate_trace_id()

    return RequestIds()
