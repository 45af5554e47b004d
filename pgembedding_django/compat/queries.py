"""Queries and compilers of Django that get one more class, beside the one that they have."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["mixed"]

T = TypeVar("T")

_MIXED: dict[tuple[type[Any], type[Any]], type[Any]] = {}


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
