"""Which database a connection leads to."""

from __future__ import annotations

from collections.abc import Hashable

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["place"]


def place(connection: BaseDatabaseWrapper) -> Hashable:
    """Return which database a connection leads to, the same for those of every thread."""
    settings = connection.settings_dict
    return connection.alias, *(str(settings.get(name)) for name in ("HOST", "PORT", "NAME"))
