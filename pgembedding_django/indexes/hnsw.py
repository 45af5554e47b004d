"""HnswIndex: a graph of neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Unpack

from django.db.models import Index

from pgembedding_django.engines import Engine
from pgembedding_django.indexes.base import VectorIndex
from pgembedding_django.indexes.declaration import IndexArguments

__all__ = ["HnswIndex"]


class HnswIndex(VectorIndex):
    """
    Index an EmbeddingField for approximate search with HNSW.

    fields: the name of one EmbeddingField, SparseVectorField or BitField that has dimensions.
    distance: "l2", "cosine", "l1" or "inner_product", of bits "hamming" or "jaccard"; the field's own unless given.
        `nearest()` uses it unless it or the field says otherwise.
    m: links of a row in each layer. ef_construction: candidates kept while building. Larger is slower and finds more.
    ef_search: candidates that a search keeps; pgvector takes it with each query, so that a change needs no migration,
        and pg_embedding fixes it in the index.
    max_elements: only for a pg_embedding older than 0.3, which needs to know the table's size; ignored elsewhere.
    precision: "half" or "binary" indexes the vectors rounded to 16 bits or to their signs, in half or a tenth of the
        space; `nearest()` then ranks more candidates again by the exact distance. pgvector only.
    condition: a Q that limits the index to some rows.
    opclasses: pgvector's way to name the distance, such as ["vector_l2_ops"].
    expressions: pgvector's way to say precision="half": OpClass(Cast("embedding", HalfVectorField(dimensions=3)),
        name="halfvec_l2_ops").
    Building locks out writes unless done by AddIndexConcurrently.
    Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
    Small World graphs", 2018; pgvector 0.8 README, "HNSW"; pg_embedding 0.3.6 README.
    """

    suffix: str = "hnsw"
    kind: ClassVar[str] = "HnswIndex"
    max_name_length: int = Index.max_name_length - len(Index.suffix) + len(suffix)
    option_names: ClassVar[tuple[str, ...]] = ("m", "ef_construction", "ef_search", "max_elements")

    m: int | None
    ef_construction: int | None
    ef_search: int | None
    max_elements: int | None

    def __init__(
        self,
        *expressions: Any,
        m: int | None = None,
        ef_construction: int | None = None,
        ef_search: int | None = None,
        max_elements: int | None = None,
        **kwargs: Unpack[IndexArguments],
    ) -> None:
        super().__init__(*expressions, **kwargs)
        self.m, self.ef_construction = m, ef_construction
        self.ef_search, self.max_elements = ef_search, max_elements

    def memory_of_build(self, engine: Engine, opclass: str, dimensions: int, rows: Callable[[], int]) -> int:
        row = engine.graph_size(opclass, 1, dimensions, {"m": str(self.m)} if self.m is not None else {})
        return row and row * rows()
