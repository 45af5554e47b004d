"""The queryset and the manager of passages, whose embed() splits first what has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.db.models import Model, QuerySet

from pgembedding_django.compat.rows import hint_of
from pgembedding_django.embedding import EmbedRun
from pgembedding_django.loading.progress import Progress
from pgembedding_django.managers import EmbeddingManager
from pgembedding_django.passages.parents import Parents, parents_of
from pgembedding_django.passages.run import PassageReport, SplitRun
from pgembedding_django.querysets import EmbeddingQuerySet
from pgembedding_django.search.rankable import check_unsliced

__all__ = ["PassageManager", "PassageQuerySet"]

M = TypeVar("M", bound=Model)


class PassageQuerySet(EmbeddingQuerySet[M]):
    """A queryset of passages."""

    def stale_parents(self) -> QuerySet[Any]:
        """
        Return the rows whose passages are not those of their text: it changed, or how it is split, or it has none yet.

        Looks among
            ArticlePassage.objects              every article
            article.passages                    that article
            ArticlePassage.objects.filter(...)  the articles of those passages
        Compares digests in SQL, so that no way to change a text is missed.
        """
        parents = parents_of(cast(Any, self.model))
        return parents.stale(self._parents(parents))

    def embed(
        self,
        *,
        parents: QuerySet[Any] | None = None,
        field: str | None = None,
        batch_size: int | None = None,
        concurrency: int | None = None,
        limit: int | None = None,
        all: bool = False,
        enqueue: bool = False,
        progress: Progress | None = None,
    ) -> PassageReport:
        """
        Split the texts that changed, embed their new passages, and those that are stale.

        parents: split these rows, if their text has changed, in place of those that `stale_parents()` tells of.
        The other arguments are as of EmbeddingQuerySet.embed(); a text is split whole, so the last one may exceed
        `limit`.
        A passage whose text is still there keeps its vector; those whose text is gone are deleted when the new ones
        have their vectors. Each batch of texts is committed as it is answered, and a run that ends early is resumed by
        the next. A row that is edited meanwhile is left as it is, and stale.
        Returns what was done; raises as EmbeddingQuerySet.embed() does.
        """
        check_unsliced(self, "embed()", "Say limit=, or filter(pk__in=[...]).")
        self._for_write = True
        options: dict[str, Any] = {"batch_size": batch_size, "concurrency": concurrency, "progress": progress}
        run = SplitRun(*self._declared(parents), limit=limit, **options)
        rest: dict[str, Any] = {"field": field, "all": all, **options}
        if enqueue:
            report = PassageReport()
            report.add(super().embed(enqueue=True, limit=limit, **rest))
            report.parents = run.enqueue()
            return report
        report = run.run()
        left = None if limit is None else limit - report.rows
        if left is None or left > 0:
            report.add(super().embed(limit=left, **rest))
        return report

    def embed_runs(self, field: str | None = None, *, all: bool = False, **sizes: Any) -> list[Any]:
        """Return what embeds these rows, one after the other: the texts that changed, then the stale passages."""
        split: Any = SplitRun(*self._declared(None), **sizes)
        stale = [EmbedRun(rows, target, all=all, **sizes) for rows, target in self.embed_targets(field, all=all)]
        return [split, *stale]

    def _declared(self, rows: QuerySet[Any] | None) -> tuple[Parents, QuerySet[Any]]:
        parents = parents_of(cast(Any, self.model))
        return parents, self._parents(parents) if rows is None else rows.using(self.db)

    def _parents(self, parents: Parents) -> QuerySet[Any]:
        rows = parents.rows(self.db)
        held = hint_of(self)
        if isinstance(held, parents.model):
            return rows.filter(pk=held.pk)
        if not self._is_filtered():
            return rows
        return rows.filter(**{f"{parents.key.target_field.attname}__in": self.order_by().values(parents.key.attname)})


if TYPE_CHECKING:

    class PassageManager(EmbeddingManager[M]):
        def get_queryset(self) -> PassageQuerySet[M]: ...
        def stale_parents(self) -> QuerySet[Any]: ...
        def embed(
            self,
            *,
            parents: QuerySet[Any] | None = None,
            field: str | None = None,
            batch_size: int | None = None,
            concurrency: int | None = None,
            limit: int | None = None,
            all: bool = False,
            enqueue: bool = False,
            progress: Progress | None = None,
        ) -> PassageReport: ...

else:

    class PassageManager(EmbeddingManager.from_queryset(PassageQuerySet)):
        """The manager of passages: that of embeddings, whose embed() splits first what has changed."""
