"""One code path for every shape of call: what is wrapped, described, activated, finished, and when.

:func:`instrument` makes a wrapper round a function of a library or of the user's. The wrapper is compiled from one
template with the exact signature of the function: a call then costs a tenth of a microsecond less than through
``*args, **kwargs``, wrong arguments get the function's own ``TypeError``, and a coroutine function, a generator
function or an asynchronous generator function stays one.

What a call means is said by a *description*: a function that takes the call's arguments by name (the instance first, by
position), leaves out those that it does not need, and returns a span, or yields it and is resumed with the outcome.
One that takes ``*args`` is called as the caller called, through a wrapper that is a little slower.
``None`` means that the call is not traced. Descriptions, tracers and user hooks may fail: the failure is reported,
and the call goes on as if there were no tracing. The original is called exactly once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import traceback
import types
from collections.abc import Callable, Generator, Mapping
from contextvars import Token
from typing import Any, NamedTuple

import opentracing
from opentracing import Scope, ScopeManager, Tracer
from opentracing.scope_managers.contextvars import _SCOPE
from wrapt import FunctionWrapper

from ..interceptors import ClientInterceptors
from ..utils import log_error
from .safety import report

_UNTOUCHED = len(vars(Tracer()))
_interceptors = ClientInterceptors.get_interceptors()


class _Gates(dict[type, Any]):
    """Whether tracers of a type can be idle: ``None`` if they never are, ``is_idle`` where they have it, or ``True``.

    Of many types, as mocks have, the first are kept.
    """

    def __missing__(self, kind: type) -> Any:
        gate = True if kind is Tracer else getattr(kind, "is_idle", None)
        if len(self) < 16:
            self[kind] = gate
        return gate


_gates = _Gates()


def _idle(purpose: str | None) -> Callable[[], bool]:
    def idle() -> bool:
        """Tell whether nobody listens: the tracer is the API's own no-op, as it came, and there are no interceptors.

        A tracer whose class has a method ``is_idle(purpose)`` is asked as well, whatever interceptors there are.
        """
        tracer = opentracing.tracer
        kind: Any = type(tracer)
        if kind is not Tracer:
            gate = _gates[kind]
            return gate is not None and gate(tracer, purpose)
        return len(tracer.__dict__) == _UNTOUCHED and type(tracer._scope_manager) is ScopeManager and not _interceptors

    return idle


#: Tell it of any call, in which a context may arrive; of one that takes a context along; of such a one by HTTP; and of
#: one to a database, which takes no context along.
idle, idle_client, idle_http, idle_database = _STANDARD = tuple(map(_idle, (None, "client", "http", "database")))

_Texts = tuple[str, str, str]


def whole_message(error: BaseException) -> str:
    """Return all that an error says."""
    return str(error)


class Switch:
    """Whether a wrapper traces; off, it only calls through. Flipped by patches, for wrappers that can't be removed."""

    __slots__ = ("active",)

    def __init__(self, active: bool = True) -> None:
        self.active = active


class Description:
    """A description that returns the span, with the rules by which such a span is made current and ended.

    Args:
        describe: the description.
        place: what it describes, for reports.
        activate: make the span current during the call.
        callback: name of the parameter that takes a callback, if the call ends in one.
        idle: tells at each call whether it can be left untraced because nobody listens.
        message_of: returns what may be said of an error. Where that is not all of ``str(error)``, the error itself is
            left out of the span's log.
    """

    #: The source texts of a handle, by what the description returned, and of a handle's span.
    _begun = "{described}"
    _span = "_ot_handle"

    def __init__(
        self,
        describe: Callable[..., Any],
        place: str,
        *,
        activate: bool = False,
        callback: str | None = None,
        idle: Callable[[], bool] = idle,
        message_of: Callable[[BaseException], str] = whole_message,
    ) -> None:
        self.describe = describe
        self.place = place
        self.activate = activate
        self.callback = callback
        self.idle = idle
        self.message_of = message_of

    def refuse(self, error: Exception) -> None:
        """Report that a call could not be described, unless its arguments are just wrong."""
        if isinstance(error, TypeError) and len(list(traceback.walk_tb(error.__traceback__))) <= 1:
            return  # raised by the call of the description itself: the arguments do not fit; the library will say so
        report(f"{self.place}: description", error)

    def enter(self, handle: Any) -> Scope | None:
        """Make the handle's span current."""
        try:
            return opentracing.tracer.scope_manager.activate(handle, False)
        except Exception as error:
            self.not_entered(error)
            return None

    def leave(self, scope: Scope | None) -> None:
        """Undo :meth:`enter`."""
        if scope is None:
            return
        try:
            scope.close()
        except Exception as error:
            self.not_left(scope, error)

    def not_entered(self, error: Exception) -> None:
        """Report that a span could not be made current."""
        report(f"{self.place}: activation", error)

    def not_left(self, scope: Scope | None, error: Exception) -> None:
        """Leave a scope in a copy of the context that it was entered in: its token is of no use there."""
        if scope is None:  # it was not entered
            return
        if not isinstance(error, ValueError):
            report(f"{self.place}: deactivation", error)
        elif _SCOPE.get(None) is scope:
            outer = scope._token.old_value
            _SCOPE.set(None if outer is Token.MISSING else outer)

    @property
    def texts(self) -> _Texts:
        """The source texts of what a wrapper makes current, if anything, how it ends a span, and when it makes none."""
        succeed = _SUCCEEDING.get(type(self).succeed, "_ot_description.succeed(_ot_handle, _ot_result)")
        idle = _IDLE if self.idle in _STANDARD else "_ot_idle()"
        return self._span if self.activate else "", succeed, idle

    def span_of(self, handle: Any) -> Any:
        """Return the span of a handle."""
        return handle

    def succeed(self, handle: Any, result: Any) -> None:
        """End the span of a call that returned."""
        try:
            handle.finish()
        except Exception as error:
            self.not_finished(error)

    def not_finished(self, error: Exception) -> None:
        """Report that a span could not be finished."""
        report(f"{self.place}: finish", error)

    def fail(self, handle: Any, error: BaseException) -> None:
        """End the span of a call that raised."""
        try:
            if self.message_of is whole_message or (message := self.message_of(error)) == str(error):
                handle.__exit__(type(error), error, error.__traceback__)
            else:
                log_error(handle, error, message)
                handle.finish()
        except Exception as failure:
            report(f"{self.place}: finish", failure)

    def settle(self, handle: Any, future: Any) -> None:
        """End the span of a call whose future is done, without marking its exception as seen."""
        try:
            error = _cancelled(future) if future.cancelled() else future._exception
            result = None if error is not None else future.result()
        except Exception as failure:
            report(f"{self.place}: future", failure)
            error = result = None
        if error is None:
            self.succeed(handle, result)
        else:
            self.fail(handle, error)

    def defer(self, handle: Any, result: Any) -> Any:
        """End the span when ``result`` is over; return what the caller gets in its place: a future itself, for one.

        A coroutine or generator goes on as if a coroutine or generator function had been called whose body is its own.
        """
        if isinstance(result, asyncio.Future | concurrent.futures.Future):
            if result.done():  # whoever awaits it goes on at once, before any callback is called
                self.settle(handle, result)
                return result
            try:
                result.add_done_callback(functools.partial(self.settle, handle))
            except Exception as error:  # its event loop is closed already
                report(f"{self.place}: future", error)
                self.succeed(handle, None)
            return result
        if type(result) not in _KINDS:  # a proxy, which passes for what it stands for
            self.succeed(handle, result)
            return result
        make = _compile(_KINDS[type(result)], "", "_ot_original()", "_ot_describe()", self.texts, None)
        resumed = make(lambda: result, lambda: handle, _ALWAYS, _never, self)()
        resumed.__name__, resumed.__qualname__ = result.__name__, result.__qualname__
        if isinstance(result, types.GeneratorType) and result.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE:
            return _as_coroutine(resumed)
        return resumed


def _cancelled(future: Any) -> BaseException:
    return asyncio.CancelledError() if isinstance(future, asyncio.Future) else concurrent.futures.CancelledError()


class _Listener:
    """A callback that ends the span of its call, with its first argument for result, and calls the user's."""

    def __init__(self, description: Description, handle: Any, callback: Callable[..., Any] | None) -> None:
        self._description = description
        self._handle = handle
        self._callback = callback

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._end(self._description.succeed, args[0] if args else None)
        assert self._callback is not None
        return self._callback(*args, **kwargs)

    def call_returned(self, result: Any) -> None:
        if self._callback is None:
            self._end(self._description.succeed, result)

    def call_raised(self, error: BaseException) -> None:
        self._end(self._description.fail, error)

    def _end(self, end: Callable[[Any, Any], None], outcome: Any) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            end(handle, outcome)


_Flow = tuple[Any, Generator[Any, Any, Any]]  # the span, and the description that waits for the outcome


class FlowDescription(Description):
    """A description that yields the span: it is resumed with the result, or the error is thrown in.

    An error that it catches counts as told by it; one that it lets pass is tagged and logged as always.
    """

    _begun = "None if (_ot_span := next(_ot_steps := {described}, None)) is None else (_ot_span, _ot_steps)"
    _span = "_ot_handle[0]"

    def span_of(self, handle: _Flow) -> Any:
        return handle[0]

    def enter(self, handle: _Flow) -> Scope | None:
        return super().enter(handle[0])

    def succeed(self, handle: _Flow, result: Any) -> None:
        span, steps = handle
        try:
            steps.send(result)
            steps.close()
        except StopIteration:
            pass
        except Exception as error:
            self.not_followed(error)
        Description.succeed(self, span, result)

    def not_followed(self, error: BaseException) -> None:
        """Report that a description failed to tell of the outcome."""
        report(f"{self.place}: description", error)

    def fail(self, handle: _Flow, error: BaseException) -> None:
        span, steps = handle
        trace, context = error.__traceback__, error.__context__
        told = True
        try:
            steps.throw(error)
            steps.close()
        except StopIteration:
            pass
        except BaseException as raised:
            told = False
            if raised is not error and not _is_converted(raised, error):
                self.not_followed(raised)
        finally:
            error.__traceback__, error.__context__ = trace, context
        if told:
            super().succeed(span, None)
        else:
            super().fail(span, error)


def _is_converted(raised: BaseException, error: BaseException) -> bool:
    """Tell whether ``raised`` is what the interpreter makes of a ``StopIteration`` that a generator lets pass."""
    return isinstance(error, StopIteration) and type(raised) is RuntimeError and raised.__cause__ is error


class _Silent(Description):
    """Stands in where an asynchronous generator is not traced."""

    def __init__(self) -> None:
        super().__init__(lambda: None, "nothing")

    def succeed(self, handle: Any, result: Any) -> None:
        pass

    def fail(self, handle: Any, error: BaseException) -> None:
        pass


_SILENT = _Silent()
_ALWAYS = Switch()


def _never() -> bool:
    return False


@types.coroutine
def _as_coroutine(steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    return (yield from steps)


def _run(description: Description, handle: Any, step: Callable[..., Any], *args: Any) -> Any:
    """Run one step of a generator, its span current meanwhile: never across a ``yield`` to the generator's consumer."""
    scope = description.enter(handle) if description.activate else None
    try:
        item = step(*args)
    except (StopIteration, GeneratorExit) as end:  # exhausted, or closed: its consumer has seen enough
        description.leave(scope)
        description.succeed(handle, getattr(end, "value", None))
        raise
    except BaseException as error:
        description.leave(scope)
        description.fail(handle, error)
        raise
    description.leave(scope)
    return item


async def _run_async(description: Description, handle: Any, step: Callable[..., Any], *args: Any) -> Any:
    """Run one step of an asynchronous generator, as :func:`_run` does of a generator."""
    scope = description.enter(handle) if description.activate else None
    try:
        item = await step(*args)
    except (StopAsyncIteration, GeneratorExit):
        description.leave(scope)
        description.succeed(handle, None)
        raise
    except BaseException as error:
        description.leave(scope)
        description.fail(handle, error)
        raise
    description.leave(scope)
    return item


# The templates. Their own names begin with "_ot_", so that no parameter's name can clash with them.

_BEGIN = """
    try:
        _ot_handle = {described}
    except Exception as _ot_error:
        _ot_description.refuse(_ot_error)
        _ot_handle = None
"""

_CALL = """{define} _ot_call({parameters}):
    if not _ot_switch.active or {idle}:
        return {call}
{begin}
    if _ot_handle is None:
        return {call}
    _ot_scope = None
    {enter}
    {listen}
    try:
        _ot_result = {call}
    except BaseException as _ot_error:
        _ot_description.leave(_ot_scope)
        {fail}
        raise
    {leave}
    {succeed}
    return _ot_result
"""

# Written out, where most calls come along: enter and leave of Description, and succeed of either kind.
_ENTER = """try:
        _ot_scope = _ot_api.tracer.scope_manager.activate({span}, False)
    except Exception as _ot_failure:
        _ot_scope = _ot_description.not_entered(_ot_failure)"""
_LEAVE = """try:
        _ot_scope.close()
    except Exception as _ot_failure:
        _ot_description.not_left(_ot_scope, _ot_failure)"""
_FINISH = """try:
        _ot_handle.finish()
    except Exception as _ot_failure:
        _ot_description.not_finished(_ot_failure)"""
_FOLLOW = """try:
        _ot_handle[1].send(_ot_result)
        _ot_handle[1].close()
    except StopIteration:
        pass
    except Exception as _ot_failure:
        _ot_description.not_followed(_ot_failure)
    """ + _FINISH.replace("_ot_handle", "_ot_handle[0]")
_SUCCEEDING: dict[Callable[..., None], str] = {Description.succeed: _FINISH, FlowDescription.succeed: _FOLLOW}
# Most tracers are never idle.
_IDLE = "(_ot_gates[type(_ot_api.tracer)] is not None and _ot_idle())"

_LISTEN = """_ot_listener = _ot_listen(_ot_description, _ot_handle, {callback})
    if {callback} is not None:
        {callback} = _ot_listener"""

_GENERATOR = """def _ot_call({parameters}):
    if not _ot_switch.active or _ot_idle():
        return (yield from {call})
{begin}
    _ot_steps = {call}
    if _ot_handle is None:
        return (yield from _ot_steps)
    _ot_step, _ot_value = _ot_steps.send, None
    while True:
        try:
            _ot_item = _ot_run(_ot_description, _ot_handle, _ot_step, _ot_value)
        except StopIteration as _ot_stop:
            return _ot_stop.value
        try:
            _ot_step, _ot_value = _ot_steps.send, (yield _ot_item)
        except BaseException as _ot_error:
            _ot_step, _ot_value = _ot_steps.throw, _ot_error
"""

_ASYNC_GENERATOR = """async def _ot_call({parameters}):
    _ot_running = _ot_description
    if not _ot_switch.active or _ot_idle():
        _ot_handle = None
    else:
{begin}
    if _ot_handle is None:
        _ot_running = _ot_silent
    _ot_steps = {call}
    _ot_step, _ot_value = _ot_steps.asend, None
    while True:
        try:
            _ot_item = await _ot_run_async(_ot_running, _ot_handle, _ot_step, _ot_value)
        except StopAsyncIteration:
            return
        try:
            _ot_step, _ot_value = _ot_steps.asend, (yield _ot_item)
        except BaseException as _ot_error:
            _ot_step, _ot_value = _ot_steps.athrow, _ot_error
"""

# The names that the templates share with everybody: a parameter of such a name needs a wrapper of the general kind.
_BUILTINS = {"isinstance", "next", "Exception", "BaseException", "StopIteration", "StopAsyncIteration", "GeneratorExit"}

_FUNCTION, _COROUTINE, _GENERATING, _ASYNC_GENERATING = "function", "coroutine", "generator", "asynchronous generator"
_KINDS = {
    types.CoroutineType: _COROUTINE,
    types.GeneratorType: _GENERATING,
    types.AsyncGeneratorType: _ASYNC_GENERATING,
}
_DEFERRED = (*_KINDS, asyncio.Future, concurrent.futures.Future)


def _source(kind: str, parameters: str, call: str, described: str, texts: _Texts, callback: str | None) -> str:
    span, succeed, idle = texts
    begin = _BEGIN.format(described=described).strip("\n")
    if kind == _GENERATING:
        return _GENERATOR.format(parameters=parameters, call=call, begin=begin)
    if kind == _ASYNC_GENERATING:
        begin = "\n".join("    " + line for line in begin.splitlines())
        return _ASYNC_GENERATOR.format(parameters=parameters, call=call, begin=begin)
    fail = "_ot_description.fail(_ot_handle, _ot_error)"
    if kind == _FUNCTION:
        succeed = (
            "if _ot_result is not None and isinstance(_ot_result, _ot_deferred):\n"
            f"        return _ot_description.defer(_ot_handle, _ot_result)\n    {succeed}"
        )
    if callback is not None:
        fail = "_ot_listener.call_raised(_ot_error)"
        succeed = "_ot_listener.call_returned(_ot_result)"
    return _CALL.format(
        define="async def" if kind == _COROUTINE else "def",
        parameters=parameters,
        begin=begin,
        idle=idle,
        call=f"await {call}" if kind == _COROUTINE else call,
        enter=_ENTER.format(span=span) if span else "",
        leave=_LEAVE if span else "",
        listen=_LISTEN.format(callback=callback) if callback else "",
        fail=fail,
        succeed=succeed,
    )


@functools.lru_cache(maxsize=1024)
def _compile(
    kind: str, parameters: str, call: str, described: str, texts: _Texts, callback: str | None
) -> Callable[..., Any]:
    """Return a function that makes wrappers of one shape; there are few shapes and many functions."""
    source = _source(kind, parameters, call, described, texts, callback)
    factory = "def _ot_factory(_ot_original, _ot_describe, _ot_switch, _ot_idle, _ot_description):\n"
    factory += "".join(f"    {line}\n" for line in source.splitlines())
    namespace: dict[str, Any] = {
        "_ot_api": opentracing,
        "_ot_gates": _gates,
        "_ot_deferred": _DEFERRED,
        "_ot_listen": _Listener,
        "_ot_run": _run,
        "_ot_run_async": _run_async,
        "_ot_silent": _SILENT,
    }
    exec(compile(factory + "    return _ot_call\n", "<traced call>", "exec"), namespace)
    return namespace["_ot_factory"]  # type: ignore[no-any-return]


class _Signature(NamedTuple):
    """How a function is called: as source text of its parameters and of a call that hands all of them on."""

    parameters: str
    arguments: str
    positional: tuple[str, ...]
    names: frozenset[str]
    rest: str | None
    keywords: str | None


_ANYTHING = _Signature("*_ot_args, **_ot_kwargs", "*_ot_args, **_ot_kwargs", (), frozenset(), "_ot_args", "_ot_kwargs")


def is_plain(function: Any) -> bool:
    """Tell whether something is a function written in Python itself, and not a proxy that passes for one."""
    return type(function) is types.FunctionType


def _signature(function: Any) -> _Signature:
    """Read the signature of a plain function from its code: what ``inspect`` tells may be a decorator's claim."""
    if not is_plain(function):
        return _ANYTHING
    code = function.__code__
    count, only = code.co_argcount, code.co_posonlyargcount
    names = code.co_varnames[: count + code.co_kwonlyargcount]
    extra = iter(code.co_varnames[len(names) :])
    rest = next(extra) if code.co_flags & inspect.CO_VARARGS else None
    keywords = next(extra) if code.co_flags & inspect.CO_VARKEYWORDS else None
    all_names = {*names, rest or "_", keywords or "_"}
    if _BUILTINS & all_names or not all(name.isidentifier() and not name.startswith("_ot_") for name in all_names):
        return _ANYTHING
    positional, keyword_only = names[:count], names[count:]
    optional = set(positional[count - len(function.__defaults__ or ()) :]) | set(function.__kwdefaults__ or ())
    parameters = [f"{name}=None" if name in optional else name for name in positional]
    if only:
        parameters.insert(only, "/")
    if rest or keyword_only:
        parameters.append(f"*{rest or ''}")
    parameters += [f"{name}=None" if name in optional else name for name in keyword_only]
    arguments = [*positional, *([f"*{rest}"] if rest else []), *(f"{name}={name}" for name in keyword_only)]
    if keywords:
        parameters.append(f"**{keywords}")
        arguments.append(f"**{keywords}")
    return _Signature(", ".join(parameters), ", ".join(arguments), positional, frozenset(names), rest, keywords)


def _described(wanted: Mapping[str, inspect.Parameter], signature: _Signature) -> str:
    """Return the arguments with which the description is called, out of the call's own.

    Raises:
        TypeError: the description needs a parameter that the function does not have.
    """
    arguments: list[str] = []
    for index, parameter in enumerate(wanted.values()):
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments += [f"**{signature.keywords}"] if signature.keywords else []
        elif index == 0 and signature.positional:
            arguments.append(signature.positional[0])
        elif parameter.name in signature.names:
            arguments.append(f"{parameter.name}={parameter.name}")
        elif parameter.default is parameter.empty:
            raise TypeError(f"its signature has changed: it takes no {parameter.name!r}")
    return ", ".join(arguments)


def _view(original: Any, signature: _Signature, description: Description) -> tuple[Callable[..., Any], str]:
    """Return what describes a call, and the source text of its arguments.

    A decorator takes anything, whatever its function takes; so does what is not written in Python. The arguments are
    told apart by the innermost function then, if there is one; if not, the description gets them as they are spelt.
    """
    describe = description.describe
    wanted = inspect.signature(describe).parameters
    function = inspect.unwrap(original)
    if signature.rest and is_plain(function) and function is not original and not _as_spelt(wanted):
        return _selecting(describe, wanted, function), signature.arguments
    if signature is _ANYTHING and wanted:
        return describe, signature.arguments
    return describe, _described(wanted, signature)


def _begun(description: Description, arguments: str) -> str:
    """Return the source text that makes the handle."""
    return description._begun.format(described=f"_ot_describe({arguments})")


def _as_spelt(wanted: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is parameter.VAR_POSITIONAL for parameter in wanted.values())


def _selecting(
    describe: Callable[..., Any], wanted: Mapping[str, inspect.Parameter], function: types.FunctionType
) -> Callable[..., Any]:
    """Return a function that takes what ``function`` takes, and calls ``describe`` with the arguments that it wants."""
    signature = _signature(function)
    if signature is _ANYTHING:
        return describe
    source = f"lambda {signature.parameters}: _ot_describe({_described(wanted, signature)})"
    select: types.FunctionType = eval(source, {"_ot_describe": describe})
    select.__defaults__, select.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return select


def _kind(function: Any) -> str:
    if inspect.iscoroutinefunction(function):
        return _COROUTINE
    if inspect.isasyncgenfunction(function):
        return _ASYNC_GENERATING
    return _GENERATING if inspect.isgeneratorfunction(function) else _FUNCTION


def instrument(original: Callable[..., Any], description: Description, switch: Switch = _ALWAYS) -> Callable[..., Any]:
    """Return a function like ``original`` that traces its calls.

    Args:
        original: a function of any of the four kinds, or any other callable.
        description: what its calls mean.
        switch: turns the wrapper into a pass-through and back.

    Raises:
        TypeError: the description does not fit the function's signature.
    """
    as_spelt = _as_spelt(inspect.signature(description.describe).parameters)
    signature = _ANYTHING if as_spelt else _signature(original)
    if description.callback is not None and description.callback not in signature.names:
        raise TypeError(f"its signature has changed: it takes no {description.callback!r}")
    describe, described = _view(original, signature, description)
    make = _compile(
        _kind(original),
        signature.parameters,
        f"_ot_original({signature.arguments})",
        _begun(description, described),
        description.texts,
        description.callback,
    )
    wrapper = make(original, describe, switch, description.idle, description)
    functools.update_wrapper(wrapper, original)
    if is_plain(original):
        if signature is not _ANYTHING:
            wrapper.__defaults__ = original.__defaults__
            wrapper.__kwdefaults__ = original.__kwdefaults__
        if original.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE:
            wrapper = types.coroutine(wrapper)
    return wrapper  # type: ignore[no-any-return]


_FunctionWrapper: Any = FunctionWrapper  # typed in some releases, and differently


class _Proxy(_FunctionWrapper):  # type: ignore[misc]
    """Stands in for a callable of any type: has all that it has, is bound as it is, pickled and copied as it is."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if hasattr(type(self.__wrapped__), "__get__"):
            return super().__get__(instance, owner)
        return self  # early releases of wrapt do not know this case

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)

    def __copy__(self) -> _Proxy:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> _Proxy:
        return self


def proxy(original: Any, description: Description, switch: Switch) -> Any:
    """Return a stand-in for any callable or callable descriptor that traces its calls; see :func:`instrument`.

    It costs more than a wrapper of a plain function. Where the original binds, the description gets the instance first.
    """
    describe, described = _view(original, _ANYTHING, description)
    if described:
        bound = "_ot_instance is None or _ot_wrapped is _ot_original"
        described = f"*(_ot_args if {bound} else (_ot_instance, *_ot_args)), **_ot_kwargs"
    parameters, call = "_ot_wrapped, _ot_instance, _ot_args, _ot_kwargs", "_ot_wrapped(*_ot_args, **_ot_kwargs)"
    make = _compile(_FUNCTION, parameters, call, _begun(description, described), description.texts, None)
    return _Proxy(original, make(original, describe, switch, description.idle, description))
