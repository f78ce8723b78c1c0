"""Interceptors: who they are, and when they are called."""

from __future__ import annotations

from typing import Any

import pytest

from opentracing_instrumentation import http_client, interceptors
from opentracing_instrumentation.http_client import AbstractRequestWrapper, before_http_request
from opentracing_instrumentation.interceptors import ClientInterceptors, OpenTracingInterceptor

from .told import Spans


class Request(AbstractRequestWrapper):
    method, full_url = "GET", "http://stock.example/x"  # type: ignore[assignment]

    def __init__(self) -> None:
        self.added: dict[str, str] = {}

    def add_header(self, key: str, value: str) -> None:
        self.added[key] = value


class Recorder(OpenTracingInterceptor):
    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def process(self, request: Any, span: Any) -> None:
        self.calls.append((self, request, span, dict(request.added)))


def test_interceptors_are_called_in_order_between_start_and_injection(spans: Spans) -> None:
    calls: list[Any] = []
    first, second, third = (Recorder(calls) for _ in range(3))
    ClientInterceptors.append(second)
    ClientInterceptors.insert(0, first)
    ClientInterceptors.append(third)
    assert ClientInterceptors.get_interceptors() == [first, second, third]
    request = Request()
    span = before_http_request(request, lambda: None)
    span.finish()
    assert calls == [(interceptor, request, span, {}) for interceptor in (first, second, third)]


def test_the_list_of_interceptors_is_the_live_one() -> None:
    live = ClientInterceptors.get_interceptors()
    ClientInterceptors.append(Recorder([]))
    assert len(live) == 1
    ClientInterceptors.clear()
    assert live == []
    assert ClientInterceptors.get_interceptors() is live


@pytest.mark.parametrize("wrong", [object(), Recorder, None, "Recorder"])
def test_only_interceptors_are_accepted(wrong: Any) -> None:
    with pytest.raises(ValueError, match="is not an OpenTracingInterceptor"):
        ClientInterceptors.append(wrong)
    with pytest.raises(ValueError, match="is not an OpenTracingInterceptor"):
        ClientInterceptors.insert(0, wrong)
    assert ClientInterceptors.get_interceptors() == []


def test_an_interceptor_without_process_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        OpenTracingInterceptor()  # type: ignore[abstract]


def test_the_interceptors_are_looked_up_where_tests_patch_them(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Others:
        @staticmethod
        def get_interceptors() -> list[Any]:
            return [Recorder(calls)]

    assert http_client.ClientInterceptors is interceptors.ClientInterceptors
    monkeypatch.setattr(http_client, "ClientInterceptors", Others)
    before_http_request(Request(), lambda: None).finish()
    assert len(calls) == 1
