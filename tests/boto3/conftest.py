"""What the tests of the hook of boto3 share: clients of moto's server, and names that nobody else uses there."""

from __future__ import annotations

import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import botocore.endpoint
import pytest
from botocore.config import Config

from opentracing_instrumentation.client_hooks import boto3 as hook
from tests.opentracing_instrumentation.conftest import _server, server, spans  # noqa: F401 - fixtures
from tests.services import Service

from .told import ACCESS_KEY, REGION, SECRET_KEY


@pytest.fixture
def moto(service: Callable[[str], Service]) -> Service:
    """Moto's server."""
    return service("moto")


@pytest.fixture
def options() -> dict[str, Any]:
    """What every client needs besides the server's address."""
    return {"region_name": REGION, "aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}


@pytest.fixture
def client(options: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """The function that makes a client: of a service, at a server, with further settings of botocore."""
    made = []

    def client(service: str, at: Any, **settings: Any) -> Any:
        settings = {"retries": {"total_max_attempts": 1}, "s3": {"addressing_style": "path"}, **settings}
        made.append(boto3.client(service, endpoint_url=at.url, config=Config(**settings), **options))
        return made[-1]

    yield client
    for each in made:
        each.close()


@pytest.fixture
def resource(options: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """The function that makes a resource: of a service, at a server."""
    made = []

    def resource(service: str, at: Any) -> Any:
        made.append(boto3.resource(service, endpoint_url=at.url, **options))
        return made[-1]

    yield resource
    for each in made:
        each.meta.client.close()


@pytest.fixture
def name() -> str:
    """A name for a bucket, a table, a queue."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def bucket(client: Callable[..., Any], moto: Service, name: str) -> str:
    """The name of a bucket."""
    client("s3", moto).create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


@pytest.fixture
def table(client: Callable[..., Any], moto: Service, name: str) -> str:
    """The name of a table whose key is ``id``, a string."""
    client("dynamodb", moto).create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


@pytest.fixture
def queue(client: Callable[..., Any], moto: Service, name: str) -> str:
    """The URL of a queue."""
    url = client("sqs", moto).create_queue(QueueName=name)["QueueUrl"]
    assert isinstance(url, str)
    return url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Botocore sends again at once."""
    monkeypatch.setattr(botocore.endpoint, "time", types.SimpleNamespace(sleep=lambda _: None))


@pytest.fixture
def patched(request: pytest.FixtureRequest) -> None:
    """Have the hook installed, once everything is there that the test needs on the server."""
    for name in {"bucket", "table", "queue", "function"} & set(request.fixturenames):
        request.getfixturevalue(name)
    hook.install_patches()
