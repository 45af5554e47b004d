"""A Postgres extension as the catalogue knows it: its name, its version and its schema."""

from __future__ import annotations

from collections.abc import Hashable
from typing import ClassVar, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django.engines.places import place
from pgembedding_django.engines.servers import PLAIN, Server, server_with

Version = tuple[int, ...]


class Known(NamedTuple):
    """
    What a database was asked once.

    settings: those of the extension that the server knows; None where it cannot tell.
    """

    version: Version
    server: Server
    settings: frozenset[str] | None


class Extension:
    """The extension that an engine needs in its database."""

    #: The name for CREATE EXTENSION.
    extension: ClassVar[str]
    #: What a database administrator installs on the server.
    package: ClassVar[str]
    #: The oldest extension that this engine is tested for, and the oldest free of known faults.
    minimum_version: ClassVar[Version]
    advised_version: ClassVar[Version]

    #: A type whose input loads the extension's library, and with it the settings whose names begin so.
    loading_type: ClassVar[str] = ""
    prefixes: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._known: dict[Hashable, Known] = {}

    def version(self, connection: BaseDatabaseWrapper) -> Version:
        """Return the extension's version, such as (0, 8, 5), or () where it is not created; asked once a process."""
        known = self._ask_once(connection)
        return known.version if known else ()

    def server(self, connection: BaseDatabaseWrapper) -> Server:
        """Return what the server of a connection can do; asked once a process."""
        known = self._ask_once(connection)
        return known.server if known else PLAIN

    def knows_setting(self, connection: BaseDatabaseWrapper, name: str) -> bool:
        """Tell whether the server has a setting of the extension; true where it cannot tell."""
        known = self._ask_once(connection)
        return known is None or known.settings is None or name in known.settings

    def forget_version(self, connection: BaseDatabaseWrapper) -> None:
        """Ask the server anew at the next need, after the extension was created or dropped."""
        self._known.pop(place(connection), None)

    def _ask_once(self, connection: BaseDatabaseWrapper) -> Known | None:
        if place(connection) not in self._known:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT extversion, to_regtype(%s) IS NOT NULL, ARRAY(SELECT extname::text FROM pg_extension) "
                    "FROM pg_extension WHERE extname = %s",
                    [self.loading_type or None, self.extension],
                )
                row = cursor.fetchone()
            if row is None:
                return None
            version, has_type, extensions = row
            settings = self._ask_settings(connection) if has_type else None
            self._known[place(connection)] = Known(parse_version(version), server_with(extensions, version), settings)
        return self._known[place(connection)]

    def _ask_settings(self, connection: BaseDatabaseWrapper) -> frozenset[str]:
        # The type's input stands in the statement, so that the library is loaded before it runs.
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT name FROM pg_settings WHERE split_part(name, '.', 1) = ANY(%s) "
                f"AND '[0]'::{self.loading_type} IS NOT NULL",
                [list(self.prefixes)],
            )
            return frozenset(name for (name,) in cursor.fetchall())

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


def parse_version(text: str) -> Version:
    """Return (0, 8, 5) for "0.8.5"; what follows the first part that is no number is left out."""
    parts: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)
