"""The background work of this app, for Django's tasks framework."""

from __future__ import annotations

from collections.abc import Sequence

from django.apps import apps
from django.db.models import Model

from pgembedding_django.compat.background import task
from pgembedding_django.embedders import TextRejected
from pgembedding_django.embedding import EmbedRun, get_field

__all__ = ["embed_now", "embed_row", "embed_rows"]


@task
def embed_row(label: str, field: str, pk: str, using: str) -> None:
    """
    Embed one row of a model, such as "blog.Article", if it is still there and still stale; twice does no harm.

    Raises what `embed_now` does, so that the backend knows that the task failed; the row is stale as before.
    """
    embed_now(apps.get_model(label), field, pk, using)


@task
def embed_rows(label: str, field: str, pks: Sequence[str], using: str) -> None:
    """Embed those rows of a model that are still there and still stale; raises as `embed_row` does, after the last."""
    _embed(apps.get_model(label), field, pks, using)


def embed_now(model: type[Model], field: str, pk: object, using: str) -> None:
    """
    Embed one row if it is stale.

    Raises TextRejected if its text cannot be embedded, and whatever else the embedder raises.
    """
    _embed(model, field, [pk], using)


def _embed(model: type[Model], field: str, pks: Sequence[object], using: str) -> None:
    rows = model._base_manager.using(using).filter(pk__in=pks)
    report = EmbedRun(rows, get_field(model, field)).run()
    for pk, reason in report.failures:
        raise TextRejected(f"{model.__name__}.{field} of pk {pk} could not be embedded: {reason}")
