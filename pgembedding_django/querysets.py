"""
EmbeddingQuerySet: nearest(), and bulk writes that name the bad row.

Longer than other modules: most of it tells the arguments of three searches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, TypeVar, cast

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.models import Expression, Model, Q
from django.db.models.sql import Query

from pgembedding_django.compat.queries import default_queryset
from pgembedding_django.embedding.querysets import StaleQuerySet
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.functions import Distance
from pgembedding_django.indexes import HnswIndex
from pgembedding_django.loading.load import check_vectors
from pgembedding_django.search.arguments import checked_k
from pgembedding_django.search.asking import ask
from pgembedding_django.search.batch import answer_each
from pgembedding_django.search.duplicates import Pair, find_pairs
from pgembedding_django.search.examples import Match, Questions
from pgembedding_django.search.explanation import explain_scan
from pgembedding_django.search.fields import embedding_field, find_field, find_measured_field
from pgembedding_django.search.hybrid import get_fusion, search_both
from pgembedding_django.search.questions import Question
from pgembedding_django.search.ranking import rank
from pgembedding_django.search.search import get_ranking
from pgembedding_django.vectors import VectorLike

__all__ = ["EmbeddingQuerySet", "every_row"]

M = TypeVar("M", bound=Model)


class EmbeddingQuerySet(StaleQuerySet[M]):
    """A queryset of a model that has an EmbeddingField."""

    #: What kind of index serves its rows.
    index_class: type[HnswIndex] = HnswIndex

    def nearest(
        self,
        query: Questions,
        k: int = 10,
        *,
        field: str | None = None,
        distance: str | type[Distance] | None = None,
        max_distance: float | None = None,
        exact: bool | None = None,
        ef_search: int | None = None,
        probes: int | None = None,
        alias: str = "distance",
        away_from: Questions | None = None,
        match: Match = "mean",
        similarity: str | None = None,
        min_similarity: float | None = None,
    ) -> Self:
        """
        Return the k nearest rows of this queryset, nearest first.

        query: a vector that the field accepts, a text (the field's embedder embeds it, which may cost money and
            happens now; "[1,2,3]" is a text here too), or a saved instance of the model (itself left out,
            but not the row of the same key in another database, unless a router's allow_relation() relates the two);
            or a list of several of these.
        k: how many rows, at least 1.
        field: the name of the EmbeddingField; needed only where the model has several. Of another model, behind a
            relation, as in filter(): "books__embedding" ranks authors by the nearest of their books, each author once,
            with that book's key in `nearest_pk`. A filter on the relation before it says which books count.
        distance: "l2", "cosine", "l1", "inner_product" or a distance class; what the field says unless given, then what
            its HnswIndex is made for, then "l2". By cosine, rows whose vector is all zeros are left out too.
        max_distance: rows farther than this are left out.
        exact: True reads every row that the filter keeps, False goes through the index where one can serve the query;
            None chooses by how many rows the planner expects the filter to keep, at the price of asking it.
            `explain_nearest()` tells which it is.
        ef_search: candidates that an index scan keeps (1 to 1000); pg_embedding fixes it in the index instead.
        probes: lists that a scan of an IvfflatIndex reads.
        alias: the attribute that holds the distance of each row, a float.
        away_from: what the rows shall be unlike, of one thing or several; itself left out.
        match: of several, "mean" ranks by their mean (by cosine the mean of their directions), moved away from that of
            away_from, and goes through the index; "best" by the distance to the nearest of them, reads every row, and
            leaves out those nearer to one of away_from.
        similarity: the attribute that holds 1 - distance, or 0 where that is negative; by cosine only.
        min_similarity: rows less similar than this are left out; by cosine only.
        Behind distinct("author"), the k nearest of those rows that are each the nearest of their author.
        Returns a sliced queryset, so `filter` before it; rows without a vector are left out, and where the field has no
            dimensions those of another length than the query's. Of what it found, `filter`
            keeps the rows within a distance, such as `filter(distance__lt=0.5)`, and nothing else.
        Raises ValueError for what is no vector of the field, and for every other argument out of bounds; TypeError if
            the model has no EmbeddingField, or the queryset is sliced or holds groups. NotSupportedError comes when the
            query runs, if the engine lacks the distance.
        """
        search = ask(
            self,
            query,
            k,
            field=field,
            distance=distance,
            max_distance=max_distance,
            exact=exact,
            ef_search=ef_search,
            probes=probes,
            alias=alias,
            away_from=away_from,
            match=match,
            similarity=similarity,
            min_similarity=min_similarity,
        )
        return rank(self, search)

    def nearest_each(
        self,
        queries: Iterable[Question],
        k: int = 10,
        *,
        field: str | None = None,
        distance: str | type[Distance] | None = None,
        max_distance: float | None = None,
        exact: bool | None = None,
        ef_search: int | None = None,
        probes: int | None = None,
        alias: str = "distance",
    ) -> list[list[M]]:
        """
        Return the k nearest rows to each of many queries: nearest(), asked in one statement.

        queries: vectors, texts or instances, as nearest() takes them, or an array of shape (n, d).
        k, field, distance, max_distance, exact, ef_search, probes, alias: as of nearest().
        Returns a list of rows for each query, in the order of the queries, each as complete as nearest()'s. A row that
            is near several queries is an instance in each, with its own distance.
        Two statements: the keys and distances of all answers, then the rows. Behind distinct() or values(), with an
            index of reduced precision and on SQLite, the queries are asked one after the other.
        Raises as nearest() does.
        """
        options = {"field": field, "distance": distance, "exact": exact, "ef_search": ef_search, "probes": probes}
        return answer_each(self, self.nearest, list(queries), checked_k(k), max_distance, alias, **options)

    async def anearest_each(self, queries: Iterable[Question], k: int = 10, **options: Any) -> list[list[M]]:
        return await sync_to_async(self.nearest_each)(queries, k, **options)

    def near_duplicates(
        self,
        max_distance: float,
        *,
        field: str | None = None,
        distance: str | type[Distance] | None = None,
        exact: bool | None = None,
        ef_search: int | None = None,
        batch_size: int = 256,
    ) -> Iterator[Pair[M]]:
        """
        Yield the pairs of rows that are no farther apart than a distance, each pair once.

        max_distance: 0 finds equal vectors. field, distance, exact, ef_search: as of nearest().
        batch_size: rows that are read, and whose neighbours are asked for, at once.
        Yields (one, other, distance), in the order of primary keys of the rows that were read; one has the lesser key.
            All of a row's neighbours are found as completely as by nearest(), through the index where that serves it.
        Remembers the keys of every pair; n rows alike are n * (n - 1) / 2 pairs.
        Raises as nearest() does; TypeError behind values() and distinct("author").
        """
        options: dict[str, Any] = {"distance": distance, "exact": exact, "ef_search": ef_search}
        return find_pairs(self, max_distance, field=field, batch_size=batch_size, **options)

    def hybrid(
        self,
        text: str,
        k: int = 10,
        *,
        fields: Sequence[str],
        field: str | None = None,
        config: str | None = None,
        candidates: int | None = None,
        alias: str = "score",
        weights: Sequence[float] = (1, 1),
        meaning: Q | None = None,
        words: Q | None = None,
        fusion: Expression | None = None,
        details: bool = False,
        snippet: str | None = None,
        vector: VectorLike | None = None,
    ) -> Self:
        """
        Return the k rows that best match a text by meaning and by words, the best first.

        text: embedded for nearest() (which may cost money and happens now), and searched for as websearch_to_tsquery
            reads it. fields: the names of the text fields whose words are searched, or of a SearchVectorField alone,
            which an index can serve. config: the text search configuration; that of a SearchVectorField is its own.
        field: as for nearest(). candidates: how many rows of each ranking count, 5 * k unless given.
        alias: the attribute that holds the score, the sum of weight / (60 + rank) over both rankings.
        weights: of the ranking by meaning and of that by words.
        meaning, words: which rows the one and the other ranking has, a Q each; all of this queryset unless given.
        fusion: an expression to rank by instead, of fields and of F("score"), F("meaning_rank"), F("distance"),
            F("words_rank") and F("words_score"); the greatest is the first.
        details: let each row have these four of the two rankings as attributes, None where that ranking has it not.
        vector: the meaning of the text where it is at hand, which is then not embedded.
        snippet: the name of a text field; each row has an extract of it as `snippet`, HTML with the words in <mark>.
        Returns a sliced queryset, one statement, before which the planner is asked where there is a filter. The ranking
            by meaning is as complete as nearest(); the words are searched in every row that the filter keeps.
        Raises as nearest() does, and ValueError if fields is empty or the text has a NUL character, and when it runs if
            there is no such config.
        Source: reciprocal rank fusion, see pgembedding_django.search.hybrid.
        """
        options: dict[str, Any] = {"fields": fields, "field": field, "config": config}
        options |= {"weights": weights, "meaning": meaning, "words": words, "fusion": fusion}
        options |= {"details": details, "snippet": snippet, "vector": vector}
        return cast(Self, search_both(self, text, k, candidates=candidates, alias=alias, **options))

    def explain_nearest(self) -> str:
        """
        Tell in words how nearest(), or the ranking by meaning of hybrid(), will run: by an index or exactly, and why.

        Asks the planner what it would make of it, and reads no row. Raises TypeError on any other queryset.
        """
        fusion = get_fusion(self.query)
        query = fusion.meaning if fusion else self.query
        if get_ranking(query) is None:
            raise TypeError("explain_nearest() explains a queryset that nearest() or hybrid() returned.")
        return explain_scan(query, connections[self.db])

    def bulk_create(self, objs: Iterable[M], *args: Any, **kwargs: Any) -> list[M]:
        """As Django's, but a vector that is wrong is named with its row before anything is written."""
        objs = list(objs)
        self._check_rows(objs)
        return super().bulk_create(objs, *args, **kwargs)

    def bulk_update(self, objs: Iterable[M], fields: Iterable[str], *args: Any, **kwargs: Any) -> int:
        """As Django's, but a vector that is wrong is named with its row before anything is written."""
        objs, fields = list(objs), list(fields)
        self._check_rows(objs, fields)
        return super().bulk_update(objs, fields, *args, **kwargs)

    def get_embedding_field(self, name: str | None) -> EmbeddingField:
        return embedding_field(self.model, name)

    def get_measured_field(self, name: str | None) -> EmbeddingField:
        """Return the field of a search, which may hold bits or sparse vectors."""
        return find_measured_field(self.model, name)

    def get_searched_field(self, name: str | None) -> EmbeddingField:
        """Return an embedding field that may have no dimensions."""
        return find_field(self.model, name)

    def _is_filtered(self) -> bool:
        """Tell whether a filter stands that an index of all rows does not hold already."""
        # A Query class of its own may add its condition when it runs.
        return bool(self.query.where) or type(self.query) is not Query

    def _check_rows(self, objs: list[M], names: list[str] | None = None) -> None:
        check_vectors(self.model, objs, names)


def every_row(model: type[M], using: str) -> EmbeddingQuerySet[M]:
    """Return all rows of a model, also those that its managers leave out, as its own kind of queryset."""
    kind = default_queryset(model)
    return (kind if issubclass(kind, EmbeddingQuerySet) else EmbeddingQuerySet)(model, using=using)
