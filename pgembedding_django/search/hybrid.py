"""Hybrid search: by meaning and by words, joined by reciprocal rank fusion in one statement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from django.db import ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, F, FloatField, Func, QuerySet
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.compat.queries import key_names, mixed, replace_query
from pgembedding_django.engines import get_engine
from pgembedding_django.search.plans import EXACT, choose_scan
from pgembedding_django.search.ranking import with_scan
from pgembedding_django.search.search import Ranking, get_ranking

__all__ = ["HybridQuery", "fuse_ranks"]

#: How strongly the first ranks count before the later ones (Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion
#: outperforms Condorcet and individual Rank Learning Methods", 2009: k = 60).
RANK_CONSTANT = 60

#: Both rankings of keys, each in its order, in; the keys of the k best with their scores, out.
FUSED = (
    '"pgembedding_fused" ({keys}, "score") AS ('
    f'SELECT {{keys}}, sum(1 / ({RANK_CONSTANT} + "place")::float8) AS "score" FROM ('
    'SELECT {keys}, row_number() OVER () AS "place" FROM ({meaning}) AS "meaning" ({keys}) '
    'UNION ALL SELECT {keys}, row_number() OVER () FROM ({words}) AS "words" ({keys})'
    ') AS "ranked" GROUP BY {keys} ORDER BY "score" DESC, {keys} LIMIT {k})'
)

#: How a statement with CTEs begins.
OPENING = re.compile(r"WITH( RECURSIVE)? ")

#: A ranking through the index, or the exact one where that is short, which runs only then.
COMPLETED = (
    'WITH "found" ({keys}) AS MATERIALIZED ({indexed}) '
    '(SELECT * FROM "found" WHERE (SELECT count(*) FROM "found") >= {enough}) '
    'UNION ALL SELECT * FROM ({exact}) AS "exact" WHERE (SELECT count(*) FROM "found") < {enough}'
)


def fuse_ranks(
    rows: QuerySet[Any], meaning: QuerySet[Any], words: QuerySet[Any], k: int, alias: str, config: str | None
) -> Any:
    """
    Return the k rows of two rankings with the greatest sums of 1 / (60 + rank), annotated with those.

    config: the text search configuration that the ranking by words names, so that an error can say so.
    """
    key = key_names(rows.model)
    fused = rows.filter(IsRanked(*key)).annotate(**{alias: Score(*key)}).order_by(F(alias).desc(), "pk")
    query = cast(HybridQuery, fused.query.chain(mixed(type(fused.query), HybridQuery)))
    query.meaning, query.words = meaning.values("pk").query, words.values("pk").query
    query.k, query.config = k, config
    query.set_limits(high=k)
    return replace_query(fused, query)


def _key_names(count: int) -> str:
    return ", ".join(f'"key{number}"' for number in range(count))


class IsRanked(Func):
    """Whether a key, of one column or several, is in one of the rankings."""

    output_field = BooleanField()

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        names = _key_names(len(self.get_source_expressions()))
        template = f'(%(expressions)s) IN (SELECT {names} FROM "pgembedding_fused")'
        return super().as_sql(compiler, connection, template=template)


class Score(Func):
    """The score of a key."""

    output_field = FloatField()

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        names = _key_names(len(self.get_source_expressions()))
        template = f'(SELECT "score" FROM "pgembedding_fused" WHERE ({names}) = (%(expressions)s))'
        return super().as_sql(compiler, connection, template=template)


class HybridQuery(Query):
    """A query over the rows of two rankings, each of which selects the primary key alone."""

    meaning: Query
    words: Query
    k: int
    config: str | None

    def get_aggregation(self, using: str | None, aggregate_exprs: Any) -> Any:
        with _known_config(self.config):
            return super().get_aggregation(using, aggregate_exprs)

    def get_compiler(
        self, using: str | None = None, connection: BaseDatabaseWrapper | None = None, elide_empty: bool = True
    ) -> HybridCompiler:
        compiler = super().get_compiler(using, connection, elide_empty)
        compiler.__class__ = mixed(type(compiler), HybridCompiler)
        return cast(HybridCompiler, compiler)


class HybridCompiler(SQLCompiler):
    """Writes both rankings before the query, once each, so that the condition and the score can name them."""

    query: HybridQuery

    def execute_sql(self, *args: Any, **kwargs: Any) -> Any:
        with _known_config(self.query.config), get_engine(self.connection).scanning(self.connection):
            return super().execute_sql(*args, **kwargs)

    def as_sql(self, with_limits: bool = True, with_col_aliases: bool = False) -> Any:
        sql, params = super().as_sql(with_limits, with_col_aliases)
        explain = self.query.explain_info
        prefix = self.connection.ops.explain_query_prefix(explain.format, **explain.options) if explain else ""
        meaning, meant = self._rank_by_meaning()
        words, worded = self._compile(self.query.words)
        fused = FUSED.format(meaning=meaning, words=words, keys=self._keys, k=self.query.k)
        return f"{prefix} {_join_ctes(fused, sql.removeprefix(prefix).lstrip())}".lstrip(), (*meant, *worded, *params)

    @property
    def _keys(self) -> str:
        return _key_names(len(key_names(cast(Any, self.query.model))))

    def _rank_by_meaning(self) -> tuple[str, tuple[Any, ...]]:
        query = self.query.meaning
        scan = choose_scan(query, cast(Ranking, get_ranking(query)).search, self.connection)
        exact, params = self._compile(with_scan(query, EXACT))
        if not scan.index:
            return exact, params
        indexed, more = self._compile(with_scan(query, scan.going_on()))
        parts = {"keys": self._keys, "enough": query.high_mark, "exact": exact, "indexed": indexed}
        return COMPLETED.format(**parts), (*more, *params)

    def _compile(self, query: Query) -> tuple[str, tuple[Any, ...]]:
        query = query.clone()
        query.subquery = True
        sql, params = query.get_compiler(connection=self.connection).as_sql()
        return sql, tuple(params)


def _join_ctes(cte: str, sql: str) -> str:
    """Put a CTE before a statement, which may begin with WITH where the Query is not Django's own."""
    opening = OPENING.match(sql)
    if opening is None:
        return f"WITH {cte} {sql}"
    return f"{opening[0]}{cte}, {sql[opening.end() :]}"


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
