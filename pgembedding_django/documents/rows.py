"""Collection and Document as rows: their columns, and what each keeps to by itself."""

from __future__ import annotations

import json
from collections.abc import Collection as Names
from datetime import datetime
from typing import Any, ClassVar, cast
from uuid import uuid4

from django.core.exceptions import ValidationError
from django.db import connections, models, router
from django.db.models.expressions import Combinable
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from pgembedding_django.documents.indexes import MetadataIndex
from pgembedding_django.documents.storable import Unstorable, check_storable, check_text
from pgembedding_django.embedders import get_embedder
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.vectors import Vector, VectorLike

__all__ = ["TEXTS", "CollectionRow", "DocumentRow", "make_key"]

#: Characters of a collection's name, and of a document's key.
MAX_NAME, MAX_KEY = 255, 255

#: What Postgres may refuse to hold.
TEXTS = ("key", "content", "metadata")


class CollectionRow(models.Model):
    """The columns of a collection."""

    class Distance(models.TextChoices):
        L2 = "l2", _("L2")
        COSINE = "cosine", _("cosine")
        L1 = "l1", _("L1")
        INNER_PRODUCT = "inner_product", _("inner product")

    name: models.CharField[str, str] = models.CharField(_("name"), max_length=MAX_NAME, unique=True)
    metadata: models.JSONField[Any, Any] = models.JSONField(_("metadata"), default=dict, blank=True)
    embedder: models.CharField[str, str] = models.CharField(_("embedder"), max_length=100, default="default")
    dimensions: models.PositiveIntegerField[int | None, int | None] = models.PositiveIntegerField(
        _("dimensions"), null=True, blank=True, editable=False
    )
    distance: models.CharField[str, str] = models.CharField(
        _("distance"), max_length=20, choices=Distance.choices, default=Distance.L2
    )
    hnsw: models.JSONField[dict[str, Any] | None, dict[str, Any] | None] = models.JSONField(
        _("index options"), null=True, editable=False
    )
    created: models.DateTimeField[datetime, datetime] = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As Django's; of a stored collection, `dimensions` and `hnsw` only where update_fields names them."""
        # Other processes set these two, and an instance may be older than what they set.
        if not self._state.adding and kwargs.get("update_fields") is None:
            names = {field.attname for field in self._meta.concrete_fields if not field.primary_key}
            kwargs["update_fields"] = names - {"dimensions", "hnsw"} - self.get_deferred_fields()
        for name in {"name", "metadata", "embedder"}.intersection(kwargs.get("update_fields") or self.__dict__):
            check_storable(f"Collection.{name}", getattr(self, name))
        super().save(*args, **kwargs)

    @classmethod
    def check_name(cls, name: str) -> None:
        """Raise ValueError for a name that no collection can have."""
        check_text(name, "Collection.name")
        if not name.strip() or len(name) > MAX_NAME:
            raise ValueError(
                f"Collection.name must have from 1 to {MAX_NAME} characters, not all blank, got {len(name)}."
            )

    def embed_query(self, text: str) -> Vector:
        """Return the vector of a question, by the collection's embedder; may cost money."""
        return get_embedder(self.embedder).embed_query(text)

    def claim_dimensions(self, dimensions: int, *, using: str | None = None) -> None:
        """
        Give the collection its dimensions, if it has none, and hold those it has until the transaction ends.

        Two transactions that bring the first vectors take turns. `self.dimensions` is what counts afterwards.
        """
        connection = connections[using or self.alias]
        table = connection.ops.quote_name(self._meta.db_table)
        with connection.cursor() as cursor:
            # Locks the row only where it has none. Django has no FOR SHARE, which lets several writers in.
            cursor.execute(
                f"UPDATE {table} SET dimensions = %s WHERE id = %s AND dimensions IS NULL", [dimensions, self.pk]
            )
            cursor.execute(f"SELECT dimensions FROM {table} WHERE id = %s FOR SHARE", [self.pk])
            row = cursor.fetchone()
        if row is None:
            raise self.DoesNotExist(f'Collection "{self.name}" was deleted.')
        self.dimensions = row[0]

    @property
    def document_model(self) -> type[DocumentRow]:
        """The model of the documents."""
        return cast("type[DocumentRow]", self._meta.get_field("documents").related_model)

    @property
    def alias(self) -> str:
        """The database that the documents are written to."""
        return router.db_for_write(self.document_model, instance=self)


def make_key() -> str:
    """Return a key that no other document has."""
    return str(uuid4())


class DocumentRow(models.Model):
    """The columns of a document."""

    collection: models.ForeignKey[CollectionRow, CollectionRow] = models.ForeignKey(
        "pgembedding_documents.Collection",
        models.CASCADE,
        related_name="documents",
        db_index=False,
        verbose_name=_("collection"),
    )
    key: models.CharField[str, str] = models.CharField(_("key"), max_length=MAX_KEY, default=make_key)
    content: models.TextField[str, str] = models.TextField(_("content"))
    metadata: models.JSONField[Any, Any] = models.JSONField(_("metadata"), default=dict, blank=True)
    embedding: EmbeddingField[VectorLike | Combinable | None, Vector | None] = EmbeddingField(
        verbose_name=_("embedding"), null=True
    )
    digest: models.CharField[str, str] = models.CharField(_("digest"), max_length=64, blank=True, editable=False)
    created: models.DateTimeField[datetime, datetime] = models.DateTimeField(_("created"), auto_now_add=True)
    updated: models.DateTimeField[datetime, datetime] = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        abstract = True
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["collection", "key"], name="pgembedding_documents_key"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            MetadataIndex(fields=["metadata"], name="pgembedding_documents_metadata", opclasses=["jsonb_path_ops"])
        ]

    def __str__(self) -> str:
        return Truncator(" ".join(self.content[:200].split())).chars(80) or self.key

    def check_storable(self, names: Names[str] = TEXTS) -> None:
        """Raise ValidationError, by the document's key, for what Postgres would refuse of these fields."""
        key = str(self.key)
        if len(key) > MAX_KEY:
            message = f'Document.key must have at most {MAX_KEY} characters, got {len(key)} ("{key[:40]}...").'
            raise ValidationError(message, code="max_length")
        for name in TEXTS:
            if name in names:
                self._check_text(name, getattr(self, name), key)

    def _check_text(self, name: str, value: object, key: str) -> None:
        try:
            check_storable(f"Document {json.dumps(key, ensure_ascii=False)}: {name}", value)
        except Unstorable as error:
            raise ValidationError(str(error), code=error.code) from error
