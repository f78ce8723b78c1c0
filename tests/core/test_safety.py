"""Failures of ours are logged once for each place and kind, or raised in strict mode, and never more than that."""

from __future__ import annotations

import logging
import traceback

import pytest

from opentracing_instrumentation._core import safety
from opentracing_instrumentation._core.safety import forget_reports, report


def failure(kind: type[BaseException] = ValueError) -> BaseException:
    """Return an exception that has been raised."""
    try:
        raise kind("why")
    except BaseException as error:
        return error


def test_strict_mode_raises_the_very_error() -> None:
    """Tests want to see it."""
    error = failure()
    with pytest.raises(ValueError) as raised:
        report("a place", error)
    assert raised.value is error


def test_a_failure_is_logged_once_with_its_traceback(lenient: None, caplog: pytest.LogCaptureFixture) -> None:
    """By the package's logger, as an error, with the place in the message."""
    error = failure()
    report("a place", error)
    report("a place", failure())
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("opentracing_instrumentation", "ERROR")
    assert record.getMessage() == "a place failed; the call itself goes on (reported once)"
    assert record.exc_info == (ValueError, error, error.__traceback__)
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["failure"]


def test_another_place_or_another_kind_of_failure_is_another_report(
    lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody who has mended the one hears of the other."""
    for place in ("a place", "another place"):
        for kind in (ValueError, KeyError):
            report(place, failure(kind))
    assert len(caplog.records) == 4


def test_reports_can_be_forgotten(lenient: None, caplog: pytest.LogCaptureFixture) -> None:
    """Then all is reported anew."""
    for _ in range(2):
        report("a place", failure())
        forget_reports()
    assert len(caplog.records) == 2


def test_what_is_remembered_is_bounded(
    lenient: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program with endless places keeps hearing of the later ones, and its memory does not grow."""
    monkeypatch.setattr(safety, "_REMEMBERED", 3)
    for _ in range(2):
        for place in range(5):
            report(str(place), failure())
    assert len(safety._reported) == 3
    assert len(caplog.records) == 7


class Broken(logging.Filter):
    """A filter of the application's that raises."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("broken logging")


def test_broken_logging_does_not_make_it_fail(lenient: None) -> None:
    """There is nobody left to tell."""
    broken = Broken()
    safety.logger.addFilter(broken)
    try:
        assert report("a place", failure()) is None
    finally:
        safety.logger.removeFilter(broken)


def test_an_error_that_cannot_be_printed_is_reported(lenient: None, caplog: pytest.LogCaptureFixture) -> None:
    """Its text is the logging's affair."""

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    report("a place", failure(Unprintable))
    assert len(caplog.records) == 1
