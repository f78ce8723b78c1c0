"""`opentracing-instrument run`: a program that is traced, and that does not notice."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from opentracing_instrumentation.cli import run
from opentracing_instrumentation.cli.plan import VARIABLE, Plan

from .conftest import ROOT, trees

QUERY = """
    import sqlalchemy

    with sqlalchemy.create_engine("sqlite://").connect() as connection:
        connection.execute(sqlalchemy.text("SELECT 1"))
"""
DRAWN = [[(0, "program", "SQL SELECT 1")]]


@pytest.fixture
def program(tmp_path):
    """Writes a Python program; returns its path."""

    def write(text, name="program.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text))
        return str(path)

    return write


def test_without_configuration_each_trace_is_drawn_on_standard_error(command, program, tmp_path):
    code, output, errors = command("run", program(QUERY))
    assert (code, output, trees(errors)) == (0, "", DRAWN)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_arguments_streams_and_exit_code_are_the_programs_own(command, program):
    path = program("""
        import sys
        print(sys.argv[1:], sys.stdin.read(), [entry for entry in sys.path if "startup" in entry])
        print("oh", file=sys.stderr)
        sys.exit(7)
    """)
    options = ["--service-name", "x", "-m", "--help", "--", "a b"]
    assert command("run", path, *options, given="in") == (7, f"{options} in []\n", "oh\n")


def test_the_program_has_the_process_of_the_command(start, program):
    process = start("run", program("import os; print(os.getpid(), os.getppid())"))
    output, _ = process.communicate(timeout=45)
    assert output.split() == [str(process.pid), str(os.getpid())]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_signal_reaches_the_program_and_its_traces_are_drawn_all_the_same(start, program, number):
    process = start(
        "run",
        program(
            "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n"
            + dedent(QUERY)
            + "print('ready', flush=True)\ntime.sleep(60)\n"
        ),
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=45)
    assert (process.returncode, trees(errors)) == (-number, DRAWN)


def test_the_program_has_no_child_that_it_did_not_start(command, program):
    path = program("""
        import os
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            print("none")
    """)
    assert command("run", path)[:2] == (0, "none\n")


def test_a_child_that_outlives_the_program_is_drawn_and_keeps_only_standard_error_open(start, program):
    program(QUERY + "    import time; print(flush=True); time.sleep(60)", "child.py")
    path = program("""
        import subprocess, sys
        command = [sys.executable, "child.py"]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        child.stdout.readline()
        print(child.pid)
    """)
    process = start("run", path)
    child = int(process.stdout.read())
    assert process.wait(20) == 0
    drawn = [process.stderr.readline() for _ in range(3)]
    os.kill(child, signal.SIGKILL)
    assert (trees("".join(drawn)), process.stderr.read()) == ([[(0, "child", "SQL SELECT 1")]], "")


@pytest.mark.parametrize(
    "arguments", [["-m", "package"], ["python", "-m", "package"], ["--", sys.executable, "-m", "package"]]
)
def test_a_module_is_run_by_this_python(command, program, arguments):
    program(QUERY, "package/__main__.py")
    code, _, errors = command("run", *arguments)
    assert (code, trees(errors)) == (0, [[(0, "package", "SQL SELECT 1")]])


def test_options_of_python_itself_may_come_before_a_script(command, program):
    path = program("import sys; print(sys.argv[1:], sys._xoptions, sys.flags.optimize)")
    code, output, _ = command("run", "-OO", "-Xfaulthandler", path, "-h")
    assert (code, output) == (0, "['-h'] {'faulthandler': True} 2\n")


def test_code_is_run_too(command):
    code, _, errors = command("run", "-c", dedent(QUERY))
    assert (code, trees(errors)) == (0, [[(0, "python", "SQL SELECT 1")]])


def test_children_are_traced_and_one_trace_through_several_processes_is_one_tree(command, program):
    program("""
        import sys
        from wsgiref.simple_server import make_server
        import sqlalchemy

        def application(environ, start_response):
            with sqlalchemy.create_engine("sqlite://").connect() as connection:
                for number in range(12):
                    connection.execute(sqlalchemy.text("SELECT :number"), {"number": number})
            start_response("200 OK", [])
            return [b""]

        with make_server("127.0.0.1", 0, application) as server:
            print(server.server_port, flush=True)
            server.handle_request()
    """, "server.py")  # fmt: skip
    path = program("""
        import subprocess, sys
        import requests

        command = [sys.executable, "server.py"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            port = int(server.stdout.readline())
            requests.get(f"http://127.0.0.1:{port}/list")
    """)
    code, _, errors = command("run", path)
    assert code == 0, errors
    assert trees(errors) == [
        [
            (0, "program", "GET 200 127.0.0.1/list"),
            (1, "server", "GET 200 /list"),
            (2, "server", "SQL SELECT x12 N+1 ?"),
        ]
    ]


def test_a_forked_process_and_its_parent_are_both_drawn(command, program):
    path = program(
        dedent("""
        import os
        if not os.fork():
            {query}
            os._exit(0)
        os.wait()
        {query}
        """).replace("{query}", "exec(open('query.py').read())")
    )
    program(QUERY, "query.py")
    _, _, errors = command("run", path)
    assert trees(errors) == DRAWN * 2


def test_the_users_sitecustomize_runs_and_stays_the_module_of_that_name(command, program, tmp_path):
    program("answer = 42", "site/sitecustomize.py")
    path = program("import sitecustomize; print(sitecustomize.answer)\n" + dedent(QUERY))
    code, output, errors = command("run", path, PYTHONPATH=f"{tmp_path / 'site'}{os.pathsep}{ROOT}")
    assert (code, output.splitlines()[-1], trees(errors)) == (0, "42", DRAWN)


def test_a_broken_sitecustomize_of_the_user_is_reported_by_python_as_ever(command, program, tmp_path):
    program("1 / 0", "site/sitecustomize.py")
    code, output, errors = command("run", program("print('runs')"), PYTHONPATH=f"{tmp_path / 'site'}{os.pathsep}{ROOT}")
    assert (code, output) == (0, "runs\n")
    assert "ZeroDivisionError" in errors


def test_a_service_name_holds_for_all_processes(command, program):
    _, _, errors = command("run", "--service-name", "shop", program(QUERY))
    assert trees(errors) == [[(0, "shop", "SQL SELECT 1")]]


@pytest.mark.parametrize("options", [["--disable", "requests, sqlalchemy"], ["--hooks", "requests"]])
def test_hooks_can_be_chosen(command, program, options):
    code, _, errors = command("run", *options, program(QUERY))
    assert (code, errors) == (0, "")


def test_a_tracer_of_the_users_is_made_in_each_process(command, program):
    program(
        """
        import atexit
        from opentracing.mocktracer import MockTracer
        from opentracing.scope_managers.contextvars import ContextVarsScopeManager

        def make():
            tracer = MockTracer(ContextVarsScopeManager())
            atexit.register(lambda: print([span.operation_name for span in tracer.finished_spans()]))
            return tracer
        """,
        "tracers.py",
    )
    assert command("run", "--tracer", "tracers:make", program(QUERY)) == (0, "['SQL SELECT']\n", "")


def test_a_tracer_that_fails_leaves_the_program_untraced_and_says_so(command, program):
    code, output, errors = command("run", "--tracer", "nowhere:make", program("print('runs')"))
    assert (code, output) == (0, "runs\n")
    assert errors == (
        "opentracing-instrument: this program is not traced: ModuleNotFoundError(\"No module named 'nowhere'\")\n"
    )


def test_a_tracer_that_the_program_sets_is_the_one_in_use(command, program):
    path = program("""
        import opentracing
        from opentracing.mocktracer import MockTracer
        opentracing.set_global_tracer(MockTracer())
        exec(open("query.py").read())
        print(len(opentracing.tracer.finished_spans()))
    """)
    program(QUERY, "query.py")
    assert command("run", path) == (0, "1\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nothing-of-this-name"], 127, "nothing-of-this-name: there is no such program"),
        (["--exportr", "otlp", "x.py"], 2, "no such option: --exportr"),
        (["--hooks", "requests,nosql", "x.py"], 2, "no such hook: nosql; there are boto3, celery, "),
        (["--disable", "nosql", "x.py"], 2, "no such hook: nosql; there are boto3, celery, "),
        ([], 2, "Missing argument 'COMMAND...'"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(command, arguments, code, message):
    result = command("run", *arguments)
    assert result[:2] == (code, "")
    assert f"Error: {message}" in result[2]


def test_a_program_that_the_system_refuses_has_a_shells_exit_code(command, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"\0\0")
    path.chmod(0o755)
    code, _, errors = command("run", str(path))
    assert (code, errors) == (126, f"Error: {path}: Exec format error\n")


def test_where_there_can_be_no_socket_nothing_runs_and_nothing_stays(command, program, tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    code, output, errors = command("run", program("print('runs')"), TMPDIR=str(folder))
    assert (code, output) == (1, "")
    assert errors == "Error: no socket for the spans of the program: AF_UNIX path too long\n"
    assert list(folder.iterdir()) == []


def test_a_span_that_is_never_ended_keeps_nobody_waiting(command, program):
    path = program("import opentracing\nopentracing.tracer.start_span('forgotten')\n" + dedent(QUERY))
    code, _, errors = command("run", path)
    assert (code, trees(errors)) == (0, DRAWN)


def test_the_console_entry_point_is_the_command():
    entry = re.search(r'^opentracing-instrument = "(.*):(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert callable(getattr(importlib.import_module(entry[1]), entry[2]))


def test_what_is_left_in_the_traced_program_needs_neither_click_nor_rich(command, program):
    path = program("import sys; print([name for name in ('click', 'rich') if name in sys.modules])")
    assert command("run", path)[1] == "[]\n"


# OpenTelemetry.


class Receiver(BaseHTTPRequestHandler):
    """Keeps what is posted to it, with the path."""

    def do_POST(self):
        self.server.received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    """An endpoint of OTLP over HTTP."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.received = []
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("by_environment", [True, False])
def test_spans_go_to_a_collector_of_opentelemetry(command, program, receiver, by_environment):
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.server_port}"}
    if by_environment:
        variables["OTEL_TRACES_EXPORTER"] = "otlp"
    options = () if by_environment else ("--exporter", "otlp")
    code, output, errors = command("run", "--service-name", "shop", *options, program(QUERY), **variables)
    assert (code, output, errors) == (0, "", "")
    arrived = [
        (path, service(each), [span.name for scope in each.scope_spans for span in scope.spans])
        for path, body in receiver.received
        for each in ExportTraceServiceRequest.FromString(body).resource_spans
    ]
    assert arrived == [("/v1/traces", "shop", ["SELECT"])]


def service(spans):
    """The name of the service in the resource of spans."""
    return next(each.value.string_value for each in spans.resource.attributes if each.key == "service.name")


def test_an_exporter_of_opentelemetrys_that_there_is_not_is_a_mistake(command, program):
    code, output, errors = command("run", "--exporter", "smoke", program("print('runs')"))
    assert (code, output) == (1, "")
    assert errors.startswith("Error: there is no exporter 'smoke'; there are otlp, console, none")


def test_without_opentelemetry_the_error_names_the_extra(command, program):
    program("import sys; sys.modules['opentelemetry'] = None", "sitecustomize.py")
    code, output, errors = command("run", "--exporter", "otlp", program("print('runs')"), PYTHONPATH=f".:{ROOT}")
    assert (code, output) == (1, "")
    assert errors == ('Error: --exporter otlp needs OpenTelemetry: pip install "opentracing_instrumentation[otel]"\n')


# The parts, in this process.


def test_a_plan_survives_the_environment():
    plan = Plan("shop", "otlp", "a:b", "/here", ("x",), ("y",), "/socket", 7)
    assert Plan.of({VARIABLE: plan.to_json()}) == plan
    assert Plan.of({VARIABLE: Plan().to_json()}) == Plan()
    assert Plan.of({}) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"unknown": 1}'])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(ValueError):
        Plan.of({VARIABLE: text})


def test_the_folder_of_the_start_comes_first_on_the_path_and_once():
    first = run.traced_environment(Plan(), {"PYTHONPATH": "a"})
    again = run.traced_environment(Plan(service="b"), first)
    folder = str(Path(run.__file__).parent / "startup")
    assert again["PYTHONPATH"].split(os.pathsep) == [folder, "a"]
    assert json.loads(again[VARIABLE])["service"] == "b"


def test_a_script_is_run_by_this_python_and_a_command_found_beside_it_first(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    python = str(Path(sys.executable).with_name("python"))
    assert run.program([str(script), "x"]) == (sys.executable, [sys.executable, str(script), "x"])
    assert run.program(["python", "x"]) == (python, [python, "x"])
