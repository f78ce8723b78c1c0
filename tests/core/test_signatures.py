"""A wrapper takes exactly what the function takes, and a description gets the arguments that it names."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.utils import child_span

from .spans import GOOD, told, traced


def nothing() -> Any:
    return ()


def plain(a, b, c=3):
    return a, b, c


def positional_only(a, b=2, /, c=3):
    return a, b, c


def keyword_only(a, *, b, c=3):
    return a, b, c


def late_default(*, a=1, b):
    return a, b


def rest(a, *args, b=2, **kwargs):
    return a, args, b, kwargs


def same_name_twice(a, /, **kwargs):
    return a, kwargs


def shadowing_builtins(isinstance, Exception=2, *, StopIteration=3, BaseException=4):  # noqa: A002
    return isinstance, Exception, StopIteration, BaseException


def shadowing_in_rest(a, *GeneratorExit, **isinstance):  # noqa: A002
    return a, GeneratorExit, isinstance


def of_our_names(_ot_call, _ot_original=2):
    return _ot_call, _ot_original


def of_our_names_in_rest(*_ot_original, **_ot_call):
    return _ot_original, _ot_call


def defaults_that_are_objects(a=[], b=print):  # noqa: B006
    return a, b


def annotated(a: int, b: undefined = None) -> missing:  # noqa: F821
    return a, b


class Mangled:
    def method(self, __a, __b=2):
        return __a, __b


FUNCTIONS = (
    *(nothing, plain, positional_only, keyword_only, late_default, rest, same_name_twice, shadowing_builtins),
    *(shadowing_in_rest, of_our_names, of_our_names_in_rest, defaults_that_are_objects, annotated, Mangled.method),
    *(lambda a, b=2: (a, b), lambda *args: args),
)
VALUES = ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))
NAMES = ("a", "b", "c", "isinstance", "Exception", "_ot_call", "_ot_original", "self", "_Mangled__a")
KEYWORDS = [dict.fromkeys(names, "named") for count in range(3) for names in itertools.combinations(NAMES, count)]


def outcome(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        return str(error)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_call_has_the_outcome_that_it_has_untraced(function: Any, tracer: MockTracer) -> None:
    """Right arguments give the result, wrong ones the function's own ``TypeError``; only the right ones are a call."""
    wrapper = traced(function)
    for args, kwargs in itertools.product(VALUES, KEYWORDS):
        tracer.reset()
        expected = outcome(function, args, kwargs)
        assert outcome(wrapper, args, kwargs) == expected, (args, kwargs)
        if not isinstance(expected, str):
            assert told(tracer) == [GOOD]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_wrapper_looks_like_the_function(function: Any) -> None:
    """Signature, defaults, names, annotations and attributes are those of the function."""
    wrapper = traced(function)
    assert inspect.signature(wrapper) == inspect.signature(function)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__", "__dict__"):
        expected = getattr(function, name) if name != "__dict__" else {"__wrapped__": function}
        assert getattr(wrapper, name) == expected
    assert inspect.isfunction(wrapper)


@pytest.mark.parametrize("function", [plain, positional_only, keyword_only, late_default, rest, annotated])
def test_the_wrappers_own_signature_is_the_functions(function: Any) -> None:
    """Even who does not follow ``__wrapped__``, as frameworks that look at the code, sees the same parameters."""
    own = inspect.signature(traced(function), follow_wrapped=False)
    assert own == inspect.signature(function)


def test_a_default_is_the_very_object() -> None:
    """A mutable default is shared with the function, as the function's author may want."""
    assert traced(defaults_that_are_objects)()[0] is defaults_that_are_objects()[0]


def tagged(description: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """Return a description whose span has for tags what ``description`` returns."""

    @functools.wraps(description)
    def describe(*args: Any, **kwargs: Any) -> Any:
        return child_span("call", description(*args, **kwargs))

    describe.__signature__ = inspect.signature(description)
    return describe


def arguments(tracer: MockTracer) -> Any:
    (span,) = tracer.finished_spans()
    return span.tags


def test_a_description_names_the_arguments_that_it_needs(tracer: MockTracer) -> None:
    """It gets them by name, however the caller spelt them; defaults are filled in."""

    def function(self, url, body=None, *, timeout=30):
        return url

    wrapper = traced(function, tagged(lambda instance, timeout, url: {"of": instance, "url": url, "timeout": timeout}))
    for call in (lambda: wrapper("me", "u"), lambda: wrapper("me", url="u"), lambda: wrapper(self="me", url="u")):
        tracer.reset()
        assert call() == "u"
        assert arguments(tracer) == {"of": "me", "url": "u", "timeout": 30}


def test_a_parameter_that_a_function_lacks_gets_the_descriptions_default(tracer: MockTracer) -> None:
    """A description serves versions of a library with and without a parameter."""

    def older(self, url, body):
        return url

    traced(older, tagged(lambda self, timeout=7: {"timeout": timeout}))("me", "u", "b")
    assert arguments(tracer) == {"timeout": 7}


def test_positional_only_parameters_are_found_by_name(tracer: MockTracer) -> None:
    """A name is a name, even if callers can't use it."""

    def function(self, url, body, /):
        return url

    traced(function, tagged(lambda self, body: {"body": body}))("me", "u", "b")
    assert arguments(tracer) == {"body": "b"}


def test_a_description_may_take_keywords(tracer: MockTracer) -> None:
    """``**options`` of the description are those of the function that it does not name itself."""

    def function(self, *args, **options):
        return args

    traced(function, tagged(lambda self, **options: {"options": options}))("me", 1, x=2)
    assert arguments(tracer) == {"options": {"x": 2}}


def test_a_description_may_take_arguments_as_they_are_spelt(tracer: MockTracer) -> None:
    """One with ``*args`` sees the call as the caller wrote it."""

    def function(self, name, *args, **options):
        return args

    traced(function, tagged(lambda *args, **options: {"args": args, "options": options}))("me", "n", 1, x=2)
    assert arguments(tracer) == {"args": ("me", "n", 1), "options": {"x": 2}}


def test_a_function_without_a_needed_parameter_is_refused() -> None:
    """Better no span than one of other arguments: whoever patches hears of it."""

    def changed(self, address):
        return address

    with pytest.raises(TypeError, match="takes no 'url'"):
        traced(changed, tagged(lambda self, url: {"url": url}))


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function as most decorators do."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def test_arguments_are_named_below_a_decorator(tracer: MockTracer) -> None:
    """A decorator's ``*args, **kwargs`` are told apart by the function that it wraps."""

    def function(self, url, timeout=30):
        return url

    wrapper = traced(decorated(decorated(function)), tagged(lambda self, timeout, url: {"url": url, "t": timeout}))
    assert wrapper("me", "u") == "u"
    assert arguments(tracer) == {"url": "u", "t": 30}
    tracer.reset()
    assert wrapper("me", timeout=1, url="u") == "u"
    assert arguments(tracer) == {"url": "u", "t": 1}


def test_a_decorator_may_take_other_arguments_than_its_function(tracer: MockTracer) -> None:
    """What can't be told apart is not traced; the call is the decorator's affair."""

    def function(self, url):
        return url

    @functools.wraps(function)
    def retrying(*args: Any, retries: int, **kwargs: Any) -> Any:
        return retries, function(*args, **kwargs)

    wrapper = traced(retrying, tagged(lambda self, url: {"url": url}))
    assert wrapper("me", "u", retries=3) == (3, "u")
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3"):
        wrapper("me", "u", "too many", retries=3)
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'retries'"):
        wrapper("me", "u")


@pytest.mark.parametrize("function", [len, functools.partial(plain, 1), "text".join, divmod, [].append])
def test_any_callable_can_be_traced(function: Any, tracer: MockTracer) -> None:
    """Builtins, partials and bound methods: results and ``TypeError`` are their own."""
    wrapper = traced(function)
    for args in ((), ([],), (["a"], 2), (7, 2), (1, 2, 3)):
        tracer.reset()
        expected = outcome(function, args, {})
        assert outcome(wrapper, args, {}) == expected
        assert len(tracer.finished_spans()) == 1
