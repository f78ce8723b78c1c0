"""Patching that is complete and can be undone: at any time, in any order with the patches of others.

A hook is a :class:`Patcher` whose methods are marked with what they describe. Each mark becomes a :class:`Patch`, which
is applied as soon as its module is imported (by the application, never by us) and taken back on reset: the very object
that stood there before is put back; an inherited attribute is deleted again; and where somebody else has patched on top
of us, our wrapper stays buried as a pass-through and is woken on the next install. Whatever can't be patched is
noted and left alone; the rest is patched all the same.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
import types
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

from wrapt import register_post_import_hook

from .calls import Description, FlowDescription, Switch, idle, instrument, is_plain, proxy, whole_message
from .safety import logger, report

# Guards every patch and patcher. Nothing is imported while it is held: an import may wait for a thread that is
# importing a library and, at the end of that, waits for this lock to patch it.
_lock = threading.RLock()

_Method = TypeVar("_Method", bound=Callable[..., Any])
_MARKS = "__opentracing_marks__"


class Patch:
    """One change to one attribute of a library, or one listener; made and undone by subclasses.

    Attributes:
        target: what is patched, as ``"module:Class.attribute"``.
        state: ``"off"``, ``"waiting"`` for the module to be imported, ``"applied"``, or ``"missing"``.
        detail: why it is missing.
        effect: what is done with the target, for the documentation.
    """

    effect = "changed"

    def __init__(self, target: str) -> None:
        self.target = target
        self.module_name, _, self.path = target.partition(":")
        self.state = "off"
        self.detail = ""

    def arm(self) -> None:
        """Apply the patch, now or when its module is imported. Does nothing where it is applied already."""
        if self.state == "applied":
            return
        self.state = "waiting"
        _watch(self)

    def disarm(self) -> None:
        """Undo :meth:`arm`."""
        _unwatch(self)
        applied, self.state, self.detail = self.state == "applied", "off", ""
        if applied:
            try:
                self.revert()
            except Exception as error:
                report(f"{self.target}: removing the patch", error)

    def imported(self, module: types.ModuleType) -> None:
        """Apply the patch if it waits for this module."""
        if self.state not in ("waiting", "missing"):
            return
        try:
            self.apply(module)
        except Exception as error:
            self.state, self.detail = "missing", f"{type(error).__name__}: {error}"
            if isinstance(error, AttributeError):  # the library is older or newer than this target
                logger.info("%s is not there and so not traced: %s", self.target, error)
            else:
                report(f"{self.target}: patch", error)
        else:
            self.state, self.detail = "applied", ""

    def apply(self, module: types.ModuleType) -> None:
        """Make the change. Whatever it raises, nothing has been changed.

        Raises:
            AttributeError: the module has no such thing.
        """
        raise NotImplementedError

    def revert(self) -> None:
        """Undo :meth:`apply`."""
        raise NotImplementedError


class AttributePatch(Patch):
    """Replaces an attribute of a module or class."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.switch = Switch(active=False)
        self._parent: Any = None
        self._name = ""
        self._inherited = False
        self._original: Any = None
        self._replacement: Any = None

    def replacement_for(self, original: Any) -> Any:
        """Return what is put in place of ``original``; it must call through while ``self.switch`` is off."""
        raise NotImplementedError

    def apply(self, module: types.ModuleType) -> None:
        parent, name = resolve(module, self.path)
        present = inspect.getattr_static(parent, name)
        if not self._reachable(present):
            if present is not self._original or parent is not self._parent:
                self.switch = Switch(active=False)  # an older replacement of ours stays off for good
                self._replacement = self.replacement_for(present)
            self._parent, self._name, self._original = parent, name, present
            self._inherited = name not in vars(parent)
            setattr(parent, name, self._replacement)
        self.switch.active = True

    def revert(self) -> None:
        self.switch.active = False
        if vars(self._parent).get(self._name) is not self._replacement:
            return  # somebody patched on top: what is buried below calls through from now on
        if self._inherited:
            delattr(self._parent, self._name)
        else:
            setattr(self._parent, self._name, self._original)

    def _reachable(self, present: Any) -> bool:
        """Tell whether our replacement still stands, by itself or below the patch of somebody else."""
        if self._replacement is None:
            return False
        pending, seen = [present], set[int]()
        while pending and len(seen) < 50:
            candidate = pending.pop()
            if candidate is self._replacement:
                return True
            if id(candidate) not in seen:
                seen.add(id(candidate))
                pending += wrapped_by(candidate)
        return False


def wrapped_by(wrapper: Any) -> list[Any]:
    """Return the callables that a wrapper seems to call: what decorators, closures and partials are made of."""
    found = [getattr(wrapper, name, None) for name in ("__wrapped__", "__func__", "func", "_mock_wraps")]
    if isinstance(wrapper, types.FunctionType):
        found += [cell.cell_contents for cell in wrapper.__closure__ or () if _filled(cell)]
        found += wrapper.__defaults__ or ()
        found += (wrapper.__kwdefaults__ or {}).values()
    return [item for item in found if callable(item) or isinstance(item, classmethod | staticmethod)]


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True


class CallPatch(AttributePatch):
    """Traces the calls of a function or method."""

    effect = "calls are traced"

    def __init__(
        self,
        target: str,
        describe: Callable[..., Any],
        *,
        activate: bool = False,
        callback: str | None = None,
        idle: Callable[[], bool] = idle,
        message_of: Callable[[BaseException], str] = whole_message,
    ) -> None:
        super().__init__(target)
        kind = FlowDescription if inspect.isgeneratorfunction(describe) else Description
        self._description = kind(
            describe, target, activate=activate, callback=callback, idle=idle, message_of=message_of
        )

    def replacement_for(self, original: Any) -> Any:
        method = issubclass(type(original), classmethod | staticmethod)
        function = original.__func__ if method else original
        if is_plain(function):
            wrapper = instrument(function, self._description, self.switch)
            return type(original)(wrapper) if method else wrapper
        if isinstance(function, type) or not (callable(function) or isinstance(function, classmethod | staticmethod)):
            raise TypeError(f"it is no function, but {original!r}")
        if self._description.callback is not None:
            raise TypeError(f"the callback can't be told apart in the arguments of {original!r}")
        return proxy(original, self._description, self.switch)


class ReplacePatch(AttributePatch):
    """Puts what a hook's method makes out of the original into its place."""

    effect = "replaced"

    def __init__(self, target: str, make: Callable[[Any], Any]) -> None:
        super().__init__(target)
        self._make = make

    def replacement_for(self, original: Any) -> Any:
        return self._make(original)


class ListenPatch(Patch):
    """Connects a method to a signal (Celery's and blinker's protocol: ``connect`` and ``disconnect``)."""

    effect = "signal is listened to"

    def __init__(self, target: str, receiver: Callable[..., Any]) -> None:
        super().__init__(target)
        self._receiver = _isolated(receiver, target)
        self._signal: Any = None

    def apply(self, module: types.ModuleType) -> None:
        signal = getattr(*resolve(module, self.path))
        signal.connect(self._receiver, weak=False)
        self._signal = signal

    def revert(self) -> None:
        self._signal.disconnect(self._receiver)


class EventPatch(Patch):
    """Listens to an event on a class of a library with an event registry, and so on all instances, older ones included.

    The registry is the module ``event`` of the library, with ``listen``, as in SQLAlchemy. An event listened to once is
    relayed for good, after a reset to nobody: to change the library's list of listeners is to break the statement of a
    thread that is going through it. That leaves the first time, for whoever installs a hook with statements under way.

    A listener to ``before_cursor_execute`` may return ``(statement, parameters)`` to be sent in place of its own.
    """

    def __init__(self, target: str, event: str, listener: Callable[..., Any]) -> None:
        super().__init__(target)
        self.effect = f"event `{event}` is listened to"
        self.listener = listener
        self._event = event
        self._relay: _Relay | None = None

    def apply(self, module: types.ModuleType) -> None:
        source = getattr(*resolve(module, self.path))
        relays = _relays.setdefault(source, {})
        relay = relays.get(self._event)
        if relay is None:
            relay = _Relay(f"{self.target} {self._event}")
            registry = sys.modules[f"{self.module_name.partition('.')[0]}.event"]
            if self._event == _REWRITING:
                registry.listen(source, self._event, relay.rewrite, retval=True)
            else:
                registry.listen(source, self._event, relay.tell)
            relays[self._event] = relay
        relay.patches += (self,)
        self._relay = relay

    def revert(self) -> None:
        if self._relay is not None:
            self._relay.patches = tuple(patch for patch in self._relay.patches if patch is not self)


class _Relay:
    """The one listener to an event of a class that its library knows."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.patches: tuple[EventPatch, ...] = ()

    def tell(self, *args: Any) -> None:
        for patch in self.patches:
            try:
                patch.listener(*args)
            except Exception as error:
                report(self.place, error)

    def rewrite(
        self, conn: Any, cursor: Any, statement: Any, parameters: Any, context: Any, executemany: Any
    ) -> tuple[Any, Any]:
        for patch in self.patches:
            try:
                rewritten = patch.listener(conn, cursor, statement, parameters, context, executemany)
                if rewritten is not None:
                    statement, parameters = rewritten
            except Exception as error:
                report(self.place, error)
        return statement, parameters


#: The event whose listeners may change what is sent.
_REWRITING = "before_cursor_execute"

_relays: WeakKeyDictionary[Any, dict[str, _Relay]] = WeakKeyDictionary()


def _isolated(function: Callable[..., Any], place: str) -> Callable[..., Any]:
    def listener(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:
            report(place, error)

    return listener


def resolve(module: types.ModuleType, path: str) -> tuple[Any, str]:
    """Return the object and the attribute's name that a path like ``"Class.method"`` means in a module.

    Raises:
        AttributeError: there is none.
    """
    parent: Any = module
    *parents, name = path.split(".")
    for part in parents:
        parent = getattr(parent, part)
    inspect.getattr_static(parent, name)
    return parent, name


# Post-import hooks can't be withdrawn and fire once. So there is one for each name of a module that is not imported; it
# looks up who waits for the module when it is.
_waiting: dict[str, list[Patch]] = {}
_hooked: set[str] = set()

# Modules whose import may have begun before the hook was there, and so tells nobody of its end.
_unsettled: set[str] = set()


def _watch(patch: Patch) -> None:
    name = patch.module_name
    patches = _waiting.setdefault(name, [])
    if patch not in patches:
        patches.append(patch)
    module = sys.modules.get(name)
    if module is not None and not _is_half_imported(module):
        patch.imported(module)
    else:
        _unsettled.add(name)
        _hook(name)


def _unwatch(patch: Patch) -> None:
    patches = _waiting.get(patch.module_name, [])
    if patch in patches:
        patches.remove(patch)


def _hook(name: str) -> None:
    if name not in _hooked and name not in sys.modules:
        _hooked.add(name)
        register_post_import_hook(_after_import, name)


def _after_import(module: types.ModuleType) -> None:
    try:
        with _lock:
            _hooked.discard(module.__name__)
            for patch in list(_waiting.get(module.__name__, ())):
                patch.imported(module)
    except Exception as error:
        report(f"patching {module.__name__} after its import", error)


def _is_half_imported(module: types.ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _wait_for_import(name: str) -> None:
    try:
        importlib._bootstrap._lock_unlock_module(name)  # type: ignore[attr-defined]
    except Exception as error:
        report(f"waiting for the import of {name}", error)


def _settle(wait: bool = True) -> None:
    """Patch the unsettled modules that are whole by now.

    Args:
        wait: let other threads finish their imports of them first. Not to be done with the lock held.
    """
    for name in list(_unsettled):
        if wait:
            _wait_for_import(name)
        module = sys.modules.get(name)
        if module is None:  # nobody is importing it, or no longer
            _unsettled.discard(name)
            _hook(name)
        elif not _is_half_imported(module):
            _unsettled.discard(name)
            _after_import(module)
    if _unsettled and _latecomers not in sys.meta_path:
        sys.meta_path.insert(0, _latecomers)


class _Latecomers:
    """Looks at every later import whether a module that our own thread was importing is whole by now.

    It stays: to take it out would make an import that is going on just then overlook the finder behind it.
    """

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        once_more = name in _unsettled
        if _unsettled:
            _settle(wait=False)
        # The import that we saw has failed. Only now there is a hook, which finders in front of us have not heard of.
        return find_spec(name) if once_more and name not in sys.modules else None


_latecomers: Any = _Latecomers()


class Patcher:
    """A hook: patches for one library, declared by the marks on its methods, installed and reset as one.

    Subclasses set :attr:`library` and mark methods with :func:`trace`, :func:`listen`, :func:`on_event` or
    :func:`replace`. A subclass that redefines a marked method without a mark of its own keeps the targets.
    A patch that fits none of the four is an :class:`Patch` of the hook's own, given by :meth:`patches`.

    Installing imports nothing: what the application has not imported is patched when it does. All methods may be called
    from any thread, any number of times, in any order.
    """

    #: The import name of the patched library.
    library: ClassVar[str | None] = None
    #: The versions it has been tried with, as a PEP 440 specifier. Others are patched as far as they have the targets.
    supports: ClassVar[str] = ""
    #: How its spans are named. This and the next two make the hook's page of the documentation.
    spans: ClassVar[str] = ""
    #: Which tags its spans may bear, besides those of an error, and what they mean.
    tags: ClassVar[Mapping[str, str]] = {}
    #: The settings of ``CONFIG`` that it heeds.
    settings: ClassVar[Sequence[str]] = ()

    def __init__(self) -> None:
        self.patches_installed = False
        self._declared: list[Patch] | None = None
        self._described_by: Mapping[str, Callable[..., Any]] = {}

    @property
    def applicable(self) -> bool:
        """Whether the library can be imported. It is not imported to find out."""
        if self.library is None:
            return False
        try:
            return self.library in sys.modules or find_spec(self.library) is not None
        except (ImportError, ValueError):  # a broken parent package; a module without a spec
            return False

    #: Tells at each call whether it can be left untraced because nobody listens. A hook with user hooks overrides it.
    idle = staticmethod(idle)

    #: Returns what may be said of an error. A hook whose library's errors repeat values overrides it; where it returns
    #: less than ``str(error)``, the error itself is left out of the span's log, too.
    message_of = staticmethod(whole_message)

    def patches(self) -> Iterable[Patch]:
        """Return the patches of this hook: one for each mark."""
        for method_name, marks in _marks(type(self)).items():
            method = getattr(self, method_name)
            for mark in marks:
                yield mark(self, method)

    @property
    def all_patches(self) -> list[Patch]:
        """The patches of this hook with their present state, always the same objects."""
        with _lock:
            if self._declared is None:
                self._declared = list(self.patches())
            return self._declared

    def install_patches(self) -> None:
        """Patch the library, as soon as it is imported; nothing if that is done already."""
        with _lock:
            if self.patches_installed:
                return
            self.patches_installed = True
            if self.all_patches or self.applicable:
                self._install_patches()
        _settle()

    def reset_patches(self) -> None:
        """Undo :meth:`install_patches`; nothing if that was not done. Objects made in between stop being traced."""
        with _lock:
            if not self.patches_installed:
                return
            self.patches_installed = False
            self._reset_patches()

    def describe_by(self, descriptions: Mapping[str, Callable[..., Any]]) -> None:
        """Put other descriptions in place of methods of their names, until this is called again.

        Args:
            descriptions: they are what the methods are, bound to this patcher. All others are themselves again.

        If the hook is installed, it stays so.
        """
        with _lock:
            installed = self.patches_installed
            if installed:
                self.reset_patches()
            for name in [
                name for name, member in vars(self).items() if name in _marks(type(self)) and callable(member)
            ]:
                delattr(self, name)
            vars(self).update(descriptions)
            self._declared = None
        if installed:
            self.install_patches()

    def _install_patches(self) -> None:
        for patch in self.all_patches:
            patch.arm()

    def _reset_patches(self) -> None:
        for patch in reversed(self.all_patches):
            patch.disarm()

    @classmethod
    def configure_hook_module(
        cls, context: MutableMapping[str, Any], run_once: Callable[[Callable[[], None]], Any] | None = None
    ) -> None:
        """Give a hook's module its interface, for a patcher of this class.

        Args:
            context: the module's ``globals()``; it gets ``patcher``, ``set_patcher``, ``install_patches`` and
                ``reset_patches``.
            run_once: decorates ``install_patches`` with the interface of ``_singleton.singleton``, which users of some
                hooks rely on.
        """
        context["patcher"] = cls()

        def set_patcher(custom_patcher: Patcher) -> None:
            """Put another patcher in force. If the present one is installed, the other takes its place at once."""
            with _lock:
                present: Patcher = context["patcher"]
                installed = present.patches_installed is True and present is not custom_patcher
                if installed:
                    present.reset_patches()
                context["patcher"] = custom_patcher
            if installed:
                custom_patcher.install_patches()

        def install_patches() -> None:
            """Trace the library's calls from now on; see :meth:`Patcher.install_patches`."""
            context["patcher"].install_patches()

        def reset_patches() -> None:
            """Undo ``install_patches``; see :meth:`Patcher.reset_patches`."""
            context["patcher"].reset_patches()
            if run_once is not None:
                once.reset()

        for function in (set_patcher, install_patches, reset_patches):
            function.__module__ = context["__name__"]
            function.__qualname__ = function.__name__
            context[function.__name__] = function
        once: Any = install_patches if run_once is None else run_once(install_patches)
        context["install_patches"] = once


_Mark = Callable[[Patcher, Callable[..., Any]], Patch]


def _marks(cls: type) -> dict[str, tuple[_Mark, ...]]:
    """Return the marks of a class's methods by the methods' names, base classes first."""
    marks: dict[str, tuple[_Mark, ...]] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            own = getattr(member, _MARKS, None) or getattr(getattr(member, "__func__", None), _MARKS, None)
            if own:
                marks[name] = own
    return marks


def mark(make: Iterable[_Mark]) -> Callable[[_Method], _Method]:
    """Mark a method with functions that make patches of it, each called as ``make(patcher, method)``."""
    marks = tuple(make)

    def decorate(method: _Method) -> _Method:
        setattr(method, _MARKS, (*getattr(method, _MARKS, ()), *marks))
        return method

    return decorate


def trace(*targets: str, activate: bool = False, callback: str | None = None) -> Callable[[_Method], _Method]:
    """Mark a method as the description of calls.

    Args:
        targets: the functions or methods it describes, as ``"module:Class.method"``.
        activate: make the span current during the call.
        callback: name of the parameter that takes a callback, if the call ends in one.

    The method takes the call's arguments by name, the instance first and by position, as far as it needs them. It
    returns the span, or yields it once and is resumed with the result, or the error is thrown in; ``None`` leaves the
    call alone.
    """

    def make(target: str) -> _Mark:
        def patch(patcher: Patcher, method: Callable[..., Any]) -> Patch:
            return CallPatch(
                target,
                method,
                activate=activate,
                callback=callback,
                idle=patcher.idle,
                message_of=patcher.message_of,
            )

        return patch

    return mark(make(target) for target in targets)


def listen(*targets: str) -> Callable[[_Method], _Method]:
    """Mark a method as the receiver of signals, each as ``"module:signal"``."""

    def make(target: str) -> _Mark:
        return lambda patcher, method: ListenPatch(target, method)  # noqa: ARG005

    return mark(make(target) for target in targets)


def on_event(target: str, *events: str) -> Callable[[_Method], _Method]:
    """Mark a method as the listener to events of a class, given as ``"module:Class"``.

    Args:
        target: the class.
        events: names of its events.
    """

    def make(event: str) -> _Mark:
        return lambda patcher, method: EventPatch(target, event, method)  # noqa: ARG005

    return mark(make(event) for event in events)


def replace(*targets: str) -> Callable[[_Method], _Method]:
    """Mark a method as the maker of replacements: it gets what stands at ``"module:attribute"``, returns what shall."""

    def make(target: str) -> _Mark:
        return lambda patcher, method: ReplacePatch(target, method)  # noqa: ARG005

    return mark(make(target) for target in targets)
