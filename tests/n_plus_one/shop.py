"""The tables of a shop, mapped in all the ways in which an ORM loads something late."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, declarative_base, deferred, relationship

Base: Any = declarative_base()

labels = sa.Table(
    "labels",
    Base.metadata,
    sa.Column("order_id", sa.ForeignKey("orders.id")),
    sa.Column("tag_id", sa.ForeignKey("tags.id")),
)


class Customer(Base):
    __tablename__ = "customers"
    id = sa.Column(sa.Integer, primary_key=True)
    name = sa.Column(sa.String)
    orders = relationship("Order", back_populates="customer")


class Order(Base):
    __tablename__ = "orders"
    id = sa.Column(sa.Integer, primary_key=True)
    customer_id = sa.Column(sa.ForeignKey("customers.id"))
    state = sa.Column(sa.String, server_default="new")
    note = deferred(sa.Column(sa.String))
    customer = relationship("Customer", back_populates="orders")
    items = relationship("Item")
    tags = relationship("Tag", secondary=labels)


class Item(Base):
    __tablename__ = "items"
    id = sa.Column(sa.Integer, primary_key=True)
    order_id = sa.Column(sa.ForeignKey("orders.id"))
    kind = sa.Column(sa.String)
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "item"}  # noqa: RUF012 - SQLAlchemy's way


class Book(Item):
    __tablename__ = "books"
    id = sa.Column(sa.ForeignKey("items.id"), primary_key=True)
    isbn = sa.Column(sa.String)
    __mapper_args__ = {"polymorphic_identity": "book"}  # noqa: RUF012


class Tag(Base):
    __tablename__ = "tags"
    id = sa.Column(sa.Integer, primary_key=True)


ORDERS = 50


def fill(session: Session) -> None:
    """Fifty orders, each with a customer, a book and a tag of its own."""
    for number in range(1, ORDERS + 1):
        customer, tag, book = Customer(id=number, name="Ada"), Tag(id=number), Book(id=number, isbn="3-16")
        session.add(Order(id=number, note="soon", customer=customer, tags=[tag], items=[book]))
    session.commit()


def orders(session: Session, *options: Any) -> list[Any]:
    return list(session.execute(sa.select(Order).order_by(Order.id).options(*options)).scalars())


def customers_names(session: Session, *options: Any) -> list[str]:
    """The N+1 of fifty orders."""
    return [order.customer.name for order in orders(session, *options)]


def line_of(function: Any, offset: int, inside: str | None = None) -> str:
    """How a line of a function is told, so many lines below its `def`."""
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno + offset} in {inside or code.co_name}"
