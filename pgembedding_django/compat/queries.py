"""What is done to Django's queries and querysets that its documentation does not speak of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter, itemgetter
from typing import Any, TypeVar, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, QuerySet
from django.db.models.expressions import Col
from django.db.models.query import (
    FlatValuesListIterable,
    ModelIterable,
    NamedValuesListIterable,
    ValuesIterable,
    ValuesListIterable,
)
from django.db.models.sql import Query

__all__ = [
    "RowsAs",
    "clone_plain",
    "column_of",
    "compiled",
    "compiled_conditions",
    "current_query",
    "default_queryset",
    "get_companion",
    "getter",
    "key_names",
    "mixed",
    "multiple_joins",
    "related_manager_filters",
    "replace_query",
    "rows_as",
    "set_companion",
    "wrapped",
]

T = TypeVar("T")
Rows = TypeVar("Rows", bound=QuerySet[Any])

_MIXED: dict[tuple[type[Any], type[Any]], type[Any]] = {}


def compiled(
    rows: QuerySet[Any], connection: BaseDatabaseWrapper, *, as_stored: bool = False
) -> tuple[str, Sequence[Any]]:
    """
    Return the statement of a queryset, and its parameters.

    as_stored: select each column as it is, not as its field wants it sent.
    Raises EmptyResultSet if it is known to have no rows.
    """
    query = rows.query.clone()
    query.subquery = as_stored
    return cast("tuple[str, Sequence[Any]]", query.get_compiler(connection=connection).as_sql())


def compiled_conditions(query: Query, connection: BaseDatabaseWrapper) -> tuple[Any, ...] | None:
    """
    Return the SQL and parameters of what decides which rows a query has before its limits, None where more decides.

    Compiles FROM and WHERE alone, which is a third of the work of the statement.
    """
    if type(query) is not Query or query.combinator or query.group_by is not None or query.extra_tables:
        return None
    compiler = query.get_compiler(connection=connection)
    tables = compiler.get_from_clause() if len(query.alias_map) > 1 else query.base_table
    return tables, *compiler.compile(query.where)


def mixed(base: type[Any], mixin: type[T]) -> type[T]:
    """
    Return a class that is a mixin first and keeps what a base does: a queryset may come with a Query of its own.

    The mixin is a subclass of Django's class, which it is where the base is no other.
    """
    if issubclass(mixin, base):
        return mixin
    key = (base, mixin)
    if key not in _MIXED:
        _MIXED[key] = type(f"{mixin.__name__}Of{base.__name__}", (mixin, base), {"__reduce__": _reduce})
    return _MIXED[key]


def _reduce(self: Any) -> tuple[Any, ...]:
    """Pickle by the two classes, since the class of both has no module."""
    mixin, base = type(self).__bases__
    return _restore, (base, mixin), self.__getstate__()


def _restore(base: type[Any], mixin: type[Any]) -> Any:
    return object.__new__(mixed(base, mixin))


def set_companion(query: Query, value: object) -> None:
    """Attach a value to a query, one of each type: its copies have it too, whatever its class, and pickles."""
    vars(query)[_companion_name(type(value))] = value


def get_companion(query: Query, kind: type[T]) -> T | None:
    """Return what set_companion() attached."""
    value = vars(query).get(_companion_name(kind))
    return value if isinstance(value, kind) else None


def _companion_name(kind: type[Any]) -> str:
    return f"pgembedding_{kind.__name__.lower()}"


def replace_query(rows: Rows, query: Query) -> Rows:
    """Return a copy of a queryset that runs a query; the setter of `query` would turn values_list() into values()."""
    copied = cast("Rows", cast(Any, rows)._chain())
    vars(copied)["_query"] = query
    return copied


def current_query(rows: QuerySet[Any]) -> Query:
    """Return the query of a queryset without the filter that a related manager may still hold back."""
    return cast(Query, cast(Any, rows)._query)


def related_manager_filters(rows: QuerySet[Any]) -> bool:
    """Tell whether the next filter() is a related manager's own, which limits the rows to those of its instance."""
    return bool(cast(Any, rows)._defer_next_filter)


def default_queryset(model: type[Model]) -> type[QuerySet[Any]]:
    """Return the class of the querysets of a model's default manager."""
    return cast("type[QuerySet[Any]]", cast(Any, model._default_manager)._queryset_class)


def clone_plain(query: Query) -> Query:
    """Return a query of 1 for each row that a query's filter keeps, without its order, limits and locks."""
    rows = query.clone()
    rows.clear_limits()
    rows.explain_info, rows.select_for_update = None, False
    return cast(Query, rows.exists(limit=False))


def key_names(model: type[Model]) -> list[str]:
    """Return the names of the columns of a primary key, as F() takes them."""
    return [field.attname for field in model._meta.pk_fields]


def column_of(expression: Any) -> Any:
    """Return the field of a resolved reference to a column; None of any other expression."""
    return expression.target if isinstance(expression, Col) else None


def multiple_joins(query: Query) -> int:
    """Return how many of a query's joins may repeat a row."""
    joins = (join for alias, join in query.alias_map.items() if query.alias_refcount[alias])
    return sum(getattr(getattr(join, "join_field", None), "multiple", False) for join in joins)


class RowsAs:
    """
    What a queryset makes of its rows, its `_iterable_class`: `wrap` may give another class for the one that Django set.

    Django sets it anew for values() and values_list(), so it cannot be set once.
    """

    def __init__(self, wrap: Callable[[QuerySet[Any], type[Any]], type[Any]]) -> None:
        self.wrap = wrap

    def __get__(self, rows: QuerySet[Any] | None, owner: type[Any]) -> Any:
        return self if rows is None else self.wrap(rows, rows_as(rows))

    def __set__(self, rows: QuerySet[Any], kind: type[Any]) -> None:
        vars(rows)["_rows_as"] = getattr(kind, "wraps", kind)


def rows_as(rows: QuerySet[Any]) -> type[Any]:
    """Return what Django has set: ModelIterable, ValuesIterable, ..."""
    return cast("type[Any]", vars(rows).get("_rows_as", ModelIterable))


def wrapped(kind: type[Any], wrapper: type[Any]) -> type[Any]:
    """Return an iterable class that runs through a wrapper, and is of the class that it wraps."""
    key = (kind, wrapper)
    if key not in _MIXED:
        _MIXED[key] = type(f"{wrapper.__name__}{kind.__name__}", (wrapper, kind), {"wraps": kind})
    return _MIXED[key]


def getter(rows: QuerySet[Any], name: str) -> Callable[[Any], Any] | None:
    """Return what reads an annotation from what a queryset makes of a row; None where that does not have it."""
    kind, query = rows_as(rows), rows.query
    if name not in query.annotation_select:
        return None
    if issubclass(kind, FlatValuesListIterable):
        return _itself
    if issubclass(kind, ValuesListIterable) and not issubclass(kind, NamedValuesListIterable):
        return itemgetter(list(_names(query)).index(name))
    return itemgetter(name) if issubclass(kind, ValuesIterable) else attrgetter(name)


def _itself(value: Any) -> Any:
    return value


def _names(query: Query) -> Iterator[str]:
    if query.selected:
        yield from query.selected
    else:
        yield from (*query.extra_select, *query.values_select, *query.annotation_select)
