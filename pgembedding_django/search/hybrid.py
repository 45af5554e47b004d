"""Hybrid search: by meaning and by words, joined by reciprocal rank fusion in one statement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from django.db import ProgrammingError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Expression, F, Field, FloatField, Func, IntegerField, Model, Q, QuerySet
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.compat.expressions import replaced
from pgembedding_django.compat.queries import key_names, replace_query
from pgembedding_django.compat.tables import get_table, with_table
from pgembedding_django.engines import get_engine
from pgembedding_django.engines.scan import Scan
from pgembedding_django.search.arguments import check_alias, checked_candidates, checked_k, checked_weights
from pgembedding_django.search.plans import EXACT, choose_scan
from pgembedding_django.search.rankable import check_each
from pgembedding_django.search.ranking import with_scan
from pgembedding_django.search.relations import is_path, once_each
from pgembedding_django.search.search import Ranking, get_ranking
from pgembedding_django.vectors import VectorLike

__all__ = ["get_fusion", "search_both"]

#: The annotation by which either ranking is ordered; no field of a model has such a name.
RANKED_BY = "pgembedding_value"

#: How strongly the first ranks count before the later ones (Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion
#: outperforms Condorcet and individual Rank Learning Methods", 2009: k = 60).
RANK_CONSTANT = 60

#: In: two rankings, each of keys and values in its own order. Out: the keys with the greatest scores, each with its
#: rank and value in either ranking.
FUSED = (
    '"pgembedding_fused" ({keys}, "score", "meaning_rank", "distance", "words_rank", "words_score") AS ('
    f'SELECT {{keys}}, sum("weight" / ({RANK_CONSTANT} + "place")::float8) AS "score", '
    'max("place") FILTER (WHERE "side" = 1), max("value") FILTER (WHERE "side" = 1), '
    'max("place") FILTER (WHERE "side" = 2), max("value") FILTER (WHERE "side" = 2) FROM ('
    'SELECT {keys}, 1 AS "side", %s::float8 AS "weight", row_number() OVER () AS "place", "value"::float8 '
    'FROM ({meaning}) AS "meaning" ({keys}, "value") '
    'UNION ALL SELECT {keys}, 2, %s::float8, row_number() OVER (), "value"::float8 '
    'FROM ({words}) AS "words" ({keys}, "value")'
    ') AS "ranked" GROUP BY {keys} ORDER BY "score" DESC, {keys} LIMIT {limit})'
)

#: What is known of a row beside its score.
DETAILS: dict[str, Field[Any, Any]] = {
    "meaning_rank": IntegerField(),
    "distance": FloatField(),
    "words_rank": IntegerField(),
    "words_score": FloatField(),
}

#: A ranking through the index, or the exact one where that is short, which runs only then.
COMPLETED = (
    'WITH "found" ({keys}, "value") AS {materialized}({indexed}) '
    '(SELECT * FROM "found" WHERE (SELECT count(*) FROM "found") >= {enough}) '
    'UNION ALL SELECT * FROM ({exact}) AS "exact" WHERE (SELECT count(*) FROM "found") < {enough}'
)


def search_both(
    rows: Any,
    text: str,
    k: int,
    *,
    fields: Sequence[str],
    field: str | None,
    config: str | None,
    candidates: int | None,
    alias: str,
    weights: Sequence[float],
    meaning: Q | None,
    words: Q | None,
    fusion: Expression | None,
    details: bool,
    snippet: str | None,
    vector: VectorLike | None,
) -> Any:
    """Return the rows of an EmbeddingQuerySet that match a text by meaning and by words, as hybrid() documents."""
    get_engine(connections[rows.db]).check_words()
    # A project on SQLite has no driver of Postgres, which django.contrib.postgres imports.
    from pgembedding_django.search.words import check_text, check_words, mark_words, rank_by_words

    check_text(text)
    check_words(rows.model, fields)
    check_each(rows, "hybrid()")
    k = checked_k(k)
    wanted = checked_candidates(candidates, k)
    weighed = checked_weights(weights)
    marked = {} if snippet is None else {"snippet": mark_words(rows.model, snippet, text, config)}
    for name in (alias, *(DETAILS if details else ()), *marked):
        check_alias(rows.model, rows.query.annotations, name)
    asked = text if vector is None else vector
    near = (
        (rows.filter(meaning) if meaning else rows)
        .nearest(asked, wanted, field=field, alias=RANKED_BY)
        .values("pk", RANKED_BY)
        .query
    )
    if is_path(field):
        rows = once_each(rows, near)
    worded = rank_by_words(rows.filter(words or Q()), text, list(fields), config, RANKED_BY)[:wanted].query
    table = Fusion(near, worded, None if fusion is not None else k, config, weighed)
    return _fuse(rows, table, k, {**_scored(rows.model, alias, fusion, details), **marked}, alias)


def _fuse(rows: QuerySet[Any], table: Fusion, k: int, columns: dict[str, Any], alias: str) -> Any:
    """Return the k rows of two rankings with the greatest scores, annotated with some columns."""
    best = F(alias).desc(nulls_last=True) if table.limit is None else F(alias).desc()
    fused = rows.filter(IsRanked(*key_names(rows.model))).annotate(**columns).order_by(best, "pk")
    query = with_table(fused.query, table)
    query.set_limits(high=k)
    return replace_query(fused, query)


def _scored(model: type[Model], alias: str, fusion: Expression | None, details: bool) -> dict[str, Any]:
    """Return the score, of which a fusion may name the parts, and with details these parts."""
    key = key_names(model)
    score = FromFusion(*key, column="score", output_field=FloatField())
    known = {name: FromFusion(*key, column=name, output_field=field) for name, field in DETAILS.items()}
    mixed = score if fusion is None else replaced(fusion, {"score": score, **known})
    return {alias: mixed, **(known if details else {})}


def _key_names(count: int) -> str:
    return ", ".join(f'"key{number}"' for number in range(count))


class IsRanked(Func):
    """Whether a key, of one column or several, is in one of the rankings."""

    output_field = BooleanField()

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        names = _key_names(len(self.get_source_expressions()))
        template = f'(%(expressions)s) IN (SELECT {names} FROM "pgembedding_fused")'
        return super().as_sql(compiler, connection, template=template)


class FromFusion(Func):
    """What the common table has of a key in a column; None where it has none."""

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        names = _key_names(len(self.get_source_expressions()))
        column = self.extra["column"]
        template = f'(SELECT "{column}" FROM "pgembedding_fused" WHERE ({names}) = (%(expressions)s))'
        return super().as_sql(compiler, connection, template=template)


@dataclass(frozen=True)
class Fusion:
    """
    The common table of the best keys of two rankings, each of which selects the primary key and what it ranks by.

    limit: how many keys; None for all that either ranking has. weights: of the rank by meaning and of that by words.
    config: the text search configuration that the ranking by words names, so that an error can say so.
    """

    meaning: Query
    words: Query
    limit: int | None
    config: str | None
    weights: tuple[float, float]

    @contextmanager
    def reading(self, connection: BaseDatabaseWrapper) -> Iterator[None]:
        table = connection.ops.quote_name(cast(Ranking, get_ranking(self.meaning)).search.table)
        scan = self._choose_scan(connection)
        with _known_config(self.config), get_engine(connection).scanning(connection, table, scan):
            yield

    def write(self, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        meaning, meant = self._rank_by_meaning(connection)
        words, worded = _compile(self.words, connection)
        limit = "ALL" if self.limit is None else self.limit
        by_meaning, by_words = self.weights
        params = (by_meaning, *meant, by_words, *worded)
        return FUSED.format(meaning=meaning, words=words, keys=self._keys, limit=limit), params

    def _choose_scan(self, connection: BaseDatabaseWrapper) -> Scan:
        search = cast(Ranking, get_ranking(self.meaning)).search
        return choose_scan(self.meaning, search, connection).going_on()

    @property
    def _keys(self) -> str:
        return _key_names(len(key_names(cast(Any, self.meaning.model))))

    def _rank_by_meaning(self, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        query, scan = self.meaning, self._choose_scan(connection)
        exact, params = _compile(with_scan(query, EXACT), connection)
        if not scan.index:
            return exact, params
        indexed, more = _compile(with_scan(query, scan), connection)
        parts = {"keys": self._keys, "enough": query.high_mark, "exact": exact, "indexed": indexed}
        materialized = get_engine(connection).server(connection).materialized
        return COMPLETED.format(**parts, materialized=materialized), (*more, *params)


def get_fusion(query: Query) -> Fusion | None:
    """Return the two rankings of what hybrid() returned, None of any other query."""
    table = get_table(query)
    return table if isinstance(table, Fusion) else None


def _compile(query: Query, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
    query = query.clone()
    query.subquery = True
    # One of the rankings may be known to have no rows, and the other has them still.
    sql, params = query.get_compiler(connection=connection, elide_empty=False).as_sql()
    return sql, tuple(params)


@contextmanager
def _known_config(config: str | None) -> Iterator[None]:
    """Raise ValueError where the server does not know a text search configuration; to ask first would cost a query."""
    try:
        yield
    except ProgrammingError as error:
        # The server's words depend on its language, and the names in them do not.
        if config is None or not any(f'"{name}"' in str(error) for name in (config, config.split(".")[0])):
            raise
        raise ValueError(
            f"config must name a text search configuration of the database, got {config!r}. "
            "List them: SELECT cfgname FROM pg_ts_config"
        ) from error
