"""Queries and compilers of Django that get one more class, beside the one that they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet

__all__ = ["compiled", "mixed"]

T = TypeVar("T")

_MIXED: dict[tuple[type[Any], type[Any]], type[Any]] = {}


def compiled(rows: QuerySet[Any], connection: BaseDatabaseWrapper) -> tuple[str, Sequence[Any]]:
    """
    Return the statement of a queryset, and its parameters.

    Raises EmptyResultSet if it is known to have no rows.
    """
    return cast("tuple[str, Sequence[Any]]", rows.query.get_compiler(connection=connection).as_sql())


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
