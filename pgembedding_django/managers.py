"""EmbeddingManager: the methods of EmbeddingQuerySet on a model's manager, with the types that checkers follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from django.db.models import Manager

from pgembedding_django.querysets import EmbeddingQuerySet

__all__ = ["EmbeddingManager"]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Self, overload

    import numpy as np
    from django.db.models import Expression, Model, Prefetch, Q
    from django.db.models.expressions import Combinable
    from numpy.typing import NDArray
    from typing_extensions import TypeVar

    from pgembedding_django.embedding import EmbedReport
    from pgembedding_django.functions import Distance
    from pgembedding_django.loading.progress import Progress
    from pgembedding_django.search.duplicates import Pair
    from pgembedding_django.search.examples import Match, Questions
    from pgembedding_django.search.questions import Question
    from pgembedding_django.vectors import VectorLike

    class _Unbound(Model):  # noqa: DJ008
        """Stands for the model of `EmbeddingManager()`, which says none, until a class is asked for its manager."""

    M = TypeVar("M", bound=Model, covariant=True, default=_Unbound)
    Owner = TypeVar("Owner", bound=Model)

    class _Base(Manager[M]):
        # The same declarations as EmbeddingQuerySet's and Django's own; a test compares them.
        def get_queryset(self) -> EmbeddingQuerySet[M]: ...
        def all(self) -> EmbeddingQuerySet[M]: ...
        def none(self) -> EmbeddingQuerySet[M]: ...
        def filter(self, *args: Any, **kwargs: Any) -> EmbeddingQuerySet[M]: ...
        def exclude(self, *args: Any, **kwargs: Any) -> EmbeddingQuerySet[M]: ...
        def complex_filter(self, filter_obj: Any) -> EmbeddingQuerySet[M]: ...
        def select_for_update(
            self, nowait: bool = ..., skip_locked: bool = ..., of: Sequence[str] = ..., no_key: bool = ...
        ) -> EmbeddingQuerySet[M]: ...
        def select_related(self, *fields: Literal[None] | str) -> EmbeddingQuerySet[M]: ...
        def prefetch_related(self, *lookups: str | Prefetch[Any, Any, Any] | None) -> EmbeddingQuerySet[M]: ...
        def annotate(self, *args: Any, **kwargs: Any) -> EmbeddingQuerySet[M]: ...
        def alias(self, *args: Any, **kwargs: Any) -> EmbeddingQuerySet[M]: ...
        def order_by(self, *field_names: str | Combinable) -> EmbeddingQuerySet[M]: ...
        def distinct(self, *field_names: str) -> EmbeddingQuerySet[M]: ...
        def extra(self, *args: Any, **kwargs: Any) -> EmbeddingQuerySet[M]: ...
        def reverse(self) -> EmbeddingQuerySet[M]: ...
        def defer(self, *fields: str | None) -> EmbeddingQuerySet[M]: ...
        def only(self, *fields: str) -> EmbeddingQuerySet[M]: ...
        def using(self, alias: str | None) -> EmbeddingQuerySet[M]: ...

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
        ) -> EmbeddingQuerySet[M]: ...
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
        ) -> list[list[M]]: ...
        async def anearest_each(self, queries: Iterable[Question], k: int = 10, **options: Any) -> list[list[M]]: ...
        def near_duplicates(
            self,
            max_distance: float,
            *,
            field: str | None = None,
            distance: str | type[Distance] | None = None,
            exact: bool | None = None,
            ef_search: int | None = None,
            batch_size: int = 256,
        ) -> Iterator[Pair[M]]: ...
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
        ) -> EmbeddingQuerySet[M]: ...
        def stale(self, *, field: str | None = None) -> EmbeddingQuerySet[M]: ...
        async def astale(self, *, field: str | None = None) -> EmbeddingQuerySet[M]: ...
        def embed(
            self,
            *,
            field: str | None = None,
            batch_size: int | None = None,
            concurrency: int | None = None,
            limit: int | None = None,
            all: bool = False,
            enqueue: bool = False,
            progress: Progress | None = None,
        ) -> EmbedReport: ...
        async def aembed(self, **options: Any) -> EmbedReport: ...
        def bulk_load(
            self,
            objs: Iterable[M],
            *,
            batch_size: int | None = 10_000,
            update_conflicts: bool = False,
            unique_fields: Sequence[str] | None = None,
            update_fields: Sequence[str] | None = None,
            progress: Progress | None = None,
            rebuild_indexes: bool = False,
            raw: bool = False,
        ) -> int: ...
        async def abulk_load(self, objs: Iterable[M], **options: Any) -> int: ...
        def bulk_load_arrays(
            self,
            matrix: NDArray[Any],
            *,
            field: str | None = None,
            batch_size: int | None = 10_000,
            progress: Progress | None = None,
            rebuild_indexes: bool = False,
            **columns: Sequence[Any] | NDArray[Any],
        ) -> int: ...
        async def abulk_load_arrays(self, matrix: NDArray[Any], **options: Any) -> int: ...
        def vectors(self, *, field: str | None = None) -> tuple[list[Any], NDArray[np.float32]]: ...
        async def avectors(self, *, field: str | None = None) -> tuple[list[Any], NDArray[np.float32]]: ...
        def iter_vectors(
            self, chunk_size: int = 10_000, *, field: str | None = None
        ) -> Iterator[tuple[list[Any], NDArray[np.float32]]]: ...

else:
    _Base = Manager.from_queryset(EmbeddingQuerySet, "_Base")
    M = Any


class EmbeddingManager(_Base[M]):
    """The manager that has `nearest()` and the other methods of EmbeddingQuerySet."""

    if TYPE_CHECKING:

        @overload
        def __get__(self: EmbeddingManager[_Unbound], instance: None, cls: type[Owner]) -> EmbeddingManager[Owner]: ...
        @overload
        def __get__(self, instance: Any, cls: type[Any] | None = None) -> Self: ...
        def __get__(self, instance: Any, cls: type[Any] | None = None) -> Any: ...
