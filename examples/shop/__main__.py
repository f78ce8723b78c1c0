"""The browser: starts the shop and its inventory, places an order that works and one that fails, draws both traces."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import click
import opentracing
import requests

from opentracing_instrumentation import traced_function
from opentracing_instrumentation.cli.waterfall import SpanRecord, render, to_json
from opentracing_instrumentation.client_hooks import install_all_patches

from .tracing import init_tracer, read_spans

SECONDS_TO_START = 20
SECONDS_TO_STOP = 5


def tag_order(span: opentracing.Span, _shop: str, article: str, quantity: int) -> None:
    span.set_tag("article", article).set_tag("quantity", quantity)


@traced_function(name="place order", on_start=tag_order)
def place_order(shop: str, article: str, quantity: int) -> None:
    """Raises requests.HTTPError when the shop refuses."""
    requests.post(f"{shop}/orders", json={"article": article, "quantity": quantity}, timeout=5).raise_for_status()


def browse(shop: str) -> None:
    place_order(shop, "teapot", 2)
    try:
        place_order(shop, "teapot", 99)
    except requests.HTTPError:
        pass  # there are ten, as its trace tells
    else:
        raise click.ClickException("the shop sold more than there is")


@contextmanager
def running(service: str, folder: Path, *arguments: str) -> Iterator[str]:
    """A service in a process of its own, for the time of the block. Yields its URL.

    The service ends with its standard input, hence also when this process dies of whatever cause.
    """
    command = [sys.executable, "-m", f"examples.shop.{service}", str(folder), *arguments]
    with (
        (folder / f"{service}.log").open("w") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process alone
        ) as process,
    ):
        late = Timer(SECONDS_TO_START, process.kill)
        try:
            late.start()
            url = process.stdout.readline().strip()
            late.cancel()
            if not url:
                raise click.ClickException(f"the {service} did not start:\n{logs(folder)}")
            yield url
        finally:
            late.cancel()
            stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    process.stdin.close()
    try:
        process.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()


def logs(folder: Path) -> str:
    """What the services had to complain about."""
    return "".join(path.read_text() for path in sorted(folder.glob("*.log")))


def traces_of_orders() -> list[SpanRecord]:
    """Run the example. Returns the spans of both orders, from all three processes."""
    os.environ["no_proxy"] = "127.0.0.1"  # requests would ask a proxy for this machine, too
    install_all_patches()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        init_tracer("browser", folder)
        with running("inventory", folder) as inventory, running("shop", folder, inventory) as shop:
            try:
                browse(shop)
            except requests.RequestException as error:
                raise click.ClickException(f"{error}\n{logs(folder)}") from error
        spans = read_spans(folder)
    orders = {span.trace_id for span in spans if span.service == "browser"}
    return [span for span in spans if span.trace_id in orders]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the spans as JSON instead of drawing them.")
def main(as_json: bool) -> None:
    """Run a traced shop in three processes and show what became of two orders."""
    spans = traces_of_orders()
    if as_json:
        click.echo(to_json(spans))
    else:
        render(spans)


if __name__ == "__main__":
    main(prog_name="python -m examples.shop")
