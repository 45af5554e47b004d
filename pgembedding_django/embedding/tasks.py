"""The background work of this app, for Django's tasks framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.db.models import Model

from pgembedding_django.compat.background import task
from pgembedding_django.embedders import TextRejected
from pgembedding_django.embedding.rows import get_field
from pgembedding_django.embedding.run import EmbedRun
from pgembedding_django.embedding.single import embed_one

__all__ = ["embed_row", "embed_rows", "write_pk"]


@task
def embed_row(label: str, field: str, pk: str, using: str) -> None:
    """
    Embed one row of a model, such as "blog.Article", if it is still there and still stale; twice does no harm.

    Raises TextRejected if its text cannot be embedded, and whatever else the embedder raises, so that the backend knows
    that the task failed; the row is stale as before.
    """
    model = apps.get_model(label)
    embed_one(get_field(model, field), _read_pk(model, pk), using)


@task
def embed_rows(label: str, field: str, pks: Sequence[str], using: str) -> None:
    """Embed those rows of a model that are still there and still stale; raises as `embed_row` does, after the last."""
    model = apps.get_model(label)
    rows = model._base_manager.using(using).filter(pk__in=[_read_pk(model, pk) for pk in pks])
    report = EmbedRun(rows, get_field(model, field)).run()
    for pk, reason in report.failures:
        raise TextRejected(f"{model.__name__}.{field} of pk {pk} could not be embedded: {reason}")


def write_pk(model: type[Model], pk: Any) -> str:
    """Return a primary key, also a composite one, as a task takes it."""
    return model._meta.pk.value_to_string(model(pk=pk))


def _read_pk(model: type[Model], pk: str) -> Any:
    return model._meta.pk.to_python(pk)
