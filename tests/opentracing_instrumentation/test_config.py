"""CONFIG: settings with defaults, their environment variables, and the values they accept."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from opentracing_instrumentation.config import CONFIG, PREFIX, SETTINGS, _Config


def test_the_defaults_are_those_of_the_table() -> None:
    config = _Config()
    assert {name: getattr(config, name) for name in SETTINGS} == {name: s.default for name, s in SETTINGS.items()}
    assert config.app_name is None
    assert (config.caller_name_headers, config.callee_name_headers, config.callee_endpoint_headers) == ([], [], [])
    assert (config.capture_sql_parameters, config.legacy_peer_tags, config.disabled_hooks) == (False, False, [])


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, setting in SETTINGS.items() if not setting.purpose.endswith(".")] == []
    assert set(SETTINGS) == set(_Config.__annotations__)


def test_lists_are_not_shared_between_configurations() -> None:
    _Config().caller_name_headers.append("x")
    assert _Config().caller_name_headers == []


def test_the_name_of_the_application_may_be_given() -> None:
    assert _Config(app_name="till").app_name == "till"
    assert _Config("till", {PREFIX + "APP_NAME": "other"}).app_name == "till"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("app_name", "till", "till"),
        ("caller_name_headers", "X-Caller, X-From,", ["X-Caller", "X-From"]),
        ("disabled_hooks", "", []),
        ("capture_sql_parameters", "1", True),
        ("legacy_peer_tags", " Off ", False),
        ("legacy_peer_tags", "YES", True),
        ("n_plus_one_threshold", " 25 ", 25),
        ("n_plus_one_threshold", "0", 0),
    ],
)
def test_each_setting_has_an_environment_variable(name: str, text: str, value: Any) -> None:
    assert getattr(_Config(environ={PREFIX + name.upper(): text}), name) == value


@pytest.mark.parametrize(
    ("variable", "accepted"),
    [("LEGACY_PEER_TAGS", "true"), ("N_PLUS_ONE_THRESHOLD", "a whole number"), ("NO_SUCH_SETTING", "APP_NAME")],
)
def test_a_variable_that_makes_no_sense_is_refused_with_what_does(variable: str, accepted: str) -> None:
    with pytest.raises(ValueError, match=f"{PREFIX}{variable}='maybe'.*{accepted}"):
        _Config(environ={PREFIX + variable: "maybe"})


@pytest.mark.parametrize("text", ["-1", "+1", "1_0", "1.5", "", "ten", "\N{SUPERSCRIPT TWO}"])
def test_a_number_is_written_in_digits(text: str) -> None:
    with pytest.raises(ValueError, match="accepted are a whole number, 0 or more"):
        _Config(environ={PREFIX + "N_PLUS_ONE_THRESHOLD": text})


def test_other_variables_are_nobodys_business() -> None:
    assert _Config(environ={"APP_NAME": "other", "PATH": "/bin"}).app_name is None


def test_the_settings_in_force_are_read_from_the_environment_at_import() -> None:
    program = "from opentracing_instrumentation.config import CONFIG; print(CONFIG.disabled_hooks)"
    environ = {**os.environ, PREFIX + "DISABLED_HOOKS": "requests,redis"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['requests', 'redis']"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("app_name", 7),
        ("caller_name_headers", "X-Caller"),
        ("caller_name_headers", [1]),
        ("caller_name_headers", None),
        ("legacy_peer_tags", 1),
        ("legacy_peer_tags", "on"),
        ("n_plus_one_threshold", -1),
        ("n_plus_one_threshold", True),
        ("n_plus_one_threshold", 1.5),
        ("n_plus_one_threshold", "10"),
    ],
)
def test_a_wrong_value_is_refused_and_changes_nothing(name: str, wrong: Any) -> None:
    before = getattr(CONFIG, name)
    with pytest.raises(ValueError, match=f"CONFIG.{name} = .*: accepted is"):
        setattr(CONFIG, name, wrong)
    assert getattr(CONFIG, name) is before


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"CONFIG\.app_nam: there is no such setting; there are app_name"):
        CONFIG.app_nam = "till"  # type: ignore[attr-defined]


def test_a_tuple_of_names_will_do() -> None:
    CONFIG.caller_name_headers = ("X-Caller",)  # type: ignore[assignment]
    assert CONFIG.caller_name_headers == ("X-Caller",)
