"""A Postgres extension as the catalogue knows it: its name, its version and its schema."""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar

from django.db.backends.base.base import BaseDatabaseWrapper

Version = tuple[int, ...]


class Extension:
    """The extension that an engine needs in its database."""

    #: The name for CREATE EXTENSION.
    extension: ClassVar[str]
    #: What a database administrator installs on the server.
    package: ClassVar[str]
    #: The oldest extension that this engine is tested for, and the oldest free of known faults.
    minimum_version: ClassVar[Version]
    advised_version: ClassVar[Version]

    def __init__(self) -> None:
        self._versions: dict[Hashable, Version] = {}

    def version(self, connection: BaseDatabaseWrapper) -> Version:
        """Return the extension's version, such as (0, 8, 5), or () where it is not created; asked once a process."""
        if place(connection) not in self._versions:
            with connection.cursor() as cursor:
                cursor.execute("SELECT extversion FROM pg_extension WHERE extname = %s", [self.extension])
                row = cursor.fetchone()
            if row is None:
                return ()
            self._versions[place(connection)] = parse_version(row[0])
        return self._versions[place(connection)]

    def forget_version(self, connection: BaseDatabaseWrapper) -> None:
        """Ask the server anew at the next need, after the extension was created or dropped."""
        self._versions.pop(place(connection), None)

    def hidden_schema(self, connection: BaseDatabaseWrapper) -> str | None:
        """Return the schema that holds the extension where the search path leaves it out, else None."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
                "WHERE e.extname = %s AND n.nspname <> ALL (current_schemas(true))",
                [self.extension],
            )
            row = cursor.fetchone()
        return row[0] if row else None


def place(connection: BaseDatabaseWrapper) -> Hashable:
    """Return which database a connection leads to, the same for those of every thread."""
    settings = connection.settings_dict
    return connection.alias, *(str(settings.get(name)) for name in ("HOST", "PORT", "NAME"))


def parse_version(text: str) -> Version:
    """Return (0, 8, 5) for "0.8.5"; what follows the first part that is no number is left out."""
    parts: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)
