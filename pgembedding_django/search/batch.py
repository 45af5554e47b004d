"""nearest_each(): the answers to many queries in one statement, each as complete as nearest() gives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Expression, F, Field, Model, QuerySet
from django.db.models.query import ModelIterable
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.compat.queries import compiled, key_names
from pgembedding_django.engines import get_engine
from pgembedding_django.engines.scan import Scan
from pgembedding_django.fields.sized import SizedField
from pgembedding_django.search import arguments, questions
from pgembedding_django.search.conditions import RankingDistance, Scanned
from pgembedding_django.search.direction import HasDirection
from pgembedding_django.search.plans import choose_scan, scans
from pgembedding_django.search.search import Ranking, Search, get_ranking, set_ranking

__all__ = ["answer_each"]

M = TypeVar("M", bound=Model)

#: The common table of the vectors that are asked for.
ASKED = '"pgembedding_asked"'

#: Primary key and distance of the rows that answer one query, the nearest first.
Answer = list[tuple[Any, float]]


class AskedVector(Expression):
    """The vector of the query that an answer is for, in the statement of them all."""

    def __init__(self, output_field: Field[Any, Any]) -> None:
        super().__init__(output_field=output_field)

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        return f'{ASKED}."vector"', ()


def answer_each(
    rows: QuerySet[M],
    nearest: Callable[..., QuerySet[M]],
    queries: Sequence[Any],
    k: int,
    max_distance: float | None,
    alias: str,
    **options: Any,
) -> list[list[M]]:
    """
    Answer each query, in one statement where that can be and else one after the other.

    nearest: the method of these rows. options: what it takes.
    """
    if not queries:
        return []
    # An instance is left out of its own answer.
    asked = k + any(isinstance(query, Model) for query in queries)
    ranking = nearest(queries[0], asked, alias=alias, **options)
    search, connection = cast(Ranking, get_ranking(ranking.query)).search, connections[ranking.db]
    scan = choose_scan(ranking.query, search, connection)
    if not _is_plain(rows, search, scan, connection):
        single = {**options, "alias": alias, "max_distance": max_distance}
        return [list(nearest(each, k, **single)) for each in queries]
    batch = _Batch(rows, search, connection)
    answers = batch.answer([batch.vector(each) for each in queries], scan)
    limit = None if max_distance is None else arguments.checked_limit(max_distance)
    kept = [_kept(answer, batch.own_key(each), k, limit) for answer, each in zip(answers, queries, strict=True)]
    return batch.instances(kept)


def _is_plain(rows: QuerySet[Any], search: Search, scan: Scan, connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a ranking of primary keys by another vector is the same statement with that vector."""
    query, engine = rows.query, get_engine(connection)
    return (
        engine.copies
        and engine.server(connection).joins_lateral
        and not scan.candidates
        and not search.nearest_of_each
        and not search.path
        and not isinstance(search.field, SizedField)
        and rows._iterable_class is ModelIterable
        and not (query.distinct or query.select_for_update or query.group_by is not None)
    )


def _kept(answer: Answer, own_key: Any, k: int, limit: float | None) -> Answer:
    others = [(key, distance) for key, distance in answer if own_key is None or key != own_key][:k]
    return others if limit is None else [(key, distance) for key, distance in others if distance <= limit]


class _Batch:
    """Searches of the same rows by several vectors."""

    def __init__(self, rows: QuerySet[Any], search: Search, connection: BaseDatabaseWrapper) -> None:
        self.rows, self.search, self.connection = rows, search, connection

    def vector(self, query: Any) -> Any:
        vector = questions.query_vector(self.rows.model, self.search.field, query)
        questions.check_direction(self.search.field, self.search.distance, vector)
        return vector

    def own_key(self, query: Any) -> Any:
        """Return the primary key of a query that is a row of these."""
        is_row = questions.is_instance(query, self.rows.model) and questions.is_row_of(self.rows.db, query)
        return query.pk if is_row else None

    def answer(self, vectors: Sequence[Any], scan: Scan) -> list[Answer]:
        """Answer by one scan for each vector, and again those that it answered short."""
        answers: list[Answer] = [[] for _ in vectors]
        missing = list(range(len(vectors)))
        for each in scans(scan):
            wanted = each.enough or self.search.k
            found = self._run([vectors[place] for place in missing], each, wanted) if missing else []
            for place, answer in zip(missing, found, strict=True):
                answers[place] = answer[: self.search.k]
            missing = [place for place, answer in zip(missing, found, strict=True) if len(answer) < wanted]
        return answers

    def _run(self, vectors: Sequence[Any], scan: Scan, limit: int) -> list[Answer]:
        engine, field = get_engine(self.connection), self.search.field
        answers: list[Answer] = [[] for _ in vectors]
        try:
            sql, params = self._compile(scan, limit)
        except EmptyResultSet:
            return answers
        materialized = engine.server(self.connection).materialized
        statement = (
            f'WITH {ASKED} AS {materialized}(SELECT t::{engine.cast(field.storage)} AS "vector", "place" '
            f'FROM unnest(%s::text[]) WITH ORDINALITY AS u(t, "place")) '
            f'SELECT {ASKED}."place", "found".* FROM {ASKED} CROSS JOIN LATERAL ({sql}) AS "found"'
        )
        table = self.connection.ops.quote_name(self.search.table)
        with engine.scanning(self.connection, table, scan), self.connection.cursor() as cursor:
            cursor.execute(statement, [[engine.encode(vector) for vector in vectors], *params])
            for place, *key, distance in cursor.fetchall():
                answers[place - 1].append((tuple(key) if len(key) > 1 else key[0], distance))
        return [sorted(answer, key=lambda row: row[1]) for answer in answers]

    def _compile(self, scan: Scan, limit: int) -> tuple[str, Sequence[Any]]:
        """Return the ranking of primary keys by the vector that is asked for."""
        search, rows = self.search, self.rows.order_by()
        distance = search.distance(search.operand, AskedVector(search.field))
        found = rows.filter(Scanned(rows.query, search))
        if search.distance.distance == "cosine":
            found = found.filter(HasDirection(search))
        # Django counts a composite key as one column where it orders by the place of another (ticket 37354).
        keys = key_names(rows.model)
        # The distances are all that is read here, so that no second ranking is needed.
        planned = replace(scan, listed=0, enough=0)
        order = [F(search.alias).asc(), *([] if planned.reads_in_order else keys)]
        ranked = found.annotate(**{search.alias: RankingDistance(distance)}).order_by(*order)
        answer = ranked.values_list(*keys, search.alias)[:limit]
        set_ranking(answer.query, Ranking(search, planned))
        return compiled(answer, self.connection)

    def instances(self, answers: Sequence[Answer]) -> list[list[Any]]:
        """Return the rows of each answer with their distances; of one that several answers have, an instance each."""
        uses = Counter(key for answer in answers for key, _ in answer)
        rows = {row.pk: row for row in self.rows.order_by().filter(pk__in=list(uses))} if uses else {}
        found: list[list[Any]] = []
        for answer in answers:
            instances = [
                (rows[key] if uses[key] == 1 else _twin(rows[key]), distance) for key, distance in answer if key in rows
            ]
            for instance, distance in instances:
                setattr(instance, self.search.alias, distance)
            found.append([instance for instance, _ in instances])
        return found


def _twin(row: Model) -> Model:
    """Return another instance of a row; copy() would look the model up by name."""
    twin: Any = type(row).__new__(type(row))
    twin.__setstate__(row.__reduce__()[2])
    return cast(Model, twin)
