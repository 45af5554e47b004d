"""EmbeddingQuerySet: nearest(), and bulk writes that name the bad row."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Self, TypeVar, cast

from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured, ValidationError
from django.db import connections
from django.db.models import F, Manager, Model, QuerySet
from django.db.models.lookups import LessThanOrEqual

from pgembedding_django import vectors
from pgembedding_django.bulk import BulkLoad
from pgembedding_django.embedders import EmbeddingError, get_embedder
from pgembedding_django.engines import MAX_EF_SEARCH
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.functions import Distance, VectorValue, get_distance
from pgembedding_django.hybrid import fuse_ranks, rank_by_words
from pgembedding_django.indexes import find_index
from pgembedding_django.scans import Candidates, DistanceLimit, NearestQuery, ScanGate, Search, choose_scan
from pgembedding_django.vectors import InvalidVector, Vector

__all__ = ["EmbeddingManager", "EmbeddingQuerySet"]

M = TypeVar("M", bound=Model)

#: The most rows that one call can ask for, an int4.
MAX_K = 2**31 - 1


class EmbeddingQuerySet(QuerySet[M]):
    """A queryset of a model that has an EmbeddingField."""

    def nearest(
        self,
        query: Any,
        k: int = 10,
        *,
        field: str | None = None,
        distance: str | type[Distance] | None = None,
        max_distance: float | None = None,
        exact: bool | None = None,
        ef_search: int | None = None,
        alias: str = "distance",
    ) -> Self:
        """
        Return the k nearest rows of this queryset, nearest first.

        query: a vector that the field accepts, a text (the field's embedder embeds it, which may cost money and
            happens now; "[1,2,3]" is a text here too), or a saved instance of the model (itself left out).
        k: how many rows, at least 1.
        field: the name of the EmbeddingField; needed only where the model has several.
        distance: "l2", "cosine", "l1", "inner_product" or a distance class; what the field's HnswIndex is made for
            unless given, "l2" where it has none.
        max_distance: rows farther than this are left out.
        exact: True reads every row that the filter keeps, False goes through the index; None chooses by how many rows
            the planner expects the filter to keep (`explain_nearest()` tells), at the price of asking it.
        ef_search: candidates that an index scan keeps (1 to 1000); pg_embedding fixes it in the index instead.
        alias: the attribute that holds the distance of each row, a float.
        Returns a sliced queryset, so `filter` before it and not after; rows without a vector are left out.
        Raises ValueError for what is no vector of the field, and for every other argument out of bounds; TypeError if
        the model has no EmbeddingField. NotSupportedError comes when the query runs, if the engine lacks the distance.
        """
        found = self._get_embedding_field(field)
        k = _checked_k(k)
        _check_flags(exact, ef_search)
        self._check_alias(alias)
        distance_class = self._get_distance(found, distance)
        vector = self._get_vector(found, query)
        _check_direction(found, distance_class, vector)
        index = find_index(found, distance_class.distance)
        if index is None and exact is not True:
            _warn_of_other_index(found, distance_class)
        search = Search(
            field=found,
            index=index,
            distance=distance_class,
            vector=vector,
            k=k,
            alias=alias,
            max_distance=None if max_distance is None else _checked_limit(max_distance),
            exact=exact,
            ef_search=ef_search,
            filtered=bool(self.query.where)
            or isinstance(query, self.model)
            or found.model is not self.model._meta.concrete_model,
        )
        rows = self.exclude(pk=query.pk) if isinstance(query, self.model) else self
        return rows._rank(search)

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
    ) -> Self:
        """
        Return the k rows that best match a text by meaning and by words, the best first.

        text: embedded for nearest() (which may cost money and happens now), and searched for as websearch_to_tsquery
            reads it. fields: the names of the fields whose words are searched. config: the text search configuration.
        field: as for nearest(). candidates: how many rows of each ranking count, 5 * k unless given.
        alias: the attribute that holds the score, the sum of 1 / (60 + rank) over both rankings.
        Returns a sliced queryset, one statement. Raises as nearest() does, and ValueError if fields is empty.
        Source: reciprocal rank fusion, see pgembedding_django.hybrid.
        """
        if not isinstance(text, str):
            raise ValueError(f"hybrid() searches by text, got {type(text).__name__}.")
        self._check_words(fields)
        k = _checked_k(k)
        self._check_alias(alias)
        wanted = 5 * k if candidates is None else candidates
        if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < k:
            raise ValueError(f"candidates must be an integer of at least k = {k}, got {candidates!r}.")
        by_meaning = self.nearest(text, wanted, field=field, exact=None if self.query.where else False)
        by_words = rank_by_words(self, text, list(fields), config)[:wanted]
        return cast(Self, fuse_ranks(self, [by_meaning, by_words], alias)[:k])

    def explain_nearest(self) -> str:
        """
        Tell in words how nearest() will run: through which index or exactly, and why.

        Asks the planner as running it would, and reads no row. Raises TypeError on any other queryset.
        """
        if not isinstance(self.query, NearestQuery):
            raise TypeError("explain_nearest() explains a queryset that nearest() returned.")
        scan = choose_scan(self.query, connections[self.db])
        return scan.explain()

    def _rank(self, search: Search) -> Self:
        # Bound to its field already: it is checked, and Django hashes it by its bytes instead of number by number.
        measured = search.distance(search.field.name, VectorValue(search.vector, output_field=search.field))
        measured.ranks = True
        conditions: list[Any] = [ScanGate(search.table), Candidates(self, search)]
        if search.max_distance is not None:
            conditions.append(DistanceLimit(LessThanOrEqual(measured, search.max_distance)))
        rows = self.annotate(**{search.alias: measured}).filter(*conditions, **{f"{search.field.name}__isnull": False})
        rows = rows.order_by(F(search.alias).asc())
        ranked = cast(NearestQuery, rows.query.chain(NearestQuery))
        ranked.search = search
        vars(rows)["_query"] = ranked  # The setter of `query` would turn values_list() into values().
        return rows[: search.k]

    def bulk_create(self, objs: Iterable[M], *args: Any, **kwargs: Any) -> list[M]:
        """As Django's, but a vector that is wrong is named with its row before anything is written."""
        objs = list(objs)
        self._check_rows(objs)
        return super().bulk_create(objs, *args, **kwargs)

    def bulk_update(self, objs: Iterable[M], fields: Iterable[str], *args: Any, **kwargs: Any) -> int:
        """As Django's, but a vector that is wrong is named with its row before anything is written."""
        objs = list(objs)
        fields = list(fields)
        self._check_rows(objs, fields)
        return super().bulk_update(objs, fields, *args, **kwargs)

    def bulk_load(
        self,
        objs: Iterable[M],
        *,
        batch_size: int | None = 10_000,
        update_conflicts: bool = False,
        unique_fields: Sequence[str] | None = None,
        progress: Callable[[int], object] | None = None,
        rebuild_indexes: bool = False,
    ) -> int:
        """
        Load instances through binary COPY, many times faster than bulk_create().

        objs: any iterable; a generator is read batch by batch.
        batch_size: rows of one transaction; None loads all in one.
        update_conflicts, unique_fields: update the rows that conflict in these fields, all columns but the primary key
            and auto_now_add.
        progress: called with the number of rows loaded so far, after each batch.
        rebuild_indexes: drop the model's HNSW indexes first and build them at the end, which is faster for a load as
            large as the table; all in one transaction, in which the table can be neither read nor written by others.
            Logged to "pgembedding_django".
        Returns how many rows were loaded. Sends no signals and sets no primary key on the instances.
        Raises ValidationError naming the row and the field of a value that cannot be written; nothing of its batch is
            stored, earlier batches are. NotSupportedError for a model with a parent's table, or a field of a type that
            only bulk_create() writes.
        """
        if batch_size is not None and (
            not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1
        ):
            raise ValueError(f"batch_size must be a positive integer or None, got {batch_size!r}.")
        if isinstance(unique_fields, str):
            raise ValueError(f"unique_fields must be a list of names, got {unique_fields!r}.")
        if update_conflicts != bool(unique_fields):
            raise ValueError("update_conflicts=True and unique_fields go together: which conflicts make an update?")
        self._for_write = True
        load = BulkLoad(self.model, self.db, unique_fields)
        run = load.run_without_indexes if rebuild_indexes else load.run
        return run(objs, batch_size, progress)

    def _get_embedding_field(self, name: str | None) -> EmbeddingField:
        label = self.model.__name__
        fields = {field.name: field for field in self.model._meta.get_fields() if isinstance(field, EmbeddingField)}
        if not fields:
            raise TypeError(f"{label} has no EmbeddingField, so nearest() has nothing to search.")
        if name is None and len(fields) > 1:
            raise ValueError(f"{label} has {len(fields)} embedding fields ({', '.join(fields)}). Name one with field=.")
        if name is not None and name not in fields:
            raise ValueError(f"field must name an EmbeddingField of {label} ({', '.join(fields)}), got {name!r}.")
        field = fields[name] if name is not None else next(iter(fields.values()))
        if field.dimensions is None:
            raise ValueError(
                f"{field.label} has no dimensions, so its rows cannot be compared. Give the field dimensions to use "
                "nearest()."
            )
        return field

    def _get_distance(self, field: EmbeddingField, distance: str | type[Distance] | None) -> type[Distance]:
        if distance is None:
            index = find_index(field)
            distance = index.distance if index else "l2"
        return get_distance(distance)

    def _get_vector(self, field: EmbeddingField, query: Any) -> Vector:
        if isinstance(query, Model):
            query = self._vector_of(field, query)
        elif isinstance(query, str):
            query = _embed(field, query)
        if query is None:
            raise ValueError(f"{field.label} cannot be compared with None. Pass a vector, a text or an instance.")
        return field.to_vector(query).copy()

    def _vector_of(self, field: EmbeddingField, instance: Model) -> Any:
        if not isinstance(instance, self.model):
            raise ValueError(f"query must be an instance of {self.model.__name__}, got {type(instance).__name__}.")
        vector = getattr(instance, field.attname)
        if vector is None:
            raise ValueError(f"{field.label} of the instance with pk {instance.pk!r} is None, so nothing is near it.")
        return vector

    def _check_words(self, fields: Sequence[str]) -> None:
        vectors_ = [field.name for field in self.model._meta.get_fields() if isinstance(field, EmbeddingField)]
        if (
            isinstance(fields, str)
            or not fields
            or not all(isinstance(name, str) and name not in vectors_ for name in fields)
        ):
            raise ValueError(f"fields must be a list of names of text fields, got {fields!r}.")

    def _check_alias(self, alias: str) -> None:
        if not isinstance(alias, str) or not alias.isidentifier() or "__" in alias:
            raise ValueError(f"alias must be a name for an attribute, got {alias!r}.")
        if alias in self.query.annotations:
            raise ValueError(f"alias {alias!r} is an annotation of this queryset already. Choose another.")
        try:
            self.model._meta.get_field(alias)
        except FieldDoesNotExist:
            if hasattr(self.model, alias):
                raise ValueError(f"alias {alias!r} is an attribute of {self.model.__name__}. Choose another.") from None
            return
        raise ValueError(f"alias {alias!r} is a field of {self.model.__name__}. Choose another.")

    def _check_rows(self, objs: list[M], names: list[str] | None = None) -> None:
        fields = [
            field
            for field in self.model._meta.concrete_fields
            if isinstance(field, EmbeddingField) and (names is None or field.name in names)
        ]
        for field in fields:
            for row, obj in enumerate(objs):
                value = getattr(obj, field.attname)
                if value is None or hasattr(value, "resolve_expression"):
                    continue
                try:
                    field.to_vector(value)
                except InvalidVector as error:
                    raise ValidationError(
                        f"Row {row} (pk {obj.pk!r}): {error.message}", error.code, error.params
                    ) from error


class EmbeddingManager(Manager.from_queryset(EmbeddingQuerySet)[M]):  # type: ignore[misc]
    """The manager that has `nearest()` and the other methods of EmbeddingQuerySet."""


def _checked_k(k: Any) -> int:
    if isinstance(k, bool) or not isinstance(k, numbers.Integral) or not 1 <= int(k) <= MAX_K:
        raise ValueError(f"k must be an integer from 1 to {MAX_K}, got {k!r}.")
    return int(k)


def _check_flags(exact: object, ef_search: object) -> None:
    if exact is not None and not isinstance(exact, bool):
        raise ValueError(f"exact must be True, False or None, got {exact!r}.")
    if ef_search is not None and (
        not isinstance(ef_search, int) or isinstance(ef_search, bool) or not 1 <= ef_search <= MAX_EF_SEARCH
    ):
        raise ValueError(f"ef_search must be an integer from 1 to {MAX_EF_SEARCH}, got {ef_search!r}.")


def _checked_limit(max_distance: Any) -> float:
    real = isinstance(max_distance, numbers.Real | Decimal) and not isinstance(max_distance, bool)
    if not real or max_distance != max_distance:
        raise ValueError(f"max_distance must be a number, got {max_distance!r}.")
    return float(max_distance)


def _check_direction(field: EmbeddingField, distance: type[Distance], vector: Vector) -> None:
    if distance.distance == "cosine" and vectors.is_zero(vector):
        raise ValueError(f"{field.label} has no cosine distance to a vector of zeros, which has no direction.")


def _warn_of_other_index(field: EmbeddingField, distance: type[Distance]) -> None:
    other = find_index(field)
    if other is not None:
        warnings.warn(
            f'{field.label} is indexed for distance "{other.distance}" by {other.name}, so nearest() by '
            f'"{distance.distance}" reads every row. Add an HnswIndex for it, or say exact=True.',
            RuntimeWarning,
            stacklevel=3,
        )


def _embed(field: EmbeddingField, text: str) -> Vector:
    try:
        return get_embedder(field.embedder).embed_query(text)
    except ImproperlyConfigured as error:
        raise ValueError(f"{field.label} cannot be searched by text: {error} Pass a vector, or set it.") from error
    except EmbeddingError as error:
        raise ValueError(f"{field.label} cannot be searched by this text: {error}") from error
