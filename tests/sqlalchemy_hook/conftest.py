"""What the tests of SQLAlchemy's hook share: finished spans as plain dicts, and engines of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from tests.opentracing_instrumentation.conftest import spans
from tests.services import Service

__all__ = ["spans"]

Make = Callable[..., Any]


@pytest.fixture
def make(service: Callable[[str], Service]) -> Iterator[Make]:
    """The function that makes an engine by a driver's name; all are disposed of in the end."""
    engines: list[Any] = []

    def make_engine(driver: str, **options: Any) -> Any:
        if driver == "pysqlite":
            engine = sa.create_engine("sqlite://", **options)
        elif driver == "psycopg2":
            url = service("postgresql").url.replace("postgresql:", "postgresql+psycopg2:")
            engine = sa.create_engine(url, **options)
        elif driver == "mysqldb":
            engine = sa.create_engine(service("mariadb").url.replace("mysql:", "mysql+mysqldb:"), **options)
        elif driver == "aiosqlite":
            return create_async_engine("sqlite+aiosqlite://", **options)
        else:
            url = service("postgresql").url.replace("postgresql:", "postgresql+asyncpg:")
            return create_async_engine(url, **options)
        engines.append(engine)
        return engine

    yield make_engine
    for engine in engines:
        engine.dispose()
