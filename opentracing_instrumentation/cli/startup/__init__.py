"""The folder that `opentracing-instrument run` puts on PYTHONPATH; its `sitecustomize` begins the tracing."""
