"""The layers of the package: who may import whom, read from the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import opentracing_instrumentation

ROOT = Path(opentracing_instrumentation.__file__).parent
PACKAGE = ROOT.name
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(ROOT.rglob("*.py"))
}

#: Layer by module, by the longest prefix; the package itself is the empty name.
LAYERS = {
    **dict.fromkeys(("config", "interceptors", "_core", "_core.safety", "_core.tags"), 0),
    **dict.fromkeys(("request_context", "utils"), 1),
    **dict.fromkeys(("_core.calls", "_core.patching"), 2),
    **dict.fromkeys(("http_client", "http_server", "local_span", "sqlcommenter", "n_plus_one"), 3),
    **dict.fromkeys(("client_hooks.", "sqlalchemy_opentracing", "middleware"), 4),
    **dict.fromkeys(("", "client_hooks", "_core.registry", "cli", "n_plus_one_pytest"), 5),
    "otel": 1.5,
}
#: What is imported at the top of a module, besides the standard library and this package, by layer.
LIBRARIES = {0: {"opentracing"}, 1: {"opentracing"}, 1.5: {"opentracing", "opentelemetry"}, 2: {"opentracing", "wrapt"}}
LIBRARIES |= {3: LIBRARIES[2], 4: LIBRARIES[2], 5: {*LIBRARIES[2], "click", "pytest", "rich"}}
#: A hook that stands on another's shoulders, as its users know it.
ALLOWED = {("client_hooks.urllib", "client_hooks.urllib2")}


def layer(module: str) -> float:
    if module in LAYERS:
        return LAYERS[module]
    prefixes = [name for name in LAYERS if name and (module + ".").startswith(name if name[-1] == "." else name + ".")]
    return LAYERS[max(prefixes, key=len)]


def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text("utf-8"))


def imported(module: str, node: ast.AST) -> Iterator[str]:
    """Yield the absolute names of what a statement imports, those of this package beginning with a dot."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = [*module.split("."), "__init__"] if MODULES[module].name == "__init__.py" else module.split(".")
            parents = [part for part in parts if part][: -node.level] if node.level else []
            base = "." + ".".join([*parents, *([node.module] if node.module else [])])
        for alias in node.names:
            name = f"{base}.{alias.name}" if base != "." else f".{alias.name}"
            yield name if name[1:] in MODULES else base


def imports(module: str, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        for name in imported(module, node):
            own = name == PACKAGE or name.startswith(f"{PACKAGE}.")
            yield "." + name.removeprefix(PACKAGE).lstrip(".") if own else name


def in_functions(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from node.body


def at_top(module: str) -> set[str]:
    """Return what a module imports when it is imported, type checking aside."""
    tree = parsed(module)
    inside = {id(node) for body in in_functions(tree) for node in ast.walk(body)}
    return {name for node in ast.walk(tree) if id(node) not in inside for name in imported(module, node)}


def test_the_modules_are_found() -> None:
    """The package is more than a handful of modules: this file would pass on none."""
    assert {"_core.calls", "client_hooks", "client_hooks.requests", "config", ""} <= set(MODULES)
    assert set(imports("_core.calls", parsed("_core.calls"))) >= {".interceptors", "._core.safety", "opentracing"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_its_layer_or_below(module: str) -> None:
    """Hooks import none of each other, only helpers with an underscore; nothing but doors imports a door."""
    own = layer(module)
    for name in imports(module, parsed(module)):
        if not name.startswith("."):
            continue
        other = name[1:]
        assert layer(other) <= own, f"{module or PACKAGE} (layer {own}) imports {other or PACKAGE}"
        if own == layer(other) == 4 and (module, other) not in ALLOWED:
            assert "._" in f".{other}", f"the hook {module} imports the hook {other}"
        if other.startswith("otel"):
            assert module.startswith(("otel", "cli")), f"{module} imports OpenTelemetry"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_of_ours_is_imported_inside_a_function(module: str) -> None:
    """An import inside a function hides a cycle. The commands, which are slow to start otherwise, may."""
    if module.startswith("cli"):
        return
    names = [name for node in in_functions(parsed(module)) for name in imports(module, node)]
    assert [name for name in names if name.startswith(".")] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_patched_library_is_imported_by_nobody_at_the_top(module: str) -> None:
    """Importing this package imports OpenTracing and wrapt, and nothing that it patches."""
    allowed = {*sys.stdlib_module_names, *LIBRARIES[layer(module)]}
    foreign = {name.partition(".")[0] for name in at_top(module) if not name.startswith(".")} - allowed - {PACKAGE}
    assert foreign <= guarded(module)


def guarded(module: str) -> set[str]:
    """Return what is imported for type checkers only."""
    return {
        name.partition(".")[0]
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for name in imported(module, statement)
    }


@pytest.mark.parametrize("module", [name for name in MODULES if layer(name) < 4])
def test_a_patched_library_is_named_by_hooks_only(module: str) -> None:
    """Below the hooks nobody imports one, not even inside a function, nor names a target."""
    tree = parsed(module)
    known = {*sys.stdlib_module_names, *LIBRARIES[layer(module)], PACKAGE}
    assert {name.partition(".")[0] for name in imports(module, tree) if not name.startswith(".")} <= known
    marks = {"trace", "listen", "on_event", "replace"}
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert not marks & {function.id for function in calls}


@pytest.mark.parametrize("module", MODULES)
def test_every_function_fits_a_screen(module: str) -> None:
    """Sixty lines at most, its docstring included."""
    functions = [node for node in ast.walk(parsed(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {node.name: lines for node in functions if (lines := node.end_lineno - node.lineno + 1) > 60} == {}
