"""One collection's share of the table: its field, its index, and the expression by which the two meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Func, Index, Model, Q
from django.db.models.sql.compiler import SQLCompiler

from pgembedding_django.engines import Engine, get_engine
from pgembedding_django.engines.base import Scan
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.indexes import HnswIndex

if TYPE_CHECKING:
    from pgembedding_django.documents.models import Collection

__all__ = ["INDEX_NAME", "CollectionField", "CollectionIndex"]

#: With the primary key of its collection in it.
INDEX_NAME = "pgembedding_documents_{}_hnsw"


class CollectionField(EmbeddingField):
    """Document.embedding as one collection has it: of one length, with a distance, an index and an embedder."""

    def __init__(self, collection: Collection, model: type[Model]) -> None:
        super().__init__(dimensions=collection.dimensions, embedder=collection.embedder)
        self.set_attributes_from_name("embedding")
        self.collection, self.model = collection, model
        self.scope, self.distance = Q(collection_id=collection.pk), collection.distance

    @property
    def label(self) -> str:
        return f'{self.model.__name__}.{self.name} of collection "{self.collection.name}"'

    @property
    def _has_cosine_index(self) -> bool:
        # Its index may come later, and could never find such a vector.
        return self.collection.distance == "cosine"

    def get_indexes(self) -> Sequence[Index]:
        options = self.collection.hnsw
        return [] if options is None else [CollectionIndex(self.collection, **options)]

    def get_operand(self) -> Any:
        return Sized(F(self.name), output_field=self)


class Sized(Func):
    """A column of vectors of any length; under an index scan, written as the index of one length holds it."""

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        sql, params = compiler.compile(self.get_source_expressions()[0])
        scan: Scan | None = getattr(compiler, "scan", None)
        if scan is None or not scan.index:
            return sql, params
        field = cast(EmbeddingField, self.output_field)
        return get_engine(connection).sized(sql, field.storage, cast(int, field.dimensions)), params


class CollectionIndex(HnswIndex):
    """
    The partial index of one collection's vectors.

    options: as HnswIndex takes them.
    """

    def __init__(self, collection: Collection, **options: Any) -> None:
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
