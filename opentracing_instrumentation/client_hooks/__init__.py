"""The hooks, and the functions that turn them on and off."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import http_client
from .._core import registry
from ..config import CONFIG
from ..interceptors import OpenTracingInterceptor
from ..request_context import set_current_span_func

__all__ = [
    "BUILT_IN",
    "hooks",
    "install_all_patches",
    "install_client_interceptors",
    "install_patches",
    "reset_all_patches",
    "set_current_span_func",
]

#: The hooks of this package, by the names of their modules, in the order in which they are installed.
BUILT_IN = (
    "boto3",
    "celery",
    "mysqldb",
    "psycopg2",
    "strict_redis",
    "sqlalchemy",
    "tornado_http",
    "urllib2",
    "requests",
)


def hooks() -> Iterator[registry.Hook]:
    """Return all hooks, built in and third party, whether installed or not."""
    yield from registry.built_in(BUILT_IN)
    yield from registry.third_party()


def install_all_patches() -> None:
    """Trace all supported libraries: those that are imported already now, the others as soon as they are imported.

    Imports none of them. It may be called again, from any thread. ``CONFIG.disabled_hooks`` names hooks to leave out.

    Raises:
        ValueError: ``CONFIG.disabled_hooks`` names a hook that does not exist.
    """
    known = list(hooks())
    unknown = set(CONFIG.disabled_hooks) - {hook.name for hook in known}
    if unknown:
        names = ", ".join(hook.name for hook in known)
        raise ValueError(f"CONFIG.disabled_hooks = {CONFIG.disabled_hooks!r}: accepted are {names}")
    for hook in known:
        if hook.name not in CONFIG.disabled_hooks:
            hook.install()


def reset_all_patches() -> None:
    """Undo what any hook has installed, from any thread. Objects made in between stop being traced."""
    for hook in hooks():
        hook.reset()


def install_patches(patchers: str | Sequence[str] | None = "all") -> None:
    """Call the functions that install hooks.

    Args:
        patchers: dotted names of functions without arguments, such as
            ``"opentracing_instrumentation.client_hooks.requests.install_patches"``; ``"all"`` or ``None`` for
            :func:`install_all_patches`.

    Raises:
        ValueError: it is no such sequence, or a name does not lead to a function.
        ImportError: the module of a name can't be imported.
    """
    if patchers is None or patchers == "all":
        install_all_patches()
        return
    for name in _sequence("patchers", patchers):
        function = _resolve(name)
        if not callable(function):
            raise ValueError(f"patchers: {name} is not a function but {function!r}")
        function()


def install_client_interceptors(client_interceptors: Sequence[str] = ()) -> None:
    """Make interceptors and append them to those in force.

    Args:
        client_interceptors: dotted names of subclasses of ``OpenTracingInterceptor``, made without arguments.

    Raises:
        ValueError: it is no such sequence, or a name does not lead to an interceptor class.
        ImportError: the module of a name can't be imported.
    """
    for name in _sequence("client_interceptors", client_interceptors):
        interceptor_class = _resolve(name)
        if not (isinstance(interceptor_class, type) and issubclass(interceptor_class, OpenTracingInterceptor)):
            raise ValueError(f"client_interceptors: {name} is not a subclass of OpenTracingInterceptor")
        http_client.ClientInterceptors.append(interceptor_class())


def _sequence(argument: str, names: Any) -> Sequence[str]:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ValueError(f"{argument} = {names!r}: accepted is a sequence of dotted names")
    return names


def _resolve(dotted: str) -> Callable[..., Any] | Any:
    """Import what a dotted name means: the longest part of it that is a module, and attributes from there."""
    module_name, _, path = dotted.rpartition(".")
    if not module_name:
        raise ValueError(f"{dotted!r}: accepted is the dotted name of something in a module")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or "." not in module_name or not module_name.startswith(error.name):
            raise
        try:
            found = _resolve(module_name)
        except ValueError:
            raise error from None
    if not hasattr(found, path):
        raise ValueError(f"{dotted!r}: {module_name} has no {path!r}")
    return getattr(found, path)
