"""What stands at a target need not be a plain function: it may be built in, a proxy, a mock, or patched by others."""

from __future__ import annotations

import asyncio
import copy
import functools
import importlib
import inspect
import pickle
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import wrapt
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation._core import safety
from opentracing_instrumentation._core.patching import Patcher, trace
from opentracing_instrumentation.utils import child_span

from .spans import GOOD, hook, told

Write = Callable[[str], str]
Install = Callable[[Patcher], Patcher]

LIBRARY = """
    import asyncio
    import functools

    class Client:
        def get(self, url, timeout=30):
            return self, url, timeout

        @classmethod
        def make(cls, url, timeout=30):
            return cls, url, timeout

        @staticmethod
        def parse(url, timeout=30):
            return url, timeout

        async def fetch(self, url, timeout=30):
            return self, url, timeout

        def walk(self, url, timeout=30):
            yield url
            yield timeout

        length = len
        prefixed = functools.partial(max, 5)
        half = functools.partialmethod(get, "half")
        number = 5

        class Inner:
            pass

        @functools.lru_cache
        def cached(self, url):
            return url

        @property
        def name(self):
            return "name"

    length = len
    bound = Client().get
    partial = functools.partial(divmod, 7)
    cached = functools.lru_cache(divmod)
    class Class:
        pass
"""


def url_hook(target: str) -> Patcher:
    """Return a hook whose spans tell the arguments ``url`` and ``timeout``."""

    class Hook(Patcher):
        @trace(target)
        def call(self, instance: Any, url: str, timeout: int = 0) -> Any:
            return child_span("call", {"of": instance, "url": url, "timeout": timeout})

    return Hook()


def tags(tracer: MockTracer) -> list[Any]:
    found = [span.tags for span in tracer.finished_spans()]
    tracer.reset()
    return found


@pytest.fixture
def foreign_calls() -> list[Any]:
    """What a foreign ``wrapt`` wrapper has been called with."""
    return []


@pytest.fixture
def wrap(foreign_calls: list[Any]) -> Callable[[str, str], None]:
    """The function that patches a module as other instrumentations do, with ``wrapt``."""

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        foreign_calls.append((instance, args, kwargs))
        return wrapped(*args, **kwargs)

    return lambda name, path: wrapt.wrap_function_wrapper(name, path, wrapper)


def test_a_method_wrapped_by_wrapt_is_traced_below_no_change(
    write: Write, install: Install, tracer: MockTracer, wrap: Any, foreign_calls: list[Any]
) -> None:
    """The foreign wrapper still gets its instance, and the description its arguments by name."""
    name = write(LIBRARY)
    client_class = importlib.import_module(name).Client
    wrap(name, "Client.get")
    patcher = install(url_hook(f"{name}:Client.get"))
    client = client_class()
    assert client.get("u", timeout=1) == (client, "u", 1)
    assert client_class.get(client, url="u") == (client, "u", 30)
    assert foreign_calls == [(client, ("u",), {"timeout": 1}), (client, (), {"url": "u"})]
    assert tags(tracer) == [{"of": client, "url": "u", "timeout": 1}, {"of": client, "url": "u", "timeout": 30}]
    foreign_calls.clear()
    patcher.reset_patches()
    assert client.get("u") == (client, "u", 30)
    assert foreign_calls.pop() == (client, ("u",), {})
    assert tags(tracer) == []


def test_a_classmethod_wrapped_by_wrapt_is_traced(
    write: Write, install: Install, tracer: MockTracer, wrap: Any, foreign_calls: list[Any]
) -> None:
    """The class is the first argument, called on the class as on an instance."""
    name = write(LIBRARY)
    client_class = importlib.import_module(name).Client
    wrap(name, "Client.make")
    install(url_hook(f"{name}:Client.make"))
    assert client_class.make("u") == client_class().make("u") == (client_class, "u", 30)
    assert foreign_calls == [(client_class, ("u",), {})] * 2
    assert tags(tracer) == [{"of": client_class, "url": "u", "timeout": 30}] * 2


def test_a_staticmethod_wrapped_by_wrapt_is_traced(
    write: Write, install: Install, tracer: MockTracer, wrap: Any
) -> None:
    """The first argument is the first argument."""
    name = write(LIBRARY)
    client_class = importlib.import_module(name).Client
    wrap(name, "Client.parse")
    install(url_hook(f"{name}:Client.parse"))
    assert client_class.parse("u", 1) == client_class().parse("u", 1) == ("u", 1)
    assert tags(tracer) == [{"of": "u", "url": "u", "timeout": 1}] * 2


@pytest.mark.parametrize("path", ["Client.make", "Client.parse", "Client.get"])
def test_each_kind_of_method_stays_one(path: str, write: Write, install: Install, tracer: MockTracer) -> None:
    """Class methods, static methods and methods are bound as before, on classes and on instances."""
    name = write(LIBRARY)
    client_class = importlib.import_module(name).Client
    attribute = path.partition(".")[2]
    kind = type(inspect.getattr_static(client_class, attribute))
    client = client_class()
    expected = getattr(client, attribute)("u", timeout=1)
    patcher = install(hook(f"{name}:{path}"))
    assert type(inspect.getattr_static(client_class, attribute)) is kind
    assert getattr(client, attribute)("u", timeout=1) == expected
    assert told(tracer) == [GOOD]
    patcher.reset_patches()
    assert getattr(client, attribute)("u", timeout=1) == expected
    assert told(tracer) == [GOOD]


@pytest.mark.parametrize("path", ["length", "Client.length"])
def test_a_builtin_is_not_bound(path: str, write: Write, install: Install, tracer: MockTracer) -> None:
    """A builtin in a class does not take the instance; nor does its stand-in."""
    name = write(LIBRARY)
    module = importlib.import_module(name)
    install(hook(f"{name}:{path}"))
    functions = [module.length] if path == "length" else [module.Client.length, module.Client().length]
    for function in functions:
        assert function("four") == 4
        with pytest.raises(TypeError, match="has no len"):
            function(4)
        with pytest.raises(TypeError, match=r"takes exactly one argument \(0 given\)"):
            function()
    assert len(tracer.finished_spans()) == 3 * len(functions)


def test_a_bound_method_in_a_module_is_called_as_it_is(write: Write, install: Install, tracer: MockTracer) -> None:
    """Its description gets what the caller gives, not the instance that it is bound to."""
    name = write(LIBRARY)
    module = importlib.import_module(name)
    client = module.bound.__self__

    class Hook(Patcher):
        @trace(f"{name}:bound")
        def call(self, *args: Any, **kwargs: Any) -> Any:
            return child_span("call", {"args": args, "kwargs": kwargs})

    install(Hook())
    assert module.bound("u", timeout=2) == (client, "u", 2)
    assert tags(tracer) == [{"args": ("u",), "kwargs": {"timeout": 2}}]


@pytest.mark.parametrize("path", ["cached", "Client.cached"])
def test_what_a_callable_can_do_besides_it_still_can(
    path: str, write: Write, install: Install, tracer: MockTracer
) -> None:
    """A cached function keeps ``cache_info`` and ``cache_clear``."""
    name = write(LIBRARY)
    module = importlib.import_module(name)
    install(hook(f"{name}:{path}"))
    client = module.Client()
    cached = module.cached if path == "cached" else module.Client.cached
    call = (lambda: module.cached(7, 2)) if path == "cached" else (lambda: client.cached("u"))
    assert call() == call()
    assert cached.cache_info().hits == 1
    cached.cache_clear()
    assert cached.cache_info().currsize == 0
    assert told(tracer) == [GOOD] * 2


@pytest.mark.parametrize("path", ["partial", "Client.prefixed"])
def test_a_partial_is_traced(path: str, write: Write, install: Install, tracer: MockTracer) -> None:
    """It is not bound, and stays a partial to whoever asks."""
    name = write(LIBRARY)
    module = importlib.import_module(name)
    install(hook(f"{name}:{path}"))
    partial = module.partial if path == "partial" else module.Client.__dict__["prefixed"]
    assert isinstance(partial, functools.partial)
    assert partial(2) == ((3, 1) if path == "partial" else 5)
    assert told(tracer) == [GOOD]


@pytest.mark.parametrize("path", ["Class", "Client.Inner", "Client.name", "Client.number", "Client.half"])
def test_what_is_no_function_is_left_alone(
    path: str, write: Write, install: Install, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A class stays a class, a property a property; the patch says why it is missing."""
    monkeypatch.setattr(safety, "strict", False)
    name = write(LIBRARY)
    module = importlib.import_module(name)
    parent = module.Client if "." in path else module
    before = inspect.getattr_static(parent, path.rpartition(".")[2])
    patcher = install(hook(f"{name}:{path}", f"{name}:Client.get"))
    assert inspect.getattr_static(parent, path.rpartition(".")[2]) is before
    refused, applied = patcher.all_patches
    assert (refused.state, applied.state) == ("missing", "applied")
    assert refused.detail.startswith("TypeError: it is no function")
    assert [record.getMessage() for record in caplog.records] == [
        f"{name}:{path}: patch failed; the call itself goes on (reported once)"
    ]


@pytest.mark.parametrize("replacement", [mock.MagicMock, mock.Mock])
def test_a_mock_in_place_of_a_method_is_called_as_a_mock(
    replacement: Any, write: Write, install: Install, tracer: MockTracer
) -> None:
    """A mock is not bound: it gets what the caller gives. The mock's own interface stays."""
    name = write(LIBRARY)
    client = importlib.import_module(name).Client()
    with mock.patch.object(type(client), "get", replacement(return_value="mocked")) as mocked:
        patcher = install(url_hook(f"{name}:Client.get"))
        assert client.get("u", timeout=1) == "mocked"
        mocked.assert_called_once_with("u", timeout=1)
        client.get.assert_called_once_with("u", timeout=1)
        patcher.reset_patches()
        assert type(client).__dict__["get"] is mocked
    assert client.get("u") == (client, "u", 30)


def test_an_autospecced_mock_is_traced(write: Write, install: Install, tracer: MockTracer) -> None:
    """``autospec`` makes a function: it is bound, and so is its wrapper."""
    name = write(LIBRARY)
    client = importlib.import_module(name).Client()
    with mock.patch.object(type(client), "get", autospec=True, return_value="mocked") as mocked:
        install(hook(f"{name}:Client.get"))
        assert client.get("u", timeout=1) == "mocked"
        mocked.assert_called_once_with(client, "u", timeout=1)
        with pytest.raises(TypeError, match="missing a required argument: 'url'"):
            client.get()
    assert [span["operation"] for span in told(tracer)] == ["call", "call"]


def test_a_mock_over_a_traced_method_is_not_traced(write: Write, install: Install, tracer: MockTracer) -> None:
    """Somebody's mock hides us as it hides the library; afterwards we are back, and reset restores the original."""
    name = write(LIBRARY)
    client_class = importlib.import_module(name).Client
    original = client_class.__dict__["get"]
    patcher = install(hook(f"{name}:Client.get"))
    with mock.patch.object(client_class, "get", return_value="mocked"):
        assert client_class().get("u") == "mocked"
        assert told(tracer) == []
    client_class().get("u")
    assert told(tracer) == [GOOD]
    patcher.reset_patches()
    assert client_class.__dict__["get"] is original


@pytest.mark.parametrize("path", ["Client.fetch", "Client.walk"])
def test_coroutines_and_generators_of_proxies_are_traced_to_their_end(
    path: str, write: Write, install: Install, tracer: MockTracer, wrap: Any
) -> None:
    """The span ends with what the foreign wrapper returned."""
    name = write(LIBRARY)
    client = importlib.import_module(name).Client()
    wrap(name, path)
    install(hook(f"{name}:{path}"))
    if path == "Client.fetch":
        assert inspect.iscoroutinefunction(client.fetch)
        assert asyncio.run(client.fetch("u")) == (client, "u", 30)
    else:
        steps = client.walk("u")
        assert [next(steps), next(steps)] == ["u", 30]
        assert told(tracer) == []
        assert list(steps) == []
    assert told(tracer) == [GOOD]


@pytest.mark.parametrize("path", ["plain", "remembering", "Client.get", "Client.make"])
def test_patched_functions_are_pickled_and_copied_by_reference(path: str, write: Write, install: Install) -> None:
    """A process pool sends functions by name: the other side finds its own, patched or not."""
    name = write(
        """
        import functools

        def plain():
            return 1

        @functools.lru_cache
        def remembering():
            return 1

        class Client:
            def get(self):
                return 1

            @classmethod
            def make(cls):
                return 1
        """
    )
    module = importlib.import_module(name)
    install(hook(f"{name}:{path}"))
    function = functools.reduce(getattr, path.split("."), module)
    assert copy.copy(function) == copy.deepcopy(function) == pickle.loads(pickle.dumps(function)) == function
