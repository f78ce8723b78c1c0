"""The singleton of hooks outside of this package: a function that runs once."""

from __future__ import annotations

import threading

import pytest

from opentracing_instrumentation.client_hooks._singleton import CALLED, NOT_CALLED, singleton


def test_a_singleton_runs_once_until_it_is_reset() -> None:
    runs: list[int] = []

    @singleton
    def install(number: int) -> str:
        """Install."""
        runs.append(number)
        return "installed"

    assert (install.__name__, install.__doc__, install.__call_state__) == ("install", "Install.", NOT_CALLED)
    assert [install(1), install(2)] == ["installed", None]
    assert install.__call_state__ == CALLED
    install.reset()
    assert install(3) == "installed"
    assert getattr(install, "__original_func")(4) == "installed"
    assert runs == [1, 3, 4]


def test_a_run_that_raises_does_not_count() -> None:
    runs: list[int] = []

    @singleton
    def install() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise OSError

    with pytest.raises(OSError):
        install()
    install()
    install()
    assert runs == [1, 1]


def test_a_singleton_may_call_itself() -> None:
    runs: list[int] = []

    @singleton
    def install(again: bool) -> None:
        runs.append(1)
        if again:
            install(False)

    install(True)
    install(True)
    assert runs == [1, 1]


def test_threads_that_call_a_singleton_at_once_run_it_once() -> None:
    runs: list[int] = []
    started = threading.Barrier(8)

    @singleton
    def install() -> None:
        runs.append(1)

    def work() -> None:
        started.wait(5)
        install()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs == [1]
