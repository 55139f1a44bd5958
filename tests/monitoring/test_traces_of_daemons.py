"""Traces of real daemons, sent to a collector: one request is one trace, at all four servers that served it."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from tests.e2e.world import ENVIRONMENT, World, hold_ceremony, settle, supervised
from tests.monitoring.conftest import TOY
from veilmatch.client.tracing import traced as traced_program
from veilmatch.crypto.errors import UnknownSubjectError


class Collector(HTTPServer):
    """Takes OTLP over HTTP."""

    def __init__(self) -> None:
        self.received: list[ExportTraceServiceRequest] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def spans(self, request_id: str) -> dict[str, set[str]]:
        """Names of the spans of one trace, by the daemon that sent them."""
        found: dict[str, set[str]] = {}
        for received in list(self.received):
            for of in received.resource_spans:
                (party,) = [a.value.string_value for a in of.resource.attributes if a.key == "service.instance.id"]
                names = {s.name for scope in of.scope_spans for s in scope.spans if s.trace_id[8:].hex() == request_id}
                found[party] = found.get(party, set()) | names
        return {party: names for party, names in found.items() if names}


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        data = gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data
        self.server.received.append(ExportTraceServiceRequest.FromString(data))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("traced") / "installation"
    hold_ceremony(directory, TOY)
    endpoint = f"http://127.0.0.1:{collector.server_address[1]}/v1/traces"
    # Other environments switch all telemetry off.
    asked = {"VEILMATCH_TRACES__ENDPOINT": endpoint, "OTEL_SDK_DISABLED": "false", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with supervised(directory, ENVIRONMENT | asked) as parties:
        parties.start()
        parties.wait_ready()
        made = World(directory, TOY, parties)
        settle(made)
        yield made


def test_one_request_is_one_trace_and_says_no_names(traced: World, collector: Collector) -> None:
    face = np.ones(TOY.dimension)
    with traced.client(pairs=["ab"]) as client:
        client.enrol_embedding("zqxalice", face, model="toy")
        request_id = client.verify_embedding("zqxalice", face, model="toy").request_id
    deadline = time.monotonic() + 30
    expected = {
        "matcher-a": {"Match", "meet", "turn", "decide"},
        # Their meeting has no call of its own: it goes over the link of the two.
        "matcher-b": {"Match", "meet", "turn", "decide"},
        "keyholder-a": {"Serve", "check", "note", "meet", "session"},
        "keyholder-b": {"Serve", "check", "note", "meet", "session"},
    }
    while (found := collector.spans(request_id)) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    text = json.dumps([str(received) for received in collector.received])
    assert "zqx" not in text and "device-1" not in text


def test_the_spans_of_a_program_link_to_the_traces_of_its_requests(traced: World, collector: Collector) -> None:
    face, spans = np.ones(TOY.dimension), InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_ON)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("the program")
    with traced_program(provider), traced.client() as client:
        client.enrol_embedding("zqxbob", face, model="toy")
        with tracer.start_as_current_span("door opens") as outer:
            found = client.verify_embedding("zqxbob", face, model="toy", assured=True)
            with pytest.raises(UnknownSubjectError) as unknown:
                client.verify_embedding("zqxnobody", face, model="toy")
        before = len(spans.get_finished_spans())
        context = outer.get_span_context()
        made = [span for span in spans.get_finished_spans() if span.parent and span.parent.span_id == context.span_id]
    assert {span.name for span in made} == {"veilmatch verify"} and len(made) == 4
    told = {span.attributes["veilmatch.request"]: span for span in made if span.attributes}
    assert set(told) == {*found.request_ids, unknown.value.request_id}
    for request_id, span in told.items():
        (link,) = span.links
        assert span.context is not None and span.context.trace_id == context.trace_id
        assert f"{link.context.trace_id:032x}" == f"{request_id!s:0>32}"
        assert span.attributes is not None and span.start_time and span.end_time and span.start_time < span.end_time
        code = span.attributes["veilmatch.code"]
        assert code == ("ok" if request_id in found.request_ids else "unknown_subject")
    # Under that id are the spans of four servers.
    deadline = time.monotonic() + 30
    while len(collector.spans(found.request_ids[0])) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "zqx" not in "".join(span.to_json() for span in made)
    with traced.client() as client:
        client.verify_embedding("zqxbob", face, model="toy")
    assert len(spans.get_finished_spans()) == before, "nobody traces any more"
