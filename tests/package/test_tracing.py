"""Traces: a collector of OpenTelemetry gets what was done for a request as one trace, and the service needs none."""

import json
import socket
import threading
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.package.conftest import LIMIT, LISTENING, Started, module

traces = module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
TINY = {"VMSVC_SIM_HOSTS": "1", "VMSVC_GRACE_SECONDS": "0", "VMSVC_PORT": "0", "OTEL_BSP_SCHEDULE_DELAY": "200"}


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self):
        self.spans = spans = []

        class Handler(BaseHTTPRequestHandler):
            """One batch."""

            def do_POST(self):  # pylint: disable=invalid-name
                """Keep it."""
                batch = traces.ExportTraceServiceRequest()
                batch.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
                spans.extend(
                    (resource.resource, span)
                    for resource in batch.resource_spans
                    for scope in resource.scope_spans
                    for span in scope.spans
                )
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def close(self):
        """Take no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(name="collector")
def fixture_collector():
    """A collector."""
    found = Collector()
    yield found
    found.close()


@pytest.fixture(name="serve")
def fixture_serve(installed, tmp_path):
    """Starts the service whose traces go to a URL; the process and its URL."""
    started = []

    def serve(url):
        service = Started(
            tmp_path, installed / "vmsvc", "serve", **TINY, VMSVC_DATA_DIR=str(tmp_path), VMSVC_TRACES_URL=url
        )
        started.append(service)
        address = service.said(LISTENING)[1]
        service.said("ready in ")
        return service, address

    yield serve
    for one in started:
        one.clean_up()


def create(address, preemptible, request_id):
    """POST a VM; its id."""
    body = json.dumps({"is_preemptible": preemptible}).encode()
    headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(f"{address}/api/v1/vm", body, headers), timeout=LIMIT) as answer:
        return json.load(answer)["vm"]["id"]


def test_a_request_and_all_that_was_done_for_it_are_one_trace(serve, collector):
    service, address = serve(collector.url)
    for number in range(4):
        create(address, True, f"of another form {number}")
    wanted = uuid.uuid4()
    create(address, False, f"req-{wanted}")
    assert service.stop() == 0
    (resource,) = {resource.SerializeToString(deterministic=True): resource for resource, _ in collector.spans}.values()
    assert {"vmsvc"} == {one.value.string_value for one in resource.attributes if one.key == "service.name"}
    own = [span for _, span in collector.spans if span.trace_id == wanted.bytes]
    (root,) = [span for span in own if not span.parent_span_id]
    assert (root.name, root.kind) == ("POST /api/v1/vm", root.SPAN_KIND_SERVER)
    rest = [span for span in own if span is not root]
    assert {span.parent_span_id for span in rest} == {root.span_id}
    attributes = {one.key: one.value for one in root.attributes}
    assert attributes["http.response.status_code"].int_value == 201
    decisions = [
        [(one.key, one.value.string_value or one.value.int_value) for one in span.attributes]
        for span in rest
        if span.name == "decide"
    ]
    assert any(("vmsvc.decision", "evict") in one and ("vmsvc.victims", 1) in one for one in decisions)
    assert {"create_server", "set_metadata", "stop", "delete"} <= {span.name for span in rest}
    (made,) = [span for span in rest if span.name == "create_server"]
    assert root.start_time_unix_nano <= made.start_time_unix_nano < made.end_time_unix_nano <= root.end_time_unix_nano
    assert len({span.trace_id for _, span in collector.spans if not span.parent_span_id and "POST" in span.name}) == 5


def test_a_collector_that_is_away_costs_nobody_anything(serve):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1/traces"
    service, address = serve(url)
    assert create(address, True, f"req-{uuid.uuid4()}")
    stopped = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - stopped < 15
    assert "Traceback" not in service.log.read_text(encoding="utf-8")
