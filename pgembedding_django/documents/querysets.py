"""DocumentQuerySet: nearest() within one collection, and writes that keep to its dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, Self, TypeVar, cast

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.db.models.expressions import Col
from django.db.models.lookups import Exact
from django.db.models.sql.where import AND, WhereNode

from pgembedding_django import vectors
from pgembedding_django.compat.rows import hint_of
from pgembedding_django.documents.rows import TEXTS, CollectionRow, DocumentRow
from pgembedding_django.documents.scope import GIVEN, CollectionField, CollectionIndex, DocumentSource, WrittenField
from pgembedding_django.documents.storable import check_storable
from pgembedding_django.embedding import EmbedReport, EmbedRun
from pgembedding_django.embedding.settlement import MAX_FAILURES
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.loading.progress import Progress
from pgembedding_django.querysets import EmbeddingQuerySet
from pgembedding_django.vectors import InvalidVector

__all__ = ["DocumentQuerySet"]

D = TypeVar("D", bound=DocumentRow)


class DocumentQuerySet(EmbeddingQuerySet[D]):
    """
    The documents of one collection: `collection.documents`, or `filter(collection=...)`.

    nearest() takes dimensions, distance, index and embedder from the collection. What is written keeps to the
    collection's dimensions, which its first vector decides; a row without a collection gets the queryset's own.
    stale() and embed() serve documents of several collections too, each by the embedder of its own.
    """

    index_class: type[CollectionIndex] = CollectionIndex

    def hybrid(self, text: str, k: int = 10, *, fields: Sequence[str] = ("content",), **options: Any) -> Self:
        """As EmbeddingQuerySet's, by the words of the content unless other fields are named."""
        return super().hybrid(text, k, fields=fields, **options)

    def bulk_create(self, objs: Iterable[D], *args: Any, **kwargs: Any) -> list[D]:
        """As EmbeddingQuerySet's, all in one transaction."""
        self._for_write = True
        with transaction.atomic(using=self.db):
            return super().bulk_create(objs, *args, **kwargs)

    def update(self, **values: Any) -> int:
        """As Django's, but a vector must be one of the collection."""
        vector = values.get("embedding")
        if vector is not None and not hasattr(vector, "resolve_expression"):
            values["embedding"] = self.get_embedding_field(None).to_vector(vector)
        for name in values.keys() & set(TEXTS):
            check_storable(f"Document.{name}", values[name])
        return super().update(**values)

    def stale(self, *, field: str | None = None) -> Self:
        """As EmbeddingQuerySet's, by the content; a vector that was given is never stale."""
        self._check_field(field)
        used = self.exclude(GIVEN).order_by().values_list("collection__embedder", flat=True).distinct()
        conditions = [
            Q(collection__embedder=alias) & DocumentSource(self.model, alias).stale_condition for alias in used
        ]
        return self.filter(Q(*conditions, _connector=Q.OR)) if conditions else self.none()

    def embed(
        self,
        *,
        field: str | None = None,
        limit: int | None = None,
        all: bool = False,
        progress: Progress | None = None,
        **options: Any,
    ) -> EmbedReport:
        """As EmbeddingQuerySet's, one collection after the other; all=True replaces vectors that were given, too."""
        self._for_write = True
        total = EmbedReport()
        for rows, target in self.embed_targets(field, all=all):
            left = limit - total.rows if limit and total.rows else limit
            if left == 0 and total.rows:
                break
            show = progress and partial(_show, progress, total.rows)
            _add(total, EmbedRun(rows, target, limit=left, all=all, progress=show, **options).run())
        return total

    def embed_targets(self, field: str | None = None, *, all: bool = False) -> Sequence[tuple[Self, EmbeddingField]]:
        self._check_field(field)
        model = cast("type[CollectionRow]", self.model._meta.get_field("collection").related_model)
        rows = (self if all else self.stale()).order_by()
        collections = model._base_manager.using(self.db).filter(pk__in=rows.values("collection"))
        return [(self.filter(collection=each), WrittenField(each, self.model)) for each in collections.order_by("pk")]

    def hold_dimensions(self, documents: list[D]) -> None:
        """
        Give each collection its dimensions with its first vector, and refuse vectors of any other length.

        Raises ValidationError naming the document and the collection.
        """
        fields: dict[int, CollectionField] = {}
        for document in documents:
            if document.collection_id is None:
                document.collection = self._get_collection()
            vector = document.embedding
            if vector is None or hasattr(vector, "resolve_expression"):
                continue
            try:
                if document.collection_id not in fields:
                    fields[document.collection_id] = self._claim(document)
                fields[document.collection_id].to_vector(vector)
            except InvalidVector as error:
                raise _wrong_vector(document, error) from error

    def _claim(self, document: DocumentRow) -> CollectionField:
        self._for_write = True
        collection = document.collection
        collection.claim_dimensions(vectors.to_vector(document.embedding).size, using=self.db)
        return CollectionField(collection, self.model)

    def _check_rows(self, objs: list[D], names: list[str] | None = None) -> None:
        super()._check_rows(objs, names)
        for document in objs:
            document.check_storable(TEXTS if names is None else names)
        if names is None or "embedding" in names:
            self.hold_dimensions(objs)

    def _prepare_load(self, objs: list[D]) -> None:
        self.hold_dimensions(objs)

    def get_embedding_field(self, name: str | None) -> EmbeddingField:
        self._check_field(name)
        return CollectionField(self._get_collection(), self.model)

    get_searched_field = get_measured_field = get_embedding_field

    def _check_field(self, name: str | None) -> None:
        if name not in (None, "embedding"):
            raise ValueError(f"field must name an EmbeddingField of Document (embedding), got {name!r}.")

    def _is_filtered(self) -> bool:
        return any(_collection_of(condition) is None for condition in _conditions(self.query.where))

    def _get_collection(self) -> CollectionRow:
        """Return the collection that a condition limits this queryset to; read only where no instance is at hand."""
        key = next(filter(None, map(_collection_of, _conditions(self.query.where))), None)
        if key is None:
            raise ValueError(
                "Document.embedding can be compared within one collection only, which a condition collection=... must "
                "name. Search collection.documents or filter(collection=collection), not by collection__name or "
                "collection__in."
            )
        held = hint_of(self)
        model = cast("type[CollectionRow]", self.model._meta.get_field("collection").related_model)
        if not isinstance(held, model) or held.pk != key:
            return model._default_manager.using(self.db).get(pk=key)
        if held.dimensions is None:
            held.refresh_from_db(fields=["dimensions", "hnsw"])
        return held


def _show(progress: Progress, before: int, done: int) -> None:
    progress(before + done)


def _add(total: EmbedReport, report: EmbedReport) -> None:
    for each in fields(EmbedReport):
        setattr(total, each.name, getattr(total, each.name) + getattr(report, each.name))
    del total.failures[MAX_FAILURES:]


def _conditions(where: WhereNode) -> Iterator[Any]:
    """Yield the conditions that every row fulfils, as far apart as they can be told."""
    if where.negated or (where.connector != AND and len(where.children) > 1):
        yield where
        return
    for child in where.children:
        if isinstance(child, WhereNode):
            yield from _conditions(child)
        else:
            yield child


def _collection_of(condition: Any) -> Any:
    """Return the primary key that a condition "collection = ..." names, None for any other condition."""
    if not isinstance(condition, Exact) or not isinstance(condition.lhs, Col):
        return None
    named = condition.lhs.target.name == "collection" and not hasattr(condition.rhs, "resolve_expression")
    return condition.rhs if named else None


def _wrong_vector(document: DocumentRow, error: InvalidVector) -> ValidationError:
    remedy = ""
    if error.code == "dimensions":
        remedy = " One model embeds all of a collection: use it, or replace the content with collection.replace()."
    return ValidationError(f'Document "{document.key}": {error}{remedy}', code=error.code)
