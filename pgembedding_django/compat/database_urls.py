"""Entries for DATABASES from URLs, read as libpq reads them."""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.postgresql import base as postgresql
from django.db.backends.postgresql.psycopg_any import is_psycopg3

__all__ = ["entry_of"]


def entry_of(url: str, name: str = "connection_string") -> dict[str, Any]:
    """
    Return the entry for DATABASES of a URL, in which SQLAlchemy's "+driver" means nothing.

    name: what messages call the URL. Raises ValueError, which does not show it, if it is none of a Postgres.
    """
    scheme, _, rest = url.partition("://")
    parts = _parse(f"postgresql://{rest}") if scheme.partition("+")[0] in ("postgresql", "postgres") else {}
    if not parts.get("dbname"):
        # What came may have a password in it.
        raise ValueError(f"{name} must be a URL such as postgresql://user:password@host:5432/database.")
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    entry: dict[str, Any] = {key: parts.pop(part, "") for key, part in names.items()}
    entry |= {"ENGINE": "django.db.backends.postgresql", "OPTIONS": parts}
    filled: dict[str, Any] = connections.configure_settings({DEFAULT_DB_ALIAS: entry})[DEFAULT_DB_ALIAS]
    return filled


def _parse(url: str) -> dict[str, Any]:
    """Return the parts of a URL, none where libpq cannot read it."""
    driver: Any = postgresql.Database  # type: ignore[attr-defined]
    parse = driver.conninfo.conninfo_to_dict if is_psycopg3 else driver.extensions.parse_dsn
    try:
        return dict(parse(url))
    except driver.ProgrammingError:
        return {}
