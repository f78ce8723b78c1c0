"""How the spans of the drivers look, as the fixture ``spans`` tells them."""

from __future__ import annotations

from typing import Any

from tests.opentracing_instrumentation.told import Told
from tests.services import Service

WORK: Told = {"operation": "work", "parent": None, "tags": {}}

TYPES = {"psycopg2": "postgresql", "MySQLdb": "mysql"}
DATABASE = {"psycopg2": "dbname", "MySQLdb": "database"}


def span(module: str, at: Service, verb: str, parent: str | None = "work", **tags: Any) -> Told:
    """The span of a connection."""
    told = {
        "span.kind": "client",
        "component": module,
        "db.type": TYPES[module],
        "db.user": at.user,
        "db.instance": at.database,
        "peer.ipv4": at.host,
        "peer.port": at.port,
        **tags,
    }
    return {"operation": f"{module}:{verb}", "parent": parent, "tags": told}


def conn(module: str, at: Service) -> tuple[tuple[()], dict[str, Any]]:
    """What ``sql.conn`` tells of a connection that the fixtures made."""
    return (), {"host": at.host, "port": at.port, "user": at.user, DATABASE[module]: at.database}


def statement(module: str, at: Service, sql: str | None, verb: str | None = None, **tags: Any) -> Told:
    """The span of a statement below "work"; ``sql_cursor`` is short for ``sql.cursor``."""
    told: dict[str, Any] = {} if sql is None else {"sql": sql}
    told |= {"sql.conn": conn(module, at), **{name.replace("sql_", "sql."): value for name, value in tags.items()}}
    return span(module, at, (sql or "").rpartition(" ")[0].split(" ")[0] if verb is None else verb, **told)


def coded(span: Told, code: str) -> Told:
    """The same span, with the database's code for an error."""
    return {**span, "tags": {**span["tags"], "db.response.status_code": code}}
