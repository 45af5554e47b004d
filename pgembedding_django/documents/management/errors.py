"""What the commands say where a table, a right or a setting is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError
from django.db import ProgrammingError

from pgembedding_django.operations import sqlstate

__all__ = ["told_in_a_sentence"]

#: SQLSTATE: what to do about it.
REMEDIES = {
    "42P01": "The tables of documents are not in this database. Run manage.py migrate there first.",
    "42501": "The user of this database may not read or write the tables of documents. Grant it the right.",
}


@contextmanager
def told_in_a_sentence() -> Iterator[None]:
    """Raise CommandError for what only an administrator can mend."""
    try:
        yield
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error
    except ProgrammingError as error:
        remedy = REMEDIES.get(sqlstate(error))
        if remedy is None:
            raise
        raise CommandError(remedy) from error
