"""OpenTracing's own checks of a tracer and of a scope manager."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentracing.harness.api_check import APICompatibilityCheckMixin
from opentracing.harness.scope_check import ScopeCompatibilityCheckMixin

from opentracing_instrumentation.otel import Tracer


class TestTracer(APICompatibilityCheckMixin):
    """All checks are on: of baggage, of scopes and of parents."""

    @pytest.fixture(autouse=True)
    def _provider(self, provider: TracerProvider) -> None:
        self._tracer = Tracer(provider)

    def tracer(self) -> Tracer:
        return self._tracer

    def is_parent(self, parent: Any, span: Any) -> bool:
        below = span.unwrap().parent
        return below is None if parent is None else below == parent.context.unwrap()


class TestScopeManager(ScopeCompatibilityCheckMixin):
    """The checks use spans that are not OpenTelemetry's."""

    def scope_manager(self) -> Any:
        return Tracer(TracerProvider(shutdown_on_exit=False)).scope_manager
