"""`python -m opentracing_instrumentation.cli`, for whoever has not the command on the path."""

from .command import main

main(prog_name="opentracing-instrument")
