"""A temporary table for what COPY brings before it is merged into a table of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django.operations import sqlstate

__all__ = ["staging_table"]

#: SQLSTATE of a right that a role lacks.
NO_RIGHT = "42501"


@contextmanager
def staging_table(name: str, select: str, connection: BaseDatabaseWrapper) -> Iterator[None]:
    """
    Have a temporary table with the columns of a SELECT, and no rows; inside a transaction.

    Raises ProgrammingError with the remedy if the role may not create temporary tables, which anybody may unless it was
    revoked.
    """
    with connection.cursor() as cursor:
        try:
            cursor.execute(f"CREATE TEMPORARY TABLE {name} AS {select} WITH NO DATA")
        except ProgrammingError as error:
            if sqlstate(error) != NO_RIGHT or "temporary" not in str(error):
                raise
            database, role = (connection.settings_dict[key] for key in ("NAME", "USER"))
            raise ProgrammingError(
                f'Role "{role}" may not create temporary tables in database "{database}", in which rows are gathered '
                f'before they are merged. Run as its owner: GRANT TEMPORARY ON DATABASE "{database}" TO "{role}"'
            ) from error
        yield
        cursor.execute(f"DROP TABLE {name}")
