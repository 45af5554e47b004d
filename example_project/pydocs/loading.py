"""Brings the table up to date: the rows with the corpus, the vectors with the rows, the index with the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from django.db import connection, transaction
from django.db.models import Q

from example_project.pydocs.corpus import Entry
from example_project.pydocs.models import Section
from pgembedding_django.embedders import get_embedder

#: Rows that are embedded and written at once: few enough for a lively progress bar, many enough for few requests.
BATCH = 250


class Changes(NamedTuple):
    """How many rows each kind of change touched."""

    new: int
    changed: int
    removed: int


def load(entries: Iterable[Entry]) -> Changes:
    """
    Make the table hold these entries and no others.

    A row whose entry says the same as before keeps its vector; one that changed loses it.
    """
    wanted = {entry.name: entry for entry in entries}
    stored = {row.name: row for row in Section.objects.defer("embedding")}
    new = [Section(**entry._asdict()) for name, entry in wanted.items() if name not in stored]
    changed = [_changed(row, wanted[name]) for name, row in stored.items() if _differs(row, wanted.get(name))]
    removed = [row.pk for name, row in stored.items() if name not in wanted]
    with transaction.atomic():
        Section.objects.filter(pk__in=removed).delete()
        Section.objects.bulk_create(new, batch_size=BATCH)
        Section.objects.bulk_update(changed, [*Entry._fields, "embedded_by", "embedding"], batch_size=BATCH)
    return Changes(len(new), len(changed), len(removed))


def embed_missing(progress: Callable[[int, int], None]) -> int:
    """
    Embed the rows that have no vector, or one of another embedder than today's.

    progress: called before the first batch and after each with how many rows are done, and of how many.
    Returns how many rows were embedded; each batch is kept when a later one fails. Paid for where the embedder is.
    """
    name = embedder_name()
    rows = list(Section.objects.filter(Q(embedding=None) | ~Q(embedded_by=name)).defer("embedding"))
    progress(0, len(rows))
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        vectors = get_embedder().embed([row.passage() for row in batch])
        for row, vector in zip(batch, vectors, strict=True):
            row.embedding, row.embedded_by = vector, name
        Section.objects.bulk_update(batch, ["embedding", "embedded_by"])
        progress(start + len(batch), len(rows))
    return len(rows)


def embedder_name() -> str:
    """Return the name under which vectors can be compared: the model's, or the embedder's where it has but one."""
    embedder = get_embedder()
    return getattr(embedder, "model", type(embedder).__name__)


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
    row.embedding, row.embedded_by = None, ""
    return row
