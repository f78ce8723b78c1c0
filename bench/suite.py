"""All cases, in the order of the table."""

from __future__ import annotations

from .cases import WSGI, BeforeRequest, Case, Requests, SQLAlchemy, TracedFunction, Urllib
from .celery import CeleryPublish, CeleryRun
from .mysqldb import MySQLdb
from .psycopg2 import Psycopg2
from .redis import Redis, RedisPipeline

CASES: tuple[type[Case], ...] = (
    Requests,
    Urllib,
    SQLAlchemy,
    Psycopg2,
    MySQLdb,
    Redis,
    RedisPipeline,
    CeleryPublish,
    CeleryRun,
    TracedFunction,
    BeforeRequest,
    WSGI,
)
