"""Collection and Document: named sets of texts with their vectors, in one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models, router, transaction
from django.utils.translation import gettext_lazy as _

from pgembedding_django.documents import building
from pgembedding_django.documents.contents import embed_all, gather, make_documents
from pgembedding_django.documents.querysets import DocumentQuerySet
from pgembedding_django.documents.rows import TEXTS, CollectionRow, DocumentRow, make_key
from pgembedding_django.documents.scope import INDEX_NAME

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

    from pgembedding_django.managers import EmbeddingManager
    from pgembedding_django.querysets import EmbeddingQuerySet
    from pgembedding_django.vectors import VectorLike

# make_key: the migration names it here.
__all__ = ["Collection", "Document", "make_key"]


class CollectionManager(models.Manager["Collection"]):
    """The manager of collections."""

    def get_by_natural_key(self, name: str) -> Collection:
        return self.get(name=name)

    def by_index(self) -> dict[str, str]:
        """Return the name of each collection by the name of its index, be there one or not."""
        return {INDEX_NAME.format(pk): name for pk, name in self.values_list("pk", "name")}


class Collection(CollectionRow):
    """
    A named set of documents whose vectors can be compared.

    embedder: the alias in PGEMBEDDING["EMBEDDERS"] for texts. dimensions: what the first vector has, unless given.
    distance: the one that nearest() ranks by, and that the index is made for. hnsw: the options of the index that
    stands, None without one.
    """

    objects: CollectionManager = CollectionManager()

    class Meta(CollectionRow.Meta):
        verbose_name: ClassVar[_StrOrPromise] = _("collection")
        verbose_name_plural: ClassVar[_StrOrPromise] = _("collections")

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
        documents = make_documents(Document, self, texts, metadatas, keys)
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


if TYPE_CHECKING:

    class _Manager(EmbeddingManager["Document"]):
        # As DocumentQuerySet's.
        def hybrid(
            self,
            text: str,
            k: int = 10,
            *,
            fields: Sequence[str] = ("content",),
            field: str | None = None,
            config: str | None = None,
            candidates: int | None = None,
            alias: str = "score",
            weights: Sequence[float] = (1, 1),
            meaning: models.Q | None = None,
            words: models.Q | None = None,
            fusion: models.Expression | None = None,
            details: bool = False,
            snippet: str | None = None,
            vector: VectorLike | None = None,
        ) -> EmbeddingQuerySet[Document]: ...

else:
    _Manager = models.Manager.from_queryset(DocumentQuerySet)


class DocumentManager(_Manager):
    """The manager of documents."""


class Document(DocumentRow):
    """
    A text of a collection, with its vector.

    key: unique within the collection. digest: of the text and the embedder that the vector was made by; "" where the
    vector came from elsewhere.
    """

    objects: DocumentManager = DocumentManager()
    if TYPE_CHECKING:
        collection: models.ForeignKey[Collection, Collection]

    class Meta(DocumentRow.Meta):
        verbose_name: ClassVar[_StrOrPromise] = _("document")
        verbose_name_plural: ClassVar[_StrOrPromise] = _("documents")

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As Django's; the vector must have the collection's dimensions, which the first one decides."""
        self.check_storable(kwargs.get("update_fields") or TEXTS)
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            if "embedding" in (kwargs.get("update_fields") or ["embedding"]):
                rows: DocumentQuerySet[Document] = DocumentQuerySet(type(self), using=using)
                rows.hold_dimensions([self])
            super().save(*args, **kwargs)
