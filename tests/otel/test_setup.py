"""One call sets OpenTelemetry's SDK up, if nobody else has."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from .processes import PATIENCE, options, run
from .receiver import Received, http_receiver

pytestmark = pytest.mark.timeout(3 * PATIENCE)


def lines(code: str, **environment: str) -> list[str]:
    """Return what a program prints after it has called ``setup()``."""
    return run(
        f"import opentracing\nfrom opentracing_instrumentation import otel\n{code}", **environment
    ).stdout.split()


def test_it_is_the_global_tracer_of_both_worlds() -> None:
    """Native spans go the same way."""
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
tracer = otel.setup(exporter="none")
assert opentracing.tracer is tracer
assert type(trace.get_tracer_provider()) is TracerProvider
with tracer.start_active_span("ours") as scope:
    assert trace.get_tracer("native").start_span("native").parent == scope.span.context.unwrap()
"""
    run(f"import opentracing\nfrom opentracing_instrumentation import otel\n{code}")


def test_a_provider_that_is_set_already_stays() -> None:
    """``setup()`` says so, and what to do instead; calling it twice is the same mistake."""
    code = """
otel.setup(exporter="none")
before = opentracing.tracer
try:
    otel.setup(exporter="none")
except RuntimeError as error:
    print(error)
assert opentracing.tracer is before
"""
    said = " ".join(lines(code))
    assert "has a tracer provider already" in said
    assert "opentracing_instrumentation.otel.Tracer()" in said


@pytest.mark.parametrize(
    ("arguments", "environment", "name"),
    [
        ('service_name="mine"', {"OTEL_SERVICE_NAME": "theirs"}, "mine"),
        ("", {"OTEL_SERVICE_NAME": "theirs"}, "theirs"),
        ("", {"OTEL_RESOURCE_ATTRIBUTES": "service.name=others"}, "others"),
    ],
)
def test_the_name_of_the_service(arguments: str, environment: dict[str, str], name: str) -> None:
    """The argument goes before the variables."""
    code = f"""
tracer = otel.setup({arguments}, exporter="none")
print(tracer.start_span("span").unwrap().resource.attributes["service.name"])
""".replace("(, ", "(")
    assert lines(code, **environment) == [name]


@pytest.mark.parametrize(
    ("sampler", "environment", "recorded"),
    [
        ("None", {}, "True"),
        ("None", {"OTEL_TRACES_SAMPLER": "always_off"}, "False"),
        ("0", {}, "False"),
        ("1.0", {"OTEL_TRACES_SAMPLER": "always_off"}, "True"),
        ("ALWAYS_OFF", {}, "False"),
    ],
)
def test_the_sampler(sampler: str, environment: dict[str, str], recorded: str) -> None:
    """A number, a sampler, or what the variables say; a priority overrides it for the beginning of a trace."""
    code = f"""
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
tracer = otel.setup(exporter="none", sampler={sampler})
print(tracer.start_span("span", tags={{"a": 1}}).is_recording)
with tracer.start_active_span("wanted", tags={{"sampling.priority": 1}}) as scope:
    print(scope.span.is_recording, tracer.start_span("unwanted", tags={{"sampling.priority": 0}}).is_recording)
"""
    assert lines(code, **environment) == [recorded, "True", "False"]


def test_an_exporter_that_does_not_exist() -> None:
    """The names of those that do are told, and nothing is set up."""
    code = """
from opentelemetry import trace
for wanted in {"exporter": "smoke"}, {"sampler": 2}:
    try:
        otel.setup(**{"exporter": "none", **wanted})
    except ValueError as error:
        print(error)
assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
assert type(opentracing.tracer) is opentracing.Tracer
"""
    said = " ".join(lines(code))
    assert "there is no exporter 'smoke'; there are otlp, console, none and" in said
    assert "otlp_proto_http" in said


def test_an_exporter_of_the_sdks_own() -> None:
    """It gets the spans when the program ends."""
    code = """
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
otel.setup(exporter=ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")).start_span("last").finish()
"""
    assert lines(code) == ["last"]


def test_the_console() -> None:
    """Each trace is a tree on standard error as soon as its first span ends; what is late comes at the end."""
    code = """
import sys
from opentracing_instrumentation import otel
tracer = otel.setup("shop")
with tracer.start_active_span("order") as scope:
    tracer.start_span("pay", tags={"span.kind": "client"}).finish()
    late = tracer.start_span("late")
print("between", file=sys.stderr)
late.finish()
"""
    told = run(code, OTEL_TRACES_EXPORTER="console").stderr
    first, _, second = told.partition("between")
    assert "order" in first
    assert "└ pay" in first
    assert "late" not in first
    assert "late (parent missing)" in second


@contextmanager
def serving(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a server during the block, and ask it to end."""
    arguments = options(environment)
    del arguments["capture_output"]
    process = subprocess.Popen(
        [sys.executable, *command],
        **arguments,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:  # a pool that is just replacing a process may overlook the signal
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def fetch(url: str) -> bytes:
    """Return the answer of a server that may not be ready yet."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=PATIENCE) as response:
                return bytes(response.read())
        except (URLError, ConnectionError):
            time.sleep(0.05)
    raise AssertionError(f"no answer from {url}")


SITE = """
import os
from opentracing_instrumentation import otel
from opentracing_instrumentation.middleware.wsgi import TracingMiddleware

otel.setup()


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


application = TracingMiddleware(application)
"""


@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "loaded by each worker"])
def test_no_request_is_lost_under_gunicorn(tmp_path: Path, preload: bool) -> None:
    """Two workers, replaced every few requests: the span of each request arrives."""
    (tmp_path / "site_of_test.py").write_text(SITE)
    port = free_port()
    command = ["-m", "gunicorn", "--chdir", str(tmp_path), "--bind", f"127.0.0.1:{port}", "--workers", "2"]
    command += ["--max-requests", "5", *(["--preload"] if preload else []), "site_of_test:application"]
    with http_receiver() as received:
        with serving(*command, OTEL_EXPORTER_OTLP_ENDPOINT=received.endpoint, PYTHONDONTWRITEBYTECODE="1"):
            pids = [fetch(f"http://127.0.0.1:{port}/{number}") for number in range(40)]
        paths = sorted(path(span) for span in received.spans())
    assert len(set(pids)) > 2
    assert paths == sorted(f"/{number}" for number in range(40))


def path(span: Any) -> str:
    return next(attribute.value.string_value for attribute in span.attributes if attribute.key == "url.path")


TASKS = """
import sys
import celery
from opentracing_instrumentation import otel
from opentracing_instrumentation.client_hooks import install_all_patches

otel.setup()
install_all_patches()
folder = sys.argv[-1] if __name__ == "__main__" else __file__.rpartition("/")[0]
app = celery.Celery("tasks_of_test", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": folder, "data_folder_out": folder, "processed_folder": folder, "control_folder": folder,
}
app.conf.worker_hijack_root_logger = False


@app.task
def work(number):
    return number
"""


def test_no_task_is_lost_in_a_worker_that_recycles_its_processes(tmp_path: Path) -> None:
    """A Celery pool whose processes end, by ``os._exit``, after each task: all spans arrive, below those of senders."""
    (tmp_path / "tasks_of_test.py").write_text(TASKS)
    publish = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import tasks_of_test\n"
    publish += "for number in range(6): tasks_of_test.work.delay(number)"
    worker = ["-m", "celery", "--workdir", str(tmp_path), "--app", "tasks_of_test", "worker", "--concurrency", "2"]
    worker += ["--max-tasks-per-child", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with http_receiver() as received:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint, "PYTHONDONTWRITEBYTECODE": "1"}
        run(publish, **environment)
        with serving(*worker, **environment):
            wait_for(received, 12)
    spans = {span.span_id: span for span in received.spans()}
    runs = [span for span in spans.values() if span.name == "process tasks_of_test.work"]
    assert len(spans) == 12  # and none of the exporter's own requests
    assert len(runs) == 6
    assert sorted(spans[run.parent_span_id].name for run in runs) == ["publish tasks_of_test.work"] * 6


def wait_for(received: Received, count: int) -> None:
    """Wait until so many spans have arrived."""
    deadline = time.monotonic() + PATIENCE
    while len(received.spans()) < count and time.monotonic() < deadline:
        time.sleep(0.1)
