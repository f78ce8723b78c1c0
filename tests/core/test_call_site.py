"""The line of the application's code that led to ours, past libraries, Python and generated code."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import gevent
import pytest
from greenlet import greenlet

from opentracing_instrumentation._core.call_site import call_site

WRITTEN = "from opentracing_instrumentation._core.call_site import call_site\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], ModuleType]]:
    """Write a module below a folder that need not exist, and import it."""
    names: list[str] = []

    def write(path: str, source: str) -> ModuleType:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(file.parent)
        names.append(file.stem)
        return importlib.import_module(file.stem)

    yield write
    for name in names:
        sys.modules.pop(name)


def here(offset: int) -> str:
    """The caller's line, so many lines further down."""
    frame = sys._getframe(1)
    return f"{__file__}:{frame.f_lineno + offset} in {frame.f_code.co_name}"


def test_the_line_is_that_of_the_caller() -> None:
    line = here(1)
    assert call_site(False) == line


def test_python_itself_is_passed_over() -> None:
    through_functools = functools.singledispatch(call_site)
    line = here(1)
    assert through_functools(False) == line


def test_a_library_is_passed_over(write: Any) -> None:
    library = write("site-packages/some_library.py", WRITTEN + "def call():\n    return call_site(True)\n")
    line = here(1)
    assert library.call() == line


def test_a_comprehension_is_part_of_its_function() -> None:
    line = here(1)
    assert [[call_site(False) for _ in "a"] for _ in "a"] == [[line]]
    line = here(1)
    assert next(call_site(False) for _ in "a") == line


LIBRARY = WRITTEN + "def call():\n    return call_site(True)\n"
DRIVEN = WRITTEN + "def order():\n    return call_site(False)\n"
SHOP = "def order(call):\n    return call()\n"


def in_a_thread_of_nobody(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function from Python's own code alone."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result()


def test_of_an_application_that_is_installed_it_is_the_line_past_the_library(write: Any) -> None:
    library, shop = write("site-packages/some_library.py", LIBRARY), write("dist-packages/some_shop.py", SHOP)
    assert in_a_thread_of_nobody(shop.order, library.call) == f"{shop.__file__}:2 in order"


def test_of_one_that_calls_us_without_a_library_it_is_its_own(write: Any) -> None:
    shop = write("site-packages/some_shop.py", DRIVEN)
    assert in_a_thread_of_nobody(shop.order) == f"{shop.__file__}:3 in order"


def test_a_library_alone_is_no_application(write: Any) -> None:
    library = write("site-packages/some_library.py", LIBRARY)
    assert in_a_thread_of_nobody(library.call) is None


def test_code_outside_of_such_folders_comes_first(write: Any) -> None:
    shop = write("site-packages/some_shop.py", DRIVEN)
    line = here(1)
    assert shop.order() == line


@pytest.mark.parametrize("name", ["<string>", "<ipython-input-3-0a1b>", "<stdin>"])
def test_what_is_typed_in_is_the_applications(name: str) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "call_site": call_site}
    exec(compile("def cell():\n    return call_site(False)\nline = cell()", name, "exec"), namespace)
    assert namespace["line"] == f"{name}:2 in cell"


def test_a_cell_of_a_notebook_is_the_applications() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "call_site": call_site}
    exec(compile("line = call_site(False)", "/tmp/ipykernel_7/3.py", "exec"), namespace)
    assert namespace["line"] == "/tmp/ipykernel_7/3.py:1 in <module>"


def test_what_a_library_generates_is_the_librarys(write: Any) -> None:
    library = write("site-packages/some_library.py", LIBRARY)
    namespace: dict[str, Any] = {"__name__": library.__name__, "call": library.call}
    exec("def generated():\n    return call()", namespace)
    line = here(1)
    assert namespace["generated"]() == line


def test_what_is_of_no_module_is_nobodys() -> None:
    namespace: dict[str, Any] = {"call_site": call_site}
    line = here(1)
    exec("line = call_site(False)", namespace)
    assert namespace["line"] == line


def test_a_program_of_one_line_has_a_line() -> None:
    program = f"{WRITTEN}print(call_site(False))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "<string>:2 in <module>\n"


def test_a_greenlet_is_waited_for_by_the_code_that_it_was_begun_for(write: Any) -> None:
    library = write("site-packages/some_library.py", LIBRARY)
    line = here(1)
    assert greenlet(library.call).switch() == line
    line = here(1)
    assert greenlet(lambda: greenlet(library.call).switch()).switch().startswith(line.partition(" ")[0])


def test_in_geventlets_it_is_their_own() -> None:
    def work() -> str | None:
        return call_site(False)

    line = f"{__file__}:{work.__code__.co_firstlineno + 1} in work"
    assert gevent.spawn(work).get() == line
