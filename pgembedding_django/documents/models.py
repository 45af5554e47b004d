"""Collection and Document: named sets of texts with their vectors, in one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from django.db import connections, models, router, transaction
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from pgembedding_django.documents import building
from pgembedding_django.documents.contents import embed_all, gather, make_documents
from pgembedding_django.documents.filters import check_text
from pgembedding_django.documents.indexes import MetadataIndex
from pgembedding_django.documents.querysets import DocumentManager
from pgembedding_django.documents.scope import INDEX_NAME
from pgembedding_django.embedders import get_embedder
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.vectors import Vector

__all__ = ["Collection", "Document"]

#: Characters of a collection's name.
MAX_NAME = 255


class CollectionManager(models.Manager["Collection"]):
    """The manager of collections."""

    def get_by_natural_key(self, name: str) -> Collection:
        return self.get(name=name)

    def by_index(self) -> dict[str, str]:
        """Return the name of each collection by the name of its index, be there one or not."""
        return {INDEX_NAME.format(pk): name for pk, name in self.values_list("pk", "name")}


class Collection(models.Model):
    """
    A named set of documents whose vectors can be compared.

    embedder: the alias in PGEMBEDDING["EMBEDDERS"] for texts. dimensions: what the first vector has, unless given.
    distance: the one that nearest() ranks by, and that the index is made for. hnsw: the options of the index that
    stands, None without one.
    """

    class Distance(models.TextChoices):
        L2 = "l2", _("L2")
        COSINE = "cosine", _("cosine")
        L1 = "l1", _("L1")
        INNER_PRODUCT = "inner_product", _("inner product")

    name = models.CharField(_("name"), max_length=MAX_NAME, unique=True)
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    embedder = models.CharField(_("embedder"), max_length=100, default="default")
    dimensions = models.PositiveIntegerField(_("dimensions"), null=True, blank=True, editable=False)
    distance = models.CharField(_("distance"), max_length=20, choices=Distance.choices, default=Distance.L2)
    hnsw = models.JSONField(_("index options"), null=True, editable=False)
    created = models.DateTimeField(_("created"), auto_now_add=True)

    objects = CollectionManager()

    class Meta:
        verbose_name = _("collection")
        verbose_name_plural = _("collections")

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As Django's; of a stored collection, `dimensions` and `hnsw` only where update_fields names them."""
        # Other processes set these two, and an instance may be older than what they set.
        if not self._state.adding and kwargs.get("update_fields") is None:
            names = {field.attname for field in self._meta.concrete_fields if not field.primary_key}
            kwargs["update_fields"] = names - {"dimensions", "hnsw"} - self.get_deferred_fields()
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

    def add(self, documents: Iterable[Document]) -> int:
        """
        Store documents, all of them or none; one whose key the collection has takes the place of the older one.

        Of several with one key in a call, the last counts. Documents without a vector are embedded first, outside of
        any transaction of this call, which may cost money; one whose key and text are stored keeps its vector.
        Returns how many documents were stored. Takes as long in a large collection as in an empty one.
        Raises ValidationError for a vector of other dimensions or what Postgres cannot store, EmbeddingError if a text
        cannot be embedded; both name the document by its key.
        """
        gathered = gather(self, documents)
        embed_all(self, gathered)
        return self.store(gathered)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        keys: Iterable[str | None] | None = None,
    ) -> list[str]:
        """
        Store texts as documents, embedded by the collection's embedder; as add() does.

        metadatas, keys: one for each text; a new key is made where there is none. Returns the keys, in order.
        Raises ValueError if their number is another.
        """
        documents = make_documents(self, texts, metadatas, keys)
        self.add(documents)
        return [document.key for document in documents]

    def replace(self, documents: Iterable[Document]) -> int:
        """
        Let these documents be the whole content, as add() stores them; readers see the old or the new.

        Vectors may have other dimensions than before. The index is then built anew once the transaction is committed,
        while reads and writes go on; searches read all of the collection until it stands.
        Returns how many documents were stored.
        """
        gathered = gather(self, documents)
        embed_all(self, gathered)
        with transaction.atomic(using=self.alias):
            options = self._empty_for(gathered)
            stored = self.store(gathered)
            if options is not None:
                transaction.on_commit(partial(building.rebuild_index, self, self.alias, options), using=self.alias)
        return stored

    def store(self, documents: Sequence[Document]) -> int:
        """Store documents as they are, with unlike keys, in one transaction; a known key's row is updated."""
        self.documents.bulk_load(documents, batch_size=None, update_conflicts=True, unique_fields=["collection", "key"])
        return len(documents)

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

    def create_hnsw_index(
        self,
        max_elements: int = 10000,
        m: int = 8,
        ef_construction: int | None = None,
        ef_search: int = 16,
        concurrently: bool = True,
    ) -> None:
        """
        Build the collection's own index; one that stands with these options is kept, any other is replaced.

        ef_search: candidates that nearest() keeps in this collection unless told otherwise. max_elements: only for a
        pg_embedding older than 0.3. m, ef_construction: as HnswIndex takes them; ef_construction is 16, or 2 * m where
        that is more, unless given. More than 2,000 dimensions are indexed in half precision, and ranked again exactly.
        concurrently: let writes go on meanwhile; False locks out writes to all collections, and works in a transaction.
        Raises ValueError if the collection has no dimensions yet or more than an index holds, NotSupportedError inside
        a transaction, OperationalError while another connection builds the index.
        """
        options = {"max_elements": max_elements, "m": m, "ef_construction": ef_construction, "ef_search": ef_search}
        building.build_index(self, self.alias, options, concurrently=concurrently)

    def drop_hnsw_index(self, concurrently: bool = True) -> None:
        """Drop the collection's index, if there is one; searches read all of the collection from then on."""
        building.drop_index(self, self.alias, concurrently=concurrently)

    @property
    def alias(self) -> str:
        """The database that the documents are written to."""
        return router.db_for_write(Document, instance=self)

    def _empty_for(self, documents: Sequence[Document]) -> dict[str, Any] | None:
        """Delete all documents; return the options of the index, if it is to be built for other dimensions."""
        held = type(self)._base_manager.using(self.alias).select_for_update().get(pk=self.pk)
        self.dimensions, self.hnsw = held.dimensions, held.hnsw
        self.documents.all().delete()
        sizes = [len(document.embedding) for document in documents if document.embedding is not None]
        if not sizes or self.dimensions in sizes:
            return None
        options = self.hnsw
        if options is not None:
            building.check_index(self, self.alias, options, sizes[0])
        # The old index stays, and holds none of the new rows: dropping it would lock all collections.
        self.dimensions = self.hnsw = None
        self.save(using=self.alias, update_fields=["dimensions", "hnsw"])
        return options


def make_key() -> str:
    """Return a key that no other document has."""
    return str(uuid4())


class Document(models.Model):
    """
    A text of a collection, with its vector.

    key: unique within the collection. digest: of the text and the embedder that the vector was made by; "" where the
    vector came from elsewhere.
    """

    collection = models.ForeignKey(
        Collection, models.CASCADE, related_name="documents", db_index=False, verbose_name=_("collection")
    )
    key = models.CharField(_("key"), max_length=255, default=make_key)
    content = models.TextField(_("content"))
    metadata = models.JSONField(_("metadata"), default=dict, blank=True)
    embedding = EmbeddingField(verbose_name=_("embedding"), null=True)
    digest = models.CharField(_("digest"), max_length=64, blank=True, editable=False)
    created = models.DateTimeField(_("created"), auto_now_add=True)
    updated = models.DateTimeField(_("updated"), auto_now=True)

    objects = DocumentManager()

    class Meta:
        verbose_name = _("document")
        verbose_name_plural = _("documents")
        constraints = [
            models.UniqueConstraint(fields=["collection", "key"], name="pgembedding_documents_key"),
        ]
        indexes = [
            MetadataIndex(fields=["metadata"], name="pgembedding_documents_metadata", opclasses=["jsonb_path_ops"])
        ]

    def __str__(self) -> str:
        return Truncator(" ".join(self.content[:200].split())).chars(80) or self.key

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As Django's; the vector must have the collection's dimensions, which the first one decides."""
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            if "embedding" in (kwargs.get("update_fields") or ["embedding"]):
                type(self).objects.using(using).hold_dimensions([self])
            super().save(*args, **kwargs)
