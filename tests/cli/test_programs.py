"""Whole programs that say nothing of tracing: the example without its tracing, Gunicorn, uvicorn, Flask, Celery."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from textwrap import dedent

import pytest

from .conftest import ROOT, environment, trees


class Untraced(ast.NodeTransformer):
    """Takes out of a service whatever has to do with tracing."""

    def __init__(self):
        self.names = set()

    def visit_ImportFrom(self, node):
        if (node.module or "").startswith(("opentracing", "tracing")):
            self.names.update(alias.asname or alias.name for alias in node.names)
            return None
        return node

    def visit_Import(self, node):
        return None if node.names[0].name == "opentracing" else node

    def visit_Expr(self, node):
        return None if self.tells_of_tracing(node) else node

    def visit_Call(self, node):
        self.generic_visit(node)
        return node.args[0] if isinstance(node.func, ast.Name) and node.func.id == "TracingMiddleware" else node

    def visit_FunctionDef(self, node):
        node.decorator_list = [each for each in node.decorator_list if not self.tells_of_tracing(each)]
        self.generic_visit(node)
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def tells_of_tracing(self, node):
        return any(isinstance(each, ast.Name) and each.id in self.names for each in ast.walk(node))


def untraced(service):
    tree = ast.parse((ROOT / "examples" / "shop" / f"{service}.py").read_text())
    tree.body = tree.body[1:]  # what is said of it, too
    code = ast.unparse(Untraced().visit(tree))
    assert "trac" not in code.replace("Exception", "").lower(), code
    return code


#: What `examples.shop.__main__` does, but for looking at spans.
BROWSER = """
    import os, subprocess, sys, tempfile
    import requests

    def start(service, *arguments):
        command = [sys.executable, "-m", f"examples.shop.{service}", *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        return process, process.stdout.readline().strip()

    with tempfile.TemporaryDirectory() as folder:
        inventory, stock = start("inventory", folder)
        shop, url = start("shop", folder, stock)
        for quantity in 2, 99:
            requests.post(f"{url}/orders", json={"article": "teapot", "quantity": quantity}, timeout=5)
        for process in shop, inventory:
            process.stdin.close()
            process.wait(20)
"""


def test_the_example_without_its_tracing_shows_the_same_trees(command, tmp_path):
    """All but the span of the browser's own function, which only its code can ask for."""
    folder = tmp_path / "examples" / "shop"
    folder.mkdir(parents=True)
    for package in (folder.parent, folder):
        (package / "__init__.py").touch()
    for service in ("shop", "inventory"):
        (folder / f"{service}.py").write_text(untraced(service))
    (tmp_path / "browser.py").write_text(dedent(BROWSER))
    code, _, errors = command("run", "browser.py")
    assert code == 0, errors

    traced = subprocess.run(
        [sys.executable, "-m", "examples.shop"],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    expected = [[(depth - 1, *rest) for depth, *rest in tree[1:]] for tree in trees(traced.stdout)]
    assert [len(tree) for tree in expected] == [8, 7]
    assert [tree for tree in trees(errors) if tree[0][1] == "browser"] == expected


APPLICATION = """
    import os
    import sqlalchemy

    engine = sqlalchemy.create_engine("sqlite://")

    def application(environ, start_response):
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""
SERVED = [(0, "web", "GET 200 /"), (1, "web", "SQL SELECT 1")]


def line_with(stream, pattern):
    """What a pattern finds in the lines of a stream; these are read up to it."""
    seen = []
    for line in stream:
        seen.append(line)
        found = re.search(pattern, line)
        if found:
            return found[1]
    raise AssertionError("".join(seen))


def answer(url):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as response:
        return response.read()


@pytest.fixture
def application(tmp_path):
    (tmp_path / "web.py").write_text(dedent(APPLICATION))


def test_under_gunicorn_every_request_of_every_worker_is_drawn(start, application):
    options = ["-w", "2", "-b", "127.0.0.1:0", "--max-requests", "3", "--no-control-socket"]
    process = start("run", "--service-name", "web", "gunicorn", *options, "web:application")
    url = line_with(process.stderr, r"Listening at: (http://\S+) ")
    answers = [answer(url) for _ in range(16)]
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert len(set(answers)) > 2  # some workers have been replaced
    assert (process.returncode, trees(errors)) == (0, [SERVED] * 16)


def test_under_uvicorn_every_request_is_drawn(start, tmp_path):
    (tmp_path / "web.py").write_text(
        dedent("""
        async def application(scope, receive, send):
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"yes"})
        """)
    )
    process = start("run", "--service-name", "web", "uvicorn", "--port", "0", "--lifespan", "off", "web:application")
    url = line_with(process.stderr, r"running on (http://\S+) ")
    assert answer(url) == b"yes"
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert trees(errors) == [SERVED[:1]]


def test_under_the_server_of_flask_every_request_is_drawn(start, tmp_path, application):
    (tmp_path / "shop.py").write_text(
        "import web, flask\napp = flask.Flask('shop')\napp.route('/')(lambda: web.application({}, print)[0])\n"
    )
    process = start("run", "--service-name", "web", "flask", "--app", "shop", "run", "--port", "0")
    url = line_with(process.stderr, r"Running on (http://\S+)")
    assert answer(url).isdigit()
    process.send_signal(2)
    _, errors = process.communicate(timeout=30)
    assert trees(errors) == [SERVED]


TASKS = """
    import celery

    app = celery.Celery("tasks", broker="filesystem://", backend="file://results")
    app.conf.update(
        broker_transport_options={"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"},
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
    )

    @app.task
    def add(one, other):
        return one + other
"""
CUSTOMER = """
    import os, subprocess, sys, time

    for folder in "queue", "control", "results":
        os.mkdir(folder)
    from tasks import add

    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-P", "prefork", "-c", "1"]
    options = ["--max-tasks-per-child", "1", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        pending = [add.delay(number, 1) for number in range(3)]
        while not all(result.ready() for result in pending):
            time.sleep(0.05)
    finally:
        worker.terminate()
        worker.wait()
    print([result.result for result in pending])
"""


def test_under_celery_every_task_of_a_prefork_worker_is_drawn_in_the_trace_of_its_sending(command, tmp_path):
    """Each task runs in a process of its own, which ends with it."""
    Path(tmp_path, "tasks.py").write_text(dedent(TASKS))
    Path(tmp_path, "customer.py").write_text(dedent(CUSTOMER))
    code, output, errors = command("run", "customer.py")
    assert (code, output) == (0, "[1, 2, 3]\n"), errors
    traces = {}
    for trace_id, tree in zip(re.findall(r"^trace (\w+)", errors, re.MULTILINE), trees(errors), strict=True):
        traces.setdefault(trace_id, []).extend((service, label.split()[0]) for _, service, label in tree)
    assert (
        sorted(map(sorted, traces.values()))
        == [[("celery", "Celery:run:tasks.add"), ("customer", "Celery:apply_async:tasks.add")]] * 3
    )
