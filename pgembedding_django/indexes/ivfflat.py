"""IvfflatIndex: lists of rows around centres."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Unpack

from django.db.models import Index

from pgembedding_django.engines import Engine
from pgembedding_django.engines.base import IndexOption
from pgembedding_django.indexes.base import VectorIndex
from pgembedding_django.indexes.declaration import IndexArguments

__all__ = ["IvfflatIndex"]


class IvfflatIndex(VectorIndex):
    """
    Index an EmbeddingField for approximate search with IVFFlat. pgvector only.

    fields, distance, precision, condition, opclasses, expressions: as for HnswIndex, but neither "l1" nor "jaccard",
        and no SparseVectorField.
    lists: into how many lists the rows are parted; 100 unless given.
    probes: how many of them a search reads, with each query, so that a change needs no migration; unless given, the
        square root of lists, and more behind a filter.
    It is built faster and is smaller than an HnswIndex, and finds less in the same time. The lists are made of the rows
    that are there, so build it when the table is full. Where a field has both, `nearest()` takes the HnswIndex.
    Building locks out writes unless done by AddIndexConcurrently.
    Source: pgvector 0.8 README, "IVFFlat".
    """

    suffix: str = "ivfflat"
    kind: ClassVar[str] = "IvfflatIndex"
    max_name_length: int = Index.max_name_length - len(Index.suffix) + len(suffix)
    option_names: ClassVar[tuple[str, ...]] = ("lists", "probes")

    lists: int | None
    probes: int | None

    def __init__(
        self, *expressions: Any, lists: int | None = None, probes: int | None = None, **kwargs: Unpack[IndexArguments]
    ) -> None:
        super().__init__(*expressions, **kwargs)
        self.lists, self.probes = lists, probes

    def memory_of_build(self, engine: Engine, opclass: str, dimensions: int, rows: Callable[[], int]) -> int:
        return engine.lists_memory(opclass, dimensions, {} if self.lists is None else {"lists": str(self.lists)})

    def get_options(self, engine: Engine) -> Mapping[str, IndexOption]:
        return engine.ivfflat_options
