"""How the spans of AWS calls look, as the fixture ``spans`` tells them."""

from __future__ import annotations

from typing import Any

from botocore import xform_name

from tests.opentracing_instrumentation.told import Told

REGION = "eu-west-1"
ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI"


def called(
    at: Any, service: str, operation: str, response: Any = None, *, parent: str | None = None, **tags: Any
) -> Told:
    """The span of a client's call to the server ``at``. ``response`` is what the call returned, if anything."""
    metadata = response["ResponseMetadata"] if response else {}
    told = {
        "span.kind": "client",
        "component": "boto3",
        "boto3.service_name": service,
        "aws.operation": operation,
        "cloud.region": REGION,
        "peer.ipv4": "127.0.0.1",
        "peer.port": at.port,
        **({"http.status_code": metadata["HTTPStatusCode"]} if metadata else {}),
        **({"aws.request_id": metadata["RequestId"]} if metadata.get("RequestId") else {}),
        **tags,
    }
    return {"operation": f"boto3:client:{service}:{xform_name(operation)}", "parent": parent, "tags": told}


def acted(at: Any, service: str, operation: str, response: Any = None, **tags: Any) -> Told:
    """The span of a resource's action."""
    told = called(at, service, operation, response, **tags)
    return {**told, "operation": f"boto3:resource:{service}:{xform_name(operation)}"}


def transferred(at: Any, function: str, bucket: str, **tags: Any) -> Told:
    """The span of one of S3's transfer functions."""
    return called(at, "s3", function, **{"aws.s3.bucket": bucket}, **tags)


def without_ids(told: list[Told]) -> list[Told]:
    """The same spans without the ids of responses that a test does not get to see, for a comparison in any order."""
    for span in told:
        span["tags"].pop("aws.request_id", None)
    return sorted(told, key=lambda span: str(sorted(span.items(), key=str)))
