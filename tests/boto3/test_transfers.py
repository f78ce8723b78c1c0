"""S3's transfer functions: a span each, with the calls that their threads make below it."""

from __future__ import annotations

import inspect
import io
import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import opentracing
import pytest
from boto3.exceptions import S3UploadFailedError
from boto3.s3 import inject
from boto3.s3.transfer import TransferConfig
from opentracing import logs
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers import ThreadLocalScopeManager
from opentracing.scope_managers.contextvars import ContextVarsScopeManager

from opentracing_instrumentation._core import safety
from opentracing_instrumentation.client_hooks import boto3 as hook
from tests.opentracing_instrumentation.told import Spans, Told, failed
from tests.services import Service

from .told import called, transferred, without_ids

pytestmark = pytest.mark.usefixtures("patched")

Make = Callable[..., Any]
SMALL, LARGE = b"content", b"x" * (11 << 20)
OK = {"ResponseMetadata": {"HTTPStatusCode": 200}}
PARTIAL = {"ResponseMetadata": {"HTTPStatusCode": 206}}


def expected(moto: Service, bucket: str, function: str, *calls: str, partial: bool = False) -> list[Told]:
    """A transfer's span and those of the calls that it made, as ``without_ids`` has them."""
    span = transferred(moto, function, bucket, parent="work")
    below = [
        called(
            moto,
            "s3",
            call,
            PARTIAL if partial and call == "GetObject" else OK,
            parent=f"boto3:client:s3:{function}",
            **{"aws.s3.bucket": bucket},
        )
        for call in calls
    ]
    return without_ids([span, *below])


PARTS = ("CreateMultipartUpload", "UploadPart", "UploadPart", "CompleteMultipartUpload")


@pytest.mark.parametrize("threads", [True, False], ids=["threads", "no threads"])
@pytest.mark.parametrize(("content", "calls"), [(SMALL, ("PutObject",)), (LARGE, PARTS)], ids=["small", "large"])
def test_an_upload_has_its_calls_below(
    client: Make,
    moto: Service,
    bucket: str,
    tracer: MockTracer,
    spans: Spans,
    threads: bool,
    content: bytes,
    calls: tuple[str, ...],
) -> None:
    s3, config = client("s3", moto), TransferConfig(use_threads=threads)
    with tracer.start_active_span("work"):
        s3.upload_fileobj(io.BytesIO(content), bucket, "k", Config=config)
    assert without_ids(spans()[:-1]) == expected(moto, bucket, "upload_fileobj", *calls)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == content


def test_files_go_up_and_down(
    client: Make, moto: Service, bucket: str, tracer: MockTracer, spans: Spans, tmp_path: Path
) -> None:
    s3 = client("s3", moto)
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(LARGE)
    with tracer.start_active_span("work"):
        s3.upload_file(str(there), bucket, "k")
    assert without_ids(spans()[:-1]) == expected(moto, bucket, "upload_file", *PARTS)
    before = len(spans())
    with tracer.start_active_span("work"):
        s3.download_file(Bucket=bucket, Key="k", Filename=str(back))
    calls = ("HeadObject", "GetObject", "GetObject")
    told = spans()[before:-1]
    for span in told:
        span["tags"].update({"http.status_code": 206} if span["operation"].endswith("get_object") else {})
    assert without_ids(told) == expected(moto, bucket, "download_file", *calls, partial=True)
    assert back.read_bytes() == LARGE


def test_a_copy_and_a_download_into_memory(
    client: Make, moto: Service, bucket: str, tracer: MockTracer, spans: Spans
) -> None:
    s3, got = client("s3", moto), io.BytesIO()
    s3.put_object(Bucket=bucket, Key="from", Body=SMALL)
    with tracer.start_active_span("work"):
        s3.copy({"Bucket": bucket, "Key": "from"}, bucket, "to")
    assert without_ids(spans()[1:-1]) == expected(moto, bucket, "copy", "HeadObject", "CopyObject")
    with tracer.start_active_span("work"):
        s3.download_fileobj(bucket, "to", got)
    told = spans()[5:-1]
    assert {span["operation"]: span["parent"] for span in told}["boto3:client:s3:download_fileobj"] == "work"
    assert {span["parent"] for span in told} == {"work", "boto3:client:s3:download_fileobj"}
    assert got.getvalue() == SMALL


def test_a_resource_and_its_methods_go_the_same_way(
    resource: Make, moto: Service, bucket: str, tracer: MockTracer, spans: Spans
) -> None:
    with tracer.start_active_span("work"):
        resource("s3", moto).Object(bucket, "k").upload_fileobj(io.BytesIO(SMALL))
    assert without_ids(spans()[:-1]) == expected(moto, bucket, "upload_fileobj", "PutObject")


def test_clients_and_methods_of_before_are_traced_while_patched_and_no_longer(
    client: Make, moto: Service, bucket: str, tracer: MockTracer, spans: Spans
) -> None:
    hook.reset_patches()
    old = client("s3", moto)
    upload, function = old.upload_fileobj, inject.upload_fileobj
    hook.install_patches()
    new = client("s3", moto)

    def upload_all() -> None:
        old.upload_fileobj(io.BytesIO(SMALL), bucket, "a")
        upload(io.BytesIO(SMALL), bucket, "b")
        function(old, io.BytesIO(SMALL), bucket, "c")
        new.upload_fileobj(io.BytesIO(SMALL), bucket, "d")

    upload_all()
    operations = [span["operation"] for span in spans()]
    assert operations == ["boto3:client:s3:put_object", "boto3:client:s3:upload_fileobj"] * 4
    hook.reset_patches()
    upload_all()
    assert len(spans()) == 8


def code_of(name: str) -> Any:
    return inspect.unwrap(getattr(inject, name)).__code__


def test_reset_puts_the_very_code_back() -> None:
    names = hook.patcher.S3_FUNCTIONS_TO_INSTRUMENT
    patched = [code_of(name) for name in names]
    signatures = [inspect.signature(getattr(inject, name)) for name in names]
    assert sorted(hook.patcher.s3_original_funcs) == sorted(names)
    hook.reset_patches()
    original = [code_of(name) for name in names]
    assert all(one is not other for one, other in zip(original, patched, strict=True))
    assert [inspect.signature(getattr(inject, name)) for name in names] == signatures
    assert hook.patcher.s3_original_funcs == {}
    for _ in range(2):
        hook.install_patches()
        hook.install_patches()
        hook.reset_patches()
        assert all(code_of(name) is code for name, code in zip(names, original, strict=True))


def test_two_patchers_may_come_and_go_in_any_order(
    client: Make, moto: Service, bucket: str, tracer: MockTracer, spans: Spans
) -> None:
    s3, other = client("s3", moto), hook.Boto3Patcher()

    def transfers() -> int:
        before = len(spans())
        s3.upload_fileobj(io.BytesIO(SMALL), bucket, "k")
        return sum(span["operation"] == "boto3:client:s3:upload_fileobj" for span in spans()[before:])

    other.install_patches()
    assert transfers() == 2
    hook.reset_patches()
    assert transfers() == 1
    hook.install_patches()
    assert transfers() == 2
    other.reset_patches()
    assert transfers() == 1
    hook.reset_patches()
    assert transfers() == 0
    hook.install_patches()
    assert transfers() == 1


def test_the_functions_without_tracing_are_there(
    client: Make, moto: Service, bucket: str, tracer: MockTracer, spans: Spans
) -> None:
    s3 = client("s3", moto)
    hook.patcher.s3_original_funcs["upload_fileobj"](s3, io.BytesIO(SMALL), bucket, "k")
    assert [span["operation"] for span in spans()] == ["boto3:client:s3:put_object"]


def test_a_subclass_says_which_functions_are_traced(
    client: Make, moto: Service, bucket: str, tracer: MockTracer, spans: Spans
) -> None:
    class Uploads(hook.Boto3Patcher):
        S3_FUNCTIONS_TO_INSTRUMENT = ("upload_fileobj",)

    ours = hook.patcher
    hook.set_patcher(Uploads())
    try:
        s3 = client("s3", moto)
        s3.upload_fileobj(io.BytesIO(SMALL), bucket, "k")
        s3.download_fileobj(bucket, "k", io.BytesIO())
    finally:
        hook.set_patcher(ours)
    operations = {span["operation"] for span in spans()}
    assert "boto3:client:s3:upload_fileobj" in operations
    assert "boto3:client:s3:download_fileobj" not in operations


def test_a_missing_function_is_told_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(hook.Boto3Patcher):
        S3_FUNCTIONS_TO_INSTRUMENT = ("missing_func",)

    odd = Odd()
    with caplog.at_level(0):
        odd.install_patches()
        odd.reset_patches()
    assert caplog.record_tuples == [("root", logging.WARNING, "S3 function missing_func not found")]


def test_a_failed_upload_tells_the_request_id_of_the_call_that_failed(
    client: Make, moto: Service, name: str, tracer: MockTracer, spans: Spans, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(SMALL)
    with pytest.raises(S3UploadFailedError) as raised:
        client("s3", moto).upload_file(str(tmp_path / "file"), name, "k")
    below, span = spans()
    response = below["logs"][0][logs.ERROR_OBJECT].response
    assert response["Error"]["Code"] == "NoSuchBucket"
    status = {"http.status_code": 404, "aws.request_id": response["ResponseMetadata"]["RequestId"]}
    assert span == failed(transferred(moto, "upload_file", name, **status), raised.value)
    assert below["parent"] == "boto3:client:s3:upload_file"


def test_wrong_arguments_get_boto3s_own_errors(client: Make, moto: Service, tracer: MockTracer, spans: Spans) -> None:
    s3 = client("s3", moto)
    with pytest.raises(TypeError, match="upload_fileobj"):
        s3.upload_fileobj()
    assert spans() == []
    with pytest.raises(ValueError, match="must implement read") as raised:
        s3.upload_fileobj("no file", "bucket", "k")
    assert spans() == [failed(transferred(moto, "upload_fileobj", "bucket"), raised.value)]


def test_threads_keep_the_parent_with_a_scope_manager_of_threads(
    client: Make, moto: Service, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer = MockTracer(ThreadLocalScopeManager())
    monkeypatch.setattr(opentracing, "tracer", tracer)
    client("s3", moto).upload_fileobj(io.BytesIO(LARGE), bucket, "k")
    *calls, transfer = tracer.finished_spans()
    assert transfer.operation_name == "boto3:client:s3:upload_fileobj"
    assert {call.parent_id for call in calls} == {transfer.context.span_id}
    assert len(calls) == 4
    assert tracer.active_span is None


def test_a_progress_callback_runs_in_the_callers_context(
    client: Make, moto: Service, bucket: str, tracer: MockTracer, spans: Spans
) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")
    variable.set("of the caller")
    seen = set()

    def progress(_: int) -> None:
        seen.add((variable.get(), threading.current_thread() is threading.main_thread()))

    client("s3", moto).upload_fileobj(io.BytesIO(LARGE), bucket, "k", Callback=progress)
    assert seen == {("of the caller", False)}


def test_a_transfer_outside_of_the_functions_keeps_its_parent(
    client: Make, moto: Service, bucket: str, tracer: MockTracer, spans: Spans
) -> None:
    from s3transfer.manager import TransferManager

    with tracer.start_active_span("work"), TransferManager(client("s3", moto)) as manager:
        manager.upload(io.BytesIO(SMALL), bucket, "k").result()
    assert [(span["operation"], span["parent"]) for span in spans()] == [
        ("boto3:client:s3:put_object", "work"),
        ("work", None),
    ]


def test_a_scope_manager_that_breaks_does_not_break_a_transfer(
    client: Make, moto: Service, bucket: str, lenient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(ContextVarsScopeManager):
        def activate(self, span: Any, finish_on_close: bool) -> Any:
            raise ArithmeticError("ours")

    assert safety.strict is False
    monkeypatch.setattr(opentracing, "tracer", MockTracer(Broken()))
    s3 = client("s3", moto)
    s3.upload_fileobj(io.BytesIO(SMALL), bucket, "k")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == SMALL


def test_the_dynamodb_batch_writer_makes_calls(
    resource: Make, moto: Service, table: str, tracer: MockTracer, spans: Spans
) -> None:
    with resource("dynamodb", moto).Table(table).batch_writer() as batch:
        batch.put_item(Item={"id": "a"})
    (span,) = without_ids(spans())
    assert span == called(moto, "dynamodb", "BatchWriteItem", OK, **{"aws.dynamodb.table": table})
