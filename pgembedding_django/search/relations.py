"""nearest() across a relation: each row is ranked by the nearest of the rows at the end of a path."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar, cast

from django.core.exceptions import FieldError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, ManyToOneRel, Model, Q, QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.db.models.lookups import LessThanOrEqual
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.compat.queries import column_of, key_names, multiple_joins
from pgembedding_django.engines.scan import Scan
from pgembedding_django.fields import EmbeddingField, MeasuredField
from pgembedding_django.fields.sized import HasLength, SizedField
from pgembedding_django.functions import IndexedDistance
from pgembedding_django.search.conditions import RankingDistance, Scanned
from pgembedding_django.search.direction import HasDirection
from pgembedding_django.search.examples import best_distance, ranking_distance
from pgembedding_django.search.plans import get_scan
from pgembedding_django.search.search import ESTIMATE, Ranking, Search, set_ranking

__all__ = [
    "NEAREST_KEY",
    "NearestOfEach",
    "field_at",
    "is_every_child",
    "is_path",
    "join_path",
    "nearest_key",
    "once_each",
    "sees_all",
]

Rows = TypeVar("Rows", bound=QuerySet[Any])

#: The attribute that holds the primary key of the nearest row at the end of the path.
NEAREST_KEY = "nearest_pk"

#: How the columns of the pairs begin, which stand beside what a user has annotated.
PREFIX = "pgembedding_"
DISTANCE = f"{PREFIX}distance"

#: In: pairs of a parent and a child, with their distance. Out: the keys of the k nearest parents, each with its nearest
#: child. Nothing comes out where fewer than `enough` pairs went in, so that the next scan runs.
NEAREST = (
    "SELECT {parent}, {child} FROM (SELECT {parent}, {child}, "
    f'"{DISTANCE}", row_number() OVER (PARTITION BY {{parent}} ORDER BY "{DISTANCE}", {{child}}) AS "place", '
    'count(*) OVER () AS "found" FROM ({pairs}) AS "pairs") AS "placed" '
    f'WHERE "place" = 1 AND "found" >= {{enough}} ORDER BY "{DISTANCE}", {{parent}} LIMIT {{k}}'
)


def is_path(name: str | None) -> bool:
    """Tell whether field= names a field of another model."""
    return isinstance(name, str) and LOOKUP_SEP in name


def field_at(rows: QuerySet[Any], path: str) -> EmbeddingField:
    """
    Return the field at the end of a path, as F() reads it in a query of these rows.

    Raises ValueError if there is none, TypeError if the rows cannot be joined with those that have it.
    """
    _check_joinable(rows)
    try:
        field = column_of(rows.alias(**{path: F(path)}).query.annotations[path])
    except FieldError as error:
        raise ValueError(f"field must lead from {rows.model.__name__} to an EmbeddingField, got {path!r}.") from error
    if not isinstance(field, MeasuredField):
        raise ValueError(f"field must lead from {rows.model.__name__} to an EmbeddingField, got {path!r}.")
    return cast(EmbeddingField, field)


def _check_joinable(rows: QuerySet[Any]) -> None:
    """Refuse what depends on all rows of the relation, of which the ranking joins one each."""
    if sees_all(rows.query):
        raise TypeError(
            "nearest() across a relation cannot stand behind an aggregate or a window, which would see one row of "
            "each. Rank filter(pk__in=rows.values('pk'))."
        )
    if rows.query.distinct_fields:
        raise TypeError("nearest() across a relation returns each row once, and takes no distinct() of fields.")


def sees_all(query: Query) -> bool:
    """Tell whether a query counts rows that it joins, in an aggregate or a window."""
    parts: list[Any] = [query.where, *query.annotations.values()]
    return query.group_by is not None or any(part.contains_over_clause for part in parts)


def is_every_child(model: type[Model], path: str) -> bool:
    """Tell whether each row at the end of a path belongs to some row of a model, so that no join leaves one out."""
    name, _, rest = path.partition(LOOKUP_SEP)
    relations = (each for each in model._meta.get_fields() if isinstance(each, ManyToOneRel))
    return LOOKUP_SEP not in rest and any(each.name == name and not each.field.null for each in relations)


def join_path(rows: Rows, search: Search) -> Rows:
    """
    Join rows with those at the end of a path, over the joins that a filter on them has made already.

    So a filter says which of them count, as before annotate(Min("books__price")).
    """
    keys = _child_keys(search)
    joined = rows.alias(**{name: F(name) for name in (search.path, *keys)})
    for own in search.own_keys:
        joined = joined.filter(~Q(**dict(zip(keys, own if len(keys) > 1 else (own,), strict=True))))
    if search.avoids:
        joined = joined.filter(LessThanOrEqual(ranking_distance(search), best_distance(search, search.avoids)))
    if isinstance(search.field, SizedField):
        joined = joined.filter(HasLength(search.field, search.path))
    # One join is of one row each, once the nearest is chosen; others repeat it.
    joined.query.distinct = multiple_joins(joined.query) > 1
    return joined


def once_each(rows: Rows, meaning: Query) -> Rows:
    """
    Return the rows of a hybrid search across a relation, each once, though a filter joined rows that repeat them.

    Raises TypeError where the ranking by meaning would need DISTINCT, which cannot stand in one of its two parts.
    """
    if meaning.distinct:
        raise TypeError(
            "hybrid() across a relation can stand behind a filter on that relation alone. "
            "Search filter(pk__in=rows.values('pk'))."
        )
    if not multiple_joins(rows.query):
        return rows
    every: Any = type(rows)(rows.model, using=rows.db)
    return cast(Rows, every.filter(pk__in=rows.order_by().values("pk")))


def nearest_key(search: Search) -> F:
    """Return what `row.nearest_pk` reads."""
    return F(f"{_prefix(search)}{LOOKUP_SEP}pk")


def _child_keys(search: Search) -> list[str]:
    return [f"{_prefix(search)}{LOOKUP_SEP}{name}" for name in key_names(search.field.model)]


def _prefix(search: Search) -> str:
    return search.path.rpartition(LOOKUP_SEP)[0]


class NearestOfEach(Scanned):
    """
    WHERE condition of nearest() across a relation: `(parent, child) IN (the k nearest parents, each with its nearest)`.

    Exact scan: among all pairs that the filter keeps. Index scan: among the pairs that it lists.
    """

    def __init__(self, rows: Query, search: Search) -> None:
        super().__init__(rows, search)
        self.parent: list[str] = key_names(cast(Any, rows.model))
        self.child: list[str] = _child_keys(search)
        self.keys: list[Any] = [F(name) for name in (*self.parent, *self.child)]

    def get_source_expressions(self) -> list[Any]:
        return [self.column, *self.keys]

    def set_source_expressions(self, exprs: Any) -> None:
        self.column, *self.keys = exprs

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> Any:
        scan = get_scan(compiler)
        if scan is ESTIMATE:
            column, column_params = compiler.compile(self.column)
            return f"{column} IS NOT NULL", tuple(column_params)
        pairs, params = self._list_pairs(scan, connection)
        names = {"parent": _names("parent", self.parent), "child": _names("child", self.child)}
        nearest = NEAREST.format(**names, pairs=pairs, enough=scan.enough, k=self.search.k)
        key, key_params = zip(*map(compiler.compile, self.keys), strict=True)
        return f"({', '.join(key)}) IN ({nearest})", (*chain.from_iterable(key_params), *params)

    def _list_pairs(self, scan: Scan, connection: BaseDatabaseWrapper) -> Any:
        search = self.search
        rows: QuerySet[Any] = QuerySet(self.rows.model, self.rows.clone())
        rows.query.distinct, rows.query.select_for_update = False, False
        found = rows.filter(Scanned(self.rows, search))
        if search.distance.distance == "cosine":
            found = found.filter(HasDirection(search))
        keys = {
            **{f"{PREFIX}parent{number}": F(name) for number, name in enumerate(self.parent)},
            **{f"{PREFIX}child{number}": F(name) for number, name in enumerate(self.child)},
        }
        pairs = found.order_by().values(**keys, **{DISTANCE: RankingDistance(ranking_distance(search))})
        if scan.index:
            reduced = IndexedDistance(search.operand, search.field, search.vector, search.distance, scan.precision)
            pairs = pairs.order_by(reduced if scan.candidates else DISTANCE)[: scan.listed]
        set_ranking(pairs.query, Ranking(search, replace(scan, candidates=0, listed=0, enough=0)))
        pairs.query.subquery = True
        return pairs.query.get_compiler(connection=connection).as_sql()


def _names(kind: str, names: list[str]) -> str:
    return ", ".join(f'"{PREFIX}{kind}{number}"' for number in range(len(names)))
