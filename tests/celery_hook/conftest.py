"""What the tests of the Celery hook share."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opentracing_instrumentation.client_hooks import celery as hook
from tests.opentracing_instrumentation.conftest import spans  # noqa: F401 - the fixture

from .workers import Find, Worker


@pytest.fixture(autouse=True)
def patched(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The hook is installed. No handler of ours fails: Celery would log that and go on."""
    hook.install_patches()
    yield
    assert [r.getMessage() for r in caplog.get_records("call") if r.name.startswith("celery.utils.dispatch")] == []


@pytest.fixture(scope="session")
def workers(service: Find, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Worker]]:
    """The function that gives a worker on a broker, with Celery's arguments for it. Each is started once."""
    running: dict[tuple[str, ...], Worker] = {}
    number = itertools.count()

    def worker(broker: str, *arguments: str) -> Worker:
        key = (broker, *arguments)
        if key not in running:
            folder: Path = tmp_path_factory.mktemp(f"worker{next(number)}")
            running[key] = Worker(service(broker).url, service("redis").url, folder, *arguments)
            running[key].start()
        return running[key]

    yield worker
    for each in running.values():
        each.ask_to_stop()
    for each in running.values():
        each.stop()


logging.getLogger("celery").setLevel(logging.WARNING)
