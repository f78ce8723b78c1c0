"""Whatever README and the guides show, runs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

import opentracing_instrumentation
from opentracing_instrumentation.config import CONFIG, SETTINGS

ROOT = Path(opentracing_instrumentation.__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    return [code for language, code in BLOCK.findall(page.read_text()) if language in languages]


@pytest.fixture
def defaults() -> None:
    """All settings are what a reader has."""
    CONFIG.sql_checkout_threshold = SETTINGS["sql_checkout_threshold"].default  # type: ignore[assignment]


@pytest.mark.usefixtures("defaults")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run_in_their_order(page: Path) -> None:
    """The Python blocks of a page are one program."""
    namespace: dict[str, object] = {"__name__": page.stem}
    for number, code in enumerate(blocks(page, "python"), 1):
        exec(compile(code, f"{page.name}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    """Commands are make's, with a target that there is, or pip's, for this package with extras that there are."""
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    for line in "".join(blocks(page, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] == "make":
            subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        else:
            assert words[:2] == ["pip", "install"], line
            name, _, wanted = words[2].rstrip("]").partition("[")
            assert name == "opentracing_instrumentation"
            assert set(filter(None, wanted.split(","))) <= extras


def test_every_block_has_a_language_that_is_tested() -> None:
    """A block in any other language is output, and says so."""
    languages = {language for page in PAGES for language, _ in BLOCK.findall(page.read_text())}
    assert languages <= {"python", "sh", "text"}


def test_every_page_of_the_guide_is_in_its_navigation() -> None:
    """mkdocs.yml names all pages."""
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")]
    assert [page for page in pages if page not in navigation] == []


def test_links_between_pages_lead_somewhere() -> None:
    """Relative links name files that exist."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
