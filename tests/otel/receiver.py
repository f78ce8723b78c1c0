"""A receiver of OTLP, by HTTP and by gRPC, with the official messages; and what they say, as plain dicts."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


class Received:
    """The requests that have come, and where to send them."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._requests: list[ExportTraceServiceRequest] = []

    def add(self, request: ExportTraceServiceRequest) -> None:
        self._requests.append(request)

    def spans(self) -> list[Span]:
        """Return the spans in the order of their start."""
        spans = [
            span
            for request in self._requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return sorted(spans, key=lambda span: span.start_time_unix_nano)

    def services(self) -> set[str]:
        """Return the services that have sent anything."""
        return {
            attribute.value.string_value
            for request in self._requests
            for resource in request.resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        }


@contextmanager
def http_receiver() -> Iterator[Received]:
    """Receive by HTTP during the block."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.add(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def grpc_receiver() -> Iterator[Received]:
    """Receive by gRPC during the block."""
    received = Received()

    class Servicer(TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            received.add(request)
            return ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Servicer(), server)
    received.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield received
    finally:
        server.stop(None).wait()


def told(spans: list[Span]) -> list[dict[str, Any]]:
    """Return all that spans say, ids by the position of the span that they belong to, times left out."""
    position = {span.span_id: at for at, span in enumerate(spans)}
    return [
        {
            "name": span.name,
            "parent": position.get(span.parent_span_id),
            "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            "attributes": _attributes(span),
            "events": [(event.name, _attributes(event)) for event in span.events],
            "links": [(position.get(link.span_id), _attributes(link)) for link in span.links],
            "status": (Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"), span.status.message),
        }
        for span in spans
    ]


def _attributes(message: Any) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in message.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind)
