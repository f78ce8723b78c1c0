"""boto3, botocore and aiobotocore: one client span for each API call, each action of a resource, each S3 transfer.

``BaseClient._make_api_call`` is what every method of every client calls, so also paginators, waiters and resources; it
looks the method up at each call, so clients made before patching are traced. Retries are below it and stay one span;
``AWSPreparedRequest.reset_stream`` is what each begins with, also where none of them ever gets a response.
A presigned URL calls nothing and gets no span. A span ends when the response's headers and result are there: a
streaming body may be read long after. ``ServiceAction.__call__`` is a resource's action, round the call that it makes.

The transfer functions of ``boto3.s3.inject`` become methods of each client's own class when the client is made, so
replacing them in their module would miss the clients that exist. What all clients share is the function itself: its
code is replaced. A transfer's work is done by s3transfer's threads; ``BoundedExecutor.submit`` is what hands it over to
them, and here the caller's context goes along, so that no thread of anybody else's is touched.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
import types
from collections.abc import Callable, Generator, Iterable, Mapping
from contextvars import copy_context
from typing import Any, ClassVar

import opentracing
from opentracing import Span
from opentracing.ext import tags as standard

from .._core.calls import (
    Description,
    FlowDescription,
    Switch,
    _signature,
    idle,
    idle_client,
    idle_database,
    instrument,
)
from .._core.patching import Patch, Patcher, replace, trace
from .._core.safety import report
from .._core.tags import HTTP_RESEND_COUNT, PEER_HOST_IPV6
from ..config import CONFIG
from ..http_client import host_and_port, without_secrets
from ..request_context import get_current_span
from ..utils import child_span, peer_tags
from ._aws_messages import extract_context, propagate
from ._aws_targets import BUCKET, FUNCTION, TABLE, target_tag

__all__ = ["Boto3Patcher", "extract_context", "install_patches", "patcher", "reset_patches", "set_patcher"]

SERVICE = "boto3.service_name"
OPERATION = "aws.operation"
REGION = "cloud.region"
REQUEST_ID = "aws.request_id"

#: The module of the functions that make transfers.
_INJECT = "boto3.s3.inject"

#: What a request says of itself (AWS SDKs and Tools reference guide, "Retry behavior"), counted from one.
_ATTEMPT = re.compile(r"\battempt=(\d+)")


class Boto3Patcher(Patcher):
    """Traces boto3, botocore and aiobotocore."""

    library: ClassVar[str | None] = "boto3"
    supports = ">=1.34"
    spans = (
        "`boto3:client:` with service and operation, as in `boto3:client:dynamodb:put_item`, also for S3 transfers, as"
        " in `boto3:client:s3:upload_file`; `boto3:resource:...` for an action of a resource, with the former below it"
    )
    tags: ClassVar[Mapping[str, str]] = {
        standard.SPAN_KIND: "`client`",
        standard.COMPONENT: "`boto3`",
        SERVICE: "the service: `dynamodb`, `s3`, ...",
        OPERATION: "the operation as in the API's reference: `PutItem`; for a transfer, the function",
        REGION: "the client's region",
        REQUEST_ID: "the request id of the response, of an error as well",
        standard.HTTP_STATUS_CODE: "the response's status, of an error as well",
        HTTP_RESEND_COUNT: "how often the request was sent again, if it was",
        BUCKET: "the bucket, for S3",
        TABLE: "the table, or several with commas between, for DynamoDB",
        standard.MESSAGE_BUS_DESTINATION: "the name of the queue or topic, for SQS and SNS",
        FUNCTION: "the name of the function, for Lambda",
        standard.PEER_HOSTNAME: "the host of the client's endpoint",
        standard.PEER_HOST_IPV4: "if it is an IPv4 address",
        PEER_HOST_IPV6: "if it is an IPv6 address",
        standard.PEER_PORT: "its port",
    }
    settings = ("aws_propagation", "legacy_peer_tags", "secret_query_parameters")

    #: The functions of ``boto3.s3.inject`` that are traced.
    S3_FUNCTIONS_TO_INSTRUMENT: tuple[str, ...] = (
        *("copy", "download_file", "download_fileobj", "upload_file", "upload_fileobj"),
    )

    def __init__(self) -> None:
        super().__init__()
        #: These functions without tracing, by name, while the hook is installed.
        self.s3_original_funcs: dict[str, Callable[..., Any]] = {}

    def idle(self) -> bool:
        """Tell whether nobody listens, nor has a context to travel: in messages, if that is asked for."""
        return idle_client() if CONFIG.aws_propagation else idle_database()

    def patches(self) -> Iterable[Patch]:
        """Return the patches of this hook."""
        yield from super().patches()
        for name in self.S3_FUNCTIONS_TO_INSTRUMENT:
            description = FlowDescription(
                functools.partial(self.transfer, name), f"{_INJECT}:{name}", activate=True, message_of=self.message_of
            )
            yield _FunctionPatch(description, self.s3_original_funcs)

    @staticmethod
    def message_of(error: BaseException) -> str:
        """Return an error's message without secrets of the URL, and without the values of parameters that are wrong."""
        if type(error).__name__ == "ParamValidationError":
            return "Parameter validation failed"
        return without_secrets(str(error))

    @trace(
        "botocore.client:BaseClient._make_api_call",
        "aiobotocore.client:AioBaseClient._make_api_call",
        activate=True,
    )
    def api_call(self, client: Any, operation_name: str, api_params: Any) -> Generator[Span, Any, None]:
        service, name, tags = _meaning("client", client, operation_name)
        target = target_tag(service, api_params)
        if target:
            tags[target[0]] = target[1]
        span = child_span(name, tags)
        if CONFIG.aws_propagation:
            try:
                propagate(span, service, operation_name, api_params)
            except Exception as error:
                report("putting the span context into messages", error)
        try:  # as in _followed, at less cost than that of one more generator for each call
            response = yield span
        except Exception as error:
            self._tag_response(span, _response_of(error))
            raise
        self._tag_response(span, response)

    @trace("botocore.awsrequest:AWSPreparedRequest.reset_stream")
    def send_again(self, request: Any) -> None:
        attempt = _ATTEMPT.search(str(request.headers.get("amz-sdk-request")))
        span = opentracing.tracer.active_span
        if attempt and span is not None:
            span.set_tag(HTTP_RESEND_COUNT, int(attempt.group(1)))

    @trace("boto3.resources.action:ServiceAction.__call__", activate=True)
    def action(self, action: Any, parent: Any) -> Generator[Span, Any, None]:
        _, name, tags = _meaning("resource", parent.meta.client, action._action_model.request.operation)
        yield from self._followed(child_span(name, tags))

    def transfer(self, function: str, client: Any, Bucket: Any = None) -> Generator[Span, Any, None]:  # noqa: N803
        """Describe a call of one of the S3 functions."""
        _, name, tags = _meaning("client", client, function)
        if isinstance(Bucket, str):
            tags[BUCKET] = Bucket
        yield from self._followed(child_span(name, tags))

    @replace("s3transfer.futures:BoundedExecutor.submit")
    def submit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that hands a task over to a thread together with the current span."""

        @functools.wraps(original)
        def submit(executor: Any, task: Any, *args: Any, **kwargs: Any) -> Any:
            if self.patches_installed and not idle():
                try:
                    span = get_current_span()
                    task = task if span is None else _Carried(task, span)
                except Exception as error:
                    report("s3transfer.futures:BoundedExecutor.submit", error)
            return original(executor, task, *args, **kwargs)

        return submit

    @staticmethod
    def set_request_id_tag(span: Span, response: Mapping[str, Any]) -> None:
        """Tag a span with the request id of a response, if it has one.

        Args:
            span: the span.
            response: what a method of a client returns, or the ``response`` of a ``ClientError``.
        """
        metadata = response.get("ResponseMetadata")
        request_id = metadata and metadata.get("RequestId")
        if request_id:
            span.set_tag(REQUEST_ID, request_id)

    def perform_call(
        self,
        original_func: Callable[..., Any],
        kind: str,
        service_name: str,
        operation_name: str,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call a function in a span as this hook makes them, for what the hook itself does not trace.

        Args:
            original_func: called with ``args`` and ``kwargs``; it may be a coroutine function.
            kind: ``"client"`` or ``"resource"``, the second part of the span's name.
            service_name: the third part, as in ``"dynamodb"``.
            operation_name: the last part, as in ``"put_item"``.

        Returns:
            what the function returns, and raises what it raises.
        """

        def describe(*_: Any, **__: Any) -> Generator[Span, Any, None]:
            name, tags = _described(kind, service_name, operation_name, None, None, False)
            yield from self._followed(child_span(name, tags.copy()))

        description = FlowDescription(describe, "perform_call", activate=True, message_of=self.message_of)
        return instrument(original_func, description)(*args, **kwargs)

    def _followed(self, span: Span) -> Generator[Span, Any, None]:
        """Yield the span, and tag it with what the response or the error says."""
        try:
            response = yield span
        except Exception as error:
            self._tag_response(span, _response_of(error))
            raise
        self._tag_response(span, response)

    def _tag_response(self, span: Span, response: Any) -> None:
        metadata = response.get("ResponseMetadata") if isinstance(response, dict) else None
        if metadata:
            self.set_request_id_tag(span, response)
            status = metadata.get("HTTPStatusCode")
            if status is not None:
                span.set_tag(standard.HTTP_STATUS_CODE, status)


def _response_of(error: BaseException) -> Any:
    """Return the response that an error of botocore's tells of, also where boto3 raises its own instead."""
    if type(error).__module__ == "boto3.exceptions" and error.__context__ is not None:
        error = error.__context__
    return getattr(error, "response", None)


def _meaning(kind: str, client: Any, operation: str) -> tuple[str, str, dict[str, Any]]:
    """Return the service of a client, the name of the span of a call, and its tags in a dict of the caller's own."""
    meta = client.meta
    service = meta.service_model.service_name
    name, tags = _described(kind, service, operation, meta.region_name, meta.endpoint_url, CONFIG.legacy_peer_tags)
    return service, name, tags.copy()


@functools.lru_cache(maxsize=1024)
def _described(
    kind: str, service: str, operation: str, region: str | None, endpoint_url: str | None, _legacy_peer_tags: bool
) -> tuple[str, dict[str, Any]]:
    from botocore import xform_name

    tags: dict[str, Any] = {
        standard.SPAN_KIND: standard.SPAN_KIND_RPC_CLIENT,
        standard.COMPONENT: "boto3",
        SERVICE: service,
        OPERATION: operation,
    }
    if region:
        tags[REGION] = region
    if endpoint_url:
        tags.update(peer_tags(*host_and_port(endpoint_url)))
    return f"boto3:{kind}:{service}:{xform_name(operation)}", tags


_carrying = Description(get_current_span, "s3transfer.futures:BoundedExecutor.submit")


class _Carried:
    """A task of s3transfer that runs in the context of whoever submits it, with the same current span."""

    def __init__(self, task: Any, span: Any) -> None:
        self._task = task
        self._span = span
        self._context = copy_context()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def __call__(self, *args: Any) -> Any:
        return self._context.run(self._run, *args)

    def _run(self, *args: Any) -> Any:
        scope = _carrying.enter(self._span)  # for scope managers that keep their state in threads
        try:
            return self._task(*args)
        finally:
            _carrying.leave(scope)


class _FunctionPatch(Patch):
    """Traces a function of ``boto3.s3.inject`` by another code, and so for all who have got hold of the function."""

    effect = "calls are traced"

    def __init__(self, description: FlowDescription, originals: dict[str, Callable[..., Any]]) -> None:
        super().__init__(description.place)
        self._description = description
        self._originals = originals
        self._switch = Switch(active=False)
        self._function: Any = None
        self._original_code: Any = None
        self._code: Any = None

    def imported(self, module: types.ModuleType) -> None:
        if hasattr(module, self.path):
            super().imported(module)
        elif self.state in ("waiting", "missing"):
            self.state, self.detail = "missing", "there is no such function"
            logging.warning("S3 function %s not found", self.path)

    def apply(self, module: Any) -> None:
        function: Any = inspect.unwrap(getattr(module, self.path))  # boto3's own decorator looks at nothing
        if function is not self._function or function.__code__ is not self._code:
            original = _copy(function)
            switch = Switch(active=False)  # an older code of ours that is buried stays off for good
            code = _code_that_calls(instrument(original, self._description, switch), function)
            self._function, self._original_code, self._code = function, function.__code__, code
            self._switch = switch
            function.__code__ = code
            self._originals[self.path] = original
        self._switch.active = True

    def revert(self) -> None:
        self._switch.active = False
        self._originals.pop(self.path, None)
        if self._function.__code__ is self._code:
            self._function.__code__ = self._original_code


def _copy(function: types.FunctionType) -> types.FunctionType:
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


_CALLED = "what is called"


def _code_that_calls(wrapper: Callable[..., Any], function: types.FunctionType) -> types.CodeType:
    """Return code for ``function`` by which it has the same parameters and hands all of them on to ``wrapper``."""
    signature = _signature(function)
    source = f"lambda {signature.parameters}: {_CALLED!r}.__call__({signature.arguments})"
    code: types.CodeType = eval(source).__code__
    own = function.__code__
    return code.replace(
        co_consts=tuple(wrapper if constant == _CALLED else constant for constant in code.co_consts),
        co_name=own.co_name,
        co_filename=own.co_filename,
        co_firstlineno=own.co_firstlineno,
    )


patcher: Boto3Patcher
set_patcher: Callable[[Patcher], None]
install_patches: Callable[[], None]
reset_patches: Callable[[], None]

Boto3Patcher.configure_hook_module(globals())
