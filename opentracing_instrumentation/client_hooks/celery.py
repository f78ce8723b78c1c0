"""Celery: one span for each task that is published, and one in the worker for each run of it, in one trace.

``Task.apply_async`` is what tasks, signatures and the beat publish by; ``Celery.send_task`` is below it, and is itself
used for tasks that only the worker knows. The signal ``before_task_publish`` gives the last sight of a message's
headers, in which the span's context travels. In the worker, ``task_prerun`` and ``task_postrun`` enclose each run in
every pool, whatever becomes of it (success, failure, retry, ``Ignore``, ``Reject``, a time limit), and both are sent by
the thread that runs it, through ``send_prerun`` and ``send_postrun``: these call our handler straight, if it is the
only one. A worker process that is killed sends nothing any more: its parent's ``Request.on_failure`` tells of the run
that was lost. At a hard time limit the process is asked to end first, and so ends the run by itself, with
``SystemExit``; a task that does not come back to Python in time is lost untold.

A retry repeats the context that the task came with: all attempts are siblings. A task that comes without a context is
the root of a trace.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from time import time
from types import ModuleType
from typing import Any, ClassVar

import opentracing
from opentracing import Format, Scope, ScopeManager, Span, UnsupportedFormatException, logs
from opentracing.ext import tags as standard

from .._core.calls import FlowDescription, idle, idle_client, instrument
from .._core.patching import CallPatch, ListenPatch, Patch, Patcher, ReplacePatch, trace
from .._core.safety import report
from ..request_context import current_span, get_current_span
from ..utils import start_child_span

_CONTEXT_HEADER = "parent_span_context"
_PUBLISHED_HEADER = "parent_span_published"  # seconds since the epoch

_TASK_NAME = "celery.task_name"
_TASK_ID = "celery.task_id"
_RETRIES = "celery.retries"
_STATE = "celery.state"
_QUEUE_TIME = "celery.queue_time"

_APPLY_ASYNC = "celery.app.task:Task.apply_async"

_LOOKUP = "_live_receivers"  # the method by which a signal looks for its receivers

_OPEN_SCOPES = 100  # as many are closed that a task has left open; a scope manager may be broken

# What the parent says of a process that had no time to end its run. One that is asked to terminate (2, 15) has.
_KILLED = re.compile(r".*\bsignal (?!2\b|15\b)\d+", re.DOTALL)


class CeleryPatcher(Patcher):
    """Traces Celery."""

    library: ClassVar[str | None] = "celery"
    supports = ">=5.3"
    spans = "`Celery:apply_async:` and the task's name where it is published, `Celery:run:` and its name where it runs"
    tags: ClassVar[Mapping[str, str]] = {
        standard.SPAN_KIND: "`client` where the task is published, `server` where it runs",
        standard.COMPONENT: "`Celery`",
        _TASK_NAME: "the task's name",
        _TASK_ID: "its id",
        _RETRIES: "of a run: which retry it is, if it is one",
        _QUEUE_TIME: "of a run: seconds from its publishing, or from the time that it was planned for, to its start",
        _STATE: "of a run: what became of it: `SUCCESS`, `FAILURE`, `RETRY`, `IGNORED`, `REJECTED`",
    }

    idle = staticmethod(idle_client)

    def patches(self) -> Iterable[Patch]:
        """Return the patches of this hook: the marked methods, and the handlers of signals."""
        yield from super().patches()
        yield _SendPatch("celery.app.base:Celery.send_task", self.send_task, activate=True, idle=self.idle)
        yield _PublishPatch("celery.signals:before_task_publish", before_task_publish_handler)
        for when, handler in ("prerun", task_prerun_handler), ("postrun", task_postrun_handler):
            yield _HandlerPatch(f"celery.signals:task_{when}", handler)
            yield ReplacePatch(f"celery.app.trace:send_{when}", functools.partial(_straight, handler))

    @trace(_APPLY_ASYNC, activate=True)
    def apply_async(self, task: Any) -> Generator[Span, Any, None]:
        span = _publishing_span(task.name)
        if span is not None:
            _tag_id(span, (yield span))

    def send_task(self, app: Any, name: str) -> Generator[Span, Any, None]:
        span = _publishing_span(name)
        if span is not None:
            _tag_id(span, (yield span))

    @trace("celery.worker.request:Request.on_failure")
    def on_failure(self, request: Any, exc_info: Any) -> Span | None:
        error = exc_info.exception
        return _lost_run(request, getattr(error, "exc", error))  # billiard wraps it for pickling


class _SendPatch(CallPatch):
    """Traces a function for publishing, but for the calls that ``Task.apply_async`` makes: those have their span.

    Their two dozens of keywords are handed on as they come, which costs a third of naming each.
    """

    def replacement_for(self, original: Any) -> Any:
        """Return what decides which calls are traced."""
        traced = super().replacement_for(original)

        @functools.wraps(original)
        def send_task(*args: Any, **options: Any) -> Any:
            send = traced if options.get("task_type") is None else original
            return send(*args, **options)

        return send_task


class _HandlerPatch(ListenPatch):
    """Connects a function itself, so that whoever knows it by its name can disconnect it."""

    def __init__(self, target: str, handler: Callable[..., None]) -> None:
        super().__init__(target, handler)
        self._receiver = handler


class _PublishPatch(_HandlerPatch):
    """Spares the signal the search for its receivers where there is none but ours.

    It looks for them under a lock each time it is sent, which is most of what it costs. Applications keep the signal's
    ``send``: all that can be reached is the search.
    """

    _quick: Any = None

    def apply(self, module: ModuleType) -> None:
        super().apply(module)
        if hasattr(self._signal, _LOOKUP):
            self._quick = _quick_lookup(self._signal, self._receiver)
            setattr(self._signal, _LOOKUP, self._quick)

    def revert(self) -> None:
        super().revert()
        if vars(self._signal).get(_LOOKUP) is self._quick:
            delattr(self._signal, _LOOKUP)


def _quick_lookup(signal: Any, handler: Callable[..., None]) -> Callable[[Any], Sequence[Any]]:
    look_up = getattr(signal, _LOOKUP)
    nobody: Sequence[Any] = ()
    ours = (inspect.unwrap(handler),)
    alone = _entries(signal, handler)

    def quick_lookup(sender: Any) -> Sequence[Any]:
        if signal.receivers == alone:
            return nobody if idle_client() else ours
        return look_up(sender)  # type: ignore[no-any-return]

    return quick_lookup


def _straight(handler: Callable[..., None], send: Any) -> Callable[..., Any]:
    """Return a signal's ``send`` that calls a handler of ours itself, in a quarter of the time, if it is alone."""
    signal = send.__self__
    act = inspect.unwrap(handler)
    alone = _entries(signal, handler)

    @functools.wraps(send)
    def send_straight(sender: Any, **message: Any) -> Any:
        if signal.receivers != alone or not alone:
            return send(sender, **message)
        if not idle():
            act(**message)
        return []

    return send_straight


def _entries(signal: Any, handler: Callable[..., None]) -> list[Any]:
    return [entry for entry in signal.receivers if entry[1] is handler]


def _unless(is_idle: Callable[[], bool]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a handler of a signal, so that it does nothing where nobody listens."""

    def decorate(act: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(act)
        def handler(*args: Any, **message: Any) -> None:
            if not is_idle():
                act(*args, **message)

        return handler

    return decorate


_PUBLISH_TAGS = {standard.SPAN_KIND: standard.SPAN_KIND_RPC_CLIENT, standard.COMPONENT: "Celery"}
_RUN_TAGS = {standard.SPAN_KIND: standard.SPAN_KIND_RPC_SERVER, standard.COMPONENT: "Celery"}


def set_common_tags(span: Span, task: Any, span_kind: str) -> None:
    """Set the tags that the spans of publishing and of running a task have in common."""
    for tag, value in {**_RUN_TAGS, standard.SPAN_KIND: span_kind, _TASK_NAME: task.name}.items():
        span.set_tag(tag, value)


def _publishing_span(task_name: str) -> Span | None:
    """Begin the span of publishing, but where its parent is current and sampled out: that one's context will do."""
    parent = current_span()
    if getattr(parent, "is_dropped", False) is True and parent is opentracing.tracer.active_span:
        return None
    tags = {**_PUBLISH_TAGS, _TASK_NAME: task_name}
    return start_child_span(f"Celery:apply_async:{task_name}", parent=parent, tags=tags)


def _tag_id(span: Span, result: Any) -> None:
    task_id = getattr(result, "id", None)
    if task_id is not None:
        span.set_tag(_TASK_ID, task_id)


@_unless(idle_client)
def before_task_publish_handler(headers: dict[str, Any], body: Any = None, **_: Any) -> None:
    """Put the context of the current span, which is that of publishing, and the time into a message's headers."""
    try:
        headers[_PUBLISHED_HEADER] = time()
        message = headers if "id" in headers else body  # by the second and the first version of the task protocol
        is_retry = isinstance(message, dict) and message.get("retries")
        context = (_repeated_context(message) if is_retry else None) or _current_context()
        if context:
            headers[_CONTEXT_HEADER] = context
    except Exception as error:
        report("putting the span context into a Celery message", error)


def _current_context() -> dict[str, str]:
    tracer = opentracing.tracer
    scope = tracer.scope_manager.active
    span = get_current_span() if scope is None else scope.span
    carrier: dict[str, str] = {}
    if span is not None:
        try:
            tracer.inject(span_context=span.context, format=Format.TEXT_MAP, carrier=carrier)
        except UnsupportedFormatException:  # a tracer may well have no way to travel
            pass
    return carrier


def _repeated_context(message: Mapping[str, Any]) -> Any:
    """Return the context that the running task came with, if the message is a retry of it."""
    from celery._state import get_current_task

    task = get_current_task()
    return _header(task.request, _CONTEXT_HEADER) if task and task.request.id == message["id"] else None


def _header(request: Any, name: str) -> Any:
    value = getattr(request, name, None)
    return (request.headers or {}).get(name) if value is None else value


@_unless(idle)
def task_prerun_handler(task: Any, task_id: str, **_: Any) -> None:
    """Begin the span of a run and make it current until the run is over."""
    try:
        request = task.request
        request.span = span = _begin_run(task, task_id, request)
        request.tracing_context = _Run(span)
    except Exception as error:
        report("beginning the span of a Celery task", error)


def _begin_run(task: Any, task_id: str, request: Any, start_time: float | None = None) -> Span:
    """Begin the span of a run, now or at a time in seconds since the epoch."""
    tracer, name, tags = opentracing.tracer, task.name, None
    if getattr(tracer, "records", True) is not False:  # as it is without OpenTelemetry's SDK
        tags = {**_RUN_TAGS, _TASK_NAME: name, _TASK_ID: task_id}
        if request.retries:
            tags[_RETRIES] = request.retries
        published = _header(request, _PUBLISHED_HEADER)
        if isinstance(published, float):
            due = published if request.eta is None else max(published, _planned(request.eta))
            tags[_QUEUE_TIME] = max(0.0, (start_time or time()) - due)
    delivery = request.delivery_info
    is_eager = delivery and delivery.get("is_eager")
    parent = get_current_span() if is_eager else _caller(request)
    return tracer.start_span(
        operation_name=f"Celery:run:{name}",
        child_of=parent,
        tags=tags,
        start_time=start_time,
        ignore_active_span=parent is None and not is_eager,
    )


def _caller(request: Any) -> Any:
    """Return the context that a message came with, or ``None``."""
    carrier = _header(request, _CONTEXT_HEADER)
    try:
        return opentracing.tracer.extract(Format.TEXT_MAP, carrier) if carrier else None
    except UnsupportedFormatException:
        return None
    except Exception as error:
        report("extracting the span context of a Celery task", error)
        return None


def _planned(eta: str) -> float:
    from celery.utils.time import maybe_iso8601, maybe_make_aware

    return float(maybe_make_aware(maybe_iso8601(eta)).timestamp())


class _Run(Scope):  # type: ignore[misc]
    """The scope of a run, which ends its span, at the latest when the task's request is dropped."""

    _scope: Scope | None = None

    def __init__(self, span: Span) -> None:
        self._span: Any = span
        self._handled = sys.exc_info()[1]
        try:
            self._manager = manager = opentracing.tracer.scope_manager
            self._outer = manager.active
            self._scope = manager.activate(span, False)
        except Exception as error:
            report("activating the span of a Celery task", error)

    def _raised(self) -> BaseException | None:
        """Return the exception that leaves the run just now, if one does."""
        error = sys.exc_info()[1]
        return None if error is self._handled else error

    def end(self, retval: Any, state: str | None) -> None:
        """End the run, with its error if there is one."""
        error = retval if state == "FAILURE" else self._raised()
        if state is not None:
            self._span.set_tag(_STATE, state)
        if state == "RETRY":
            self._span.log_kv({logs.EVENT: "retry", logs.MESSAGE: str(retval)})
        self.__exit__(type(error), error, None if error is None else error.__traceback__)

    def close(self) -> None:
        """Leave the scope, and those that the task has left open."""
        scope, self._scope = self._scope, None
        if scope is None:
            return
        manager = self._manager
        is_innermost = manager.active is scope
        scope.close()
        if not is_innermost:
            _close_down_to(self._outer, manager)

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        """End the run, with an exception if there is one."""
        span, self._span = self._span, None
        if span is not None:
            try:
                self.close()
            finally:
                if exc_val is None:
                    span.finish()
                else:
                    span.__exit__(exc_type, exc_val, exc_tb)

    def __del__(self) -> None:
        if self._span is not None:
            try:
                self.__exit__(None, None, None)
            except Exception as error:
                report("ending the span of an abandoned Celery task", error)


def _close_down_to(outer: Scope | None, manager: ScopeManager) -> None:
    for _ in range(_OPEN_SCOPES):
        active = manager.active
        if active is None or active is outer or active is not manager.active:
            return  # the last: of a manager that makes a scope each time it is asked
        active.close()


@_unless(idle)
def task_postrun_handler(task: Any, retval: Any = None, state: str | None = None, **_: Any) -> None:
    """End the span of a run, whatever became of it."""
    try:
        run = vars(task.request).pop("tracing_context", None)
        if run is not None:  # else it has ended already, or began untraced
            run.end(retval, state)
    except Exception as error:
        report("ending the span of a Celery task", error)


def finish_current_span(task: Any, exc_type: Any = None, exc_val: Any = None, exc_tb: Any = None) -> None:
    """End the span of the task's present run, with an exception if there is one, and have it current no longer."""
    run = vars(task.request).pop("tracing_context", None)
    if run is not None:
        run.__exit__(exc_type, exc_val, exc_tb)


def task_success_handler(sender: Any, **_: Any) -> None:
    """End the span of the present run of ``sender``, for a receiver of Celery's ``task_success``."""
    finish_current_span(sender)


def task_failure_handler(sender: Any, exception: BaseException, traceback: Any, **_: Any) -> None:
    """End the span of the present run of ``sender`` with its error, for a receiver of Celery's ``task_failure``."""
    finish_current_span(sender, type(exception), exception, traceback)


def _lost_run(request: Any, error: BaseException) -> Span | None:
    """Return the span of a run whose process was killed; it has told of its error, but not ended."""
    from billiard.exceptions import WorkerLostError
    from celery.app.task import Context

    if not (isinstance(error, WorkerLostError) and _KILLED.match(str(error)) and request.time_start):
        return None
    span = _begin_run(request.task, request.id, Context(request.request_dict), request.time_start)
    span.set_tag(_STATE, "FAILURE")
    Span._on_error(span, type(error), error, error.__traceback__)
    return span


patcher: CeleryPatcher
set_patcher: Callable[[Patcher], None]
install_patches: Callable[[], None]
reset_patches: Callable[[], None]

CeleryPatcher.configure_hook_module(globals())


def __getattr__(name: str) -> Any:
    """Give the untraced ``Task.apply_async`` as ``_task_apply_async``, a traced one as ``task_apply_async_wrapper``."""
    if name not in ("_task_apply_async", "task_apply_async_wrapper"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from celery.app.task import Task
    except ImportError as error:
        raise AttributeError(f"{name}: {error}") from error
    original = inspect.unwrap(Task.apply_async)
    if name == "_task_apply_async":
        return original
    return instrument(original, FlowDescription(CeleryPatcher().apply_async, _APPLY_ASYNC, activate=True))
