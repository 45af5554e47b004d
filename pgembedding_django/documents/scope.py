"""One collection's share of the table: its field, its index, and the expression by which the two meet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Func, Index, Model, Q
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.engines import Engine, get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.fields.source import Source
from pgembedding_django.indexes import HnswIndex
from pgembedding_django.search.plans import get_scan
from pgembedding_django.vectors import Vector, to_vector

if TYPE_CHECKING:
    # Not at run time: a script imports this before Django is set up.
    from pgembedding_django.documents.rows import CollectionRow

__all__ = ["GIVEN", "INDEX_NAME", "CollectionField", "CollectionIndex", "DocumentSource", "WrittenField"]

#: With the primary key of its collection in it.
INDEX_NAME = "pgembedding_documents_{}_hnsw"

#: Unless given, and unless m needs more of it (pgvector 0.8 README, "Index Options").
EF_CONSTRUCTION = 16

#: Documents whose vectors came with them.
GIVEN = Q(embedding__isnull=False, digest="")


class DocumentSource(Source):
    """The content of documents, as one embedder sees it; a vector that was given stands for any content."""

    def __init__(self, model: type[Model], embedder: str) -> None:
        super().__init__(model, "embedding", ("content",), embedder, None)

    @property
    def digest_name(self) -> str:
        return "digest"

    @property
    def stale_condition(self) -> Q:
        return super().stale_condition & ~GIVEN


class CollectionField(EmbeddingField):
    """Document.embedding as one collection has it: of one length, with a distance, an index and an embedder."""

    collection: CollectionRow
    model: type[Model]

    def __init__(self, collection: CollectionRow, model: type[Model]) -> None:
        super().__init__(dimensions=collection.dimensions, embedder=collection.embedder)
        self.set_attributes_from_name("embedding")
        self.collection, self.model = collection, model
        self.distance = collection.distance

    @property
    def label(self) -> str:
        return f'{self.model.__name__}.{self.name} of collection "{self.collection.name}"'

    @property
    def digest_name(self) -> str:
        return self.text_source.digest_name

    @cached_property
    def text_source(self) -> Source:
        return DocumentSource(self.model, self.embedder)

    def get_indexes(self) -> Sequence[Index]:
        options = self.collection.hnsw
        return [] if options is None else [CollectionIndex(self.collection, **options)]

    def get_operand(self, name: str | None = None) -> Any:
        return Sized(F(name or self.name), output_field=self)


class WrittenField(CollectionField):
    """Document.embedding as embed() fills it: the first vector gives a collection its dimensions."""

    def to_vector(self, value: Any) -> Vector:
        if self.dimensions is None:
            size = to_vector(value, name=self.label).size
            self.collection.claim_dimensions(size, using=self.collection._state.db)
            self.dimensions = self.collection.dimensions
        return super().to_vector(value)


class Sized(Func):
    """A column of vectors of any length; under an index scan, written as the index of one length holds it."""

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        sql, params = compiler.compile(self.get_source_expressions()[0])
        if not get_scan(compiler).index:
            return sql, tuple(params)
        field = cast(EmbeddingField, self.output_field)
        return get_engine(connection).sized(sql, field.storage, cast(int, field.dimensions)), tuple(params)


class CollectionIndex(HnswIndex):
    """
    The partial index of one collection's vectors.

    options: as HnswIndex takes them, but ef_construction fits m unless given.
    """

    builder = "collection.create_hnsw_index"
    #: A search of the field reads this collection's rows alone.
    is_partial = False

    def __init__(self, collection: CollectionRow, **options: Any) -> None:
        if options.get("ef_construction") is None and isinstance(options.get("m"), int):
            options["ef_construction"] = max(EF_CONSTRUCTION, 2 * options["m"])
        super().__init__(
            fields=["embedding"],
            name=INDEX_NAME.format(collection.pk),
            distance=collection.distance,
            condition=Q(collection_id=collection.pk),
            **options,
        )
        self.collection = collection

    def get_field(self, model: type[Model]) -> EmbeddingField:
        return CollectionField(self.collection, model)

    def check_options(self, engine: Engine) -> None:
        """Raise ValueError for an option that the engine does not accept, before anything is dropped."""
        self._check_sql(engine)
        problem = engine.check_options({name: value for name, value in self.options.items() if value is not None})
        if problem:
            raise ValueError(f"HnswIndex.{problem}.")

    def get_expression(self, field: EmbeddingField, engine: Engine) -> tuple[str, str]:
        expression, opclass = super().get_expression(field, engine)
        sized = engine.sized("%s", field.storage, cast(int, field.dimensions))
        return expression.replace("%s", sized), opclass
