"""Traces for OpenTelemetry: what was done for a request, by whichever replica, and how long each part took.

The parts of the service tell `Traces` what has just ended; nothing is passed on between them. A trace has the number
that is in the id of its request (`req-<uuid>`), and so has everything that is done for that request, at any time: the
same id is in the log, in the row, and in every call to the cloud.
"""

# The packages of OpenTelemetry are an extra: they are imported where they are used.
# pylint: disable=import-outside-toplevel,import-error,too-many-arguments,too-many-positional-arguments

import hashlib
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from vmsvc import __version__
from vmsvc.cloud.port import REQUEST_ID
from vmsvc.config import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

#: For how long a service that stops waits until the collector has taken the remaining spans.
_STOP_LIMIT_MILLIS = 2000


class Traces(Protocol):
    """What takes the spans. Each call says that something has just ended that took so many seconds."""

    def response(self, request_id: str, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered: the root of its trace."""

    def decision(self, request_id: str | None, vm_id: str, decision: str, victims: int, seconds: float) -> None:
        """A pass of the scheduler decided about a request."""

    def cloud_call(self, operation: str, outcome: str, seconds: float) -> None:
        """The cloud answered a call of the current task, or did not."""

    def close(self) -> None:
        """Send what is left, within 2 s; nothing is taken from then on. Blocks."""


class NoTraces:
    """Traces are switched off."""

    def response(self, request_id: str, method: str, route: str, status: int, seconds: float) -> None:
        """Do nothing."""

    def decision(self, request_id: str | None, vm_id: str, decision: str, victims: int, seconds: float) -> None:
        """Do nothing."""

    def cloud_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def traces_to(url: str) -> Traces:
    """Traces that go to the collector at this URL by OTLP over HTTP; an empty URL: none. Raises ConfigError where the
    packages are missing."""
    if not url:
        return NoTraces()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise ConfigError("VMSVC_TRACES_URL needs more packages: pip install 'vmsvc[tracing]'") from None
    return OpenTelemetryTraces(OTLPSpanExporter(endpoint=url))


class OpenTelemetryTraces:
    """Sends spans in batches, from a thread of OpenTelemetry's. What does not fit into its queue (2,048) is lost: the
    service waits for no collector. OpenTelemetry's own variables (OTEL_RESOURCE_ATTRIBUTES,
    OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_…) apply."""

    def __init__(self, exporter: "SpanExporter"):
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._api, self._span = trace, ReadableSpan
        self._resource = Resource.create({"service.name": "vmsvc", "service.version": __version__})
        self._processor = BatchSpanProcessor(exporter)

    def response(self, request_id: str, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered: the root of its trace. An answer of 500 or more is an error."""
        attributes = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        self._record(
            f"{method} {route}", request_id, seconds, attributes, self._api.SpanKind.SERVER, status >= 500, is_root=True
        )

    def decision(self, request_id: str | None, vm_id: str, decision: str, victims: int, seconds: float) -> None:
        """A pass of the scheduler decided about a request."""
        attributes = {"vmsvc.vm.id": vm_id, "vmsvc.decision": decision, "vmsvc.victims": victims}
        self._record("decide", request_id, seconds, attributes, self._api.SpanKind.INTERNAL, False)

    def cloud_call(self, operation: str, outcome: str, seconds: float) -> None:
        """The cloud answered a call of the current task, or did not. Calls that are made for no request, such as the
        reading of lists, are in no trace."""
        failed = outcome not in ("ok", "not_found")
        attributes = {"vmsvc.outcome": outcome}
        self._record(operation, REQUEST_ID.get(), seconds, attributes, self._api.SpanKind.CLIENT, failed)

    def close(self) -> None:
        """Send what is left, within 2 s; nothing is taken from then on. Blocks."""
        self._processor.force_flush(_STOP_LIMIT_MILLIS)
        self._processor.shutdown()

    def _record(
        self,
        name: str,
        request_id: str | None,
        seconds: float,
        attributes: Mapping[str, object],
        kind: Any,
        is_error: bool,
        is_root: bool = False,
    ) -> None:
        if request_id is None:
            return
        trace_id, root_id = _numbers(request_id)
        sampled = self._api.TraceFlags(self._api.TraceFlags.SAMPLED)
        root = self._api.SpanContext(trace_id, root_id, False, sampled)
        own = root if is_root else self._api.SpanContext(trace_id, uuid.uuid4().int >> 64, False, sampled)
        end = time.time_ns()
        status = self._api.Status(self._api.StatusCode.ERROR if is_error else self._api.StatusCode.UNSET)
        self._processor.on_end(
            self._span(
                name,
                own,
                None if is_root else root,
                self._resource,
                {**attributes, "vmsvc.request.id": request_id},
                kind=kind,
                status=status,
                start_time=end - int(seconds * 1e9),
                end_time=end,
            )
        )


def _numbers(request_id: str) -> tuple[int, int]:
    """The number of a request's trace, and that of its root span: the same in every replica."""
    digest = hashlib.sha256(request_id.encode()).digest()
    try:
        trace_id = uuid.UUID(request_id.removeprefix("req-")).int
    except ValueError:  # a client chose an id of another form
        trace_id = 0
    return trace_id or int.from_bytes(digest[:16]), int.from_bytes(digest[16:24]) or 1
