"""What is done with OpenTracing's calls arrives at a collector, by both of OTLP's protocols, from any process."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest

from .processes import PATIENCE, run
from .receiver import Received, grpc_receiver, http_receiver, told

pytestmark = pytest.mark.timeout(2 * PATIENCE)

RECEIVERS = {"http/protobuf": http_receiver, "grpc": grpc_receiver}


@pytest.fixture(params=RECEIVERS)
def protocol(request: pytest.FixtureRequest) -> str:
    """One of OTLP's protocols."""
    return str(request.param)


def receive(protocol: str) -> AbstractContextManager[Received]:
    return RECEIVERS[protocol]()


def environment(received: Received, protocol: str, **more: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_SERVICE_NAME": "shop",
        **more,
    }


def span(name: str, **fields: Any) -> dict[str, Any]:
    """Return what a span says, with the defaults of an uneventful one."""
    empty = {"parent": None, "kind": "INTERNAL", "attributes": {}, "events": [], "links": [], "status": ("UNSET", "")}
    return {"name": name, **empty, **fields}


PROGRAM = """
import opentracing
from opentelemetry import trace
from opentracing_instrumentation import otel

tracer = otel.setup()
assert opentracing.tracer is tracer
with tracer.start_active_span("order", tags={"span.kind": "server", "http.method": "GET",
                                             "http.url": "http://shop.example:8080/order?id=7",
                                             "peer.ipv4": "192.0.2.7", "peer.port": 4711}) as scope:
    with trace.get_tracer("native").start_as_current_span("native"):
        query = tracer.start_span("SQL SELECT", tags={"span.kind": "client", "component": "sqlalchemy",
            "db.type": "postgresql", "db.instance": "postgresql://me:***@db.example:5433/shop",
            "db.statement": "SELECT * FROM orders WHERE id = %(id)s"})
        query.log_kv({"event": "slow", "milliseconds": 300, "reasons": ["lock", "io"]})
        query.finish()
    tracer.start_span("after", references=[opentracing.follows_from(query.context)],
                  tags={"none": None, "object": {"a": 1}, "huge": 2**70, "list": [1, 2], "mixed": [1, "a"]}).finish()
    scope.span.log_kv({"event": "error", "error.kind": "Refused", "message": "no money", "stack": "here"})
    scope.span.set_tag("http.status_code", "500")
"""


def test_all_that_spans_say_arrives(protocol: str) -> None:
    """Names, kinds, parents, attributes, events, links and status, compared whole."""
    with receive(protocol) as received:
        run(PROGRAM, **environment(received, protocol))
    assert received.services() == {"shop"}
    assert told(received.spans()) == [
        span(
            "order",
            kind="SERVER",
            attributes={
                "http.request.method": "GET",
                "url.scheme": "http",
                "url.path": "/order",
                "url.query": "id=7",
                "server.address": "shop.example",
                "server.port": 8080,
                "client.address": "192.0.2.7",
                "client.port": 4711,
                "http.response.status_code": 500,
                "error.type": "Refused",
            },
            events=[
                (
                    "exception",
                    {
                        "exception.type": "Refused",
                        "exception.message": "no money",
                        "exception.stacktrace": "here",
                    },
                )
            ],
            status=("ERROR", "Refused: no money"),
        ),
        span("native", parent=0),
        span(
            "SELECT orders",
            parent=1,
            kind="CLIENT",
            attributes={
                "db.system.name": "postgresql",
                "db.namespace": "shop",
                "server.address": "db.example",
                "server.port": 5433,
                "db.query.text": "SELECT * FROM orders WHERE id = %(id)s",
                "db.operation.name": "SELECT",
                "db.query.summary": "SELECT orders",
            },
            events=[("slow", {"milliseconds": 300, "reasons": ["lock", "io"]})],
        ),
        span(
            "after",
            parent=2,
            attributes={
                "none": "None",
                "object": "{'a': 1}",
                "huge": str(2**70),
                "list": [1, 2],
                "mixed": "[1, 'a']",
            },
            links=[(2, {"opentracing.ref_type": "follows_from"})],
        ),
    ]


FORKED = """
import os
from opentracing_instrumentation import otel

tracer = otel.setup()
if {exports_first}:
    tracer.start_span("first").finish()
    tracer.unwrap().span_processor.force_flush()
child = os.fork()
with tracer.start_active_span("child" if child == 0 else "parent"):
    tracer.start_span("inner").finish()
if child == 0:
    {leave}
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("exports_first", [False, True], ids=["quiet", "exporting"])
@pytest.mark.parametrize("leave", ["os._exit(0)", "raise SystemExit"])
def test_no_span_is_lost_in_a_process_that_forks(protocol: str, exports_first: bool, leave: str) -> None:
    """Each process sends its own spans once, whether it had an exporter at work before, and however the child ends."""
    with receive(protocol) as received:
        run(FORKED.format(exports_first=exports_first, leave=leave), **environment(received, protocol))
    names = sorted(span.name for span in received.spans())
    assert names == ["child", *(["first"] if exports_first else []), "inner", "inner", "parent"]


POOL = """
import multiprocessing
from opentracing_instrumentation import otel


def work(number):
    otel_tracer.start_span(f"task {number}").finish()


otel_tracer = otel.setup()
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        pool.map(work, range(6), chunksize=1)
        pool.close()
        pool.join()
"""


def test_children_of_a_pool_that_are_recycled_lose_nothing() -> None:
    """They end by ``os._exit`` after each task."""
    with http_receiver() as received:
        run(POOL, **environment(received, "http/protobuf"))
    assert sorted(span.name for span in received.spans()) == [f"task {number}" for number in range(6)]
