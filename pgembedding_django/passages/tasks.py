"""The background work of passages, for Django's tasks framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django.apps import apps

from pgembedding_django.compat.background import task
from pgembedding_django.embedders import TextRejected
from pgembedding_django.passages.parents import parents_of
from pgembedding_django.passages.run import SplitRun

__all__ = ["split_rows"]


@task
def split_rows(label: str, pks: Sequence[str], using: str) -> None:
    """
    Split and embed the texts of rows of which a model, such as "blog.ArticlePassage", has passages; twice does no harm.

    Only those whose text has changed. Raises TextRejected, after the last, if a passage cannot be embedded, and
    whatever else the embedder raises.
    """
    parents = parents_of(cast(Any, apps.get_model(label)))
    keys = [parents.model._meta.pk.to_python(pk) for pk in pks]
    report = SplitRun(parents, parents.rows(using).filter(pk__in=keys)).run()
    for pk, reason in report.failures:
        raise TextRejected(f"A passage of {parents.model.__name__} {pk} could not be embedded: {reason}")
