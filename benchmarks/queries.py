"""Questions, and those who answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.db import connection
from pgvector.django import L2Distance

from benchmarks.data import Corpus, Floats
from benchmarks.langchain import LangChain
from benchmarks.models import Model, Table
from benchmarks.timing import timed
from pgembedding_django.engines import get_engine
from pgembedding_django.search.plans import choose_scan
from pgembedding_django.search.search import get_ranking
from pgembedding_django.vectors.wire import encode_text

#: What each filter keeps, as a share of the rows; None is a search without one.
SELECTIVITIES = {"none": None, "100%": 1.0, "10%": 0.1, "1%": 0.01, "0.1%": 0.001, "0.01%": 0.0001}

#: Keeps a tenth of the rows, on the other side of the space than the query.
CONTRADICTING = "contradicting"

SCENARIOS = (*SELECTIVITIES, CONTRADICTING)

#: A vector as bytes, sent for the rows that are returned: Postgres computes what is volatile above a Sort.
SENT = "CASE WHEN clock_timestamp() IS NOT NULL THEN vector_send(embedding) END"

_OPERATORS = {"lt": "<", "gte": ">="}


@dataclass(frozen=True)
class Question:
    """The k rows nearest to a query among those whose column passes `operator` and `limit`; true: their keys."""

    query: Floats
    k: int
    column: str | None
    operator: str
    limit: int
    true: frozenset[int]

    @property
    def lookup(self) -> dict[str, int]:
        return {f"{self.column}__{self.operator}": self.limit} if self.column else {}

    @property
    def where(self) -> str:
        return f"WHERE {self.column} {_OPERATORS[self.operator]} {self.limit}" if self.column else ""

    @property
    def langchain_filter(self) -> dict[str, Any]:
        return {self.column: {f"${self.operator}": self.limit}} if self.column else {}


def make_questions(corpus: Corpus, scenario: str, k: int, count: int) -> list[Question]:
    """Return a question for each of the first queries of a corpus."""
    return [_question(corpus, scenario, k, number) for number in range(count)]


def _question(corpus: Corpus, scenario: str, k: int, number: int) -> Question:
    column, operator, limit = _filter(corpus, scenario, bool(corpus.sides[number]))
    values = getattr(corpus, column) if column else None
    kept = None if column is None else values < limit if operator == "lt" else values >= limit
    query = corpus.queries[number]
    true = frozenset((corpus.neighbours(query, kept, k) + 1).tolist())
    return Question(query, k, column, operator, limit, true)


def _filter(corpus: Corpus, scenario: str, lower: bool) -> tuple[str | None, str, int]:
    if scenario == CONTRADICTING:
        tenth = corpus.rows // 10
        return ("position", "gte", corpus.rows - tenth) if lower else ("position", "lt", tenth)
    share = SELECTIVITIES[scenario]
    return (None, "", 0) if share is None else ("bucket", "lt", max(1, round(corpus.rows * share)))


@dataclass
class Competitor:
    """
    Who answers, under which settings of the session (set before the clock starts), and how it did.

    ask: returns rows; keys: returns their primary keys after the clock has stopped.
    """

    name: str
    ask: Callable[[Question], Any]
    keys: Callable[[Any], list[int]]
    settings: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def answer(self, question: Question) -> None:
        """Answer once, and keep the time, the recall and the share of the rows wanted that came."""
        with session(self.settings):
            seconds, rows = timed(lambda: self.ask(question))
        keys = self.keys(rows)
        if isinstance(rows, tuple):  # langchain-postgres timed itself
            seconds = rows[0]
        self.seconds.append(seconds)
        self.shares.append(len(keys) / len(question.true))
        self.recalls.append(len(question.true.intersection(keys)) / len(question.true))

    def forget(self) -> None:
        """Start anew after the warm-up."""
        for results in (self.seconds, self.recalls, self.shares):
            results.clear()

    @property
    def recall(self) -> float:
        return float(np.mean(self.recalls))


@contextmanager
def session(settings: dict[str, str]) -> Iterator[None]:
    """Run with settings of the session, and reset them."""
    with connection.cursor() as cursor:
        for name, value in settings.items():
            cursor.execute(f"SET {name} = {value}")
        yield
        for name in settings:
            cursor.execute(f"RESET {name}")


def ours(name: str, model: Model, **options: Any) -> Competitor:
    """Return nearest() on a model."""
    return Competitor(
        name, lambda ask: list(model.objects.filter(**ask.lookup).nearest(ask.query, ask.k, **options)), _primary_keys
    )


def pgvector_django(name: str, model: Model, **settings: str) -> Competitor:
    """Return the same query as pgvector's Django module documents it."""

    def ask(question: Question) -> list[Any]:
        rows = model.objects.filter(**question.lookup).annotate(distance=L2Distance("embedding", question.query))
        return list(rows.order_by("distance")[: question.k])

    return Competitor(name, ask, _primary_keys, _guc(settings))


def raw(name: str, table: Table, *, exact: bool = False, **settings: str) -> Competitor:
    """Return hand-written SQL for the same columns, the vector as bytes, through the bare driver."""
    distance = "(embedding <-> %s::vector)" + (" + 0" if exact else "")

    def ask(question: Question) -> list[tuple[Any, ...]]:
        with connection.connection.cursor() as cursor:
            cursor.execute(
                f"SELECT id, title, bucket, position, {SENT}, {distance} AS distance "
                f"FROM {table.name} {question.where} ORDER BY distance LIMIT {question.k}",
                [encode_text(question.query)],
            )
            return cursor.fetchall()

    return Competitor(name, ask, lambda rows: [row[0] for row in rows], _guc(settings))


def langchain(peer: LangChain) -> Competitor:
    """Return langchain-postgres' similarity search, which delivers no vectors."""
    return Competitor(
        "langchain-postgres",
        lambda ask: peer.search(ask.query, ask.k, ask.langchain_filter),
        lambda answer: answer[1],
    )


def ef_search_of(model: Model, question: Question) -> int:
    """Return the ef_search that nearest() chooses, or its unfiltered one where it reads exactly."""
    rows = model.objects.filter(**question.lookup).nearest(question.query, question.k)
    ranking = get_ranking(rows.query)
    if ranking is None:
        return 0
    scan = choose_scan(rows.query, ranking.search, connection)
    return get_engine(connection).fitted_ef_search(connection, connection.ops.quote_name(ranking.search.table), scan)


def _guc(settings: dict[str, str]) -> dict[str, str]:
    return {f"hnsw.{name}": value for name, value in settings.items()}


def _primary_keys(rows: list[Any]) -> list[int]:
    return [row.pk for row in rows]
