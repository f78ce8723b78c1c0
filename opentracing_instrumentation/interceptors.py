"""Extension point of the HTTP client hooks: code that sees every outgoing request with its span."""

from __future__ import annotations

import abc
from typing import Any


class OpenTracingInterceptor(abc.ABC):
    """Sees each outgoing HTTP request after its span has begun and before the span context is injected."""

    @abc.abstractmethod
    def process(self, request: Any, span: Any) -> None:
        """Look at, or add to, a request and its span.

        Args:
            request: an :class:`opentracing_instrumentation.http_client.AbstractRequestWrapper`.
            span: the request's span, begun and not finished.

        What it raises is logged once and goes no further. It is called by the thread or task that sends the request.
        """


class ClientInterceptors:
    """The interceptors in force, in the order in which they are called; to be set up before requests are sent."""

    _interceptors: list[OpenTracingInterceptor] = []  # noqa: RUF012 - one list for the process, on purpose

    @classmethod
    def append(cls, interceptor: OpenTracingInterceptor) -> None:
        """Add an interceptor behind the others.

        Raises:
            ValueError: it is not an :class:`OpenTracingInterceptor`.
        """
        cls._check(interceptor)
        cls._interceptors.append(interceptor)

    @classmethod
    def insert(cls, index: int, interceptor: OpenTracingInterceptor) -> None:
        """Add an interceptor before the one at ``index``, as ``list.insert`` does.

        Raises:
            ValueError: it is not an :class:`OpenTracingInterceptor`.
        """
        cls._check(interceptor)
        cls._interceptors.insert(index, interceptor)

    @classmethod
    def _check(cls, interceptor: object) -> None:
        if not isinstance(interceptor, OpenTracingInterceptor):
            raise ValueError(f"interceptor {interceptor!r} is not an OpenTracingInterceptor")

    @classmethod
    def get_interceptors(cls) -> list[OpenTracingInterceptor]:
        """Return the interceptors: the very list that is in force."""
        return cls._interceptors

    @classmethod
    def clear(cls) -> None:
        """Remove all interceptors."""
        del cls._interceptors[:]
