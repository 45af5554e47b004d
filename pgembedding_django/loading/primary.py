"""What writes says in one sentence that a database is a replica."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import InternalError

from pgembedding_django.operations import sqlstate

__all__ = ["READ_ONLY", "on_primary"]

#: SQLSTATE of a write where only reading is allowed.
READ_ONLY = "25006"


@contextmanager
def on_primary(what: str, using: str) -> Iterator[None]:
    """
    Run what writes, and name the remedy where the database is a standby, or is read-only for the role.

    what: begins the sentence.
    """
    try:
        yield
    except InternalError as error:
        if sqlstate(error) != READ_ONLY:
            raise
        raise InternalError(
            f'{what} writes, and database "{using}" is read-only here: use a primary server, by its alias or by the '
            "db_for_write() of a router, and a role that may write."
        ) from error
