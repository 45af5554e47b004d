"""Brings the table up to date: the rows with the corpus, and the index with the model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from django.db import connection, transaction

from example_project.pydocs.corpus import Entry
from example_project.pydocs.models import Section

#: Rows that are written at once.
BATCH = 250


class Changes(NamedTuple):
    """How many rows each kind of change touched."""

    new: int
    changed: int
    removed: int


def load(entries: Iterable[Entry]) -> Changes:
    """
    Make the table hold these entries and no others.

    A row whose entry changed keeps its vector for now: it is stale, and embed() finds it.
    """
    wanted = {entry.name: entry for entry in entries}
    stored = {row.name: row for row in Section.objects.defer("embedding")}
    new = [Section(**entry._asdict()) for name, entry in wanted.items() if name not in stored]
    changed = [_changed(row, wanted[name]) for name, row in stored.items() if _differs(row, wanted.get(name))]
    removed = [row.pk for name, row in stored.items() if name not in wanted]
    with transaction.atomic():
        Section.objects.filter(pk__in=removed).delete()
        Section.objects.bulk_create(new, batch_size=BATCH)
        Section.objects.bulk_update(changed, Entry._fields, batch_size=BATCH)
    return Changes(len(new), len(changed), len(removed))


def analyze() -> None:
    """Let the planner and the admin know at once how many rows there are; autovacuum would within a minute or so."""
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {connection.ops.quote_name(Section._meta.db_table)}")


def ensure_index() -> bool:
    """Make the HNSW index unless it is there; return whether it had to be made."""
    (index,) = Section._meta.indexes
    with connection.cursor() as cursor:
        names = connection.introspection.get_constraints(cursor, Section._meta.db_table)
    if index.name in names:
        return False
    with connection.schema_editor() as editor:
        editor.add_index(Section, index)
    return True


def _differs(row: Section, entry: Entry | None) -> bool:
    return entry is not None and any(getattr(row, field) != value for field, value in entry._asdict().items())


def _changed(row: Section, entry: Entry) -> Section:
    for field, value in entry._asdict().items():
        setattr(row, field, value)
    return row
