"""Measures how much of the exact answers an index finds, and keeps the history of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any
from uuid import uuid4

from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connections, transaction
from django.db.models import Model

from pgembedding_django.engines import GRAPH, MAX_EF_SEARCH, get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.indexes import IvfflatIndex, VectorIndex, declared_index
from pgembedding_django.maintenance.indexes.declared import advise_missing, load_migrations
from pgembedding_django.maintenance.indexes.lookup import find_on_table, statuses
from pgembedding_django.maintenance.indexes.report import BuiltIndex, RecallReport
from pgembedding_django.maintenance.recall.drawing import MAX_ROWS, MAX_SEED, check_integer, draw, one_length
from pgembedding_django.maintenance.recall.sampling import IndexUnusable, Sample
from pgembedding_django.models import RecallMeasurement
from pgembedding_django.querysets import EmbeddingQuerySet, every_row
from pgembedding_django.search.arguments import MAX_PROBES

__all__ = ["EF_SEARCH", "MEASURED", "measure_recall", "record"]

#: What is tried unless given: from half of the server's default of hnsw.ef_search, 40, to four times it.
EF_SEARCH = (20, 40, 80, 160)

#: Probes tried unless given: parts of the root of the number of lists, which nearest() reads by itself, and times it.
PROBES = (0.25, 0.5, 1, 2, 4)

#: What the history keeps of each row measured.
MEASURED = ("ef_search", "recall", "low", "high", "p50_ms", "p95_ms")


def measure_recall(
    model: type[Model],
    field: str | None = None,
    *,
    k: int = 10,
    sample: int = 200,
    queries: Iterable[Any] | None = None,
    filters: Mapping[str, Any] | None = None,
    ef_search: Sequence[int] | None = None,
    probes: Sequence[int] | None = None,
    seed: int = 0,
    using: str = DEFAULT_DB_ALIAS,
    progress: Callable[[int, int], object] | None = None,
) -> RecallReport:
    """
    Compare the answers of a field's HnswIndex or IvfflatIndex with the exact ones.

    field: the name of the field; needed only where the model has several.
    k: rows wanted. sample: how many stored rows are drawn as queries, at least 2; none counts as its own answer.
    queries: vectors to ask instead, such as those of real searches, at least 2. A stored row is an easier query, since
        the graph links it to its neighbours.
    filters: names of fields and the values that rows measured must have, as filter() takes them.
    ef_search: what to try, EF_SEARCH unless given; pg_embedding fixes it in the index, so only that one is measured.
    probes: the same of an IvfflatIndex: lists that a search reads, around the root of their number unless given.
    seed: the same one draws the same rows while they stay.
    progress: called with the number of searches done and of all.
    Returns the recall@k, its 95% interval and the latency of the index at each of these, and of nearest() by itself.
    A row counts as found if it is no farther than the k-th exact one, so that ties are no loss.
    Raises IndexUnusable if no search reads the index; NotSupportedError inside a transaction; ValueError for arguments
        out of bounds.
    Reads every row behind the filter once for each query, twice where the index is of reduced precision, in one
    REPEATABLE READ READ ONLY transaction: writes of others change nothing in it, and vacuum removes no row that it may
    read until it ends. With pg_embedding, writes to the table wait while the index is searched.
    """
    _check_numbers(k, sample, ef_search, probes, seed)
    connection = connections[using]
    if connection.in_atomic_block:
        raise NotSupportedError(
            "measure_recall() takes a snapshot of its own, so it cannot run inside a transaction. Call it outside of "
            "atomic() and ATOMIC_REQUESTS, and in a TransactionTestCase."
        )
    rows: EmbeddingQuerySet[Model] = every_row(model, using).filter(**(filters or {}))
    column = one_length(rows, field)
    index = declared_index(column)
    if index is None:
        raise IndexUnusable(_tell_no_index(column, rows.index_class.builder))
    built = find_built(column, index, using)
    tried = _choose_breadths(built, ef_search, probes)
    with _snapshot(using):
        if queries is None:
            asking = draw(rows, column, index, size=sample, seed=seed)
        else:
            asking = [(None, column.to_vector(vector)) for vector in queries]
        reduced = index.precision is not None
        step = _counter(progress, len(asking) * (2 + len(tried) + reduced))
        asked = Sample(rows, column, index, asking, names=built.names, k=k, step=step)
        asked.check_index()
        return RecallReport(
            model=model._meta.label,
            field=column.name,
            index=built,
            filters=", ".join(f"{name}={value}" for name, value in (filters or {}).items()),
            size=rows.filter(**{f"{column.name}__isnull": False}).count(),
            k=asked.wanted,
            queries=tuple(pk for pk, _ in asked.queries),
            default=asked.by_default(),
            reads_index=asked.plans_index(),
            explained=asked.explain(),
            rows=tuple(asked.through_index(value) for value in tried),
            precision=index.precision,
            ceiling=asked.by_precision() if reduced else None,
        )


def record(report: RecallReport, *, using: str = DEFAULT_DB_ALIAS) -> bool:
    """
    Keep a report in the history that the admin draws, in the database measured.

    Returns False where this connection may not write it: a standby, a read-only role, or no migration.
    """
    table = connections[using].ops.quote_name(RecallMeasurement._meta.db_table)
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT has_table_privilege(to_regclass(%s), 'INSERT') "
            "AND NOT current_setting('transaction_read_only')::boolean",
            [table],
        )
        if not cursor.fetchone()[0]:
            return False
    run, index = uuid4(), report.index
    RecallMeasurement.objects.using(using).bulk_create(
        RecallMeasurement(
            run=run,
            schema=index.schema,
            index=index.name,
            model=report.model,
            field=report.field,
            filter=report.filters,
            k=report.k,
            sample=len(report.queries),
            rows=report.size,
            **{name: getattr(row, name) for name in MEASURED},
        )
        for row in (report.default, *report.rows)
    )
    return True


def find_built(field: EmbeddingField, index: VectorIndex, using: str) -> BuiltIndex:
    """
    Look a declared index up in the database.

    Raises IndexUnusable if it is missing or invalid.
    """
    indexes = statuses(using)
    status = find_on_table(field.model, index.name, using)
    if status is None and index.builder:
        raise IndexUnusable(f'{index.name} is missing in database "{using}". Call {index.builder}().')
    if status is None:
        advice, repairable = advise_missing(load_migrations(using), field.model, index.name, using)
        remedy = " Run: manage.py rebuild_hnsw_indexes --repair" if repairable else ""
        raise IndexUnusable(f'{index.name} is missing in database "{using}". {advice}{remedy}')
    if not status.valid:
        raise IndexUnusable(
            f"{index.name} is invalid, so no search reads it. "
            f"Run: manage.py rebuild_hnsw_indexes {shlex.quote(index.name)}"
        )
    parts = indexes.filter(parent_oid=status.oid).values_list("name", flat=True)
    engine = get_engine(connections[using])
    quoted = connections[using].ops.quote_name(field.model._meta.db_table)
    shards = engine.server(connections[using]).names_of_parts(connections[using], quoted, index.name)
    names = (status.name, *parts, *shards)
    built, default = index.built_options(engine, status.options), index.built_options(engine, {})
    if isinstance(index, IvfflatIndex):
        lists = {"lists": built["lists"]}
        declared = {"lists": index.lists or default["lists"], "probes": index.probes}
        return BuiltIndex(status.schema, status.name, lists, declared, None, names, parameter="probes")
    graph = {name: built[name] for name in GRAPH}
    of_graph = {name: index.options[name] or default[name] for name in GRAPH}
    ef_search = built.get("ef_search")  # The engine that fixes it has a default.
    return BuiltIndex(
        status.schema, status.name, graph, {**of_graph, "ef_search": index.ef_search}, ef_search, names, index.builder
    )


def _tell_no_index(field: EmbeddingField, builder: str) -> str:
    if builder:
        return f"{field.label} has no index, so there is nothing to measure. Call {builder}()."
    return f"{field.label} has no HnswIndex or IvfflatIndex in Meta.indexes, so there is nothing to measure."


def _counter(progress: Callable[[int, int], object] | None, total: int) -> Callable[[], object]:
    done = count(1)
    return lambda: progress and progress(next(done), total)


def _choose_breadths(
    built: BuiltIndex, ef_search: Sequence[int] | None, probes: Sequence[int] | None
) -> tuple[int, ...]:
    """Return what is tried of ef_search, or of probes."""
    reads_lists = built.parameter == "probes"
    if (ef_search if reads_lists else probes) is not None:
        wrong = "ef_search" if reads_lists else "probes"
        raise ValueError(f"{wrong} is nothing of {built.name}. Give {built.parameter}.")
    if reads_lists:
        root = built.graph["lists"] ** 0.5
        around = {min(max(round(part * root), 1), built.graph["lists"]) for part in PROBES}
        return tuple(sorted(set(probes or around)))
    if built.ef_search is not None and ef_search is not None:
        raise ValueError(f"ef_search cannot be given, because {built.name} fixes it at {built.ef_search}.")
    return (built.ef_search,) if built.ef_search is not None else tuple(sorted(set(ef_search or EF_SEARCH)))


def _check_numbers(
    k: int, sample: int, ef_search: Sequence[int] | None, probes: Sequence[int] | None, seed: int
) -> None:
    check_integer("k", k, 1, MAX_ROWS)
    check_integer("sample", sample, 2, MAX_ROWS)
    check_integer("seed", seed, -MAX_SEED, MAX_SEED)
    for value in ef_search or ():
        check_integer("ef_search", value, 1, MAX_EF_SEARCH)
    for value in probes or ():
        check_integer("probes", value, 1, MAX_PROBES)


@contextmanager
def _snapshot(using: str) -> Iterator[None]:
    """See the same rows in each statement of a block."""
    with transaction.atomic(using):
        with connections[using].cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
