"""What is counted and traced of one call, whatever becomes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from veilmatch.crypto.errors import MissingExtraError
from veilmatch.server.ground.request_id import about_request
from veilmatch.server.monitoring import calls, meters
from veilmatch.server.monitoring.settings import TracesSettings
from veilmatch.server.monitoring.traces import traced_by, tracing

DIGEST = bytes.fromhex("9f3a61c2d0b4e785") + bytes(24)


def counted(operation: str, code: str) -> float:
    return meters.REGISTRY.get_sample_value(
        "veilmatch_requests_total", {"operation": operation, "code": code}
    ) or 0.0  # fmt: skip


def under_way() -> float:
    return meters.REGISTRY.get_sample_value("veilmatch_calls_in_progress", {"method": "Match"}) or 0.0


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    with traced_by(SimpleSpanProcessor(exporter), "matcher-a"):
        yield exporter


def test_each_end_has_its_code() -> None:
    ends = {"ok": None, "unknown_subject": None, "abandoned": asyncio.CancelledError(), "internal": ValueError("x")}
    for code, error in ends.items():
        before = counted("verify", code)
        try:
            with calls.call("Match"):
                assert under_way() == 1
                calls.about("verify")
                if code == "unknown_subject":
                    calls.refused(code)
                if error is not None:
                    raise error
        except (asyncio.CancelledError, ValueError):
            pass
        assert counted("verify", code) == before + 1
        assert under_way() == 0


def test_what_is_no_operation_makes_no_series() -> None:
    before = counted(meters.UNKNOWN, "ok")
    with calls.call("Match"):
        calls.about("zqx" * 1000)
    assert counted(meters.UNKNOWN, "ok") == before + 1
    assert "zqx" not in json.dumps([s.labels for f in meters.REGISTRY.collect() for s in f.samples])


async def test_calls_at_once_do_not_mix() -> None:
    before = counted("erase", "storage"), counted("enrol", "ok")

    async def one(operation: str, code: str | None) -> None:
        with calls.call("Mutate"):
            calls.about(operation)
            await asyncio.sleep(0)
            if code:
                calls.refused(code)
            await asyncio.sleep(0)

    await asyncio.gather(*(asyncio.create_task(one(*what)) for what in [("erase", "storage"), ("enrol", None)] * 5))
    assert (counted("erase", "storage"), counted("enrol", "ok")) == (before[0] + 5, before[1] + 5)


def test_a_trace_has_the_id_of_its_request_and_its_stages(spans: InMemorySpanExporter) -> None:
    with calls.call("Match"):
        about_request(DIGEST, "device-zqx")
        calls.about("verify")
        watch = calls.Stages()
        watch.lap("meet")
        calls.stages(convert=0.0, decide=0.01)
        calls.refused("budget_exceeded")
    *stages, whole = spans.get_finished_spans()
    assert {span.name for span in stages} == {"meet", "decide"} and whole.name == "Match"
    for span in (whole, *stages):
        assert f"{span.context.trace_id:032x}" == "0" * 16 + "9f3a61c2d0b4e785"
    assert all(stage.parent is not None and stage.parent.span_id == whole.context.span_id for stage in stages)
    assert whole.parent is None and not whole.status.is_ok
    assert dict(whole.attributes or {}) == {
        "rpc.system": "grpc", "rpc.method": "Match", "veilmatch.operation": "verify",
        "veilmatch.code": "budget_exceeded", "veilmatch.request": "9f3a61c2d0b4e785",
    }  # fmt: skip
    assert whole.start_time is not None and whole.end_time is not None and whole.start_time <= whole.end_time
    assert "zqx" not in "".join(span.to_json() for span in (whole, *stages))


def test_what_is_about_no_request_is_not_traced(spans: InMemorySpanExporter) -> None:
    with calls.call("Deal"):
        pass
    assert not spans.get_finished_spans()


def test_two_daemons_trace_the_same_requests() -> None:
    kept: list[set[int]] = []
    for party in ("matcher-a", "keyholder-b"):
        exporter = InMemorySpanExporter()
        with traced_by(SimpleSpanProcessor(exporter), party, 0.3):
            for number in range(1, 201):
                with calls.call("Match"):
                    about_request((number * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8, "big") + bytes(24))
        found: tuple[ReadableSpan, ...] = exporter.get_finished_spans()
        kept.append({span.context.trace_id for span in found})
    assert kept[0] == kept[1] and 30 < len(kept[0]) < 90


def test_traces_are_off_unless_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    with tracing(None, "matcher-a"):
        assert not calls.listeners
    with tracing(TracesSettings(endpoint="http://127.0.0.1:9/v1/traces"), "matcher-a"):
        assert len(calls.listeners) == 1
    assert not calls.listeners
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with tracing(None, "matcher-a"):
        assert len(calls.listeners) == 1
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with tracing(TracesSettings(endpoint="http://127.0.0.1:9/v1/traces"), "matcher-a"):
        assert not calls.listeners


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtraError) as refused, tracing(TracesSettings(), "matcher-a"):
        pass
    assert refused.value.expected == "pip install 'veilmatch[telemetry]'"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with tracing(None, "matcher-a"):
        assert not calls.listeners
