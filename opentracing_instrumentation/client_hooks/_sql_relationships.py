"""What SQLAlchemy's ORM sends a statement for that loads something late, and what would have loaded it in time.

The ORM says so itself: a statement that loads an attribute of an object carries the object's state among its options,
and the way to the attribute. Nothing has to be listened to for that; it is read when somebody asks.
"""

from __future__ import annotations

from typing import Any

from ..n_plus_one import Cause


def cause(context: Any) -> Cause | None:
    """Return what a statement is for, or ``None`` if it loads nothing late.

    Args:
        context: the statement's execution context.

    Raises:
        AttributeError: this SQLAlchemy keeps what it knows elsewhere.
    """
    options = context.execution_options.get("_sa_orm_load_options")
    if options is None:  # the ORM has not sent it
        return None
    statement = context.invoked_statement._compile_options
    if options._lazy_loaded_from is not None:
        relationship = statement._current_path.path[-1]
        name = f"{relationship.parent.class_.__name__}.{relationship.key}"
        return Cause(name, f"selectinload({name})")
    if options._refresh_state is None or not statement._only_load_props:
        return None
    return _cause_of_columns(options._refresh_state, statement._only_load_props)


def _cause_of_columns(state: Any, attributes: frozenset[str]) -> Cause:
    """Return why these attributes of an object are loaded, when the object is there already."""
    mapper = state.mapper
    columns = mapper.column_attrs
    keys = sorted(attributes.intersection(columns.keys()))
    owner = mapper.class_.__name__
    names = [f"{owner}.{key}" for key in keys]
    everything = ", ".join(names)
    if state.expired_attributes.isdisjoint(keys):
        return Cause(everything, ", ".join(f"undefer({name})" for name in names), "deferred load")
    if mapper.inherits is not None and not any(key in mapper.inherits.column_attrs for key in keys):
        base = mapper.base_mapper.class_.__name__
        return Cause(everything, f"selectin_polymorphic({base}, [{owner}])", "late load")
    if attributes.issuperset(mapper.get_property_by_column(column).key for column in mapper.primary_key):
        return Cause(owner, "expire_on_commit=False", "refresh after expiry")
    generated = all(_is_generated(columns[key].columns[0]) for key in keys)
    return Cause(everything, "eager_defaults=True" if generated else None, "refresh after expiry")


def _is_generated(column: Any) -> bool:
    """Tell whether it is the database that fills a column."""
    return any(getattr(column, name, None) is not None for name in ("server_default", "server_onupdate"))
