"""Rows drawn as queries, their exact answers, and how much of those a search finds."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Any, cast

import numpy as np
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, QuerySet

from pgembedding_django.engines import get_engine
from pgembedding_django.engines.explained import plan_nodes
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.indexes import IvfflatIndex, VectorIndex
from pgembedding_django.maintenance.recall.drawing import Query
from pgembedding_django.querysets import EmbeddingQuerySet
from pgembedding_django.search.plans import choose_scan
from pgembedding_django.search.ranking import with_scan
from pgembedding_django.search.search import Ranking, get_ranking
from pgembedding_django.vectors import Vector

__all__ = ["IndexUnusable", "Recall", "Sample", "interval", "undone"]

#: The quantile of the normal distribution that leaves 2.5% above it: intervals hold the true recall in 95 of 100 cases.
Z = 1.959964

#: The annotation of the rows measured; no model should have a field of this name.
DISTANCE = "pgembedding_distance"
Answer = Sequence[tuple[object, float]]


class IndexUnusable(Exception):
    """What cannot be measured, because no search reads the index; says why."""


@dataclass(frozen=True)
class Recall:
    """
    What one way to search finds of the exact answers, and how long it takes.

    ef_search: candidates that the scan keeps, or lists that it reads; None where nearest() chose for itself.
    recall: the mean share found. low, high: its 95% confidence interval, see interval().
    p50_ms, p95_ms: milliseconds of a query. found: how many of the rows wanted each query found.
    """

    ef_search: int | None
    recall: float
    low: float
    high: float
    p50_ms: float
    p95_ms: float
    found: tuple[int, ...] = field(repr=False)


class Sample:
    """
    Rows drawn as queries, and the exact answers to them.

    A row that asks is no answer to itself: k + 1 rows are asked for, and it is left out of them. A query without a
    primary key is no row.
    rows: a queryset of the model, with its filter. field, index: of what is searched. queries: what draw() returned.
    names: what the server calls the index, and each part of one on a partitioned table.
    step: called after each search.
    Reads every row once for each query. Raises ValueError for fewer than two queries.
    """

    rows: EmbeddingQuerySet[Model]
    index: VectorIndex
    queries: Sequence[Query]
    names: Collection[str]
    k: int
    step: Callable[[], object]

    def __init__(
        self,
        rows: EmbeddingQuerySet[Model],
        field: EmbeddingField,
        index: VectorIndex,
        queries: Sequence[Query],
        *,
        names: Collection[str],
        k: int,
        step: Callable[[], object],
    ) -> None:
        self.field: EmbeddingField = field
        self.rows, self.index, self.queries = rows, index, queries
        self.names, self.k, self.step = names, k, step
        self.connection: BaseDatabaseWrapper = connections[rows.db]
        if len(queries) < 2:
            raise ValueError(
                f"{field.label} needs at least two vectors that ask to measure recall, got {len(queries)}."
            )

    @cached_property
    def exact(self) -> list[Answer]:
        """The rows wanted of each query, nearest first; read at the first need."""
        answers = zip(self.queries, self._ask(self._fetch, exact=True), strict=True)
        exact = [self._without(pk, answer) for (pk, _), (answer, _) in answers]
        if not exact[0]:
            raise ValueError(f"{self.field.label} has no row with a vector to be found, so it has no recall.")
        return exact

    @property
    def wanted(self) -> int:
        """How many rows each query wants: k, or all others where those are fewer."""
        return len(self.exact[0])

    def check_index(self) -> None:
        """Raise IndexUnusable if no search reads the index, before the rows are read for nothing."""
        query = self._nearest(self.queries[0][1], exact=False).query
        search = cast(Ranking, get_ranking(query)).search
        scan = choose_scan(query, search, self.connection)
        if not scan.index:
            raise IndexUnusable(f"{self.index.name} cannot be measured: {scan.reason}.")
        with undone(self.rows.db), self._prefer_index():
            if not self.plans_index(exact=False):
                raise IndexUnusable(f"{self.index.name} cannot be measured: no plan of Postgres reads it here.")
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s)::oid::bigint", [self.connection.ops.quote_name(search.table)])
            (oid,) = cursor.fetchone()
        obstacle = get_engine(self.connection).scan_obstacle(self.connection, oid)
        if obstacle:  # pragma: no cover - pg_embedding
            raise IndexUnusable(f"{self.index.name} cannot be measured: {obstacle}.")

    def by_default(self) -> Recall:
        """Measure nearest() as it is: its own choice of scan, and short answers completed."""
        with undone(self.rows.db):
            return self._compare(None, self._ask(self._fetch))

    def through_index(self, breadth: int) -> Recall:
        """
        Measure the index alone: an answer that it leaves short is not completed.

        breadth: ef_search, or probes, as nearest() takes it; a name only where the index fixes it.
        """
        name = "probes" if isinstance(self.index, IvfflatIndex) else "ef_search"
        with undone(self.rows.db), self._prefer_index():
            return self._compare(breadth, self._ask(self._fetch_through_index, exact=False, **{name: breadth}))

    def by_precision(self) -> float:
        """Measure the best that an index of this precision can find: with the candidates that a perfect graph gives."""
        with undone(self.rows.db):
            with self.connection.cursor() as cursor:
                cursor.execute("SET LOCAL enable_indexscan = off; SET LOCAL jit = off")
            return self._compare(None, self._ask(self._fetch_through_index, exact=False)).recall

    def plans_index(self, **options: Any) -> bool:
        """Tell whether Postgres reads the index for the first query."""
        text = self._nearest(self.queries[0][1], **options).explain(format="json")
        return any(node.get("Index Name") in self.names for node in plan_nodes(json.loads(text)[0]["Plan"]))

    def explain(self) -> str:
        """Tell in words how nearest() runs by itself."""
        return self._nearest(self.queries[0][1]).explain_nearest()

    def _prefer_index(self) -> AbstractContextManager[None]:
        """Let only an index give the rows in order, however small the table, and for no plan's cost compile code."""
        server = get_engine(self.connection).server(self.connection)
        return server.setting(self.connection, {"enable_sort": "off", "jit": "off"})

    def _nearest(self, vector: Vector, **options: Any) -> EmbeddingQuerySet[Model]:
        return self.rows.nearest(
            vector, self.k + 1, field=self.field.name, distance=self.index.distance, alias=DISTANCE, **options
        )

    def _ask(
        self, fetch: Callable[[QuerySet[Any, Any]], tuple[Answer, float]], **options: Any
    ) -> Iterator[tuple[Answer, float]]:
        for _, vector in self.queries:
            yield fetch(self._nearest(vector, **options).values_list("pk", DISTANCE))
            self.step()

    def _fetch(self, rows: QuerySet[Any, Any]) -> tuple[Answer, float]:
        start = perf_counter()
        return list(rows), perf_counter() - start

    def _fetch_through_index(self, rows: QuerySet[Any, Any]) -> tuple[Answer, float]:
        """Run the statement of an index scan by itself, where the queryset would complete a short answer."""
        search = cast(Ranking, get_ranking(rows.query)).search
        scan = choose_scan(rows.query, search, self.connection).going_on()
        planned = with_scan(rows.query, scan)
        sql, params = planned.get_compiler(connection=self.connection).as_sql()
        table = self.connection.ops.quote_name(search.table)
        with get_engine(self.connection).scanning(self.connection, table, scan), self.connection.cursor() as cursor:
            start = perf_counter()
            cursor.execute(sql, params)
            answer, seconds = cursor.fetchall(), perf_counter() - start
        if self.rows.model._meta.is_composite_pk:
            return [(tuple(key), distance) for *key, distance in answer], seconds
        return answer, seconds

    def _without(self, pk: object, answer: Answer) -> Answer:
        # pg_embedding may repeat a row; a dict keeps the first of each.
        return [other for other in dict(answer).items() if other[0] != pk][: self.k]

    def _compare(self, ef_search: int | None, answers: Iterator[tuple[Answer, float]]) -> Recall:
        counts, seconds = [], []
        for (pk, _), exact, (answer, took) in zip(self.queries, self.exact, answers, strict=True):
            # Both scans compute the distance by the same operator, so that of a tie is equal to the bit.
            counts.append(sum(distance <= exact[-1][1] for _, distance in self._without(pk, answer)))
            seconds.append(took)
        low, high = interval(counts, self.wanted)
        p50, p95 = np.percentile(seconds, [50, 95]) * 1000
        recall = sum(counts) / (self.wanted * len(counts))
        return Recall(ef_search, recall, low, high, float(p50), float(p95), tuple(counts))


def interval(found: Sequence[int], wanted: int) -> tuple[float, float]:
    """
    Return the 95% confidence interval of a mean recall.

    found: how many of the rows wanted each query found.
    Wilson interval with the effective sample size n*p*(1-p)/s^2, clipped to [1, n*k]: the k answers to one query are
    correlated. n: queries; p, s^2: mean and variance of their recall. It has a width where every recall is 1, and draws
    nothing by chance, as a bootstrap would.
    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927; Dean and Pagano,
    "Evaluating Confidence Interval Methods for Binomial Proportions in Clustered Surveys", 2015.
    """
    shares = np.asarray(found) / wanted
    mean, spread = float(shares.mean()), float(shares.var(ddof=1))
    total = len(found) * wanted
    size = min(total, max(1.0, len(found) * mean * (1 - mean) / spread)) if spread else total
    centre = (mean + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z * (mean * (1 - mean) / size + Z**2 / (4 * size**2)) ** 0.5 / (1 + Z**2 / size)
    return max(0.0, centre - half), min(1.0, centre + half)


@contextmanager
def undone(using: str) -> Iterator[None]:
    """Run a block and roll it back: its settings, locks and tables are gone, whatever happened."""
    with transaction.atomic(using):
        yield
        transaction.set_rollback(True, using)
