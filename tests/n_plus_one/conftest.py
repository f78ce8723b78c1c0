"""A shop in a database, the findings in it, and what was logged of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from opentracing_instrumentation import n_plus_one
from opentracing_instrumentation.client_hooks import sqlalchemy as hook
from opentracing_instrumentation.n_plus_one import Finding

from .shop import Base, fill


@pytest.fixture
def findings() -> Iterator[list[Finding]]:
    """What the callback was told."""
    told: list[Finding] = []
    n_plus_one.set_callback(told.append)
    yield told
    n_plus_one.set_callback(None)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The lines in the log, all of them; filled as they come."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.name} {record.levelname} {record.getMessage()}")

    handler = Lines()
    logging.getLogger().addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.fixture
def engine() -> Iterator[Any]:
    """An engine with fifty orders of fifty customers, whose statements are reported."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    hook.install_patches()
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Any) -> Iterator[Session]:
    with Session(engine) as session:
        yield session
