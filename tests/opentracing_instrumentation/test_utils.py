"""start_child_span, child_span and the tags of a peer."""

from __future__ import annotations

from typing import Any

import pytest
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import set_current_span_func
from opentracing_instrumentation.utils import child_span, peer_tags, start_child_span

from .told import Spans


def test_start_child_span_begins_a_span_by_the_arguments_that_tests_assert(
    tracer: MockTracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    parent = tracer.start_span("parent")
    monkeypatch.setattr(tracer, "start_span", lambda **kwargs: begun.append(kwargs))
    start_child_span("a")
    start_child_span("b", parent=parent, tags={"x": 1})
    assert begun == [
        {"operation_name": "a", "child_of": None, "tags": None},
        {"operation_name": "b", "child_of": parent.context, "tags": {"x": 1}},
    ]


def test_start_child_span_takes_a_tracer_of_the_users_own(tracer: MockTracer) -> None:
    other = MockTracer()
    with start_child_span("a", other):
        pass
    assert [len(known.finished_spans()) for known in (other, tracer)] == [1, 0]


def test_child_span_begins_below_the_span_that_the_users_function_names(tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_span("mine") as mine:
        set_current_span_func(lambda: mine)
        with child_span("call", {"a": 1}):
            pass
    assert spans()[0] == {"operation": "call", "parent": "mine", "tags": {"a": 1}}


@pytest.mark.parametrize(
    ("host", "port", "tags"),
    [
        ("db.example", 5432, {"peer.hostname": "db.example", "peer.port": 5432}),
        ("10.0.0.1", 5432, {"peer.ipv4": "10.0.0.1", "peer.port": 5432}),
        ("::1", None, {"peer.ipv6": "::1"}),
        ("[fe80::1%eth0]", None, {"peer.ipv6": "[fe80::1%eth0]"}),
        (None, None, {}),
        ("", 0, {}),
    ],
)
def test_the_tags_of_a_peer_tell_names_from_addresses(host: Any, port: Any, tags: dict[str, Any]) -> None:
    assert dict(peer_tags(host, port)) == tags
