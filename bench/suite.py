"""All cases, in the order of the table."""

from __future__ import annotations

from .boto3 import Boto3
from .cases import WSGI, BeforeRequest, Case, Requests, TracedFunction, Urllib
from .celery import CeleryPublish, CeleryRun
from .mysqldb import MySQLdb
from .psycopg2 import Psycopg2
from .redis import Redis, RedisPipeline
from .sqlalchemy import SQLAlchemy, SQLAlchemyFull, SQLAlchemyStatic
from .tornado_http import Tornado

CASES: tuple[type[Case], ...] = (
    Requests,
    Urllib,
    SQLAlchemy,
    SQLAlchemyStatic,
    SQLAlchemyFull,
    Psycopg2,
    MySQLdb,
    Redis,
    RedisPipeline,
    CeleryPublish,
    CeleryRun,
    Boto3,
    Tornado,
    TracedFunction,
    BeforeRequest,
    WSGI,
)
