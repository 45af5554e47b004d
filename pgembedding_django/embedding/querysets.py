"""What a queryset knows of texts and vectors: which rows are stale, and how to embed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, TypeVar, cast

from asgiref.sync import sync_to_async
from django.db.models import Model

from pgembedding_django.embedding.handing import enqueue_rows
from pgembedding_django.embedding.rows import get_field, stale_rows
from pgembedding_django.embedding.run import EmbedRun
from pgembedding_django.embedding.settlement import EmbedReport
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.loading.progress import Progress
from pgembedding_django.search.querysets import RankedQuerySet
from pgembedding_django.search.rankable import check_unsliced

__all__ = ["StaleQuerySet"]

M = TypeVar("M", bound=Model)


class StaleQuerySet(RankedQuerySet[M]):
    """The part of EmbeddingQuerySet that keeps vectors in step with their texts."""

    def stale(self, *, field: str | None = None) -> Self:
        """
        Return the rows whose vector does not stand for their text: it is missing, or the text or the model changed.

        field: the name of the EmbeddingField; needed only where several have a source.
        Where columns are the source, a condition in SQL; where a method is, all rows of this queryset are read now, a
        page at a time, and the result is filtered by primary key.
        A row without a vector and without text is not stale. Raises TypeError if no field has a source.
        """
        check_unsliced(self, "stale()", "Slice what it returns.")
        return cast(Self, stale_rows(self, get_field(self.model, field)))

    async def astale(self, *, field: str | None = None) -> Self:
        return await sync_to_async(self.stale)(field=field)

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
    ) -> EmbedReport:
        """
        Embed the rows of this queryset that are stale, and return what was done.

        field: the name of the EmbeddingField; needed only where several have a source.
        batch_size: texts of one call to the embedder. concurrency: calls at once. Both as the embedder suggests unless
            given. limit: the most rows to embed.
        all: embed the rows that are not stale, too.
        enqueue: hand the stale rows to Django's tasks, in parts of about 1,000; the report's `enqueued` tells how many.
            Of the other arguments only field and limit go with it.
        progress: called with the number of rows done so far.
        Each batch is committed as it is answered, so that a run that ends early is resumed by the next. Several runs at
        once share the rows. No transaction is open during a call, unless embed() runs inside one. A row that is edited
        meanwhile is left stale. Texts that the embedder rejects are in the report, and the rest is embedded.
        Raises EmbeddingError if the embedder fails for other reasons, and ImproperlyConfigured if it cannot be used.
        Every text that is not stored yet is paid for, identical ones once.
        """
        check_unsliced(self, "embed()", "Say limit=, or filter(pk__in=[...]).")
        self._for_write = True
        options: dict[str, Any] = {"batch_size": batch_size, "concurrency": concurrency}
        options |= {"all": all, "progress": progress}
        if enqueue:
            if unfit := [name for name, value in options.items() if value]:
                raise ValueError(f"embed(enqueue=True) takes field= and limit= alone, got {', '.join(unfit)}.")
            return EmbedReport(enqueued=enqueue_rows(self, get_field(self.model, field), limit=limit))
        return EmbedRun(self, get_field(self.model, field), limit=limit, **options).run()

    async def aembed(self, **options: Any) -> EmbedReport:
        return await sync_to_async(self.embed)(**options)

    def embed_runs(self, field: str | None = None, *, all: bool = False, **sizes: Any) -> Sequence[EmbedRun]:
        """Return the runs that embed these rows, one after the other."""
        return [EmbedRun(rows, target, all=all, **sizes) for rows, target in self.embed_targets(field, all=all)]

    def embed_targets(self, field: str | None = None, *, all: bool = False) -> Sequence[tuple[Self, EmbeddingField]]:
        """Return what one EmbedRun each embeds: rows, and their field."""
        return [(self, get_field(self.model, field))]
