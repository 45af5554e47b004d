"""The action that embeds the selected rows again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from pgembedding_django.admin.search import rankable
from pgembedding_django.compat import background
from pgembedding_django.embedders import EmbeddingError
from pgembedding_django.embedding import EmbedReport, tasks
from pgembedding_django.fields import EmbeddingField, embedding_fields
from pgembedding_django.fields.source import InvalidSource

__all__ = ["embed_rows", "source_fields"]

logger = logging.getLogger("pgembedding_django")

#: The most rows that a request embeds: at the pace of a slow embedder, ten a second, it then still answers in time.
MAX_ROWS = 200

#: Rows of one task, so that one that fails is tried again for few.
TASK_ROWS = 1000

#: Failures that a message tells one by one.
SHOWN_FAILURES = 5


def source_fields(model: type[Model]) -> list[EmbeddingField]:
    """Return the fields whose vectors can be made from the row's text."""
    return [field for field in embedding_fields(model) if field.source is not None]


def embed_rows(selected: QuerySet[Any]) -> Iterator[tuple[int, str]]:
    """
    Embed those of the rows that are stale, by a worker where tasks have one, else now.

    Yields what became of it: the level of a message, and its text.
    """
    if background.has_workers():
        yield from _hand_over(selected)
        return
    pks = list(selected.values_list("pk", flat=True))
    count = len(pks)
    if count > MAX_ROWS:
        text = _("%(count)d rows are too many for a page. Select at most %(most)d, or run: manage.py embed %(model)s")
        yield messages.ERROR, text % {"count": count, "most": MAX_ROWS, "model": selected.model._meta.label}
        return
    for field in source_fields(selected.model):
        rows: Any = rankable(selected.model._default_manager.using(_alias(selected)).filter(pk__in=pks))
        try:
            report = rows.embed(field=field.name)
        except (EmbeddingError, ImproperlyConfigured, InvalidSource) as error:
            yield messages.ERROR, f"{field.label}: {error}"
            continue
        yield _told(field, report, count)
        for pk, reason in report.failures[:SHOWN_FAILURES]:
            yield messages.ERROR, f"{field.label}, {pk}: {reason}"


def _hand_over(selected: QuerySet[Any]) -> Iterator[tuple[int, str]]:
    pks = [tasks.write_pk(selected.model, pk) for pk in selected.values_list("pk", flat=True)]
    for field in source_fields(selected.model):
        try:
            for start in range(0, len(pks), TASK_ROWS):
                page = pks[start : start + TASK_ROWS]
                background.enqueue(tasks.embed_rows, selected.model._meta.label, field.name, page, _alias(selected))
        except background.NotEnqueued as error:
            logger.exception("Cannot enqueue rows of %s", field.label)
            yield messages.ERROR, f"{field.label}: {error}"
            continue
        text = ngettext(
            "%(field)s: a worker embeds the row if it is not fresh.",
            "%(field)s: a worker embeds those of the %(count)d rows that are not fresh.",
            len(pks),
        )
        yield messages.SUCCESS, text % {"field": field.label, "count": len(pks)}


def _alias(selected: QuerySet[Any]) -> str:
    """Return the database that the rows are written to; what the admin lists may come from a replica."""
    return router.db_for_write(selected.model)


def _told(field: EmbeddingField, report: EmbedReport, count: int) -> tuple[int, str]:
    text = _("%(field)s: %(embedded)d embedded, %(fresh)d fresh already, %(skipped)d without text, %(failed)d failed.")
    level = messages.WARNING if report.failed else messages.SUCCESS
    return level, text % {
        "field": field.label,
        "embedded": report.embedded,
        "fresh": count - report.rows,
        "skipped": report.skipped,
        "failed": report.failed,
    }
