"""What comments say: options of the caller's, settings of the process, and what a request adds."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from typing import Any

import pytest

from opentracing_instrumentation import sqlcommenter
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.sqlcommenter import Commenter, Options, attributes, configure, default_options, parse

FACTS = {
    "db_driver": "psycopg2:2.9",
    "db_framework": "django:5",
    "dbapi_level": "2.0",
    "dbapi_threadsafety": 2,
    "driver_paramstyle": "pyformat",
    "libpq_version": 170000,
    "mysql_client_version": "8",
}


def told(options: Options, **known: Any) -> dict[str, str]:
    return parse(Commenter(options, driver="psycopg2", **known)("SELECT 1"))


@pytest.mark.parametrize(
    ("commenter_options", "keys"),
    [
        (None, {"db_driver", "db_framework"}),
        ({}, {"db_driver", "db_framework"}),
        ({"db_driver": False}, {"db_framework"}),
        (
            {"db_framework": False, "dbapi_level": True, "dbapi_threadsafety": True},
            {"db_driver", "dbapi_level", "dbapi_threadsafety"},
        ),
        (
            {"db_driver": True, "driver_paramstyle": True, "libpq_version": True, "mysql_client_version": True},
            set(FACTS) - {"dbapi_level", "dbapi_threadsafety"},
        ),
        ({"opentelemetry_values": False, "db_driver": False, "db_framework": False}, set()),
    ],
)
def test_what_is_known_of_the_driver_is_opted_in_and_out(commenter_options: Any, keys: set[str]) -> None:
    """As OpenTelemetry spells it."""
    assert told(Options.of(commenter_options=commenter_options), facts=FACTS) == {key: str(FACTS[key]) for key in keys}


def test_of_a_driver_of_which_nothing_is_known_its_name_is_told() -> None:
    assert told(Options.of()) == {"db_driver": "psycopg2"}


def test_values_are_texts_numbers_mappings_and_functions() -> None:
    calls: list[int] = []

    def count() -> int:
        calls.append(1)
        return len(calls)

    options = Options.of(
        commenter_options={
            "db_driver": "mine",
            "service": "shop",
            "shard": 3,
            "empty": None,
            "deploy": {"region": "eu", "zone": None, 7: 8},
            "count": count,
            "nobody": lambda: None,
            "request": lambda: {"route": "/orders", "action": None, "service": "shop 2"},
        }
    )
    commenter = Commenter(options, driver="psycopg2")
    said = {"db_driver": "mine", "service": "shop 2", "shard": "3", "region": "eu", "7": "8", "route": "/orders"}
    assert parse(commenter("SELECT 1")) == {**said, "count": "1"}
    assert parse(commenter("SELECT 1")) == {**said, "count": "2"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "on"}, "mode = 'on': accepted is 'off' or 'static' or 'full'"),
        ({"mode": None}, "mode = None: accepted is 'off' or 'static' or 'full'"),
        ({"commenter_options": "service"}, "commenter_options = 'service': accepted is a mapping or None"),
        ({"commenter_options": {1: "a"}}, "a key of commenter_options = 1: accepted is a text"),
        ({"commenter_options": {"": "a"}}, "a key of commenter_options = '': accepted is a text"),
        (
            {"commenter_options": {"route": ["a"]}},
            "commenter_options['route'] = ['a']: accepted is a text, a number, None,",
        ),
        (
            {"commenter_options": {"route": True}},
            "commenter_options['route'] = True: accepted is a text, a number, None,",
        ),
        (
            {"commenter_options": {"opentelemetry_values": "no"}},
            "commenter_options['opentelemetry_values'] = 'no': accepted is True or False",
        ),
        ({"force": 1}, "force = 1: accepted is True or False"),
        ({"prepend": None}, "prepend = None: accepted is True or False"),
        ({"enable_attribute_commenter": "yes"}, "enable_attribute_commenter = 'yes': accepted is True or False"),
    ],
)
def test_wrong_options_are_refused(arguments: dict[str, Any], message: str) -> None:
    """The error names the option, its value and what is accepted; nothing has changed then."""
    configure("static", {"service": "shop"})
    before = default_options()
    for accept in (Options.of, configure):
        if not (accept is configure and arguments.get("mode", "") is None):
            with pytest.raises(ValueError, match=re.escape(message)):
                accept(**arguments)
    assert (CONFIG.sql_comments, default_options()) == ("static", before)


def test_options_do_not_change_with_what_they_were_made_of() -> None:
    given = {"service": "shop"}
    options = Options.of(commenter_options=given)
    given["service"] = "other"
    assert told(options) == {"db_driver": "psycopg2", "service": "shop"}
    with pytest.raises(AttributeError):
        options.mode = "full"  # type: ignore[misc]


def test_the_setting_is_the_mode_of_all_who_have_no_options() -> None:
    assert default_options().mode == "off"
    CONFIG.sql_comments = "full"
    assert default_options().mode == "full"
    configure(commenter_options={"service": "shop"}, prepend=True)
    assert (default_options().mode, default_options().prepend) == ("full", True)
    CONFIG.sql_comments = "static"
    assert default_options() is default_options()
    assert (default_options().mode, told(default_options())) == ("static", {"db_driver": "psycopg2", "service": "shop"})
    configure("off")
    assert CONFIG.sql_comments == "off"


@pytest.mark.parametrize(("text", "mode"), [("static", "static"), (" FULL", "full"), ("off", "off")])
def test_the_mode_is_in_the_environment(text: str, mode: str) -> None:
    assert _started(text) == (0, mode, "")


def test_a_wrong_mode_in_the_environment_is_an_error_at_the_start() -> None:
    code, _, errors = _started("on")
    assert code == 1
    assert errors.endswith("OPENTRACING_INSTRUMENTATION_SQL_COMMENTS='on': accepted are off, static, full\n")


def _started(text: str) -> tuple[int, str, str]:
    program = "from opentracing_instrumentation.sqlcommenter import default_options; print(default_options().mode)"
    environ = {**os.environ, "OPENTRACING_INSTRUMENTATION_SQL_COMMENTS": text}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip(), done.stderr


def test_the_service_is_the_application_by_default() -> None:
    commenter = Commenter(Options.of(commenter_options={"db_driver": False}), driver="d")
    assert commenter("SELECT 1") == "SELECT 1"
    CONFIG.app_name = "shop"
    assert commenter("SELECT 1") == "SELECT 1 /*service='shop'*/"
    assert told(Options.of(commenter_options={"db_driver": False, "service": "other"})) == {"service": "other"}


@pytest.fixture
def commenter() -> Commenter:
    options = Options.of(commenter_options={"db_driver": False, "service": "shop", "route": lambda: "unknown"})
    return Commenter(options, driver="d")


def test_a_request_says_more_and_takes_precedence(commenter: Commenter) -> None:
    def said() -> dict[str, str]:
        return parse(commenter("SELECT 1"))

    with attributes(route="/orders", shard=3):
        with attributes(action="list", shard=None, service=None):
            assert said() == {"service": "shop", "route": "/orders", "action": "list"}
        assert said() == {"service": "shop", "route": "/orders", "shard": "3"}
    with pytest.raises(KeyError), attributes(action="list"):
        raise KeyError
    assert said() == {"service": "shop", "route": "unknown"}


def test_tasks_and_threads_have_attributes_of_their_own(commenter: Commenter) -> None:
    said: list[dict[str, str]] = []

    async def handle(number: int) -> None:
        with attributes(route=f"/{number}"):
            await asyncio.sleep(0)
            said.append(parse(await asyncio.to_thread(commenter, "SELECT 1")))

    async def main() -> None:
        await asyncio.gather(*(handle(number) for number in range(20)))

    with attributes(route="/main"):
        thread = threading.Thread(target=asyncio.run, args=(main(),))
        thread.start()
        thread.join()
    assert {one["route"] for one in said} == {f"/{number}" for number in range(20)}


def test_a_block_may_end_in_another_context(commenter: Commenter) -> None:
    """As that of an asynchronous generator does which the event loop closes."""

    async def main() -> str:
        async def handle() -> Any:
            with attributes(route="/orders"):
                yield

        generator = handle()
        await asyncio.create_task(generator.__anext__())
        await generator.aclose()
        return str(commenter("SELECT 1"))

    assert parse(asyncio.run(main()))["route"] == "unknown"


def test_module_has_the_modes_of_the_setting() -> None:
    assert (sqlcommenter.OFF, sqlcommenter.STATIC, sqlcommenter.FULL) == ("off", "static", "full")
