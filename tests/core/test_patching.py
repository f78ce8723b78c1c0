"""Patches are applied when their module is there, once, and undone without a trace, whatever others do meanwhile."""

from __future__ import annotations

import functools
import gc
import importlib
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentracing import Span
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation._core import patching
from opentracing_instrumentation._core.patching import Patcher, listen, on_event, replace, trace
from opentracing_instrumentation.client_hooks._singleton import singleton

from .spans import GOOD, describe, hook, told

Write = Callable[[str], str]
Install = Callable[[Patcher], Patcher]

LIBRARY = """
    class Base:
        def inherited(self):
            return "inherited"

    class Client(Base):
        def get(self):
            return "got"

    def function():
        return "called"
"""


def foreign(function: Any) -> Any:
    """Wrap a function as other people's patches do."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return "foreign " + function(*args, **kwargs)

    return wrapper


class Opaque:
    """Wraps a function in a way that nobody can look through."""

    __slots__ = ("_hidden",)

    def __init__(self, function: Any) -> None:
        self._hidden = [function]

    def __get__(self, instance: Any, owner: Any) -> Any:
        return functools.partial(self, instance)

    def __call__(self, *args: Any) -> Any:
        return "foreign " + self._hidden[0](*args)


def load(name: str) -> Any:
    return importlib.import_module(name)


# When patches are applied


def test_a_module_that_is_imported_already_is_patched_at_once(
    write: Write, install: Install, tracer: MockTracer
) -> None:
    """Functions and methods alike."""
    module = load(name := write(LIBRARY))
    patcher = install(hook(f"{name}:function", f"{name}:Client.get"))
    assert (module.function(), module.Client().get()) == ("called", "got")
    assert told(tracer) == [GOOD, GOOD]
    assert [(patch.state, patch.detail) for patch in patcher.all_patches] == [("applied", "")] * 2


def test_nothing_is_imported_and_a_module_is_patched_when_it_is(
    write: Write, install: Install, tracer: MockTracer
) -> None:
    """The application's own import triggers the patch."""
    name = write(LIBRARY)
    patcher = install(hook(f"{name}:function"))
    assert name not in sys.modules
    assert [patch.state for patch in patcher.all_patches] == ["waiting"]
    assert load(name).function() == "called"
    assert told(tracer) == [GOOD]
    assert [patch.state for patch in patcher.all_patches] == ["applied"]


def test_a_hook_that_is_reset_before_the_import_leaves_the_module_alone(write: Write, install: Install) -> None:
    """There is nothing left of it."""
    name = write(LIBRARY)
    install(hook(f"{name}:function")).reset_patches()
    assert load(name).function.__code__.co_name == "function"


def test_a_missing_target_does_not_hinder_the_others(
    write: Write, install: Install, tracer: MockTracer, caplog: pytest.LogCaptureFixture
) -> None:
    """A library without a target is older or newer; that is worth a note, and no error."""
    caplog.set_level("INFO")
    name = write(LIBRARY)
    targets = [f"{name}:{path}" for path in ("gone", "Client.gone", "Gone.get", "function")]
    patcher = install(hook(*targets))
    assert load(name).function() == "called"
    assert told(tracer) == [GOOD]
    assert [patch.state for patch in patcher.all_patches] == ["missing", "missing", "missing", "applied"]
    assert all(patch.detail.startswith("AttributeError: ") for patch in patcher.all_patches[:3])
    assert [record.levelname for record in caplog.records] == ["INFO"] * 3


def test_a_type_that_cannot_be_changed_is_left_alone(
    install: Install, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Types of the interpreter take no patches: that is told once."""
    patcher = hook("builtins:dict.get")
    for _ in range(2):
        install(patcher)
        assert [patch.state for patch in patcher.all_patches] == ["missing"]
        assert {}.get(1, 2) == 2
        patcher.reset_patches()
    assert len(caplog.records) == 1


def test_a_module_that_cannot_be_imported_at_first_is_patched_when_it_can(
    write: Write, install: Install, tracer: MockTracer
) -> None:
    """An import that fails is no import."""
    name = write(LIBRARY + "\n    import sys\n    if not hasattr(sys, 'THIS'): raise ImportError('not yet')\n")
    install(hook(f"{name}:function"))
    with pytest.raises(ImportError, match="not yet"):
        load(name)
    try:
        setattr(sys, name, True)
        assert load(name).function() == "called"
    finally:
        delattr(sys, name)
    assert told(tracer) == [GOOD]


INSTALLING = """
    import sys
    sys.THIS()
    def function():
        return "called"
    if sys.THIS.fails:
        raise ImportError("not yet")
"""


class DuringImport:
    """What a module calls in the middle of its import."""

    def __init__(self, call: Callable[[], Any], fails: bool = False) -> None:
        self._call = call
        self.fails = fails

    def __call__(self) -> None:
        self._call()


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, DuringImport], None]:
    return lambda name, call: monkeypatch.setattr(sys, name, call, raising=False)


def test_a_module_that_installs_the_hook_itself_is_patched(
    write: Write, install: Install, during: Any, tracer: MockTracer
) -> None:
    """It is patched as soon as anything is imported after it: before that, nobody can tell that it is whole."""
    name, other = write(INSTALLING), write(LIBRARY)
    during(name, DuringImport(lambda: install(hook(f"{name}:function"))))
    module = load(name)
    load(other)
    assert module.function() == "called"
    assert told(tracer) == [GOOD]


def test_a_module_imported_after_one_that_installed_the_hook_is_patched_too(
    write: Write, install: Install, during: Any, tracer: MockTracer
) -> None:
    """To watch the one does not make the import system overlook the other."""
    name, *others = write(INSTALLING), write(LIBRARY), write(LIBRARY), write(LIBRARY)
    during(name, DuringImport(lambda: install(hook(*(f"{library}:function" for library in (name, *others))))))
    for library in (name, *others):
        assert load(library).function() == "called"
    assert told(tracer) == [GOOD] * 3
    load(name).function()
    assert told(tracer) == [GOOD] * 4


def test_a_module_that_installs_the_hook_and_fails_is_patched_when_it_succeeds(
    write: Write, install: Install, during: Any, tracer: MockTracer
) -> None:
    """The half of it that was there is forgotten."""
    name = write(INSTALLING)
    call = DuringImport(lambda: install(patcher), fails=True)
    patcher = hook(f"{name}:function")
    during(name, call)
    with pytest.raises(ImportError, match="not yet"):
        load(name)
    call.fails = False
    call._call = lambda: None
    assert load(name).function() == "called"
    assert told(tracer) == [GOOD]


def test_a_module_that_another_thread_is_importing_is_patched(
    write: Write, install: Install, during: Any, tracer: MockTracer
) -> None:
    """Who installs waits for that import, and finds the module whole."""
    name = write(INSTALLING)
    begun, go_on = threading.Event(), threading.Event()
    during(name, DuringImport(lambda: (begun.set(), go_on.wait(10))))
    importing = threading.Thread(target=load, args=(name,))
    importing.start()
    assert begun.wait(10)
    installing = threading.Thread(target=install, args=(hook(f"{name}:function"),))
    installing.start()
    go_on.set()
    for thread in (importing, installing):
        thread.join(10)
        assert not thread.is_alive()
    assert load(name).function() == "called"
    assert told(tracer) == [GOOD]


def test_threads_that_import_and_install_at_once_do_not_wait_for_each_other_forever(
    write: Write, install: Install, tracer: MockTracer
) -> None:
    """In whatever order they come, each module ends up with one layer."""
    for _ in range(20):
        tracer.reset()
        names = [write("import time\n" + "time.sleep(0.001)\n" + "def function():\n    return 1\n") for _ in range(3)]
        patcher = hook(*(f"{name}:function" for name in names))
        at_once(*(functools.partial(load, name) for name in names), *[lambda patcher=patcher: install(patcher)] * 3)
        assert [load(name).function() for name in names] == [1, 1, 1]
        assert told(tracer) == [GOOD] * 3


def at_once(*functions: Callable[[], Any]) -> None:
    """Call functions in as many threads at the same time."""
    barrier = threading.Barrier(len(functions))
    failures: list[BaseException] = []

    def run(function: Callable[[], Any]) -> None:
        try:
            barrier.wait(10)
            function()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert failures == []


# Install and reset


def test_installing_twice_is_installing_once(write: Write, install: Install, tracer: MockTracer) -> None:
    """There is one layer, and one reset takes it away."""
    module = load(name := write(LIBRARY))
    original = module.function
    patcher = install(install(hook(f"{name}:function")))
    module.function()
    assert told(tracer) == [GOOD]
    patcher.reset_patches()
    assert module.function is original
    patcher.reset_patches()
    assert module.function is original


@pytest.mark.parametrize("imported", [True, False])
def test_eight_threads_install_one_layer(imported: bool, write: Write, install: Install, tracer: MockTracer) -> None:
    """Whether the module is there before or comes meanwhile."""
    name = write(LIBRARY)
    if imported:
        load(name)
    patcher = hook(f"{name}:function")
    at_once(*[lambda: install(patcher)] * 8, *([] if imported else [lambda: load(name)]))
    load(name).function()
    assert told(tracer) == [GOOD]


def test_threads_that_install_and_reset_at_once_leave_one_layer_or_none(
    write: Write, install: Install, tracer: MockTracer
) -> None:
    """What counts is who came last; calls meanwhile are traced once or not at all."""
    module = load(name := write(LIBRARY))
    original = module.function
    patcher = hook(f"{name}:function")

    def churn(step: Callable[[], Any]) -> Callable[[], None]:
        return lambda: [step() for _ in range(200)] and None

    calls: list[str] = []
    at_once(
        *[churn(patcher.install_patches)] * 3,
        *[churn(patcher.reset_patches)] * 3,
        churn(lambda: calls.append(module.function())),
    )
    assert calls == ["called"] * 200
    assert len(told(tracer)) <= 200
    patcher.reset_patches()
    assert module.function is original


@pytest.mark.parametrize("path", ["function", "Client.get"])
def test_reset_puts_back_the_very_object(path: str, write: Write, install: Install) -> None:
    """Not an equal one, and not a bound one."""
    module = load(name := write(LIBRARY))
    parent = module if path == "function" else module.Client
    attribute = path.rpartition(".")[2]
    original = vars(parent)[attribute]
    patcher = install(hook(f"{name}:{path}"))
    assert vars(parent)[attribute] is not original
    patcher.reset_patches()
    assert vars(parent)[attribute] is original


def test_reset_leaves_no_shadow_of_an_inherited_method(write: Write, install: Install, tracer: MockTracer) -> None:
    """The subclass inherits again; its base class was never touched."""
    module = load(name := write(LIBRARY))
    before = dict(vars(module.Base))
    patcher = install(hook(f"{name}:Client.inherited"))
    assert (module.Client().inherited(), module.Base().inherited()) == ("inherited", "inherited")
    assert told(tracer) == [GOOD]
    patcher.reset_patches()
    assert "inherited" not in vars(module.Client)
    assert dict(vars(module.Base)) == before


def test_names_and_objects_taken_while_patched_call_through_after_reset(
    write: Write, install: Install, tracer: MockTracer
) -> None:
    """A captured function, a bound method, an instance: traced while installed, left alone afterwards, and again."""
    module = load(name := write(LIBRARY))
    patcher = install(hook(f"{name}:function", f"{name}:Client.get"))
    client = module.Client()
    calls = [module.function, client.get, lambda: type(client)().get()]
    for spans in (3, 0, 3):
        tracer.reset()
        assert [call() for call in calls] == ["called", "got", "got"]
        assert len(told(tracer)) == spans
        patcher.reset_patches() if spans else install(patcher)
        if not spans:
            assert module.function is calls[0]


def test_a_name_captured_before_is_not_traced(write: Write, install: Install, tracer: MockTracer) -> None:
    """It is the original itself. What looks the name up at each call is traced."""
    module = load(name := write(LIBRARY))
    function, client = module.function, module.Client()
    install(hook(f"{name}:function", f"{name}:Client.get"))
    assert function() == "called"
    assert told(tracer) == []
    assert client.get() == "got"
    assert told(tracer) == [GOOD]


# With patches of others


@pytest.mark.parametrize("wrap", [foreign, Opaque])
def test_reset_under_a_foreign_patch_calls_through_and_reinstall_traces_once(
    wrap: Any, write: Write, install: Install, tracer: MockTracer
) -> None:
    """The foreign patch stays in force all along."""
    module = load(name := write(LIBRARY))
    patcher = install(hook(f"{name}:Client.get"))
    module.Client.get = patched = wrap(module.Client.__dict__["get"])
    for spans in (1, 0, 1, 0, 1):
        tracer.reset()
        assert module.Client().get() == "foreign got"
        assert told(tracer) == [GOOD] * spans
        if spans:
            patcher.reset_patches()
            assert module.Client.__dict__["get"] is patched
        else:
            install(patcher)


STEPS = ("install", "reset", "patch", "unpatch")


@pytest.mark.parametrize("wrap", [foreign, Opaque])
def test_any_order_of_patches_and_resets_of_us_and_others(wrap: Any, write: Write, tracer: MockTracer) -> None:
    """Whatever comes in which order: the result is right, no call is traced twice, and none after reset."""
    module = load(name := write(LIBRARY))
    original = module.function
    for steps in itertools.product(STEPS, repeat=6):
        patcher = hook(f"{name}:function")
        saved: list[Any] = []
        for step in steps:
            if step == "install":
                patcher.install_patches()
            elif step == "reset":
                patcher.reset_patches()
            elif step == "patch":
                saved.append(module.function)
                module.function = wrap(module.function)
            elif saved:
                module.function = saved.pop()
            tracer.reset()
            assert module.function() == "foreign " * len(saved) + "called", steps
            assert len(told(tracer)) <= int(patcher.patches_installed), steps
        while saved:
            module.function = saved.pop()
        patcher.reset_patches()
        if wrap is foreign:
            patcher.install_patches()
            tracer.reset()
            assert module.function() == "called"
            assert told(tracer) == [GOOD], steps
            patcher.reset_patches()
            assert module.function is original, steps
        module.function = original


def test_two_hooks_of_ours_on_one_target_are_two_layers(write: Write, install: Install, tracer: MockTracer) -> None:
    """They don't know of each other; each can be reset on its own."""
    module = load(name := write(LIBRARY))
    original = module.function
    first, second = install(hook(f"{name}:function")), install(hook(f"{name}:function"))
    module.function()
    assert told(tracer) == [GOOD, GOOD]
    first.reset_patches()
    module.function()
    assert told(tracer) == [GOOD] * 3
    second.reset_patches()
    module.function()
    assert told(tracer) == [GOOD] * 3
    first.install_patches()
    first.reset_patches()
    assert module.function is original


def test_a_reloaded_module_is_traced_again_after_reset_and_install(
    write: Write, install: Install, tracer: MockTracer
) -> None:
    """A reload makes new functions and classes. Reset leaves them alone."""
    module = load(name := write(LIBRARY))
    patcher = install(hook(f"{name}:function", f"{name}:Client.get"))
    importlib.reload(module)
    fresh = module.function, module.Client.__dict__["get"]
    patcher.reset_patches()
    assert (module.function, module.Client.__dict__["get"]) == fresh
    install(patcher)
    assert (module.function(), module.Client().get()) == ("called", "got")
    assert told(tracer) == [GOOD, GOOD]
    patcher.reset_patches()
    assert (module.function, module.Client.__dict__["get"]) == fresh


# Patchers


def test_a_subclass_that_redefines_a_described_method_keeps_its_targets(
    write: Write, install: Install, tracer: MockTracer
) -> None:
    """It needs no mark of its own; one that has its own mark has its own targets."""
    module = load(name := write(LIBRARY))

    class Hook(Patcher):
        @trace(f"{name}:function")
        def call(self) -> Span:
            return describe()

    class Redefining(Hook):
        def call(self) -> Span:
            return super().call().set_tag("redefined", True)

    class Remarking(Hook):
        @trace(f"{name}:Client.get")
        def call(self) -> Span:
            return super().call().set_tag("remarked", True)

    class Inheriting(Remarking):
        pass

    targets = {cls: [patch.target for patch in cls().all_patches] for cls in (Hook, Redefining, Remarking, Inheriting)}
    assert targets == {
        Hook: [f"{name}:function"],
        Redefining: [f"{name}:function"],
        Remarking: [f"{name}:Client.get"],
        Inheriting: [f"{name}:Client.get"],
    }
    install(Redefining())
    module.function()
    assert told(tracer) == [{**GOOD, "tags": {"kind": "test", "redefined": True}}]


def test_a_method_may_bear_several_marks(write: Write, install: Install, tracer: MockTracer) -> None:
    """Each adds its targets."""
    module = load(name := write(LIBRARY))

    class Hook(Patcher):
        @trace(f"{name}:function")
        @trace(f"{name}:Client.get", activate=True)
        def call(self) -> Span:
            return describe()

    install(Hook())
    module.function()
    module.Client().get()
    assert told(tracer) == [GOOD, GOOD]


def test_other_descriptions_in_place_of_methods(write: Write, install: Install, tracer: MockTracer) -> None:
    """They hold at once, in place of those before, and for the installs to come; the targets stay."""
    module = load(name := write(LIBRARY))
    original = module.function
    patcher = install(hook(f"{name}:function"))
    own = patcher.call  # type: ignore[attr-defined]
    for number in 1, 2:
        patcher.describe_by({"call": lambda: own().set_tag("number", number)})  # noqa: B023
        module.function()
    patcher.reset_patches()
    assert module.function is original
    patcher.describe_by({})
    install(patcher)
    module.function()
    assert [span["tags"].get("number") for span in told(tracer)] == [1, 2, None]


def test_a_hooks_own_idle_decides(write: Write, install: Install) -> None:
    """A hook with listeners of its own describes calls even where there is no tracer."""
    module = load(name := write(LIBRARY))
    described: list[str] = []

    class Hook(Patcher):
        listening = False

        def idle(self) -> bool:
            return not self.listening

        @trace(f"{name}:function")
        def call(self) -> None:
            described.append("call")

    patcher = Hook()
    install(patcher)
    module.function()
    assert described == []
    patcher.listening = True
    module.function()
    assert described == ["call"]


@pytest.mark.parametrize(
    ("library", "applicable"), [("email", True), ("no_such_library", False), ("no_such.library", False), (None, False)]
)
def test_a_hook_is_applicable_if_its_library_can_be_imported(library: str | None, applicable: bool) -> None:
    """It is not imported to find out."""
    patcher = type("Hook", (Patcher,), {"library": library})()
    assert patcher.applicable is applicable
    assert "no_such_library" not in sys.modules


def module_of(cls: type[Patcher], **options: Any) -> dict[str, Any]:
    context: dict[str, Any] = {"__name__": "a.hook"}
    cls.configure_hook_module(context, **options)
    return context


@pytest.mark.parametrize("options", [{}, {"run_once": singleton}])
def test_a_hooks_module_installs_and_resets(options: Any, write: Write, tracer: MockTracer) -> None:
    """With and without the interface of a singleton, any number of times."""
    module = load(name := write(LIBRARY))
    original = module.function
    context = module_of(type(hook(f"{name}:function")), **options)
    for _ in range(2):
        context["install_patches"]()
        context["install_patches"]()
        module.function()
        context["reset_patches"]()
        context["reset_patches"]()
        assert module.function is original
    assert told(tracer) == [GOOD, GOOD]
    assert context["install_patches"].__module__ == "a.hook"


def test_another_patcher_takes_over_at_once_if_the_present_one_is_installed(write: Write, tracer: MockTracer) -> None:
    """Not before ``install_patches`` otherwise; and the same patcher may be set again."""
    module = load(name := write(LIBRARY))
    original = module.function
    context = module_of(type(hook(f"{name}:Client.get")))
    other = hook(f"{name}:function")
    context["set_patcher"](other)
    assert (module.function is original, other.patches_installed) == (True, False)
    context["install_patches"]()
    context["set_patcher"](other)
    module.function()
    assert told(tracer) == [GOOD]
    third = hook(f"{name}:function")
    context["set_patcher"](third)
    module.function()
    assert told(tracer) == [GOOD, GOOD]
    assert (other.patches_installed, third.patches_installed) == (False, True)
    context["reset_patches"]()
    assert module.function is original


def test_patchers_that_are_dropped_are_collected(write: Write) -> None:
    """A thousand of them, made, installed, reset: nothing keeps one alive."""
    name = write(LIBRARY)
    load(name)
    alive: weakref.WeakSet[Patcher] = weakref.WeakSet()
    for number in range(1000):
        patcher = hook(f"{name}:function", f"{name}.not_imported:function")
        alive.add(patcher)
        if number % 2:
            patcher.install_patches()
            patcher.reset_patches()
    del patcher
    gc.collect()
    assert len(alive) == 0
    assert patching._waiting[name] == patching._waiting[f"{name}.not_imported"] == []


# The other declarations

SIGNALS = """
    class Signal:
        def __init__(self):
            self.receivers = []
        def connect(self, receiver, weak=True):
            assert weak is False
            self.receivers.append(receiver)
        def disconnect(self, receiver):
            self.receivers.remove(receiver)
        def send(self, **arguments):
            return [receiver(**arguments) for receiver in self.receivers]

    sent = Signal()
"""


def test_a_listener_hears_a_signal_until_reset(
    write: Write, install: Install, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """What it raises is reported once and goes no further."""
    module = load(name := write(SIGNALS))
    heard: list[Any] = []

    class Hook(Patcher):
        @listen(f"{name}:sent")
        def on_sent(self, message: Any) -> None:
            heard.append(message)
            if message is None:
                raise ValueError

    patcher = install(Hook())
    install(patcher)
    for message in ("a", None, None):
        assert module.sent.send(message=message) == [None]
    patcher.reset_patches()
    assert module.sent.send(message="b") == []
    assert heard == ["a", None, None]
    assert [record.getMessage() for record in caplog.records] == [
        f"{name}:sent failed; the call itself goes on (reported once)"
    ]


@pytest.fixture
def library_with_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A library with a registry of events, as a package of two modules."""
    package, registry = type(sys)("library_with_events"), type(sys)("library_with_events.event")
    package.Engine = type("Engine", (), {})
    registry.listeners = []
    registry.listen = lambda *registered: registry.listeners.append(registered)
    package.event = registry
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, registry.__name__, registry)
    return package


def test_events_are_listened_to_until_reset(
    library_with_events: Any, install: Install, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The library knows one listener to each event, whoever and how many listen: its list does not change again."""
    heard: list[Any] = []

    class Hook(Patcher):
        @staticmethod
        @on_event("library_with_events:Engine", "before", "after")
        def on(event: Any) -> None:
            heard.append(event)
            if event is None:
                raise ValueError

    first, second = install(Hook()), install(Hook())
    registered = list(library_with_events.event.listeners)
    assert [(target, event) for target, event, _ in registered] == [
        (library_with_events.Engine, "before"),
        (library_with_events.Engine, "after"),
    ]
    before = registered[0][2]
    before("both")
    first.reset_patches()
    before("one")
    before(None)
    second.reset_patches()
    before("nobody")
    install(first)
    before("again")
    assert heard == ["both", "both", "one", None, "again"]
    assert library_with_events.event.listeners == registered
    assert [record.getMessage() for record in caplog.records] == [
        "library_with_events:Engine before failed; the call itself goes on (reported once)"
    ]


def test_a_replacement_stands_until_reset(write: Write, install: Install) -> None:
    """Made out of what stood there; a foreign patch on top of it is left alone."""
    module = load(name := write("limit = 10\nother = 20\n"))

    class Hook(Patcher):
        @replace(f"{name}:limit", f"{name}:other")
        def make(self, original: int) -> int:
            return original + 1

    patcher = install(Hook())
    assert (module.limit, module.other) == (11, 21)
    module.other = 5
    patcher.reset_patches()
    assert (module.limit, module.other) == (10, 5)
    install(patcher)
    assert (module.limit, module.other) == (11, 6)
    patcher.reset_patches()


def test_a_replacement_that_cannot_be_made_is_missing(
    write: Write, install: Install, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The original stays."""
    module = load(name := write("limit = 10\n"))

    class Hook(Patcher):
        @replace(f"{name}:limit")
        def make(self, original: int) -> int:
            raise ValueError("no")

    patcher = install(Hook())
    assert module.limit == 10
    assert [(patch.state, patch.detail) for patch in patcher.all_patches] == [("missing", "ValueError: no")]
    assert len(caplog.records) == 1
    patcher.reset_patches()
    assert module.limit == 10
