"""A pytest plugin that turns on all hooks, with a tracer that records, before a library's own tests run."""

import opentracing
from basictracer import BasicTracer
from basictracer.text_propagator import TextPropagator
from opentracing.scope_managers.contextvars import ContextVarsScopeManager

from opentracing_instrumentation.client_hooks import install_all_patches

tracer = BasicTracer(scope_manager=ContextVarsScopeManager())
for carrier in (opentracing.Format.TEXT_MAP, opentracing.Format.HTTP_HEADERS):
    tracer.register_propagator(carrier, TextPropagator())
opentracing.tracer = tracer
install_all_patches()
tracer.start_active_span("the suite")  # some calls are traced only below a span
